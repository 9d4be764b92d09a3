// tanh, through E = exp(2|x|) - 1:
//
//     2|x| = n·ln2 + r,   E = 2^n · (r + r²·tail(r)) + (2^n - 1),   D = E + 2,   tanh |x| = E / D
//
// No cancellation: below ln2/4 n is 0 and E is the polynomial itself, off by little more than half
// an ulp. D rounds by up to 2^-24 of its value and a plain division by another half ulp, which
// together made 2.7 ulp. Both are taken back at once: what D lost, `lost`, is exact as long as it
// can be seen, and so is the first part of the remainder
//
//     E - q·(D + lost),     q = E · (1/D),
//
// which is 1/D of a correction to q. What stays is the error of E, of which 2/D shows, and half an
// ulp of the last rounding:
//   - near 1/16 E is just above, and the result just below, a power of two: E's half ulp is a whole
//     one there, and r² · tail adds a little: 1.74 ulp
//   - from ln2/4 on E is a sum of 2^n · p and a whole number. p and r round once each, 2 · 2/D of
//     which shows where n is 1. For float64, whose r is rounded to as many bits as p has, that
//     alone would be 1.98; there p takes r's rounding in.
//
// Largest error: float32 1.74 ulp, over all numbers; float64 1.78 ulp found in 150 million, half of
// them where it is large (Tests/swift/KernelTests/TanhTests.swift). Never beyond 1, and never
// falling while x rises, for every float32.
//
// 25 vector operations with AVX-512, one of them the division. Tried: an odd polynomial up to 0.55
// and 1 - 2/(E + 2) beyond, 1.5 ulp at best: 27, and 38 for float64 instead of 32.

extension TileLanes {
  /// tanh of each lane, to 2 ulp; NaN for NaN, the zeros for themselves.
  @inline(__always) func tanh() -> Self {
    // Beyond 20 the result is 1; n stays below 64.
    let most = Self(40)
    let twice = magnitude() + magnitude()
    let y = Self.pick(most, lessThan: twice, most, twice)
    // As in Exp.swift: the low bits of t are n + bias.
    let shift = Self(Self.roundingShift + (Self.fieldZero - Self.headroom))
    let t = y.fma(Self(Self.log2e), shift)
    let n = t - shift
    let power = t.shiftedIntoExponent()
    let high = n.fma(Self(-Self.ln2High), y)
    let r = n.fma(Self(-Self.ln2Low), high)
    let p: Self
    if Self.isSingle {
      p = (r * r).fma(r.expTail(), r)
    } else {
      p = r + (r * r).fma(r.expTail(), n.fma(Self(-Self.ln2Low), high - r))
    }
    let e = power.fma(p, power - Self(1))
    let d = e + Self(2)
    let lost = e - (d - Self(2))
    let inverse = Self(1) / d
    let q = e * inverse
    let minus = Self(0) - q
    return minus.fma(lost, minus.fma(d, e)).fma(inverse, q).signed(as: self)
  }
}
