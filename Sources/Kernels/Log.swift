// log(1 + t) for a sum t of float64 pairs, once for each row.
//
//     w = 1 + t = 2^k · (1 + f),  1 + f in [sqrt(1/2), sqrt(2)],      s = f / (2 + f)
//     log w = k·ln2 + 2s + s³·(2/3 + 2/5·s² + 2/7·s⁴ + …)          (atanh series; |s| <= 0.1716)
//
// s is kept as a pair, so the leading term 2s is exact to 2^-100 and only the tail, below 1 % of it,
// is rounded in float64. For small t the fraction is t itself: log1p without cancellation. Degree 21
// in s leaves out less than 2^-61 of the value.

extension Kernels {
  /// log(1 + t) as a pair, t > -1; relative error below 2^-58.
  @inline(__always) static func log1p(_ t: Sum) -> Sum {
    let whole = Sum.exact(1, t.high)
    let w = Sum(high: whole.high, low: whole.low + t.low)
    let k = exponent(w.high)
    return k == 0 ? logOfFraction(t, exponent: 0) : log(w)
  }

  /// log(w) as a pair, w a positive normal number.
  @inline(__always) static func log(_ w: Sum) -> Sum {
    let k = exponent(w.high)
    let scale = Double(bitPattern: UInt64(bitPattern: Int64(1023 &- k)) &<< 52)
    let fraction = Sum.exact(w.high * scale - 1, w.low * scale)
    return logOfFraction(fraction, exponent: k)
  }

  /// k with w / 2^k in [sqrt(1/2), sqrt(2)].
  @inline(__always) static func exponent(_ w: Double) -> Int {
    Int(Int64(bitPattern: w.bitPattern &- 0x3fe6_a09e_667f_3bcd) >> 52)
  }

  /// log((1 + f)·2^k).
  @inline(__always) static func logOfFraction(_ f: Sum, exponent k: Int) -> Sum {
    // s = f / (2 + f), one Newton step on the quotient.
    let divisor = Sum.exact(2, f.high)
    let divisorLow = divisor.low + f.low
    let q = f.high / divisor.high
    let rest = ((f.high).addingProduct(-q, divisor.high) - q * divisorLow + f.low) / divisor.high
    let s = Sum.exact(larger: q, rest)
    let z = s.high * s.high
    var p = 2.0 / 21
    p = (2.0 / 19).addingProduct(p, z)
    p = (2.0 / 17).addingProduct(p, z)
    p = (2.0 / 15).addingProduct(p, z)
    p = (2.0 / 13).addingProduct(p, z)
    p = (2.0 / 11).addingProduct(p, z)
    p = (2.0 / 9).addingProduct(p, z)
    p = (2.0 / 7).addingProduct(p, z)
    p = (2.0 / 5).addingProduct(p, z)
    p = (2.0 / 3).addingProduct(p, z)
    let tail = p * z * s.high
    let fraction = Sum.exact(larger: 2 * s.high, 2 * s.low + tail)
    // ln2 as 0x1.62e42fefa38p-1, whose product with k is exact, and the rest.
    let n = Double(k)
    let sum = Sum.exact(n * 0x1.62e42fefa38p-1, fraction.high)
    return Sum.exact(larger: sum.high, sum.low + (fraction.low + n * 0x1.ef35793c7673p-45))
  }
}
