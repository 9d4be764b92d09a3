// What a row's sum becomes: its reciprocal for softmax, the argument of log1p for the other two.

import CSupport

extension Kernels {
  /// 1/sum as a pair, accurate to 2^-48 (2^-105).
  @inline(__always)
  static func reciprocal<L: Lanes>(_: L.Type, _ sum: Sum) -> (high: L.Scalar, low: L.Scalar) {
    let inverse = 1 / sum.high
    let residual = (1.0).addingProduct(-inverse, sum.high).addingProduct(-inverse, sum.low)
    let high = L.Scalar(inverse)
    // For float32 the first difference is what rounding left; for float64 it is zero.
    return (high, L.Scalar((inverse - Double(high)) + inverse * residual))
  }

  /// The sum without the maximum's own term, 2^headroom · (1 + residue), relative to it.
  @inline(__always)
  static func aboveMaximum<L: Lanes>(_: L.Type, _ sum: Sum, residue: L.Scalar) -> Sum {
    let scale = 1 / Double(L.unit)
    let above = Sum.exact(sum.high * scale, -1)
    return Sum.exact(larger: above.high, above.low + (sum.low * scale - Double(residue)))
  }

  /// Whether a logarithm of 1 + t wants t to more digits than a sum that holds the maximum can give.
  ///
  /// Below 2^-5 the rounding of the other terms to the unit of the maximum shows. For logsumexp the bound
  /// is one ulp of the larger of |maximum| and |result|: half of that is the last rounding, and the
  /// error of the terms, 0.55·2^-24 of t, fits into the other half unless both are small.
  @inline(__always)
  static func needsPreciseSum(_ operation: smxk_operation, _ t: Double, maximum: Double) -> Bool {
    t < 0x1p-5 || (operation == SMXK_LOGSUMEXP && t < 0x1p-2 && maximum.magnitude < 2)
  }
}
