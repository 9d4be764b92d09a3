// Scores of a block: the product of keys and queries, or what AdditiveScores.swift makes of them,
// then what changes them, in the order of the contract: softcap, bias, ALiBi, masks.
//
// The plain case, a block that all queries of the tile see and no option, ends with the product.
// Everything else takes one more pass over the block, in which masked scores become -inf by
// selection.

import CSupport

extension Kernels {
  /// Scores of keys first..<last, and the largest of each lane. Returns where it is said which
  /// scores are shown, 1 or 0, if the values of hidden ones must not be touched: some value is not
  /// finite.
  @inline(never)
  static func computeScores<L: TileLanes>(
    _ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int, asksAhead: Bool = false
  ) -> UnsafeMutablePointer<L.Scalar>? {
    let bench = tile.bench
    let job = bench.job
    let lanes = tile.lanes
    let largest = tile.state(SMXK_LARGEST)
    fill(L.self, largest, -.infinity, lanes)
    if job.pointee.vector.data == nil {
      var ahead =
        asksAhead
        ? block.nextKeys(columns: Int(job.pointee.head_size), strips: (last &- first) / 8) : Ahead()
      product(
        ScoreGoal<L>(largest: largest), block.keys(from: first), rows: last &- first,
        steps: Int(job.pointee.head_size),
        tile.query, bench.scores, lanes: lanes, ahead: &ahead)
    } else {
      addScores(tile, first, last)
    }
    let hides =
      !isWhole(tile, first, last) || tile.header.pointee.has_masked != 0
      || tile.header.pointee.has_others != 0
    let isChanged =
      job.pointee.softcap > 0 || job.pointee.bias.data != nil || job.pointee.slopes.data != nil
    if !hides && !isChanged && !isLarge(L.self, largest, lanes) { return nil }
    var shown: UnsafeMutablePointer<L.Scalar>? = nil
    if hides {
      let isClean = block.hasFiniteValues(first, last, columns: Int(job.pointee.value_size))
      if !isClean || tile.header.pointee.has_masked != 0 || tile.header.pointee.has_others != 0 {
        shown = bench.numbers(job.pointee.rooms.shown)
        findShown(tile, shown!, first, last)
      }
      change(tile, shown, first, last)
      return isClean ? nil : shown
    }
    change(tile, nil, first, last)
    return nil
  }

  /// Whether a lane's largest score is beyond what `weigh` takes as it is; -inf, where a lane sees
  /// nothing, is not.
  @inline(__always)
  static func isLarge<L: TileLanes>(
    _: L.Type, _ largest: UnsafePointer<L.Scalar>, _ lanes: Int
  ) -> Bool {
    let limit = L(L.baseLimit)
    var found = L(0)
    var lane = 0
    while lane < lanes {
      let most = L(at: largest + lane)
      let magnitude = L.pick(most, equalTo: L(-.infinity), L(0), L.max(L(0) - most, most))
      found = L.pick(magnitude, lessThan: limit, found, L(1))
      lane = lane &+ L.count
    }
    return found.largest() != 0
  }

  /// 1 where mask and segments show a score, 0 where they hide it.
  @inline(never)
  private static func findShown<L: TileLanes>(
    _ tile: Tile<L>, _ shown: UnsafeMutablePointer<L.Scalar>, _ first: Int, _ last: Int
  ) {
    let job = tile.bench.job
    if tile.header.pointee.has_masked != 0 {
      loadTurned(tile, job.pointee.mask, smx_dtype(SMX_BOOL), shown, first, last)
    } else {
      fill(L.self, shown, 1, (last &- first) &* tile.lanes)
    }
    if tile.header.pointee.has_others != 0 { hideOtherSegments(tile, shown, first, last) }
  }

  /// All changes to the scores; where `shown` is given, what the structure hides is added to it.
  @inline(never)
  private static func change<L: TileLanes>(
    _ tile: Tile<L>, _ shown: UnsafeMutablePointer<L.Scalar>?, _ first: Int, _ last: Int
  ) {
    let bench = tile.bench
    let job = bench.job
    let lanes = tile.lanes
    let cap = L.Scalar(job.pointee.softcap)
    let hasBias = job.pointee.bias.data != nil
    let hasSlopes = job.pointee.slopes.data != nil
    let bias = bench.numbers(job.pointee.rooms.bias)
    if hasBias { loadTurned(tile, job.pointee.bias, job.pointee.bias_dtype, bias, first, last) }
    findPlaces(tile, first, hasSlopes: hasSlopes)
    // Distances are counted from the block's first key, though the tile begin behind it: beyond
    // 2^24 they are rounded.
    let inBlock = first & (Int(SMXK_KEY_BLOCK) &- 1)
    let closed = L(-L.Scalar.infinity)
    var lane = 0
    while lane < lanes {
      let from = L(at: tile.state(SMXK_FROM) + lane)
      let to = L(at: tile.state(SMXK_TO) + lane)
      let distance = L(at: tile.state(SMXK_DISTANCE) + lane)
      let slope = hasSlopes ? L(0) - L(at: tile.state(SMXK_SLOPE) + lane) : L(0)
      var largest = closed
      for key in 0..<(last &- first) {
        let place = key &* lanes &+ lane
        let number = L(L.Scalar(key))
        var s = L(at: bench.scores + place)
        if cap > 0 { s = L(cap) * (s / L(cap)).tanh() }
        if hasBias { s = s + L(at: bias + place) }
        if hasSlopes {
          let d = distance - L(L.Scalar(inBlock &+ key))
          s = slope.fma(L.max(L(0) - d, d), s)
        }
        s = withinLimit(s)
        var visible = L.pick(number, lessThan: from, L(0), L.pick(number, lessThan: to, L(1), L(0)))
        if let shown {
          visible = visible * L(at: shown + place)
          visible.store(at: shown + place)
        }
        s = L.pick(visible, equalTo: L(0), closed, s)
        s.store(at: bench.scores + place)
        largest = L.max(s, largest)
      }
      largest.store(at: tile.state(SMXK_LARGEST) + lane)
      lane = lane &+ L.count
    }
  }

  /// Scores with what is finite within the limit; -inf and +inf stay what they are.
  @inline(__always) static func withinLimit<L: TileLanes>(_ s: L) -> L {
    let limit = L(L.scoreLimit)
    let minusLimit = L(-L.scoreLimit)
    let infinity = L(L.Scalar.infinity)
    let below = L.pick(
      s, lessThan: minusLimit, L.pick(s, equalTo: L(0) - infinity, s, minusLimit), s)
    return L.pick(limit, lessThan: below, L.pick(below, equalTo: infinity, below, limit), below)
  }

  /// Each lane's first key and last, and its distance, as numbers counted from key `first`.
  @inline(__always)
  private static func findPlaces<L: TileLanes>(_ tile: Tile<L>, _ first: Int, hasSlopes: Bool) {
    let bench = tile.bench
    for lane in 0..<tile.lanes {
      // Beyond a block it does not matter by how much.
      func near(
        _ key: Int
      ) -> L.Scalar {
        L.Scalar(Swift.max(-1, Swift.min(key &- first, Int(SMXK_KEY_BLOCK) &+ 1)))
      }
      tile.state(SMXK_FROM)[lane] = near(Int(tile.places(SMXK_FIRST)[lane]))
      tile.state(SMXK_TO)[lane] = near(Int(tile.places(SMXK_LAST)[lane]))
      if hasSlopes {
        let place =
          Int(tile.places(SMXK_PLACE)[lane])
          &+ offset(bench, head: Int(tile.places(SMXK_HEAD)[lane]))
        tile.state(SMXK_DISTANCE)[lane] = L.Scalar(place &- (first & ~(Int(SMXK_KEY_BLOCK) &- 1)))
      }
    }
  }

  /// Flags, `stride` bytes apart, as 1 and 0.
  @inline(never)
  static func readFlags<L: TileLanes>(
    _: L.Type, _ p: UnsafeRawPointer, _ stride: Int, _ to: UnsafeMutablePointer<L.Scalar>,
    _ count: Int
  ) {
    @inline(__always) func read(_ stride: Int) {
      for k in 0..<count {
        to[k] = p.load(fromByteOffset: k &* stride, as: UInt8.self) == 0 ? 0 : 1
      }
    }
    // The compiler makes vectors of flags that lie side by side.
    if stride == 1 { read(1) } else { read(stride) }
  }

  /// Keys first..<last of an operand over the scores, turned: (keys, lanes). Bool becomes 1 and 0.
  @inline(never)
  private static func loadTurned<L: TileLanes>(
    _ tile: Tile<L>, _ view: smxk_view, _ dtype: smx_dtype, _ to: UnsafeMutablePointer<L.Scalar>,
    _ first: Int, _ last: Int
  ) {
    let bench = tile.bench
    let lanes = tile.lanes
    let count = last &- first
    let width = Int(SMXK_KEY_BLOCK)
    let rows = bench.numbers(bench.job.pointee.rooms.turn)
    func readLane(_ lane: Int, _ to: UnsafeMutablePointer<L.Scalar>) {
      let p = UnsafeRawPointer(address(view, bench.batch, tile, lane)) + first &* Int(view.column)
      if Int(dtype) == SMX_BOOL {
        readFlags(L.self, p, Int(view.column), to, count)
      } else {
        readRow(L.self, dtype, p, Int(view.column), to, count)
      }
    }
    if view.row == 0 && (view.head == 0 || bench.job.pointee.is_flat == 0) {
      // One row for all queries.
      readLane(0, rows)
      for k in 0..<count { fill(L.self, to + k &* lanes, rows[k], lanes) }
      return
    }
    var lane = 0
    while lane < lanes {
      for l in 0..<L.count {
        if lane &+ l < Int(tile.header.pointee.count) {
          readLane(lane &+ l, rows + l &* width)
        } else {
          clear(L.self, rows + l &* width, width)
        }
      }
      turnRows(L.self, rows, count, to + lane, lanes: lanes, times: 1)
      lane = lane &+ L.count
    }
  }
}
