// Division of a row's terms by its sum.

extension Kernels {
  /// 1/sum, in units of 2^-headroom, and the maximum's share of the sum.
  struct Inverse<L: Lanes, W: Wide> {
    let inverse: SumOf<W>
    let share: W

    @inline(__always) init(_ sum: SumOf<W>, _ top: WideTop<L, W>) {
      let s = top.corrected(sum)
      let quotient = W(1) / s.high
      let scaled = quotient * W(1 / Double(L.unit))
      if L.isSingle {
        inverse = SumOf(high: scaled, low: W(0))
        share = (top.added.high + top.missing) * quotient
      } else {
        let minus = W(0) - quotient
        let residual = minus.fma(s.low, minus.fma(s.high, W(1)))
        inverse = SumOf(high: scaled, low: scaled * residual)
        let exact = top.exact.divided(by: s)
        share = exact.high + exact.low
      }
    }
  }

  /// The maximum's share is shown from here on: a certain class is exactly 1, and equal ones share exactly.
  static var leastShareShown: Double { @inline(__always) get { 0x1p-5 } }

  /// 1/sum as a pair, so that a quotient is a product and a fused multiply-add, rounded once.
  struct Divisor<L: Lanes> {
    let high: L
    let low: L
    /// The maximum's term, and its share, where that is large enough for its rounding to be seen; NaN where not.
    let top: L
    let topShare: L
    let showsTop: Bool

    @inline(__always) init(high: L, low: L, top: L, topShare: L, showsTop: Bool) {
      self.high = high
      self.low = low
      self.top = top
      self.topShare = topShare
      self.showsTop = showsTop
    }

    @inline(__always) init(_ sum: Sum, _ top: Top<L>) {
      let numbers = Inverse<L, Double>(sum, top.ofRow)
      let upper = L.Scalar(numbers.inverse.high)
      high = L(upper)
      // For float32 the difference is what rounding left; for float64 it is zero.
      low = L(L.Scalar((numbers.inverse.high - Double(upper)) + numbers.inverse.low))
      let share = L.Scalar(numbers.share)
      showsTop = share >= L.Scalar(leastShareShown)
      self.top = showsTop ? top.rounded : L(.nan)
      topShare = L(share)
    }

    @inline(__always) func quotient(_ e: L) -> L { e.fma(high, e * low) }

    @inline(__always) func quotientOrTop(_ e: L) -> L {
      L.pick(e, equalTo: top, topShare, quotient(e))
    }
  }
}
