// From scores to weights, and the sums that go with them.
//
//     d = s · log2(e) - N,   rounded once,      weight = 2^d
//
// N is the row's exponent: a whole number, at least floor(log2(e) · largest score so far), so no
// weight is above 2. Moving N multiplies what has been summed by a power of two, exactly. Weights
// below 2^-100 (2^-960), and such powers, are 0 (`weight`, TileLanes.swift).
// Twelve vector operations for 16 scores with AVX-512, beside 2·D FMA: an eighth of the work for D
// = 64.
//
// For weights that are rounded to bfloat16 (AttentionFast.swift) N is log2(e) · largest score
// itself: the largest weight is then 1 and has no rounding, where it would have up to 2^-8 of
// itself. Moving N then rounds, by 2^-24.
//
// A score of 2^20 (2^40) or more is too large for the formula above: its product with log2(e) is
// rounded to a multiple of more than the fraction that d must keep. Such a row is counted from a
// base, the block's largest score then: s - base takes the place of s. What was summed before keeps
// its part: its exponent, counted from the new base, is then no whole number, and moving N rounds
// once. From a base other than 0 scores must not stray far either (`baseReach`): they would be as
// coarse as it. The base behind it is 0 again if their size allows that, so that keys hidden by a
// bias of -1e9 cost those behind them nothing.

import CSupport

extension Kernels {
  /// How far above a base that is not 0 a block's largest score may lie without becoming the base.
  static var baseReach: Double { @inline(__always) get { 0x1p10 } }

  /// Where a largest score is counted from that the base before does not reach.
  @inline(__always) static func base<L: TileLanes>(for largest: L) -> L {
    L.pick(L.max(L(0) - largest, largest), lessThan: L(L.baseLimit), L(0), largest)
  }

  /// An exponent counted from another base, which is above all that was summed.
  @inline(__always) static func moved<L: TileLanes>(
    _ exponent: L, from before: L, to base: L
  ) -> L {
    let none = L(-L.Scalar.greatestFiniteMagnitude)
    return L.pick(exponent, equalTo: none, none, (before - base).fma(L(L.log2e), exponent))
  }

  /// Counts a block's scores, and the largest of each lane, from the lane's base, which may begin
  /// here.
  @inline(never)
  static func rebase<L: TileLanes>(_ tile: Tile<L>, _ count: Int) {
    let lanes = tile.lanes
    let none = L(-L.Scalar.greatestFiniteMagnitude)
    var isMoved = L(0)
    var lane = 0
    while lane < lanes {
      let largest = L(at: tile.state(SMXK_LARGEST) + lane)
      let before = L(at: tile.state(SMXK_BASE) + lane)
      let exponent = L(at: tile.state(SMXK_EXPONENT) + lane)
      let above = largest - before
      let limit = L.pick(before, equalTo: L(0), L(L.baseLimit), L(L.Scalar(baseReach)))
      // Where nothing has been summed yet, a base may also lie below.
      let distance = L.pick(exponent, equalTo: none, L.max(L(0) - above, above), above)
      let isOld = L.pick(
        distance, lessThan: limit, L(1), L.pick(distance, lessThan: L(.infinity), L(0), L(1)))
      let base = L.pick(isOld, equalTo: L(1), before, base(for: largest))
      base.store(at: tile.state(SMXK_BASE) + lane)
      isMoved = L.pick(base, equalTo: L(0), isMoved, L(1))
      L.pick(isOld, equalTo: L(1), exponent, moved(exponent, from: before, to: base))
        .store(at: tile.state(SMXK_EXPONENT) + lane)
      (largest - base).store(at: tile.state(SMXK_LARGEST) + lane)
      for key in 0..<count {
        let p = tile.bench.scores + (key &* lanes &+ lane)
        (L(at: p) - base).store(at: p)
      }
      lane = lane &+ L.count
    }
    tile.header.pointee.has_base = isMoved.largest() != 0 ? 1 : 0
  }

  /// Turns a block's scores into weights in place, moves each lane's exponent, and adds up the
  /// weights. `isWhole`: the exponent is a whole number.
  @inline(never)
  static func weigh<L: TileLanes>(_ tile: Tile<L>, _ count: Int, isWhole: Bool = true) {
    var lane = 0
    while lane < tile.lanes {
      weigh(tile, lane, from: 0, to: count, isWhole: isWhole)
      lane = lane &+ L.count
    }
  }

  /// The same for one vector of lanes and the keys from..<to of the block.
  @inline(__always)
  static func weigh<L: TileLanes>(
    _ tile: Tile<L>, _ lane: Int, from: Int, to: Int, isWhole: Bool = true
  ) {
    let lanes = tile.lanes
    let log2e = L(L.log2e)
    let before = L(at: tile.state(SMXK_EXPONENT) + lane)
    let largest = L(at: tile.state(SMXK_LARGEST) + lane) * log2e
    let exponent = L.max(isWhole ? largest.floor() : largest, before)
    let factor = (before - exponent).weight()
    exponent.store(at: tile.state(SMXK_EXPONENT) + lane)
    factor.store(at: tile.state(SMXK_FACTOR) + lane)
    let minus = L(0) - exponent
    var sum = L(0)
    var p = tile.bench.scores + (from &* lanes &+ lane)
    for _ in from..<to {
      let weight = L(at: p).fma(log2e, minus).weight()
      weight.store(at: p)
      sum = sum + weight
      p += lanes
    }
    L(at: tile.state(SMXK_WEIGHT) + lane).fma(factor, sum).store(at: tile.state(SMXK_WEIGHT) + lane)
  }

  /// The values of shown keys, for a block with a value that is not finite: no product is formed
  /// with those of hidden keys.
  @inline(never)
  static func addShown<L: TileLanes>(
    _ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int,
    _ shown: UnsafePointer<L.Scalar>
  ) {
    let lanes = tile.lanes
    let weights = tile.bench.scores
    for column in 0..<Int(tile.bench.job.pointee.value_size) {
      var lane = 0
      while lane < lanes {
        var sum = L(0)
        for key in 0..<(last &- first) {
          let place = key &* lanes &+ lane
          let next = L(block.value(first &+ key, column)).fma(L(at: weights + place), sum)
          sum = L.pick(L(at: shown + place), equalTo: L(0), sum, next)
        }
        let place = tile.sums + (column &* lanes &+ lane)
        L(at: place).fma(L(at: tile.state(SMXK_FACTOR) + lane), sum).store(at: place)
        lane = lane &+ L.count
      }
    }
  }

  /// Joins the span's sums to those of the spans before it and begins the next span.
  @inline(never)
  static func merge<L: TileLanes>(_ tile: Tile<L>, isFirst: Bool) {
    let lanes = tile.lanes
    let size = Int(tile.bench.job.pointee.value_size)
    if isFirst {
      fill(L.self, tile.state(SMXK_TOTAL_BASE), 0, lanes)
      fill(L.self, tile.state(SMXK_TOTAL_EXPONENT), -L.Scalar.greatestFiniteMagnitude, lanes)
      fill(L.self, tile.state(SMXK_TOTAL_WEIGHT), 0, lanes)
      clear(L.self, tile.totals, wholeSquares(L.self, size) &* lanes)
    }
    var lane = 0
    while lane < lanes {
      let baseBefore = L(at: tile.state(SMXK_TOTAL_BASE) + lane)
      let before = L(at: tile.state(SMXK_TOTAL_EXPONENT) + lane)
      let base = L(at: tile.state(SMXK_BASE) + lane)
      let own = L(at: tile.state(SMXK_EXPONENT) + lane)
      // How far what was summed before is above this span; a whole number where the bases are
      // equal.
      let above = (baseBefore - base).fma(L(L.log2e), before - own)
      let factorBefore = L.pick(above, lessThan: L(0), above, L(0)).weight()
      let factor = L.pick(L(0), lessThan: above, L(0) - above, L(0)).weight()
      func join(_ total: UnsafeMutablePointer<L.Scalar>, _ part: UnsafeMutablePointer<L.Scalar>) {
        L(at: total).fma(factorBefore, L(at: part) * factor).store(at: total)
        L(0).store(at: part)
      }
      join(tile.state(SMXK_TOTAL_WEIGHT) + lane, tile.state(SMXK_WEIGHT) + lane)
      for column in 0..<size {
        let place = column &* lanes &+ lane
        join(tile.totals + place, tile.sums + place)
      }
      L.pick(above, lessThan: L(0), base, baseBefore).store(at: tile.state(SMXK_TOTAL_BASE) + lane)
      L.pick(above, lessThan: L(0), own, before).store(at: tile.state(SMXK_TOTAL_EXPONENT) + lane)
      L(0).store(at: tile.state(SMXK_BASE) + lane)
      L(-L.Scalar.greatestFiniteMagnitude).store(at: tile.state(SMXK_EXPONENT) + lane)
      lane = lane &+ L.count
    }
    tile.header.pointee.has_base = 0
  }
}
