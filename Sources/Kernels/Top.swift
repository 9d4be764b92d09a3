// The maximum's own term in the plain form, to more digits than the others.
//
// Where one element dominates, its rounding is the rounding of the sum and so of every result of the row;
// for a logarithm it must come off the sum again without a trace. Both need the term as it went into the
// sum, unrounded 1 + q·r, and as it should be; the difference of the two is the residue of the two
// roundings that p(r) has before its last one, r itself and q = 1 + r·tail.

extension Kernels {
  struct Top<L: Lanes> {
    /// The term as it is stored.
    let rounded: L.Scalar
    /// The term as it went into the sum.
    let added: Sum
    /// What the sum misses: the exact term less `added`, to 2^-4 of an ulp.
    let missing: Double

    /// Of the plain form.
    @inline(__always) init(plain maximum: L.Scalar) {
      let n = (maximum * L.log2e + L.roundingShift) - L.roundingShift
      let first = maximum.addingProduct(-n, L.ln2High)
      let r = first.addingProduct(-n, L.ln2Low)
      let lanes = L(r)
      let tail = lanes.expTail()[0]
      let q = (1 as L.Scalar).addingProduct(tail, r)
      let ofRest = (first - r) - n * L.ln2Low
      let ofQuotient = (1 - q).addingProduct(tail, r)
      rounded = (1 as L.Scalar).addingProduct(q, r) * L.unit
      let product = Sum.product(Double(q), Double(r))
      let whole = Sum.exact(1, product.high)
      let unit = Double(L.unit)
      added = Sum(high: whole.high * unit, low: (whole.low + product.low) * unit)
      missing = Double(ofRest.addingProduct(ofQuotient, r)) * unit
    }

    /// Of the other forms, where the maximum's term is exact.
    @inline(__always) init() {
      rounded = L.unit
      added = Sum(high: Double(L.unit), low: 0)
      missing = 0
    }

    /// The sum of the other terms relative to the maximum's.
    @inline(__always) func others(of sum: Sum) -> Sum {
      let rest = Sum.exact(sum.high, -added.high)
      return Sum(high: rest.high, low: rest.low + (sum.low - added.low)).divided(by: exact)
    }

    /// The sum with the maximum's term as it should be.
    @inline(__always) func corrected(_ sum: Sum) -> Sum {
      Sum.exact(larger: sum.high, sum.low + missing)
    }

    /// The maximum's share of a corrected sum.
    @inline(__always) func share(of sum: Sum) -> L.Scalar {
      let share = exact.divided(by: sum)
      return L.Scalar(share.high + share.low)
    }

    @inline(__always) var exact: Sum { Sum(high: added.high, low: added.low + missing) }
  }
}
