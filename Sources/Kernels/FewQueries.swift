// The two products for up to eight queries (four without AVX-512), as when a model decodes: keys
// and values are read once and in their own type, and the limit is the memory that they come from.
//
// Spreading each number over a vector of queries, as TileProduct.swift does, would take an FMA for
// each number of a key however few queries there are. Here the lanes are keys: eight columns of
// sixteen rows are turned in registers, and a vector of keys is multiplied by one number of each
// query. For values the lanes are columns. Each score, each sum and each result is the same chain
// as there, so the bits are the same.
//
// Turning takes 24 insertions and 16 shuffles for 16 × 8 words, the shuffles within quarters of a
// vector, which Zen 4 does beside its FMAs (Turning.swift). A word is a number, or two narrow ones
// that are turned together and then parted.

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
  /// x86-64-v2, which is there for its bits, goes without these 95 KB of code.
  @inline(__always) static func hasFewQueries<L: TileLanes>(
    _: L.Type
  ) -> Bool {
    I.hasFastPaths && L.isSingle
  }

  /// Whether a tile's queries are few, the sizes such that no vector is partly used, and the scores
  /// changed by nothing but a bias and a mask array.
  @inline(__always)
  static func isFew<L: TileLanes>(_ tile: Tile<L>) -> Bool {
    let job = tile.bench.job
    // Narrow keys are turned two columns at a time. Eight queries want the 32 registers of AVX-512.
    return hasFewQueries(L.self)
      && job.pointee.rows <= Int64(I.hasWideTiles ? SMXK_FEW : SMXK_FEW / 2)
      && job.pointee.head_size % 32 == 0 && job.pointee.value_size % 64 == 0
      && job.pointee.head_size > 0 && job.pointee.value_size > 0
      && job.pointee.has_segments == 0 && job.pointee.vector.data == nil
      && job.pointee.softcap == 0 && job.pointee.slopes.data == nil
  }

  /// Keys first..<last into the sums; false, and nothing done, if a score is too large, or a key
  /// hidden whose block has a value that is not finite.
  @inline(never)
  static func absorbFew<L: TileLanes>(
    _ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int
  ) -> Bool {
    let count = last &- first
    let queries = Int(tile.header.pointee.count)
    let job = tile.bench.job
    if tile.header.pointee.has_masked != 0 {
      @inline(__always) func areFinite<F: WordFormat>(_: F.Type) -> Bool where F.L == F32 {
        fewAreFinite(F.self, block.values(from: first), count, Int(job.pointee.value_size))
      }
      switch Int(block.valueDtype) {
      case SMX_FLOAT16: if !areFinite(Narrow<Float16>.self) { return false }
      case SMX_BFLOAT16: if !areFinite(Narrow<BFloat16>.self) { return false }
      default: if !areFinite(Own<F32>.self) { return false }
      }
    }
    var ofValues = Lines(
      block.values(from: first), rows: count,
      bytes: Int(job.pointee.value_size) &* size(of: block.valueDtype))
    var ofKeys = Lines(
      block.keys(from: last), rows: Int(SMXK_KEY_BLOCK),
      bytes: Int(job.pointee.head_size) &* size(of: block.keyDtype))
    @inline(__always) func scores<F: WordFormat>(_: F.Type) where F.L == F32 {
      let keys = block.keys(from: first)
      if queries == 1 {
        fewScores(F.self, InlineArray<1, Void>.self, tile, keys, count, &ofValues)
      } else if I.hasWideTiles && queries > 4 {
        fewScores(F.self, InlineArray<8, Void>.self, tile, keys, count, &ofValues)
      } else {
        fewScores(F.self, InlineArray<4, Void>.self, tile, keys, count, &ofValues)
      }
    }
    switch Int(block.keyDtype) {
    case SMX_FLOAT16: scores(Narrow<Float16>.self)
    case SMX_BFLOAT16: scores(Narrow<BFloat16>.self)
    default: scores(Own<F32>.self)
    }
    if job.pointee.bias.data != nil || tile.header.pointee.has_masked != 0 {
      changeFew(tile, first, count)
    }
    guard weighFew(tile, count) else { return false }
    spread(tile)
    @inline(__always) func values<F: WordFormat>(_: F.Type) where F.L == F32 {
      let values = block.values(from: first)
      if queries == 1 {
        fewValues(F.self, InlineArray<1, Void>.self, Vectors<4>.self, tile, values, count, &ofKeys)
      } else if I.hasWideTiles && queries > 4 {
        fewValues(F.self, InlineArray<8, Void>.self, Vectors<2>.self, tile, values, count, &ofKeys)
      } else if I.hasWideTiles {
        fewValues(F.self, InlineArray<4, Void>.self, Vectors<4>.self, tile, values, count, &ofKeys)
      } else {
        fewValues(F.self, InlineArray<4, Void>.self, Vectors<1>.self, tile, values, count, &ofKeys)
      }
    }
    switch Int(block.valueDtype) {
    case SMX_FLOAT16: values(Narrow<Float16>.self)
    case SMX_BFLOAT16: values(Narrow<BFloat16>.self)
    default: values(Own<F32>.self)
    }
    return true
  }

  @inline(__always) private static func size(
    of dtype: smx_dtype
  ) -> Int {
    Int(dtype) == SMX_FLOAT32 ? 4 : 2
  }

  @inline(__always)
  static func singles<T>(_ p: UnsafeMutablePointer<T>) -> UnsafeMutablePointer<Float> {
    UnsafeMutableRawPointer(p).assumingMemoryBound(to: Float.self)
  }

  /// Scores of `count` keys: (queries, block).
  ///
  /// Sixteen keys at a time (one query and AVX-512: two chains of them), eight words of each,
  /// turned in registers and multiplied from there. Turned into memory by shuffles across the
  /// vector, while those of the step before were multiplied, keys in the second-level cache took
  /// 1.25 times as long for four queries and 1.2 for one, all of attention counted (Zen 4).
  @inline(never)
  private static func fewScores<F: WordFormat, L: TileLanes, let queries: Int>(
    _: F.Type, _: InlineArray<queries, Void>.Type, _ tile: Tile<L>, _ keys: TileLeft, _ count: Int,
    _ ahead: inout Lines
  ) where F.L == F32 {
    let n = F32.count
    let stride = keys.stride
    let steps = Int(tile.bench.job.pointee.head_size) / F.perWord / eight
    let scores = singles(tile.bench.scores)
    let isDouble = queries == 1 && I.hasWideTiles
    let keysAtOnce = isDouble ? 2 &* n : n
    let share = ahead.share(of: steps &* ((count &+ keysAtOnce &- 1) / keysAtOnce))
    var first = 0
    while first < count {
      // The last vectors of keys may begin among those before them.
      let starts = (Swift.min(first, count &- n), Swift.min(first &+ n, count &- n))
      let bases = (keys.base + starts.0 &* stride, keys.base + starts.1 &* stride)
      let zeros = InlineArray<queries, F32>(repeating: F32(0))
      var sums = (zeros, zeros)
      var piece = (zeros, zeros)
      var q = singles(tile.query)
      var step = 0
      while step < steps {
        for _ in 0..<Int(SMXK_SCORE_PIECE) / F.perWord / eight {
          // Half the lines of some steps on, which may be the next keys'.
          let later = step &+ stepsAhead
          let line =
            (later < steps ? later &* 32 : keysAtOnce &* stride &+ (later &- steps) &* 32) & ~63
          let half = (step & 1) &* eight &* stride
          askAgain(bases.0 + (line &+ half), stride)
          ahead.ask(share)
          multiply(F.self, eightWords(bases.0 + step &* 32, stride), q) { r, k, x in
            piece.0[r] = k.fma(x, piece.0[r])
          }
          if isDouble {
            askAgain(bases.1 + (line &+ half), stride)
            multiply(F.self, eightWords(bases.1 + step &* 32, stride), q) { r, k, x in
              piece.1[r] = k.fma(x, piece.1[r])
            }
          }
          q += eight &* F.perWord &* n
          step = step &+ 1
        }
        // (The first piece joins zeros: what makes +0 of a -0, which the weight does not show.)
        for r in 0..<queries {
          sums.0[r] = sums.0[r] + piece.0[r]
          sums.1[r] = sums.1[r] + piece.1[r]
        }
        piece = (zeros, zeros)
      }
      for r in 0..<queries {
        sums.0[r].store(at: scores + (r &* Int(SMXK_KEY_BLOCK) &+ starts.0))
        if isDouble { sums.1[r].store(at: scores + (r &* Int(SMXK_KEY_BLOCK) &+ starts.1)) }
      }
      first = first &+ keysAtOnce
    }

    @inline(__always)
    func multiply(
      _: F.Type, _ words: InlineArray<8, F32>, _ q: UnsafePointer<Float>,
      _ add: (Int, F32, F32) -> Void
    ) {
      @inline(__always) func each(_ d: Int) {
        for part in 0..<F.perWord {
          let keys = F.part(words[d], part)
          for r in 0..<queries { add(r, keys, F32(q[(d &* F.perWord &+ part) &* n &+ r])) }
        }
      }
      // Written out: as a loop the words would go through memory.
      each(0)
      each(1)
      each(2)
      each(3)
      each(4)
      each(5)
      each(6)
      each(7)
    }
  }

  private static var eight: Int { @inline(__always) get { 8 } }

  /// A processor may drop hints while memory is busy: Zen 4 does, and what it drops is then waited
  /// for. So lines are asked for once more shortly before their turn: keys twelve steps ahead (six
  /// do less), values sixteen rows. One thread of Zen 4, side by side, when keys were still turned
  /// into memory: one query 7.7 -> 5.5 ms, bfloat16 4.3 -> 3.3, grouped heads 1.9 -> 1.5 and 1.5 ->
  /// 1.1.
  private static var stepsAhead: Int { @inline(__always) get { 12 } }
  private static var rowsAhead: Int { @inline(__always) get { 16 } }

  /// A line of each of eight keys.
  @inline(__always)
  private static func askAgain(_ line: UnsafeRawPointer, _ stride: Int) {
    for key in 0..<eight { I.prefetchAhead(line + key &* stride) }
  }

  /// Eight words of sixteen keys, the first at `word`: a vector of keys for each word.
  @inline(__always)
  private static func eightWords(_ word: UnsafeRawPointer, _ stride: Int) -> InlineArray<8, F32> {
    let a = turnedColumns(F32.self, 0) { word + $0 &* stride }
    let b = turnedColumns(F32.self, 4) { word + $0 &* stride }
    return [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
  }

  /// As `weigh`, lanes being keys; the weights' sum is left to `fewValues`. False if one is too
  /// large.
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
      // Of hidden keys it is -inf, and their weights are 0.
      if !(abs(largest[r]) < F32.baseLimit || largest[r] == -.infinity) { return false }
    }
    for r in 0..<queries {
      let before = F32(exponents[r])
      let exponent = F32.max((F32(largest[r]) * log2e).floor(), before)
      exponents[r] = exponent[0]
      factors[r] = (before - exponent).weight()[0]
      var first = 0
      while first < count {
        let p = scores + (r &* block &+ first)
        F32(at: p).fma(log2e, F32(0) - exponent).weight().store(at: p)
        first = first &+ F32.count
      }
    }
    return true
  }

  /// The values of `count` keys times their weights, (queries, block), join the sums, (queries,
  /// value size); some vectors of columns at a time, a chain for each of them and each query. With
  /// the first of them the weights' own sums. Where parts of words are cheap, lanes are even
  /// columns or odd ones until the block is done (bfloat16: 2 to 4 % less time for all of
  /// attention). (The weights' sums before it, a chain of their own, take 3 to 4 % more.)
  @inline(never)
  private static func fewValues<F: WordFormat, L: TileLanes, let queries: Int, let vectors: Int>(
    _: F.Type, _: InlineArray<queries, Void>.Type, _: Vectors<vectors>.Type, _ tile: Tile<L>,
    _ left: TileLeft, _ count: Int,
    _ ahead: inout Lines
  ) where F.L == F32 {
    let n = F32.count
    let columns = Int(tile.bench.job.pointee.value_size)
    let block = Int(SMXK_KEY_BLOCK)
    let weights = singles(tile.bench.scores)
    let factor = singles(tile.state(SMXK_FACTOR))
    let total = singles(tile.state(SMXK_WEIGHT))
    let again = rowsAhead &* left.stride
    let share = ahead.share(of: columns / (vectors &* n) &* count)
    let takesParts = F.partsAreCheap && vectors > 1
    var column = 0
    while column < columns {
      var sums = InlineArray<queries, InlineArray<vectors, F32>>(
        repeating: InlineArray(repeating: F32(0)))
      var ofWeights = InlineArray<queries, F32>(repeating: F32(0))
      var row = left.base + column &* F.size
      @inline(__always) func add<AddsWeights: Choice>(_: AddsWeights.Type) {
        for key in 0..<count {
          let x = InlineArray<vectors, F32> { v in
            guard takesParts else { return F.load(row, v &* n) }
            return F.part(F32(at: row.assumingMemoryBound(to: Float.self) + v / 2 &* n), v & 1)
          }
          for line in 0..<(vectors &* n &* F.size &+ 63) / 64 {
            I.prefetchAhead(row + (again &+ line &* 64))
          }
          ahead.ask(share)
          for r in 0..<queries {
            let weight = F32(weights[r &* block &+ key])
            if AddsWeights.isTrue { ofWeights[r] = ofWeights[r] + weight }
            for v in 0..<vectors { sums[r][v] = x[v].fma(weight, sums[r][v]) }
          }
          row += left.stride
        }
      }
      if column == 0 { add(Yes.self) } else { add(No.self) }
      for r in 0..<Swift.min(queries, Int(tile.header.pointee.count)) {
        let f = F32(factor[r])
        if column == 0 { total[r] = F32(total[r]).fma(f, ofWeights[r])[0] }
        if takesParts {
          for v in 0..<vectors / 2 {
            (sums[r][2 &* v], sums[r][2 &* v &+ 1]) = F32.zip(sums[r][2 &* v], sums[r][2 &* v &+ 1])
          }
        }
        for v in 0..<vectors {
          let place = tile.few + (r &* columns &+ column &+ v &* n)
          F32(at: place).fma(f, sums[r][v]).store(at: place)
        }
      }
      column = column &+ vectors &* n
    }
  }

  // -- where the sums stand -----------------------------------------------------------------------

  /// A row for each query, from (value size, lanes).
  @inline(__always)
  private static func spread<L: TileLanes>(_ tile: Tile<L>) {
    if tile.header.pointee.is_apart == 0 { move(tile, apart: true) }
  }

  /// And back.
  @inline(__always)
  static func gather<L: TileLanes>(_ tile: Tile<L>) {
    if hasFewQueries(L.self) && tile.header.pointee.is_apart != 0 { move(tile, apart: false) }
  }

  @inline(never)
  private static func move<L: TileLanes>(_ tile: Tile<L>, apart: Bool) {
    let columns = Int(tile.bench.job.pointee.value_size)
    let n = F32.count
    let sums = singles(tile.sums)
    for c in 0..<columns / n {
      if apart {
        transpose(F32.self, sums + c &* n &* n, n, tile.few + c &* n, columns)
      } else {
        transpose(F32.self, tile.few + c &* n, columns, sums + c &* n &* n, n)
      }
    }
    tile.header.pointee.is_apart = apart ? 1 : 0
  }
}
