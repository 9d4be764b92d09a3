// Attention with precision "fast": whole blocks of bfloat16 keys and values through AMX tiles
// (CSupport/amx.c) or, where they are fast and there is no AMX, the dot products of AVX512-BF16
// (CSupport/dots.c).
//
// The steps are those of Attention.swift, and so are scores, exponents and sums of weights in
// float32; but products are the unit's, and weights are rounded to bfloat16 for theirs: an error of
// up to 2^-8 of each, which the sum over the keys averages out. Blocks that a tile sees in part
// only, and short ones at the end, go through the exact products. AMX's take a sixteenth of their
// time, so that what is left is the weights, and the dot products half of it. Outside the contract
// of bits.
//
// Both multiply pairs: of queries, columns 2k and 2k + 1 stand in one word, turned like the rest.
// Of weights, a word has those of keys k and k + 16 of 32, and so have the turned values: any order
// of the keys will do if it is the same.

import CSupport

extension Kernels {
  @inline(__always) static func isFast<L: TileLanes>(_ bench: Bench<L>) -> Bool {
    I.hasWideTiles && L.isSingle && Int(bench.job.pointee.unit) != SMXK_EXACT_UNIT
  }
  @inline(__always) static func uses<L: TileLanes>(_ unit: Int, _ bench: Bench<L>) -> Bool {
    isFast(bench) && Int(bench.job.pointee.unit) == unit
  }

  /// A tile's queries as pairs: (head size / 2, lanes).
  @inline(never)
  static func loadPairs<L: TileLanes>(_ tile: Tile<L>) {
    let bench = tile.bench
    let view = bench.job.pointee.query
    let pairs = Int(bench.job.pointee.head_size) / 2
    let to = (tile.base + Int(bench.job.pointee.rooms.pairs)).assumingMemoryBound(to: Float.self)
    // Rows beyond the last query repeat it; nothing is done with their sums.
    func row(_ lane: Int) -> UnsafeRawPointer {
      UnsafeRawPointer(
        address(view, bench.batch, tile, Swift.min(lane, Int(tile.header.pointee.count) &- 1)))
    }
    var lane = 0
    while lane < tile.lanes {
      var pair = 0
      while pair < pairs {
        turn(F32.self) {
          row(lane &+ $0) + 4 &* pair
        } _: { k, words in
          words.store(at: to + ((pair &+ k) &* tile.lanes &+ lane))
        }
        pair = pair &+ 16
      }
      lane = lane &+ 16
    }
  }

  /// Whether a tile takes the keys from..<to, all of one block, through the unit.
  @inline(__always)
  static func isFast<L: TileLanes>(_ tile: Tile<L>, from: Int, to: Int) -> Bool {
    isFast(tile.bench) && to &- from == Int(SMXK_KEY_BLOCK) && Int(tile.header.pointee.lower) < to
      && isWhole(tile, from, to)
  }

  /// The keys from..<to into the tiles that see all of them.
  @inline(never)
  static func visitFast<L: TileLanes>(_ bench: Bench<L>, _ tiles: Int, from: Int, to: Int) {
    let job = bench.job
    var sees = false
    for t in 0..<tiles where isFast(bench.tile(t), from: from, to: to) { sees = true }
    if !sees { return }
    let start = from &+ bench.firstKey
    func rows(_ view: smxk_view) -> UnsafeRawPointer {
      UnsafeRawPointer(view.data!)
        + (bench.batch &* Int(view.batch) &+ bench.keyHead &* Int(view.head) &+ start
          &* Int(view.row))
    }
    let values = (bench.base + Int(job.pointee.rooms.fast_values)).assumingMemoryBound(
      to: Float.self)
    turnValues(
      rows(job.pointee.value), Int(job.pointee.value.row), Int(job.pointee.value_size), values)
    for t in 0..<tiles {
      let tile = bench.tile(t)
      if isFast(tile, from: from, to: to) {
        absorbFast(tile, rows(job.pointee.key), UnsafeRawPointer(values))
      }
    }
  }

  /// Values of a block: (value size, 32 words); word k of a half has key k and, above it, key k +
  /// 16.
  @inline(never)
  private static func turnValues(
    _ start: UnsafeRawPointer, _ stride: Int, _ size: Int, _ to: UnsafeMutablePointer<Float>
  ) {
    for half in 0..<2 {
      let lower = start + half &* 32 &* stride
      let upper = lower + 16 &* stride
      var pair = 0
      while pair < size / 2 {
        let a = turnedColumns(F32.self, pair) { lower + $0 &* stride }
        let b = turnedColumns(F32.self, pair) { upper + $0 &* stride }
        @inline(__always) func put(_ k: Int) {
          let x = unsafeBitCast(a[k].v, to: SIMD16<UInt32>.self)
          let y = unsafeBitCast(b[k].v, to: SIMD16<UInt32>.self)
          let place = to + (2 &* (pair &+ k) &* 32 &+ half &* 16)
          F32(v: unsafeBitCast((x & 0xffff) | (y &<< 16), to: SIMD16<Float>.self)).store(at: place)
          F32(v: unsafeBitCast((x &>> 16) | (y & 0xffff_0000), to: SIMD16<Float>.self)).store(
            at: place + 32)
        }
        // Written out: as a loop the rows would go through memory.
        put(0)
        put(1)
        put(2)
        put(3)
        pair = pair &+ 4
      }
    }
  }

  @inline(never)
  private static func absorbFast<L: TileLanes>(
    _ tile: Tile<L>, _ keys: UnsafeRawPointer, _ values: UnsafeRawPointer
  ) {
    let bench = tile.bench
    let job = bench.job
    let lanes = tile.lanes
    let block = Int(SMXK_KEY_BLOCK)
    let vectors = Int64(lanes / 16)
    func floats(_ offset: Int64) -> UnsafeMutablePointer<Float> {
      (bench.base + Int(offset)).assumingMemoryBound(to: Float.self)
    }
    let usesDots = uses(SMXK_DOT_UNIT, bench)
    let pairs = tile.base + Int(job.pointee.rooms.pairs)
    if usesDots {
      smxk_dot_scores(
        keys, Int64(job.pointee.key.row), pairs, Int64(block), job.pointee.head_size / 32, vectors,
        Float(job.pointee.scale),
        floats(job.pointee.rooms.scores), singles(tile.state(SMXK_LARGEST)))
    } else {
      smxk_amx_product(
        keys, Int64(job.pointee.key.row), pairs, Int64(block), job.pointee.head_size / 32, vectors,
        floats(job.pointee.rooms.scores))
      scaleScores(tile)
    }
    if tile.header.pointee.has_base != 0 || isLarge(L.self, tile.state(SMXK_LARGEST), lanes) {
      rebase(tile, block)
    }
    weigh(tile, block, isWhole: false)
    pairWeights(floats(job.pointee.rooms.scores), floats(job.pointee.rooms.fast_weights), lanes)
    let weights = floats(job.pointee.rooms.fast_weights)
    if usesDots {
      smxk_dot_sums(
        values, 128, weights, job.pointee.value_size, 2, vectors, singles(tile.state(SMXK_FACTOR)),
        singles(tile.sums))
    } else {
      smxk_amx_product(
        values, 128, weights, job.pointee.value_size, 2, vectors,
        floats(job.pointee.rooms.fast_sums))
      addSums(tile, bench.numbers(job.pointee.rooms.fast_sums))
    }
  }

  /// Products to scores, and the largest of each lane.
  @inline(never)
  private static func scaleScores<L: TileLanes>(_ tile: Tile<L>) {
    let scale = L(L.Scalar(tile.bench.job.pointee.scale))
    var lane = 0
    while lane < tile.lanes {
      var largest = L(-.infinity)
      for key in 0..<Int(SMXK_KEY_BLOCK) {
        let p = tile.bench.scores + (key &* tile.lanes &+ lane)
        let score = L(at: p) * scale
        score.store(at: p)
        largest = L.max(score, largest)
      }
      largest.store(at: tile.state(SMXK_LARGEST) + lane)
      lane = lane &+ L.count
    }
  }

  /// Weights (keys, lanes) as pairs of bfloat16, ties rounded up.
  @inline(never)
  private static func pairWeights(
    _ weights: UnsafePointer<Float>, _ to: UnsafeMutablePointer<Float>, _ lanes: Int
  ) {
    for half in 0..<2 {
      for k in 0..<16 {
        let row = weights + (32 &* half &+ k) &* lanes
        var lane = 0
        while lane < lanes {
          let a = unsafeBitCast(F32(at: row + lane).v, to: SIMD16<UInt32>.self) &+ 0x8000
          let b =
            unsafeBitCast(F32(at: row + (16 &* lanes &+ lane)).v, to: SIMD16<UInt32>.self) &+ 0x8000
          F32(v: unsafeBitCast((a &>> 16) | (b & 0xffff_0000), to: SIMD16<Float>.self))
            .store(at: to + ((16 &* half &+ k) &* lanes &+ lane))
          lane = lane &+ 16
        }
      }
    }
  }

  @inline(never)
  private static func addSums<L: TileLanes>(_ tile: Tile<L>, _ sums: UnsafePointer<L.Scalar>) {
    var lane = 0
    while lane < tile.lanes {
      let factor = L(at: tile.state(SMXK_FACTOR) + lane)
      for column in 0..<Int(tile.bench.job.pointee.value_size) {
        let place = column &* tile.lanes &+ lane
        L(at: tile.sums + place).fma(factor, L(at: sums + place)).store(at: tile.sums + place)
      }
      lane = lane &+ L.count
    }
  }
}
