// The maximum's own term in the plain form, to more digits than the others.
//
// Where one element dominates, its rounding is the rounding of the sum and so of every result of
// the row; for a logarithm it must come off the sum again without a trace. Both need the term as it
// went into the sum, unrounded 1 + q·r, and as it should be; the difference of the two is the
// residue of the two roundings that p(r) has before its last one, r itself and q = 1 + r·tail.

extension Kernels {
  /// The maximum's term in units of 2^headroom: 1 + quotient·rest went into the sum, and it is
  /// `missing` short. One row, or in each lane another.
  struct Top<L: Lanes> {
    let quotient: L
    let rest: L
    let missing: L
    /// 2^headroom times the term, as it is stored.
    let rounded: L

    /// Of the plain form; of a pair, if there is a low part.
    @inline(__always) init(plain maximum: L, low: L? = nil) {
      let n = maximum.fma(L(L.log2e), L(L.roundingShift)) - L(L.roundingShift)
      let first = n.fma(L(-L.ln2High), maximum)
      var r: L
      var ofRest: L
      if let low {
        let small = n.fma(L(-L.ln2Low), low)
        r = first + small
        ofRest = (first - r) + small
      } else {
        r = n.fma(L(-L.ln2Low), first)
        ofRest = n.fma(L(-L.ln2Low), first - r)
      }
      let tail = r.expTail()
      let q = tail.fma(r, L(1))
      let ofQuotient = tail.fma(r, L(1) - q)
      quotient = q
      rest = r
      let term = q.fma(r, L(1))
      missing = ofQuotient.fma(r, ofRest * term)
      rounded = term * L(L.unit)
    }

    /// Of the other forms, where the maximum's term is exactly 1.
    @inline(__always) init() {
      quotient = L(1)
      rest = L(0)
      missing = L(0)
      rounded = L(L.unit)
    }
  }

  /// The same in float64.
  struct WideTop<L: Lanes, W: Wide> {
    let added: SumOf<W>
    let missing: W

    @inline(__always) init(quotient: W, rest: W, missing: W) {
      self.missing = missing
      if L.isSingle {
        added = SumOf(high: quotient.fma(rest, W(1)), low: W(0))
      } else {
        let product = SumOf.product(quotient, rest)
        let whole = SumOf.exact(W(1), product.high)
        added = SumOf(high: whole.high, low: whole.low + product.low)
      }
    }

    @inline(__always) var exact: SumOf<W> { SumOf(high: added.high, low: added.low + missing) }

    /// The sum of the row in the same units, with the maximum's term as it should be.
    @inline(__always) func corrected(_ sum: SumOf<W>) -> SumOf<W> {
      let scale = W(1 / Double(L.unit))
      if L.isSingle { return SumOf(high: sum.high.fma(scale, missing), low: W(0)) }
      return SumOf.exact(larger: sum.high * scale, sum.low.fma(scale, missing))
    }
  }
}

extension Kernels.Top {
  @inline(__always) func wide<W: Wide>(_ part: (L) -> W) -> Kernels.WideTop<L, W> {
    Kernels.WideTop(quotient: part(quotient), rest: part(rest), missing: part(missing))
  }

  /// Of a single row.
  @inline(__always) var ofRow: Kernels.WideTop<L, Double> { wide { Double($0[0]) } }

  /// Of the first eight lanes.
  @inline(__always) var eight: Kernels.WideTop<L, L.Eight> { wide { $0.eight } }
}
