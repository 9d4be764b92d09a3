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

  /// The maximum's share is shown from here on: a certain class is exactly 1, and a few equal ones
  /// share exactly.
  static var leastShareShown: Double { @inline(__always) get { 0x1p-5 } }

  /// From here on a term tells the element: numbers lie 4 · 2^-24 apart or more, and so do their
  /// exponentials, whose roundings are 1.31 · 2^-24. Below, elements other than the maximum may
  /// have its term; with its share they would be up to 3 ulp off, so there the element itself is
  /// looked at.
  static var leastTellingMaximum: Double { @inline(__always) get { 2 } }

  /// 1/sum as a pair, so that a quotient is a product and a fused multiply-add, rounded once.
  struct Divisor<L: Lanes> {
    let high: L
    let low: L
    /// The maximum, its term, and its share, where that is large enough for its rounding to be
    /// seen; NaN where not.
    let element: L
    let top: L
    let topShare: L
    let showsTop: Bool

    @inline(__always) init(high: L, low: L, element: L, top: L, topShare: L, showsTop: Bool) {
      self.high = high
      self.low = low
      self.element = element
      self.top = top
      self.topShare = topShare
      self.showsTop = showsTop
    }

    @inline(__always) init(_ sum: Sum, _ top: Top<L>, element: L) {
      let numbers = Inverse<L, Double>(sum, top.ofRow)
      let upper = L.Scalar(numbers.inverse.high)
      high = L(upper)
      // For float32 the difference is what rounding left; for float64 it is zero.
      low = L(L.Scalar((numbers.inverse.high - Double(upper)) + numbers.inverse.low))
      let share = L.Scalar(numbers.share)
      showsTop = share >= L.Scalar(leastShareShown)
      self.element = showsTop ? element : L(.nan)
      self.top = showsTop ? top.rounded : L(.nan)
      topShare = L(share)
    }

    @inline(__always) var numbers: DivisorNumbers<L.Scalar> {
      DivisorNumbers(
        high: high[0], low: low[0], element: element[0], top: top[0], topShare: topShare[0])
    }

    /// Where the maximum's terms are marked (Biased.swift) instead of told by their value.
    @inline(__always) func numbersForMarks(_ top: Top<L>) -> DivisorNumbers<L.Scalar> {
      DivisorNumbers(
        high: high[0], low: low[0], element: .nan, top: .nan, topShare: shareOfMarked(top)[0])
    }
    @inline(__always) func shareOfMarked(_ top: Top<L>) -> L {
      showsTop ? topShare : quotient(top.rounded)
    }

    @inline(__always) func quotient(_ e: L) -> L { e.fma(high, e * low) }

    /// Where terms tell the element.
    @inline(__always) func quotientOrTop(
      _ e: L
    ) -> L {
      L.pick(e, equalTo: top, topShare, quotient(e))
    }

    /// e is the term of x.
    @inline(__always) func quotientOrTop(_ e: L, of x: L) -> L {
      L.pick(x, equalTo: element, topShare, quotient(e))
    }
  }
}
