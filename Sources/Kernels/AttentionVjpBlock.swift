// A block of queries in the gradient of attention: its tiles, the gradients of its scores, and what
// keys and values get of them.
//
// Scores lie as in attention, lanes along the queries: so the gradient of the queries is the
// product that the values are there. Gradients of keys and values are sums over queries, that is,
// over lanes: there the weights (and the gradients of the scores) are the operand that is read
// number by number, and rows of dO and Q, one after the other, the vectors. Those rows are copied
// into panels of up to three vectors, the width of a strip.

import CSupport

extension Kernels {
  struct VjpBlock<L: TileLanes> {
    /// Which of the group's blocks it is: the place of its tiles and panels.
    let place: Int
    let count: Int
    let tiles: Int
    /// Keys that any of its queries sees.
    private(set) var lower: Int
    private(set) var upper: Int
    /// Whether queries and dO are all finite.
    private(set) var isFinite: Bool

    /// Reads the queries from `query` on, none if there are none: turned, with dO, and delta and
    /// lse of each.
    @inline(never)
    init(_ v: VjpBench<L>, _ query: Int, place: Int) {
      let bench = v.bench
      let job = v.job
      let headSize = Int(bench.job.pointee.head_size)
      let valueSize = Int(bench.job.pointee.value_size)
      let lanes = Int(bench.job.pointee.tile_lanes)
      self.place = place
      count = Swift.max(0, Swift.min(Int(SMXK_QUERY_BLOCK), bench.queries &- query))
      tiles = (count &+ lanes &- 1) / lanes
      lower = bench.keys
      upper = 0
      isFinite = true
      for t in 0..<tiles {
        let tile = self.tile(v, t)
        let used = Swift.min(lanes, count &- t &* lanes)
        tile.header.pointee.count = Int64(used)
        tile.header.pointee.is_apart = 0
        tile.header.pointee.has_base = 0
        tile.header.pointee.has_others = 0
        tile.header.pointee.has_masked = 0
        tile.header.pointee.lanes = Int64((used &+ L.count &- 1) / L.count &* L.count)
        Kernels.findLanes(tile, query &+ t &* lanes)
        // Attention throws away what it computes for a query that sees no key. Here that would
        // reach keys and values: no block is whole, so that its scores are masked too.
        for lane in 0..<used where tile.places(SMXK_LAST)[lane] <= tile.places(SMXK_FIRST)[lane] {
          tile.header.pointee.all_to = 0
        }
        Kernels.loadColumns(
          tile, bench.job.pointee.query, headSize, times: L.Scalar(bench.job.pointee.scale),
          to: tile.query)
        Kernels.loadColumns(tile, job.pointee.d_out, valueSize, times: 1, to: tile.totals)
        Kernels.loadColumns(tile, bench.job.pointee.out, valueSize, times: 1, to: tile.sums)
        Self.findStates(tile, valueSize)
        Kernels.clear(L.self, tile.sums, Kernels.wholeSquares(L.self, headSize) &* tile.lanes)
        lower = Swift.min(lower, Int(tile.header.pointee.lower))
        upper = Swift.max(upper, Int(tile.header.pointee.upper))
        let stride = tile.lanes &* MemoryLayout<L.Scalar>.stride
        isFinite =
          isFinite
          && Kernels.areFinite(
            L.self, TileLeft(base: tile.query, stride: stride), rows: headSize, columns: tile.lanes)
          && Kernels.areFinite(
            L.self, TileLeft(base: tile.totals, stride: stride), rows: valueSize,
            columns: tile.lanes)
      }
    }

    @inline(__always) func tile(_ v: VjpBench<L>, _ t: Int) -> Tile<L> {
      v.bench.tile(place &* Int(v.job.pointee.tiles_per_block) &+ t)
    }

    /// Rows of its queries, and of dO.
    @inline(__always) func queryPanels(_ v: VjpBench<L>) -> UnsafeMutablePointer<L.Scalar> {
      v.room(v.job.pointee.rooms.queries &+ Int64(place) &* v.job.pointee.rooms.query_bytes)
    }
    @inline(__always) func outPanels(_ v: VjpBench<L>) -> UnsafeMutablePointer<L.Scalar> {
      v.room(v.job.pointee.rooms.d_out &+ Int64(place) &* v.job.pointee.rooms.d_out_bytes)
    }

    /// Of each lane: lse·log2(e), in two parts, as SMXK_EXPONENT and SMXK_WEIGHT; delta as
    /// SMXK_TOTAL_WEIGHT; and the factor 1 of what has been summed.
    @inline(__always)
    private static func findStates(_ tile: Tile<L>, _ valueSize: Int) {
      let bench = tile.bench
      let used = Int(tile.header.pointee.count)
      let lse = tile.state(SMXK_LARGEST)
      for lane in 0..<tile.lanes {
        lse[lane] =
          lane < used
          ? UnsafeRawPointer(Kernels.address(bench.job.pointee.lse, bench.batch, tile, lane))
            .loadUnaligned(as: L.Scalar.self)
          : -.infinity
      }
      Kernels.fill(L.self, tile.state(SMXK_FACTOR), 1, tile.lanes)
      var lane = 0
      while lane < tile.lanes {
        let x = L(at: lse + lane)
        let high = x * L(L.log2e)
        let low = x.fma(L(L.log2e), L(0) - high)
        // No visible key: all weights are 0.
        L.pick(x, equalTo: L(-.infinity), L(.infinity), high).store(
          at: tile.state(SMXK_EXPONENT) + lane)
        L.pick(x - x, equalTo: L(0), low, L(0)).store(at: tile.state(SMXK_WEIGHT) + lane)
        var delta = L(0)
        for e in 0..<valueSize {
          let place = e &* tile.lanes &+ lane
          // A query that sees no key has out 0, and dO may hold anything there.
          let out = L(at: tile.sums + place)
          delta = L.pick(out, equalTo: L(0), delta, L(at: tile.totals + place).fma(out, delta))
        }
        delta.store(at: tile.state(SMXK_TOTAL_WEIGHT) + lane)
        lane = lane &+ L.count
      }
    }

    /// exp(score - lse) in a vector of lanes; 0 for -inf, also where lse is NaN, and NaN above
    /// 2^62: no lse of the same scores is so far below one of them.
    @inline(__always)
    static func weight(of score: L, _ tile: Tile<L>, _ lane: Int) -> L {
      let high = L(at: tile.state(SMXK_EXPONENT) + lane)
      let low = L(at: tile.state(SMXK_WEIGHT) + lane)
      let d = score.fma(L(L.log2e), L(0) - high) - low
      return L.pick(
        score, equalTo: L(-.infinity), L(0), L.pick(L(62), lessThan: d, L(.nan), d).weight())
    }

    /// The weights of keys first..<last and the gradients of their scores, (keys,
    /// SMXK_QUERY_BLOCK); with them, if they are wanted, those of the queries. False if no query of
    /// the block sees any of the keys. `keysAreFinite` if it is known that they are.
    @inline(never)
    func findGradients(
      _ v: VjpBench<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int, keysAreFinite: Bool
    ) -> Bool {
      let bench = v.bench
      let job = bench.job
      // Of the whole block: which keys a tile sees of it depends on its width, and so on the
      // instruction set.
      let keysAreFinite =
        !v.wantsQueries || keysAreFinite
        || block.hasFiniteKeys(first, last, columns: Int(job.pointee.head_size))
      var sees = false
      for t in 0..<tiles {
        let tile = tile(v, t)
        let place = t &* Int(job.pointee.tile_lanes)
        let isSeen =
          first < Int(tile.header.pointee.upper) && Int(tile.header.pointee.lower) < last
          && Kernels.seesAny(tile, first, last)
        if isSeen {
          sees = true
          findGradients(v, tile, block, first, last, place, keysAreFinite: keysAreFinite)
        } else if v.wantsKeys || v.job.pointee.d_bias.data != nil {
          clear(v, place, tile.lanes, last &- first)
        }
      }
      return sees
    }

    @inline(never)
    private func clear(_ v: VjpBench<L>, _ place: Int, _ lanes: Int, _ rows: Int) {
      for row in 0..<rows {
        let at = row &* Int(SMXK_QUERY_BLOCK) &+ place
        Kernels.clear(L.self, v.room(v.job.pointee.rooms.weights) + at, lanes)
        Kernels.clear(L.self, v.room(v.job.pointee.rooms.gradients) + at, lanes)
      }
    }

    @inline(__always)
    private func findGradients(
      _ v: VjpBench<L>, _ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int,
      _ place: Int,
      keysAreFinite: Bool
    ) {
      let bench = v.bench
      let job = bench.job
      let count = last &- first
      let scores = bench.scores
      _ = Kernels.computeScores(tile, block, first, last)
      weigh(v, tile, count, place)
      if job.pointee.softcap > 0 { findSlopes(v, tile, block, first, last) }
      Kernels.product(
        ScoreGoal<L>(largest: tile.state(SMXK_LARGEST)), block.values(from: first), rows: count,
        steps: Int(job.pointee.value_size), tile.totals, scores, lanes: tile.lanes)
      subtract(v, tile, count, place)
      if !v.wantsQueries { return }
      let size = Int(job.pointee.head_size)
      if !keysAreFinite {
        addShownKeys(tile, block, first, last)
      } else {
        Kernels.product(
          ValueGoal<L>(factor: tile.state(SMXK_FACTOR)), block.keys(from: first), rows: size,
          steps: count, scores,
          tile.sums, lanes: tile.lanes)
      }
    }

    /// Scores to weights.
    @inline(never)
    private func weigh(_ v: VjpBench<L>, _ tile: Tile<L>, _ count: Int, _ place: Int) {
      let weights = v.room(v.job.pointee.rooms.weights) + place
      var lane = 0
      while lane < tile.lanes {
        for key in 0..<count {
          Self.weight(of: L(at: v.bench.scores + (key &* tile.lanes &+ lane)), tile, lane)
            .store(at: weights + (key &* Int(SMXK_QUERY_BLOCK) &+ lane))
        }
        lane = lane &+ L.count
      }
    }

    /// Products of dO and values to gradients of scores, in place and into the block's.
    @inline(never)
    private func subtract(_ v: VjpBench<L>, _ tile: Tile<L>, _ count: Int, _ place: Int) {
      let weights = v.room(v.job.pointee.rooms.weights) + place
      let gradients = v.room(v.job.pointee.rooms.gradients) + place
      let hasSlopes = v.bench.job.pointee.softcap > 0
      // The bias comes behind softcap.
      let isOfBias = v.job.pointee.phase == SMXK_VJP_BIAS
      var lane = 0
      while lane < tile.lanes {
        let delta = L(at: tile.state(SMXK_TOTAL_WEIGHT) + lane)
        for key in 0..<count {
          let at = key &* tile.lanes &+ lane
          let place = key &* Int(SMXK_QUERY_BLOCK) &+ lane
          let weight = L(at: weights + place)
          // Of a weight of 0, also where key or value are not finite.
          var g = L.pick(weight, equalTo: L(0), L(0), weight * (L(at: v.bench.scores + at) - delta))
          if hasSlopes && !isOfBias {
            g = L.pick(g, equalTo: L(0), g, g * L(at: v.room(v.job.pointee.rooms.slopes) + at))
          }
          g.store(at: v.bench.scores + at)
          g.store(at: gradients + place)
        }
        lane = lane &+ L.count
      }
    }

    /// Softcap's derivative, 1 - tanh²(s / c), for scores computed once more.
    @inline(never)
    private func findSlopes(
      _ v: VjpBench<L>, _ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int
    ) {
      let job = v.bench.job
      let slopes = v.room(v.job.pointee.rooms.slopes)
      let cap = L(L.Scalar(job.pointee.softcap))
      Kernels.product(
        ScoreGoal<L>(largest: tile.state(SMXK_LARGEST)), block.keys(from: first),
        rows: last &- first,
        steps: Int(job.pointee.head_size), tile.query, slopes, lanes: tile.lanes)
      var i = 0
      while i < (last &- first) &* tile.lanes {
        let t = (L(at: slopes + i) / cap).tanh()
        ((L(1) - t) * (L(1) + t)).store(at: slopes + i)
        i = i &+ L.count
      }
    }

    /// The keys' part of the queries' gradients where some key is not finite: no product is formed
    /// with a gradient of 0.
    @inline(never)
    private func addShownKeys(_ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int) {
      for column in 0..<Int(tile.bench.job.pointee.head_size) {
        var lane = 0
        while lane < tile.lanes {
          var sum = L(0)
          for key in 0..<(last &- first) {
            let gradient = L(at: tile.bench.scores + (key &* tile.lanes &+ lane))
            sum = L.pick(
              gradient, equalTo: L(0), sum, L(block.key(first &+ key, column)).fma(gradient, sum))
          }
          let place = tile.sums + (column &* tile.lanes &+ lane)
          (L(at: place) + sum).store(at: place)
          lane = lane &+ L.count
        }
      }
    }
  }
}
