// What a bias and a mask array make of the scores of few queries (FewQueries.swift): the operations
// of AttentionScores.swift, with lanes along the keys, so that a row of either is used as it lies.

import CSupport

extension Kernels {
  /// Adds the bias to the scores of keys first ..< first + count, (queries, block); those that the
  /// mask hides become -inf.
  @inline(never)
  static func changeFew<L: TileLanes>(_ tile: Tile<L>, _ first: Int, _ count: Int) {
    let bench = tile.bench
    let job = bench.job
    let block = Int(SMXK_KEY_BLOCK)
    let hasBias = job.pointee.bias.data != nil
    let hides = tile.header.pointee.has_masked != 0
    let bias = singles(bench.numbers(job.pointee.rooms.turn))
    let shown = bias + block
    // Up to a whole vector scores are leftovers, which change nothing.
    if hasBias { clear(F32.self, bias, block) }
    if hides { clear(F32.self, shown, block) }
    for r in 0..<Int(tile.header.pointee.count) {
      @inline(__always) func row(_ view: smxk_view) -> UnsafeRawPointer {
        UnsafeRawPointer(address(view, bench.batch, tile, r)) + first &* Int(view.column)
      }
      if hasBias {
        let view = job.pointee.bias
        readRow(F32.self, job.pointee.bias_dtype, row(view), Int(view.column), bias, count)
      }
      if hides {
        readFlags(F32.self, row(job.pointee.mask), Int(job.pointee.mask.column), shown, count)
      }
      let scores = singles(bench.scores) + r &* block
      var key = 0
      while key < count {
        var s = F32(at: scores + key)
        if hasBias { s = s + F32(at: bias + key) }
        s = withinLimit(s)
        if hides { s = F32.pick(F32(at: shown + key), equalTo: F32(0), F32(-.infinity), s) }
        s.store(at: scores + key)
        key = key &+ F32.count
      }
    }
  }

  /// Whether all values of `count` keys are finite. `columns` is a multiple of four vectors.
  @inline(never)
  static func fewAreFinite<F: WordFormat>(
    _: F.Type, _ values: TileLeft, _ count: Int, _ columns: Int
  ) -> Bool where F.L == F32 {
    // Four chains; a product with 0 is 0 for a finite number and NaN for any other.
    var found = InlineArray<4, F32>(repeating: F32(0))
    for key in 0..<count {
      let row = values.base + key &* values.stride
      var column = 0
      while column < columns {
        for v in 0..<4 {
          found[v] = F.load(row, column &+ v &* F32.count).fma(F32(0), found[v])
        }
        column = column &+ 4 &* F32.count
      }
    }
    let sum = (found[0] + found[1]) + (found[2] + found[3])
    return F32.pick(sum, equalTo: F32(0), F32(0), F32(1)).largest() == 0
  }
}
