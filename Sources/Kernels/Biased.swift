// Rows with a bias: scores are x + bias exactly, as pairs of numbers, the rounded sum and what it
// lost (TwoSum).
//
// Where x and bias lie as the lanes compute them, the maximum and the sum take them from there, and
// the terms of softmax wait in out; else they are gathered first (one thread, 64 × 32000 float32:
// twice the time).
//
// At temperature 1 the pair itself is reduced (Exp.swift), in 31 vector operations beside two
// loads: 16 to 18 cycles a vector of AVX-512, where the difference of two pairs takes 34. Tried:
// the maximum in two passes, without low parts first; asking for the next row's lines with the sum.
// Both level.

import CSupport

extension Kernels {
  /// Whether this stage adds a row's bias on its way. The others find sums and what they lost in
  /// scratch.
  @inline(__always)
  static func addsBiasInPlace<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>
  ) -> Bool {
    if row.pointee.resident != 0 || !hasBiasBeside(L.self, job) { return false }
    let isBiased = row.pointee.form == SMXK_BIASED
    switch row.pointee.stage {
    case SMXK_MAXIMUM: return true
    case SMXK_SUM: return isBiased
    case SMXK_FINISH:
      return isBiased && job.pointee.operation == SMXK_LOG_SOFTMAX
        && job.pointee.direct == SMXK_DIRECT_OUT
    default: return false
    }
  }

  /// Whether x and a bias lie as the lanes compute them, and there is nothing else to see to.
  @inline(__always) static func hasBiasBeside<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>
  ) -> Bool {
    let size = Int64(MemoryLayout<L.Scalar>.stride)
    let last = job.pointee.inner![0]
    return I.hasFastPaths && job.pointee.bias != nil && job.pointee.mask == nil
      && job.pointee.weights == nil
      && job.pointee.structure == nil && job.pointee.inner_count == 1 && last.x == size
      && last.bias == size
      && isOwn(L.self, job.pointee.dtype) && isOwn(L.self, job.pointee.bias_dtype)
  }

  /// a + b rounded, and what that lost: NaN where the sum is not finite.
  @inline(__always) static func exactSum<L: Lanes>(_ a: L, _ b: L) -> (high: L, low: L) {
    let sum = a + b
    let part = sum - a
    return (sum, (a - (sum - part)) + (b - part))
  }

  /// (high, low) = the rounded sum of a and b, and what the rounding lost; low is 0 where the sum
  /// is not finite. Either may be an operand.
  @inline(__always)
  static func addExactly<L: Lanes>(
    _: L.Type, _ a: UnsafePointer<L.Scalar>, _ b: UnsafePointer<L.Scalar>,
    _ high: UnsafeMutablePointer<L.Scalar>,
    _ low: UnsafeMutablePointer<L.Scalar>, _ length: Int
  ) {
    for (j, first, last) in vectors(L.self, 0, length) {
      let a: L = load(a + j, first, last, fill: 0)
      let b: L = load(b + j, first, last, fill: 0)
      let sum = exactSum(a, b)
      store(sum.high, high + j, first, last)
      store(L.pick(sum.low, equalTo: sum.low, sum.low, L(0)), low + j, first, last)
    }
  }

  /// The largest of a chunk's scores, and of those that are as large the largest low part.
  @inline(never)
  static func findMaximum<L: Lanes>(_ e: Elements<L>, _ partial: inout smxk_partial) {
    var high = L(-.infinity)
    var low = L(-.infinity)
    for (i, first, last) in vectors(L.self, e.from, e.to) {
      let x = e.pair(at: i, first, last)
      low = L.pick(
        high, lessThan: x.high, x.low, L.pick(high, equalTo: x.high, L.max(x.low, low), low))
      high = L.max(x.high, high)
    }
    let largest = high.largest()
    partial.high = Double(largest)
    partial.low = Double(L.pick(high, equalTo: L(largest), low, L(-.infinity)).largest())
  }

  /// The sum of a chunk's terms, which go to `terms` if there is room.
  @inline(never)
  static func sumBiased<L: Lanes>(
    _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>,
    _ terms: UnsafeMutablePointer<L.Scalar>?
  ) -> Sum {
    let exp = plainExp(L.self, row)
    let maximum = L(L.Scalar(row.pointee.maximum))
    let maximumLow = L(L.Scalar(row.pointee.maximum_low))
    var sum = Accumulator<L>()
    for (i, first, last) in vectors(L.self, elements.from, elements.to) {
      let x = elements.pair(at: i, first, last)
      let term = exp(x.high, x.low)
      let e = term.rounded()
      if let terms {
        store(mark(e, of: x.high, x.low, maximum, maximumLow), terms + i, first, last)
      }
      sum.add(term, rounded: e)
    }
    return sum.total()
  }

  /// The term e of a pair, with a minus if that is the maximum: several pairs may have one term, so
  /// that it does not tell.
  @inline(__always)
  static func mark<L: Lanes>(_ e: L, of x: L, _ low: L, _ maximum: L, _ maximumLow: L) -> L {
    L.pick(x, equalTo: maximum, L.pick(low, equalTo: maximumLow, L(0) - e, e), e)
  }

  /// out = e / sum of marked terms that wait there.
  @inline(__always)
  static func divideMarked<L: Lanes>(
    _ out: UnsafeMutablePointer<L.Scalar>, _ count: Int, _ top: Top<L>, _ divisor: Divisor<L>
  ) {
    let share = divisor.shareOfMarked(top)
    for (i, first, last) in vectors(L.self, 0, count) {
      let e: L = load(out + i, first, last, fill: 0)
      store(L.pick(e, lessThan: L(0), share, divisor.quotient(e)), out + i, first, last)
    }
  }

  /// out = (score - maximum) - logSum, the score and the maximum as pairs. Nothing cancels: where
  /// the difference is small, both share the sum, whose logarithm is no less than log 2.
  @inline(never)
  static func subtractBiased<L: Lanes>(
    _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>, _ out: UnsafeMutablePointer<L.Scalar>
  ) {
    let maximum = L(L.Scalar(row.pointee.maximum))
    let maximumLow = L(L.Scalar(row.pointee.maximum_low))
    let logSum = L(L.Scalar(row.pointee.log_sum))
    let closed = L(-L.Scalar.infinity)
    for (i, first, last) in vectors(L.self, elements.from, elements.to) {
      let x = elements.pair(at: i, first, last)
      let d = exactSum(x.high, L(0) - maximum)
      let value = d.high + ((d.low + (x.low - maximumLow)) - logSum)
      store(L.pick(x.high, equalTo: closed, closed, value), out + i, first, last)
    }
  }
}
