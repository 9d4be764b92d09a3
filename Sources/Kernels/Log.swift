// log of a row's sum, once for each row.
//
//     w = 2^k · (1 + f),  1 + f in [sqrt(1/2), sqrt(2)],      s = f / (2 + f)
//     log w = k·ln2 + 2s + s³·(2/3 + 2/5·s² + 2/7·s⁴ + …)          (atanh series; |s| <= 0.1716)
//
// For float64 rows s is kept as a pair, so the leading term 2s is exact to 2^-100 and only the
// tail, below 1 % of it, is rounded in float64. For small t the fraction is t itself: log1p without
// cancellation. Degree 21 in s leaves out less than 2^-61 of the value. For float32 rows plain
// float64 to degree 13, 2^-39, will do: a third of the latency.

import CSupport

extension Kernels {
  /// The logarithm of a row's sum.
  struct LogSum<W: Wide> {
    /// log(sum of exp(x - maximum)).
    let relative: SumOf<W>
    /// log(sum of exp(x)).
    let absolute: W
    /// Whether `relative` needs the sum without the maximum, to more digits than this sum can give.
    let isRough: W

    /// Below 2^-5 the rounding of the other terms to the unit of the maximum shows. For logsumexp
    /// the bound is one ulp of the larger of |maximum| and |result|: half of it is the last
    /// rounding, and the terms' error, 0.55·2^-24·t/(1 + t), must fit into the other half, which is
    /// at least a quarter of that magnitude in the same unit.
    @inline(__always)
    init<L: Lanes>(
      _ operation: smxk_operation, _ sum: SumOf<W>, _ top: WideTop<L, W>, maximum: SumOf<W>
    ) {
      let s = top.corrected(sum)
      if L.isSingle {
        // Over the term and not from maximum - N·ln2, which lacks the polynomial's error. The
        // reciprocal follows from the maximum and is there before the sum.
        let log = logOfSingle(s.high * (W(1) / (top.added.high + top.missing)))
        relative = SumOf(high: log, low: W(0))
      } else {
        let others = SumOf.exact(s.high, W(0) - top.exact.high)
        let t = SumOf(high: others.high, low: others.low + (s.low - top.exact.low))
          .divided(by: top.exact)
        relative = log1p(t)
      }
      absolute = Self.absolute(maximum, relative)
      // log(1 + 2^-5)
      let rough = W.pick(relative.high, lessThan: W(0x1.f829b0e783300p-6), W(1), W(0))
      if operation == SMXK_LOGSUMEXP {
        func magnitude(_ x: W) -> W { W.pick(x, lessThan: W(0), W(0) - x, x) }
        let ofMaximum = magnitude(maximum.high)
        let ofResult = magnitude(absolute)
        let larger = W.pick(ofMaximum, lessThan: ofResult, ofResult, ofMaximum)
        // t / (1 + t), the share of the others.
        let share = W(1) - top.added.high / s.high
        let isClose = W.pick(larger, lessThan: W(1.25) * share, W(1), W(0))
        isRough = W.pick(
          ofMaximum, lessThan: W(2), W.pick(rough, lessThan: isClose, W(1), rough), rough)
      } else {
        isRough = rough
      }
    }

    /// The maximum and the logarithm relative to it.
    @inline(__always) static func absolute(_ maximum: SumOf<W>, _ relative: SumOf<W>) -> W {
      let value = SumOf.exact(maximum.high, relative.high)
      return value.high + (value.low + (maximum.low + relative.low))
    }
  }

  /// log(w), to 2^-39 of it.
  @inline(__always) static func logOfSingle<W: Wide>(_ w: W) -> W {
    let scale = w.binaryScale()
    let f = w * scale.factor - W(1)
    let s = f / (f + W(2))
    let z = s * s
    let z2 = z * z
    let a = z.fma(W(2.0 / 5), W(2.0 / 3))
    let b = z.fma(W(2.0 / 9), W(2.0 / 7))
    let c = z.fma(W(2.0 / 13), W(2.0 / 11))
    let p = z2.fma(z2.fma(c, b), a)
    return scale.k.fma(W(0x1.62e42fefa39efp-1), (z * p).fma(s, s + s))
  }

  /// log(1 + t) as a pair, t > -1; relative error below 2^-58.
  @inline(__always) static func log1p<W: Wide>(_ t: SumOf<W>) -> SumOf<W> {
    let whole = SumOf.exact(W(1), t.high)
    let w = SumOf(high: whole.high, low: whole.low + t.low)
    let scale = w.high.binaryScale()
    let fraction = fraction(w, scale.factor)
    // Within the octave of 1 the fraction is t itself.
    func pick(_ own: W, _ other: W) -> W { W.pick(scale.k, equalTo: W(0), own, other) }
    return logOfFraction(
      SumOf(high: pick(t.high, fraction.high), low: pick(t.low, fraction.low)), exponent: scale.k)
  }

  /// log(w) as a pair, w a positive normal number.
  @inline(__always) static func log<W: Wide>(_ w: SumOf<W>) -> SumOf<W> {
    let scale = w.high.binaryScale()
    return logOfFraction(fraction(w, scale.factor), exponent: scale.k)
  }

  @inline(__always)
  static func fraction<W: Wide>(_ w: SumOf<W>, _ factor: W) -> SumOf<W> {
    SumOf.exact(w.high * factor - W(1), w.low * factor)
  }

  /// log((1 + f)·2^k) as one number, within an ulp: f - f²/2 + s·(f²/2 + s²·(2/3 + 2/5·s² + …)), in
  /// which the leading term has no error. One division.
  @inline(__always)
  static func roundedLogOfFraction<W: Wide>(_ f: W, exponent k: W) -> W {
    let s = f / (f + W(2))
    let z = s * s
    let half = f * f * W(0.5)
    let tail = s * (half + z * atanhTail(z)) + k * W(0x1.ef35793c7673p-45)
    return k * W(0x1.62e42fefa38p-1) - ((half - tail) - f)
  }

  /// 2/3 + 2/5·z + … + 2/21·z⁹.
  @inline(__always) static func atanhTail<W: Wide>(_ z: W) -> W {
    var p = W(2.0 / 21)
    var degree = 19.0
    while degree >= 3 {
      p = p.fma(z, W(2 / degree))
      degree -= 2
    }
    return p
  }

  /// log((1 + f)·2^k).
  @inline(__always)
  static func logOfFraction<W: Wide>(_ f: SumOf<W>, exponent k: W) -> SumOf<W> {
    // s = f / (2 + f), one Newton step on the quotient.
    let divisor = SumOf.exact(W(2), f.high)
    let s0 = f.divided(by: SumOf(high: divisor.high, low: divisor.low + f.low))
    let s = SumOf.exact(larger: s0.high, s0.low)
    let z = s.high * s.high
    let tail = atanhTail(z) * z * s.high
    let fraction = SumOf.exact(larger: s.high + s.high, (s.low + s.low) + tail)
    // ln2 as 0x1.62e42fefa38p-1, whose product with k is exact, and the rest.
    let sum = SumOf.exact(k * W(0x1.62e42fefa38p-1), fraction.high)
    return SumOf.exact(larger: sum.high, sum.low + (fraction.low + k * W(0x1.ef35793c7673p-45)))
  }
}
