// The two products for up to four queries, as when a model decodes: keys and values are read once and in their own
// type, and the limit is the memory that they come from.
//
// Spreading each number over a vector of queries, as TileProduct.swift does, would take an FMA for each number of a
// key however few queries there are. Here the lanes are keys: sixteen rows of sixteen columns are turned in registers,
// and a vector of keys is multiplied by one number of each query. For values the lanes are columns. Each score, each
// sum and each result is the same chain as there, so the bits are the same.
//
// Turning takes 64 shuffles for 16 × 16 words, one a cycle: 16 bytes a cycle, twice what a core gets from memory.
// A word is a number, or two narrow ones that are turned together and then parted.

import CSupport

/// How numbers lie in the words of a row.
protocol WordFormat: Format {
  /// Numbers in the space of one of L.
  static var perWord: Int { get }
  /// Number `index` of each word.
  static func part(_ words: L, _ index: Int) -> L
}

extension Kernels.Own: WordFormat {
  static var perWord: Int { @inline(__always) get { 1 } }
  @inline(__always) static func part(_ words: L, _ index: Int) -> L { words }
}

extension Kernels.Narrow: WordFormat {
  static var perWord: Int { @inline(__always) get { 2 } }
  @inline(__always) static func part(_ words: Kernels.F32, _ index: Int) -> Kernels.F32 {
    Kernels.F32(v: C.part(words.v, upper: index == 1))
  }
}

extension Kernels {
  /// Whether a tile's queries are few, the sizes such that no vector is partly used, and the scores as they are.
  @inline(__always)
  static func isFew<L: TileLanes>(_ tile: Tile<L>) -> Bool {
    let job = tile.bench.job
    // Narrow keys are turned two columns at a time. Without wide registers turning takes more than it saves.
    return I.hasWideTiles && L.isSingle && job.pointee.rows <= Int64(SMXK_FEW)
      && job.pointee.head_size % 32 == 0 && job.pointee.value_size % 64 == 0
      && job.pointee.mask.data == nil && job.pointee.has_segments == 0
      && job.pointee.vector.data == nil && job.pointee.softcap == 0 && job.pointee.bias.data == nil && job.pointee.slopes.data == nil
  }

  /// Keys first..<last into the sums; false, and nothing done, if a score is too large.
  @inline(never)
  static func absorbFew<L: TileLanes>(_ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int) -> Bool {
    let count = last &- first
    let isOne = tile.header.pointee.count == 1
    @inline(__always) func scores<F: WordFormat>(_: F.Type) where F.L == F32 {
      if isOne {
        fewScores(F.self, InlineArray<1, Void>.self, tile, block.keys(from: first), block.values(from: first), count)
      } else {
        fewScores(F.self, InlineArray<4, Void>.self, tile, block.keys(from: first), block.values(from: first), count)
      }
    }
    switch Int(block.keyDtype) {
    case SMX_FLOAT16: scores(Narrow<Float16>.self)
    case SMX_BFLOAT16: scores(Narrow<BFloat16>.self)
    default: scores(Own<F32>.self)
    }
    guard weighFew(tile, count) else { return false }
    spread(tile)
    @inline(__always) func values<F: WordFormat>(_: F.Type) where F.L == F32 {
      if isOne {
        fewValues(F.self, InlineArray<1, Void>.self, tile, block.values(from: first), count)
      } else {
        fewValues(F.self, InlineArray<4, Void>.self, tile, block.values(from: first), count)
      }
    }
    switch Int(block.valueDtype) {
    case SMX_FLOAT16: values(Narrow<Float16>.self)
    case SMX_BFLOAT16: values(Narrow<BFloat16>.self)
    default: values(Own<F32>.self)
    }
    return true
  }

  @inline(__always)
  private static func singles<T>(_ p: UnsafeMutablePointer<T>) -> UnsafeMutablePointer<Float> {
    UnsafeMutableRawPointer(p).assumingMemoryBound(to: Float.self)
  }

  /// Scores of `count` keys: (queries, block).
  @inline(never)
  private static func fewScores<F: WordFormat, L: TileLanes, let queries: Int>(
    _: F.Type, _: InlineArray<queries, Void>.Type, _ tile: Tile<L>, _ keys: TileLeft, _ values: TileLeft, _ count: Int
  ) where F.L == F32 {
    let n = F32.count
    let stride = keys.stride
    let steps = Int(tile.bench.job.pointee.head_size) / F.perWord / n
    let scores = singles(tile.bench.scores)
    var first = 0
    while first < count {
      // The last vector of keys may begin among those before it. (Two vectors by turns, so that the chains of one run
      // under the shuffles of the other, were no faster.)
      first = Swift.min(first, count &- n)
      let base = keys.base + first &* stride
      // On the way the next block's keys and this block's values are asked for, four rows of each quarter of theirs.
      var next = keys.base + (Int(SMXK_KEY_BLOCK) &+ first / 4) &* stride
      var beside = values.base + first / 4 &* values.stride
      var sums = InlineArray<queries, F32>(repeating: F32(0))
      var piece = sums
      var q = singles(tile.query)
      for step in 0..<steps {
        prefetchLines(&next, stride, step, steps, n)
        prefetchLines(&beside, values.stride, step, steps, n)
        addWords(F.self, &piece, base + step &* n &* MemoryLayout<Float>.stride, stride, q)
        q += n &* n &* F.perWord
        if step &* n &* F.perWord % Int(SMXK_SCORE_PIECE) != Int(SMXK_SCORE_PIECE) &- n &* F.perWord { continue }
        // (The first piece joins zeros: what makes +0 of a -0, which the weight does not show.)
        for r in 0..<queries {
          sums[r] = sums[r] + piece[r]
          piece[r] = F32(0)
        }
      }
      for r in 0..<queries { sums[r].store(at: scores + (r &* Int(SMXK_KEY_BLOCK) &+ first)) }
      first = first &+ n
    }
  }

  /// Sixteen words of sixteen keys, the first at `word`, times the numbers of each query.
  @inline(__always)
  private static func addWords<F: WordFormat, let queries: Int>(
    _: F.Type, _ sums: inout InlineArray<queries, F32>, _ word: UnsafeRawPointer, _ stride: Int,
    _ query: UnsafePointer<Float>
  ) where F.L == F32 {
    let upper = word + 8 &* stride
    let three = 3 &* stride
    let rows = turned(square {
      let part = ($0 & 8 == 0 ? word : upper) + ($0 & 4) &* stride
      let row = part + ($0 & 3 == 3 ? three : ($0 & 3) &* stride)
      return F32(at: row.assumingMemoryBound(to: Float.self))
    })
    // Written out: as a loop the rows would go through memory.
    @inline(__always) func take(_ d: Int) {
      for half in 0..<F.perWord {
        let key = F.part(rows[d], half)
        for r in 0..<queries {
          sums[r] = key.fma(F32(query[(d &* F.perWord &+ half) &* F32.count &+ r]), sums[r])
        }
      }
    }
    take(0); take(1); take(2); take(3); take(4); take(5); take(6); take(7)
    take(8); take(9); take(10); take(11); take(12); take(13); take(14); take(15)
  }

  /// The lines that are the turn of step `step` of `steps`, row by row, of n / 4 rows of `steps` lines and of the rows n,
  /// 2n and 3n behind them.
  ///
  /// One core's own requests, one after the other, bring 10 to 13 GB/s; in several places at once the processor's
  /// prefetching, which stays within a page, runs ahead in each. Decode of H32 L4096 D128 on two threads: 24 rows ahead
  /// in order 5.3 ms, in two places 4.7, in four 4.4, and without a second request from `fewValues` 4.1.
  @inline(__always)
  private static func prefetchLines(
    _ row: inout UnsafeRawPointer, _ stride: Int, _ step: Int, _ steps: Int, _ n: Int
  ) {
    let quarter = n &* stride
    let rows = n / 4
    var column = step &* rows % steps
    for _ in 0..<rows {
      for q in 0..<4 { I.prefetchAhead(row + (q &* quarter &+ column &* 64)) }
      column = column &+ 1
      if column == steps {
        column = 0
        row += stride
      }
    }
  }

  /// As `weigh`, lanes being keys; the weights' sum is left to `fewValues`. False if one is too large.
  @inline(never)
  private static func weighFew<L: TileLanes>(_ tile: Tile<L>, _ count: Int) -> Bool {
    let scores = singles(tile.bench.scores)
    let exponents = singles(tile.state(SMXK_EXPONENT))
    let factors = singles(tile.state(SMXK_FACTOR))
    let queries = Int(tile.header.pointee.count)
    let log2e = F32(F32.log2e)
    let block = Int(SMXK_KEY_BLOCK)
    let largest = singles(tile.state(SMXK_LARGEST))
    for r in 0..<queries {
      var most = F32(-.infinity)
      var first = 0
      while first < count {
        most = F32.max(F32(at: scores + (r &* block &+ Swift.min(first, count &- F32.count))), most)
        first = first &+ F32.count
      }
      largest[r] = most.largest()
      if !(abs(largest[r]) < F32.baseLimit) { return false }
    }
    for r in 0..<queries {
      let before = F32(exponents[r])
      let exponent = F32.max((F32(largest[r]) * log2e).floor(), before)
      exponents[r] = exponent[0]
      factors[r] = (before - exponent).exp2()[0]
      var first = 0
      while first < count {
        let p = scores + (r &* block &+ first)
        F32(at: p).fma(log2e, F32(0) - exponent).exp2().store(at: p)
        first = first &+ F32.count
      }
    }
    return true
  }

  /// The values of `count` keys times their weights, (queries, block), join the sums, (queries, value size); four
  /// vectors of columns at a time, a chain for each of them and each query. With the first of them the weights' own
  /// sums.
  @inline(never)
  private static func fewValues<F: WordFormat, L: TileLanes, let queries: Int>(
    _: F.Type, _: InlineArray<queries, Void>.Type, _ tile: Tile<L>, _ left: TileLeft, _ count: Int
  ) where F.L == F32 {
    let n = F32.count
    let columns = Int(tile.bench.job.pointee.value_size)
    let block = Int(SMXK_KEY_BLOCK)
    let weights = singles(tile.bench.scores)
    let factor = singles(tile.state(SMXK_FACTOR))
    let total = singles(tile.state(SMXK_WEIGHT))
    var column = 0
    while column < columns {
      var sums = InlineArray<queries, InlineArray<4, F32>>(repeating: InlineArray(repeating: F32(0)))
      var ofWeights = InlineArray<queries, F32>(repeating: F32(0))
      var row = left.base + column &* F.size
      for key in 0..<count {
        let x = InlineArray<4, F32> { F.load(row, $0 &* n) }
        for r in 0..<queries {
          let weight = F32(weights[r &* block &+ key])
          ofWeights[r] = ofWeights[r] + weight
          for v in 0..<4 { sums[r][v] = x[v].fma(weight, sums[r][v]) }
        }
        row += left.stride
      }
      for r in 0..<Swift.min(queries, Int(tile.header.pointee.count)) {
        let f = F32(factor[r])
        if column == 0 { total[r] = F32(total[r]).fma(f, ofWeights[r])[0] }
        for v in 0..<4 {
          let place = tile.few + (r &* columns &+ column &+ v &* n)
          F32(at: place).fma(f, sums[r][v]).store(at: place)
        }
      }
      column = column &+ 4 &* n
    }
  }

  // -- where the sums stand ---------------------------------------------------------------------------------

  /// A row for each query, from (value size, lanes).
  @inline(__always)
  private static func spread<L: TileLanes>(_ tile: Tile<L>) {
    if tile.header.pointee.is_apart == 0 { move(tile, apart: true) }
  }

  /// And back.
  @inline(__always)
  static func gather<L: TileLanes>(_ tile: Tile<L>) {
    if I.hasWideTiles && L.isSingle && tile.header.pointee.is_apart != 0 { move(tile, apart: false) }
  }

  @inline(never)
  private static func move<L: TileLanes>(_ tile: Tile<L>, apart: Bool) {
    let columns = Int(tile.bench.job.pointee.value_size)
    let sums = singles(tile.sums)
    for r in 0..<Int(tile.header.pointee.count) {
      for c in 0..<columns {
        if apart {
          tile.few[r &* columns &+ c] = sums[c &* F32.count &+ r]
        } else {
          sums[c &* F32.count &+ r] = tile.few[r &* columns &+ c]
        }
      }
    }
    tile.header.pointee.is_apart = apart ? 1 : 0
  }
}
