// Rows with a bias: scores are x + bias exactly, as pairs of numbers, the rounded sum and what it lost (TwoSum).
//
// Where x and bias lie as the lanes compute them, the maximum and the sum take them from there, and the terms of softmax wait
// in out; else they are gathered first. One thread, softmax of 64 × 32000 float32: 1.9 ms, gathered 3.6; of 512 × 1024, where
// a row stays in the first-level cache, it is level.

import CSupport

extension Kernels {
  /// Whether this stage adds a row's bias on its way. The others find sums and what they lost in scratch.
  @inline(__always)
  static func addsBiasInPlace<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>
  ) -> Bool {
    let stage = row.pointee.stage
    let isSum = stage == SMXK_SUM && row.pointee.form == SMXK_SCALED && row.pointee.temperature == 1
    return row.pointee.resident == 0 && (stage == SMXK_MAXIMUM || isSum) && hasBiasBeside(L.self, job)
  }

  /// Whether x and a bias lie as the lanes compute them, and there is nothing else to see to.
  @inline(__always) static func hasBiasBeside<L: Lanes>(_: L.Type, _ job: UnsafePointer<smxk_job>) -> Bool {
    let size = Int64(MemoryLayout<L.Scalar>.stride)
    let last = job.pointee.inner![0]
    return I.hasFastPaths && job.pointee.bias != nil && job.pointee.mask == nil && job.pointee.weights == nil
      && job.pointee.structure == nil && job.pointee.inner_count == 1 && last.x == size && last.bias == size
      && isOwn(L.self, job.pointee.dtype) && isOwn(L.self, job.pointee.bias_dtype)
  }

  /// a + b rounded, and what that lost: 0 where the sum is not finite.
  @inline(__always) static func exactSum<L: Lanes>(_ a: L, _ b: L) -> (high: L, low: L) {
    let sum = a + b
    let part = sum - a
    let lost = (a - (sum - part)) + (b - part)
    return (sum, L.pick(lost - lost, equalTo: L(0), lost, L(0)))
  }

  /// (high, low) = the rounded sum of a and b, and what the rounding lost; low is 0 where the sum is not finite. Either may be
  /// an operand.
  @inline(__always)
  static func addExactly<L: Lanes>(
    _: L.Type, _ a: UnsafePointer<L.Scalar>, _ b: UnsafePointer<L.Scalar>, _ high: UnsafeMutablePointer<L.Scalar>,
    _ low: UnsafeMutablePointer<L.Scalar>, _ length: Int
  ) {
    for (j, first, last) in vectors(L.self, 0, length) {
      let a: L = load(a + j, first, last, fill: 0)
      let b: L = load(b + j, first, last, fill: 0)
      let sum = exactSum(a, b)
      store(sum.high, high + j, first, last)
      store(sum.low, low + j, first, last)
    }
  }

  /// The largest of a chunk's scores, and of those that are as large the largest low part.
  @inline(never)
  static func findMaximum<L: Lanes>(_ e: Elements<L>, _ partial: inout smxk_partial) {
    var high = L(-.infinity)
    var low = L(-.infinity)
    for (i, first, last) in vectors(L.self, e.from, e.to) {
      let x = e.pair(at: i, first, last)
      low = L.pick(high, lessThan: x.high, x.low, L.pick(high, equalTo: x.high, L.max(x.low, low), low))
      high = L.max(x.high, high)
    }
    let largest = high.largest()
    partial.high = Double(largest)
    partial.low = Double(L.pick(high, equalTo: L(largest), low, L(-.infinity)).largest())
  }
}
