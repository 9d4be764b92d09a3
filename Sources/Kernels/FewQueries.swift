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
  /// Whether that costs less than to load the numbers in their order.
  static var partsAreCheap: Bool { get }
}

extension Kernels.Own: WordFormat {
  static var perWord: Int { @inline(__always) get { 1 } }
  @inline(__always) static func part(_ words: L, _ index: Int) -> L { words }
  static var partsAreCheap: Bool { @inline(__always) get { false } }
}

extension Kernels.Narrow: WordFormat {
  static var perWord: Int { @inline(__always) get { 2 } }
  @inline(__always) static func part(_ words: Kernels.F32, _ index: Int) -> Kernels.F32 {
    Kernels.F32(v: C.part(words.v, upper: index == 1))
  }
  static var partsAreCheap: Bool { @inline(__always) get { C.partsAreCheap } }
}

extension Kernels {
  /// Whether a tile's queries are few, the sizes such that no vector is partly used, and the scores as they are.
  @inline(__always)
  static func isFew<L: TileLanes>(_ tile: Tile<L>) -> Bool {
    let job = tile.bench.job
    // Narrow keys are turned two columns at a time. Without wide registers turning takes more than it saves.
    return I.hasWideTiles && L.isSingle && job.pointee.rows <= Int64(SMXK_FEW)
      && job.pointee.head_size % 32 == 0 && job.pointee.value_size % 64 == 0
      && job.pointee.head_size > 0 && job.pointee.value_size > 0
      && job.pointee.mask.data == nil && job.pointee.has_segments == 0
      && job.pointee.vector.data == nil && job.pointee.softcap == 0 && job.pointee.bias.data == nil && job.pointee.slopes.data == nil
  }

  /// Keys first..<last into the sums; false, and nothing done, if a score is too large.
  @inline(never)
  static func absorbFew<L: TileLanes>(_ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int) -> Bool {
    let count = last &- first
    let isOne = tile.header.pointee.count == 1
    let job = tile.bench.job
    var ofValues = Lines(
      block.values(from: first), rows: count, bytes: Int(job.pointee.value_size) &* size(of: block.valueDtype))
    var ofKeys = Lines(
      block.keys(from: last), rows: Int(SMXK_KEY_BLOCK), bytes: Int(job.pointee.head_size) &* size(of: block.keyDtype))
    @inline(__always) func scores<F: WordFormat>(_: F.Type) where F.L == F32 {
      if isOne {
        fewScores(F.self, InlineArray<1, Void>.self, tile, block.keys(from: first), count, &ofValues)
      } else {
        fewScores(F.self, InlineArray<4, Void>.self, tile, block.keys(from: first), count, &ofValues)
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
        fewValues(F.self, InlineArray<1, Void>.self, tile, block.values(from: first), count, &ofKeys)
      } else {
        fewValues(F.self, InlineArray<4, Void>.self, tile, block.values(from: first), count, &ofKeys)
      }
    }
    switch Int(block.valueDtype) {
    case SMX_FLOAT16: values(Narrow<Float16>.self)
    case SMX_BFLOAT16: values(Narrow<BFloat16>.self)
    default: values(Own<F32>.self)
    }
    return true
  }

  @inline(__always) private static func size(of dtype: smx_dtype) -> Int { Int(dtype) == SMX_FLOAT32 ? 4 : 2 }

  @inline(__always)
  static func singles<T>(_ p: UnsafeMutablePointer<T>) -> UnsafeMutablePointer<Float> {
    UnsafeMutableRawPointer(p).assumingMemoryBound(to: Float.self)
  }

  /// Scores of `count` keys: (queries, block).
  ///
  /// Two vectors of keys at a time, sixteen words of each: while those of one step are multiplied, those of the next are
  /// turned. One after the other would take the sum of both, as a square's products are a chain of sixteen for each query, 64
  /// cycles, and so are its shuffles. (Four queries, side by side with one vector at a time: with keys in the second-level cache
  /// 9 % less time for all of attention, 15 % with bfloat16; from memory 5 and 10 %.)
  @inline(never)
  private static func fewScores<F: WordFormat, L: TileLanes, let queries: Int>(
    _: F.Type, _: InlineArray<queries, Void>.Type, _ tile: Tile<L>, _ keys: TileLeft, _ count: Int, _ ahead: inout Lines
  ) where F.L == F32 {
    let n = F32.count
    let stride = keys.stride
    let steps = Int(tile.bench.job.pointee.head_size) / F.perWord / n
    let scores = singles(tile.bench.scores)
    let squares = singles(tile.bench.numbers(tile.bench.job.pointee.rooms.turn))
    let share = ahead.share(of: 2 &* (steps &+ 1) &* ((count &+ 2 &* n &- 1) / (2 &* n)))
    var first = 0
    while first < count {
      // The last vectors of keys may begin among those before them.
      let starts = (Swift.min(first, count &- n), Swift.min(first &+ n, count &- n))
      let words = (keys.base + starts.0 &* stride, keys.base + starts.1 &* stride)
      var sums = InlineArray<queries, Pair<F32>>(repeating: Pair(F32(0), F32(0)))
      var piece = sums
      var q = singles(tile.query)
      var square = squares
      var nextSquare = squares + 2 &* n &* n
      for step in 0...steps {
        // Of this step, and of the one before.
        let isTurned = step < steps
        let isMultiplied = step > 0
        let column = step &* n &* MemoryLayout<Float>.stride
        // The lines of some steps on, which may be the next keys'.
        let later = step &+ stepsAhead
        let line = later < steps ? later &* 64 : 2 &* n &* stride &+ (later &- steps) &* 64
        if isTurned {
          askAgain(words.0 + line, stride)
          turn(words.0 + column, stride, to: nextSquare)
        }
        ahead.ask(share)
        if isMultiplied { addWords(F.self, &piece, square, q, 0) }
        if isTurned {
          askAgain(words.1 + line, stride)
          turn(words.1 + column, stride, to: nextSquare + n)
        }
        ahead.ask(share)
        if isMultiplied { addWords(F.self, &piece, square, q, n / 2) }
        (square, nextSquare) = (nextSquare, square)
        guard isMultiplied else { continue }
        q += n &* n &* F.perWord
        if step &* n &* F.perWord % Int(SMXK_SCORE_PIECE) != 0 { continue }
        // (The first piece joins zeros: what makes +0 of a -0, which the weight does not show.)
        for r in 0..<queries {
          sums[r] = sums[r] + piece[r]
          piece[r] = Pair(F32(0), F32(0))
        }
      }
      for r in 0..<queries {
        sums[r].a.store(at: scores + (r &* Int(SMXK_KEY_BLOCK) &+ starts.0))
        sums[r].b.store(at: scores + (r &* Int(SMXK_KEY_BLOCK) &+ starts.1))
      }
      first = first &+ 2 &* n
    }
  }

  /// A processor may drop hints while memory is busy: Zen 4 does, and what it drops is then waited for. So lines are asked
  /// for once more shortly before their turn: keys three steps ahead (2 to 4 do as well, 1 and 8 less), values sixteen rows.
  /// One thread of Zen 4, side by side: one query 7.7 -> 5.5 ms, bfloat16 4.3 -> 3.3, grouped heads 1.9 -> 1.5 and 1.5 -> 1.1.
  private static var stepsAhead: Int { @inline(__always) get { 3 } }
  private static var rowsAhead: Int { @inline(__always) get { 16 } }

  /// A line of each of sixteen keys.
  @inline(__always)
  private static func askAgain(_ line: UnsafeRawPointer, _ stride: Int) {
    for key in 0..<F32.count { I.prefetchAhead(line + key &* stride) }
  }

  /// Sixteen words of sixteen keys, the first at `word`: word by word, two vectors apart.
  @inline(__always)
  private static func turn(_ word: UnsafeRawPointer, _ stride: Int, to square: UnsafeMutablePointer<Float>) {
    let upper = word + 8 &* stride
    let three = 3 &* stride
    let rows = turned(Kernels.square {
      let part = ($0 & 8 == 0 ? word : upper) + ($0 & 4) &* stride
      let row = part + ($0 & 3 == 3 ? three : ($0 & 3) &* stride)
      return F32(at: row.assumingMemoryBound(to: Float.self))
    })
    // Written out: as a loop the rows would go through memory.
    @inline(__always) func put(_ d: Int) { rows[d].store(at: square + 2 &* d &* F32.count) }
    put(0); put(1); put(2); put(3); put(4); put(5); put(6); put(7)
    put(8); put(9); put(10); put(11); put(12); put(13); put(14); put(15)
  }

  /// Eight words of two vectors of keys, from word `first` of the squares on, times the numbers of each query.
  @inline(__always)
  private static func addWords<F: WordFormat, let queries: Int>(
    _: F.Type, _ sums: inout InlineArray<queries, Pair<F32>>, _ squares: UnsafePointer<Float>,
    _ query: UnsafePointer<Float>, _ first: Int
  ) where F.L == F32 {
    let n = F32.count
    @inline(__always) func take(_ d: Int) {
      let words = Pair(F32(at: squares + 2 &* d &* n), F32(at: squares + (2 &* d &+ 1) &* n))
      for part in 0..<F.perWord {
        let keys = Pair(F.part(words.a, part), F.part(words.b, part))
        for r in 0..<queries {
          sums[r] = keys.fma(Pair<F32>(query[(d &* F.perWord &+ part) &* n &+ r]), sums[r])
        }
      }
    }
    for d in first..<first &+ n / 2 { take(d) }
  }

  /// Lines of a block's rows that will be needed, in four quarters of the rows side by side.
  ///
  /// One core's own requests, one after the other, bring 10 to 13 GB/s; in several places at once the processor's
  /// prefetching, which stays within a page, runs ahead in each. Memory should be busy all the time: the scores ask for the
  /// block's values, the values for the next block's keys. (32 heads on 8 of keys, float32, side by side: 8 % less time than
  /// with both asked for by the scores.)
  private struct Lines {
    private var row: UnsafeRawPointer
    private var column = 0
    private let stride: Int
    private let columns: Int
    private let quarter: Int
    private var rest: Int

    /// `rows` rows of `bytes` bytes.
    @inline(__always) init(_ left: TileLeft, rows: Int, bytes: Int) {
      row = left.base
      stride = left.stride
      columns = bytes / 64
      quarter = rows / 4 &* stride
      rest = rows / 4 &* columns
    }

    /// How many to ask for at each of so many times.
    @inline(__always) func share(of times: Int) -> Int { (rest &+ times &- 1) / times }

    /// The next lines of each quarter.
    @inline(__always) mutating func ask(_ count: Int) {
      for _ in 0..<Swift.min(count, rest) {
        for q in 0..<4 { I.prefetchAhead(row + (q &* quarter &+ column &* 64)) }
        column = column &+ 1
        if column == columns {
          column = 0
          row += stride
        }
      }
      rest = Swift.max(rest &- count, 0)
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
  /// sums. Where parts of words are cheap, lanes are even columns or odd ones until the block is done (bfloat16: 2 to 4 % less
  /// time for all of attention).
  @inline(never)
  private static func fewValues<F: WordFormat, L: TileLanes, let queries: Int>(
    _: F.Type, _: InlineArray<queries, Void>.Type, _ tile: Tile<L>, _ left: TileLeft, _ count: Int, _ ahead: inout Lines
  ) where F.L == F32 {
    let n = F32.count
    let columns = Int(tile.bench.job.pointee.value_size)
    let block = Int(SMXK_KEY_BLOCK)
    let weights = singles(tile.bench.scores)
    let factor = singles(tile.state(SMXK_FACTOR))
    let total = singles(tile.state(SMXK_WEIGHT))
    let again = rowsAhead &* left.stride
    let share = ahead.share(of: columns / (4 &* n) &* count)
    var column = 0
    while column < columns {
      var sums = InlineArray<queries, InlineArray<4, F32>>(repeating: InlineArray(repeating: F32(0)))
      var ofWeights = InlineArray<queries, F32>(repeating: F32(0))
      var row = left.base + column &* F.size
      @inline(__always) func add<AddsWeights: Choice>(_: AddsWeights.Type) {
        for key in 0..<count {
          let x = InlineArray<4, F32> { v in
            guard F.partsAreCheap else { return F.load(row, v &* n) }
            return F.part(F32(at: row.assumingMemoryBound(to: Float.self) + v / 2 &* n), v & 1)
          }
          for line in 0..<F.size { I.prefetchAhead(row + (again &+ line &* 64)) }
          ahead.ask(share)
          for r in 0..<queries {
            let weight = F32(weights[r &* block &+ key])
            if AddsWeights.isTrue { ofWeights[r] = ofWeights[r] + weight }
            for v in 0..<4 { sums[r][v] = x[v].fma(weight, sums[r][v]) }
          }
          row += left.stride
        }
      }
      if column == 0 { add(Yes.self) } else { add(No.self) }
      for r in 0..<Swift.min(queries, Int(tile.header.pointee.count)) {
        let f = F32(factor[r])
        if column == 0 { total[r] = F32(total[r]).fma(f, ofWeights[r])[0] }
        if F.partsAreCheap {
          (sums[r][0], sums[r][1]) = F32.zip(sums[r][0], sums[r][1])
          (sums[r][2], sums[r][3]) = F32.zip(sums[r][2], sums[r][3])
        }
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
