// Division of a row's terms by its sum, and when a logarithm of the sum wants more digits.

import CSupport

extension Kernels {
  /// 1/sum as a pair, so that a quotient is a product and a fused multiply-add, rounded once.
  struct Divisor<L: Lanes> {
    let high: L
    let low: L
    /// The maximum's term, and its share where that is large enough for its rounding to be seen.
    let top: L
    let topShare: L
    let showsTop: Bool

    @inline(__always) init(_ uncorrected: Sum, _ top: Top<L>) {
      let sum = top.corrected(uncorrected)
      let inverse = 1 / sum.high
      let residual = (1.0).addingProduct(-inverse, sum.high).addingProduct(-inverse, sum.low)
      let upper = L.Scalar(inverse)
      high = L(upper)
      // For float32 the first difference is what rounding left; for float64 it is zero.
      low = L(L.Scalar((inverse - Double(upper)) + inverse * residual))
      // From 1/32 on: a certain class is exactly 1, and equal ones share exactly.
      showsTop = sum.high <= 32 * top.added.high
      self.top = L(showsTop ? top.rounded : .nan)
      topShare = L(showsTop ? top.share(of: sum) : 0)
    }

    @inline(__always) func quotient(_ e: L) -> L { e.fma(high, e * low) }

    @inline(__always) func quotientOrTop(_ e: L) -> L {
      L.pick(e, equalTo: top, topShare, quotient(e))
    }
  }

  /// Whether a logarithm of 1 + t wants t to more digits than a sum that holds the maximum can give.
  ///
  /// Below 2^-5 the rounding of the other terms to the unit of the maximum shows. For logsumexp the bound is one
  /// ulp of the larger of |maximum| and |result|: half of it is the last rounding, and the terms' error,
  /// 0.55·2^-24·t/(1 + t), must fit into the other half, which is at least a quarter of that magnitude
  /// in the same unit.
  @inline(__always)
  static func needsPreciseSum(
    _ operation: smxk_operation, _ t: Double, _ logSum: Double, maximum: Double
  ) -> Bool {
    if t < 0x1p-5 { return true }
    if operation != SMXK_LOGSUMEXP || maximum.magnitude >= 2 { return false }
    let magnitude = Swift.max(maximum.magnitude, (maximum + logSum).magnitude)
    return magnitude * (1 + t) < 1.25 * t
  }
}
