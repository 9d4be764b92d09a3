// exp of a row's elements relative to its maximum, in two forms.
//
// Plain form: exp(x - max) without the subtraction. Rounding x - max costs up to 64 ulp; that is
// where most libraries lose their accuracy. Here x itself is reduced,
//
//     x = n·ln2 + r,  |r| <= ln2/2,      exp(x) / 2^N = 2^(n - N) · p(r),      N = round(max / ln2)
//
// and the whole power of two, an exact factor common to the row, takes the place of exp(-max).
//   - x - n·ln2High is exact: both are multiples of 2^-24 (2^-53), or of 2^-25 where x is below
//     1/2, and the difference is small enough to hold that.
//   - taking off n·ln2Low rounds at 2^-26; p(r) = 1 + r·(1 + r·tail) rounds last at 2^-24: together
//     at most 1.31 · 2^-24 of the term, which is 0.66 to 1.31 ulp. Division by the sum adds 0.5.
//   - 2^(n - N + headroom) is one shift: adding `shift` leaves n - N in the low bits of t together
//     with the exponent bias.
//   - headroom (2^64, 2^512) keeps every term that a result can show a normal number. Terms below
//     2^-96 (2^-580) are 0, by a comparison with `cut`: -inf, masked elements and all that cannot
//     be seen in a result contribute nothing, exactly, and no product is a subnormal number, whose
//     way through the processor may take 150 cycles (256 × 8000 float32 with a spread of 30:
//     log_softmax 15.7 ms when terms ended with the exponent field, now 2.4). With AVX-512 this is
//     the operation that a maximum with a lowest x would be; with AVX2 two more, 4 to 7 %.
// The maximum's own term, 2^headroom · p(max - N·ln2), is rounded like all others. Top.swift knows
// by how much, so that a dominant maximum does not carry its rounding into the sum.
//
// 13 vector operations. Tried: taking the maximum's remainder off each r, which makes its term
// exactly 1 (15; x near 0 then loses a bit on the way, 2.1 ulp); a compensated difference (TwoSum,
// 18).
//
// With a bias x is a pair, x + bias and what that sum lost (Biased.swift), whose lower number joins
// n·ln2Low; two operations more.
//
// Scaled form: for a temperature, or a maximum beyond `plainLimit`. The difference to the maximum
// is taken as a pair of numbers (TwoSum), multiplied by 1/T as a pair, and the low part joins r.
// The maximum's own term is exactly 2^headroom.

/// scale · exp(rest), |rest| <= 0.3495, as scale + quotient · scaledRest.
struct Exponential<L: Lanes> {
  let scale: L
  let quotient: L
  let scaledRest: L

  @inline(__always) init(rest r: L, scale: L) {
    self.scale = scale
    quotient = r.expTail().fma(r, L(1))
    scaledRest = r * scale
  }

  @inline(__always) init(scale: L, quotient: L, scaledRest: L) {
    self.scale = scale
    self.quotient = quotient
    self.scaledRest = scaledRest
  }

  /// The same for one of the vectors that L is made of.
  @inline(__always) func part<P: Lanes>(_ pick: (L) -> P) -> Exponential<P> {
    Exponential<P>(scale: pick(scale), quotient: pick(quotient), scaledRest: pick(scaledRest))
  }

  @inline(__always) func rounded() -> L { quotient.fma(scaledRest, scale) }
}

extension Kernels {
  /// exp(x) · 2^(headroom - N) for rows whose scores are x itself.
  struct PlainExp<L: Lanes> {
    let shift: L
    /// Terms of what lies below it are 0.
    let cut: L

    /// |maximum| < L.plainLimit.
    @inline(__always) init(maximum: L) {
      self.init(exponent: Kernels.exponent(maximum), fieldZero: L(L.fieldZero), least: L.leastField)
    }

    /// A term's exponent field is 0 at n - fieldZero, and the lowest that one has is about `least`.
    @inline(__always) init(exponent n: L, fieldZero: L, least: L.Scalar) {
      shift = L(L.roundingShift) + (fieldZero - n)
      cut = (n - (fieldZero - L(least))) * L(L.ln2High)
    }

    @inline(__always) init(shift: L, cut: L) {
      self.shift = shift
      self.cut = cut
    }

    /// The same for four vectors at a time.
    @inline(__always) func widened() -> PlainExp<Pair<Pair<L>>> {
      func four(_ x: L) -> Pair<Pair<L>> { Pair(Pair(x, x), Pair(x, x)) }
      return PlainExp<Pair<Pair<L>>>(shift: four(shift), cut: four(cut))
    }

    @inline(__always) func callAsFunction(_ x: L) -> Exponential<L> { reduced(x).exponential() }

    /// Of x, or of x + low, a number and what its rounding lost. That is at most 2^-9, or 2^-8 for
    /// x below -65536 beside a maximum above it: |r| is then up to 0.3514, half a percent beyond
    /// the polynomial's interval, which the results do not show (1.37 ulp in 300 such rows).
    @inline(__always) func callAsFunction(_ x: L, _ low: L?) -> Exponential<L> {
      reduced(x, low).exponential()
    }

    /// The first half of it.
    @inline(__always) func reduced(_ x: L, _ low: L? = nil) -> Reduced<L> {
      let t = x.fma(L(L.log2e), shift, unless: x, lessThan: cut)
      let n = t - shift
      let first = n.fma(L(-L.ln2High), x)
      var r: L
      if let low {
        r = L.pick(x, lessThan: cut, L(0), first + n.fma(L(-L.ln2Low), low))
      } else {
        r = n.fma(L(-L.ln2Low), first, unless: x, lessThan: cut)
      }
      return Reduced(rest: r, exponent: t)
    }
  }

  /// A score as rest + n·ln2, n still in the low bits of `exponent`.
  struct Reduced<L: Lanes> {
    let rest: L
    let exponent: L

    @inline(__always) func exponential() -> Exponential<L> {
      Exponential(rest: rest, scale: exponent.shiftedIntoExponent())
    }
  }

  /// A score relative to the row's maximum, as a pair: (x + low - maximum) · scale.
  struct Difference<L: Lanes> {
    let high: L
    let low: L
  }

  /// exp((x - max) / T) · 2^(headroom + raise), from pairs of numbers.
  struct ScaledExp<L: Lanes> {
    let maximum: L
    let maximumLow: L
    /// Scales the scores before the difference, where that could overflow though x/T does not: 1/4
    /// above T = 1, and 2^-40 for temperatures so large that 1/T would be subnormal.
    let before: L
    /// Scales the difference: 2^headroom where 1/T would overflow.
    let after: L
    let inverseHigh: L
    let inverseLow: L
    let shift: L
    /// What lies below `cut` has the exponent `floor`, whose field is 0.
    let cut: L
    let floor: L

    /// Of one row; `raise` moves the whole sum up by a power of two.
    @inline(__always)
    init(
      maximum: L.Scalar, low: L.Scalar, temperature: Double, raise: L.Scalar = 0,
      least: L.Scalar = L.leastField
    ) {
      let factors = Self.factors(temperature)
      before = L(factors.before)
      after = L(factors.after)
      inverseHigh = L(factors.inverseHigh)
      inverseLow = L(factors.inverseLow)
      self.maximum = L(maximum) * before
      maximumLow = L(low) * before
      shift = L(L.roundingShift + (L.fieldZero + raise))
      floor = L(-(L.fieldZero + raise) * L.ln2High)
      cut = L((least - (L.fieldZero + raise)) * L.ln2High)
    }

    typealias Factors = (
      before: L.Scalar, after: L.Scalar, inverseHigh: L.Scalar, inverseLow: L.Scalar
    )

    /// What a temperature multiplies by. `chooseForm` has left out those that behave as 0 or as
    /// inf.
    @inline(__always) static func factors(_ temperature: Double) -> Factors {
      let unit = Double(L.unit)
      let scaleBefore = temperature > unit ? 0x1p-40 : temperature > 1 ? 0.25 : 1
      let scaleAfter = temperature * unit < 1 ? unit : 1
      let t = temperature * scaleBefore * scaleAfter
      let largest = Double(L.Scalar.greatestFiniteMagnitude)
      let smallest = Double(L.Scalar.leastNormalMagnitude)
      let inverse = Swift.max(Swift.min(1 / t, largest), smallest)
      let high = L.Scalar(inverse)
      // For float64 the residual of the division; for float32 what its rounding left.
      let rest = (inverse - Double(high)) + inverse * (1.0).addingProduct(-inverse, t)
      let isExtreme = !(1 / t <= largest && 1 / t >= smallest)
      return (L.Scalar(scaleBefore), L.Scalar(scaleAfter), high, isExtreme ? 0 : L.Scalar(rest))
    }

    /// Without low parts, in each lane another row.
    @inline(__always) init(
      maximum: L, before: L, after: L, inverseHigh: L, inverseLow: L, raise: L,
      least: L.Scalar = L.leastField
    ) {
      self.before = before
      self.after = after
      self.inverseHigh = inverseHigh
      self.inverseLow = inverseLow
      self.maximum = maximum * before
      maximumLow = L(0)
      let zero = L(L.fieldZero) + raise
      shift = L(L.roundingShift) + zero
      floor = (L(0) - zero) * L(L.ln2High)
      cut = (L(least) - zero) * L(L.ln2High)
    }

    /// x - maximum as a pair, both scaled by `before`.
    @inline(__always) func difference(scaled a: L) -> Difference<L> {
      let first = a - maximum
      let part = first - a
      return Difference(high: first, low: (a - (first - part)) - (maximum + part))
    }

    /// x - maximum as a pair, before the temperature, where nothing has a low part: what the other
    /// one makes of zeros.
    @inline(__always) func difference(_ x: L) -> Difference<L> {
      let d = difference(scaled: x * before)
      return Difference(high: d.high * after, low: d.low * after)
    }

    /// x + xLow - maximum as a pair, before the temperature. NaN in `low` where `high` is -inf.
    @inline(__always) func difference(_ x: L, _ xLow: L) -> Difference<L> {
      let d = difference(scaled: x * before, xLow * before)
      return Difference(high: d.high * after, low: d.low * after)
    }

    /// The same of numbers that are scaled already, and what becomes of it not yet.
    @inline(__always) func difference(scaled a: L, _ b: L) -> Difference<L> {
      let first = a - maximum
      let part = first - a
      let lost = (a - (first - part)) - (maximum + part)
      // With a bias the low parts may outweigh the high ones, ulp(x) being larger than any bias:
      // their difference is a pair too, and the whole is brought into order.
      let second = b - maximumLow
      let partOfLow = second - b
      let lostOfLow = (b - (second - partOfLow)) - (partOfLow + maximumLow)
      let rest = L.pick(first, equalTo: L(-L.Scalar.infinity), L(0), lost + second)
      let high = first + rest
      let back = high - first
      return Difference(high: high, low: ((first - (high - back)) + (rest - back)) + lostOfLow)
    }

    /// The exponent (x - max)/T as y + low, or `floor`.
    @inline(__always) func exponent(_ d: Difference<L>) -> Difference<L> {
      let y = d.high * inverseHigh
      let rounding = d.high.fma(inverseHigh, L(0) - y)
      return shown(y, rounding + d.high.fma(inverseLow, d.low * inverseHigh))
    }

    @inline(__always) private func shown(_ y: L, _ low: L) -> Difference<L> {
      Difference(
        high: L.pick(y, lessThan: cut, floor, y), low: L.pick(y, lessThan: cut, L(0), low))
    }

    @inline(__always) func callAsFunction(_ x: L) -> Exponential<L> { exponential(difference(x)) }
    @inline(__always) func callAsFunction(
      _ x: L, _ xLow: L
    ) -> Exponential<L> {
      exponential(difference(x, xLow))
    }

    @inline(__always) private func exponential(_ d: Difference<L>) -> Exponential<L> {
      I.hasFastPaths ? exponential(exponent: exponent(d)) : exponentialApart(d)
    }
    /// Out of line where fma is a call anyway.
    @inline(never) private func exponentialApart(_ d: Difference<L>) -> Exponential<L> {
      exponential(exponent: exponent(d))
    }

    /// The same at T = 1, where 1/T is the pair (1, 0) and every product with it the number itself.
    @inline(__always) func atOne(_ d: Difference<L>) -> Exponential<L> {
      if !I.hasFastPaths { return exponentialApart(d) }
      return exponential(exponent: shown(d.high, d.low))
    }

    @inline(__always) private func exponential(exponent y: Difference<L>) -> Exponential<L> {
      let t = y.high.fma(L(L.log2e), shift)
      let n = t - shift
      let r = n.fma(L(-L.ln2High), y.high) + n.fma(L(-L.ln2Low), y.low)
      return Exponential(rest: r, scale: t.shiftedIntoExponent())
    }

    /// The same value in three terms whose sum carries no rounding above 2^-27 (2^-56) of it.
    @inline(__always) func terms(_ x: L, _ xLow: L) -> (leading: L, linear: L, rest: L) {
      let y = exponent(difference(x, xLow))
      let t = y.high.fma(L(L.log2e), shift)
      let n = t - shift
      let linear = n.fma(L(-L.ln2High), y.high)
      let small = n.fma(L(-L.ln2Low), y.low)
      let r = linear + small
      let power = t.shiftedIntoExponent()
      return (power, power * linear, power * (r * r).fma(r.expTail(), small))
    }

    /// log of the softmax: (x - max)/T - logSum, rounded once after the last product.
    @inline(__always) func logProbability(_ d: Difference<L>, logSum: L) -> L {
      let low = d.high.fma(inverseLow, d.low * inverseHigh) - logSum
      let value = d.high.fma(inverseHigh, low)
      let closed = L(-L.Scalar.infinity)
      return L.pick(d.high * inverseHigh, equalTo: closed, closed, value)
    }
  }
}
