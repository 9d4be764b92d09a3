// sigmoid and its logarithm: softmax of two classes, of which one scores 0.
//
// With E = exp(-|x|), which is at most 1,
//
//     sigmoid(x) = 1 / (1 + E) for x >= 0,  E / (1 + E) below
//     log_sigmoid(x) = min(x, 0) - log1p(E)
//
// E comes from the plain form of Exp.swift with 0 for the maximum, as a pair of numbers and
// 2^headroom too large: so it is normal wherever a result is not 0, and results that are subnormal
// are rounded once, at the end.
//
// Errors in 2^-24 of the value (2^-53): E 0.55 without its last rounding, which the pair keeps; the
// quotient with its correction 0.5 ulp; log1p 0.2, and two roundings where min(x, 0) is added. No
// result is 2 ulp away.

import CSupport

extension Kernels {
  /// Chunks first ..< first + count of the job's one row.
  public static func sigmoid<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let row = row(of: scratch)
    beginRow(job, row, 0)
    for chunk in first..<first &+ count {
      let start = chunk &* chunkSize
      let length = Swift.min(chunkSize, Int(job.pointee.cols) &- start)
      if isDirect(job) {
        let x = UnsafeRawPointer(row.pointee.x!).assumingMemoryBound(to: L.Scalar.self) + start
        let out =
          UnsafeMutableRawPointer(row.pointee.out!).assumingMemoryBound(to: L.Scalar.self) + start
        sigmoid(L.self, job.pointee.operation, x, out, length)
      } else {
        let room = smxk_high_of(scratch).assumingMemoryBound(to: L.Scalar.self)
        _ = gather(
          L.self, job, row, Elements<L>(high: room, low: nil, from: 0, to: length), start, scratch)
        sigmoid(L.self, job.pointee.operation, room, room, length)
        scatter(L.self, job, row, room, start, length)
      }
    }
  }

  @inline(never)
  private static func sigmoid<L: TileLanes>(
    _: L.Type, _ operation: smxk_operation, _ x: UnsafePointer<L.Scalar>,
    _ out: UnsafeMutablePointer<L.Scalar>,
    _ count: Int
  ) {
    let exp = PlainExp<L>(maximum: L(0))
    var i = 0
    // A loop for each: the question is asked once.
    if operation == SMXK_SIGMOID {
      while i < count {
        let last = Swift.min(count &- i, L.count)
        store(known(sigmoid(load(x + i, 0, last, fill: 0), exp)), out + i, 0, last)
        i = i &+ L.count
      }
    } else {
      while i < count {
        let last = Swift.min(count &- i, L.count)
        store(known(logSigmoid(load(x + i, 0, last, fill: 0), exp)), out + i, 0, last)
        i = i &+ L.count
      }
    }
  }

  /// The positive quiet NaN for any other.
  @inline(__always) private static func known<L: Lanes>(
    _ v: L
  ) -> L {
    L.pick(v, equalTo: v, v, L(.nan))
  }

  /// exp(y) · 2^headroom as a pair, y at most 0; 0 where no result can show it. `exp` is that of a
  /// maximum of 0. Out of line where fma is a call anyway.
  @inline(__always)
  static func decay<L: Lanes>(_ y: L, _ exp: PlainExp<L>) -> (high: L, low: L) {
    I.hasFastPaths ? decayInline(y, exp) : decayApart(y, exp)
  }
  @inline(never)
  private static func decayApart<L: Lanes>(
    _ y: L, _ exp: PlainExp<L>
  ) -> (high: L, low: L) {
    decayInline(y, exp)
  }

  @inline(__always)
  private static func decayInline<L: Lanes>(_ y: L, _ exp: PlainExp<L>) -> (high: L, low: L) {
    let term = exp(y)
    let high = term.rounded()
    return (high, term.quotient.fma(term.scaledRest, term.scale - high))
  }

  /// -|x|
  @inline(__always)
  private static func minusMagnitude<L: Lanes>(
    _ x: L
  ) -> L {
    L.pick(x, lessThan: L(0), x, L(0) - x)
  }

  @inline(__always)
  private static func sigmoid<L: TileLanes>(_ x: L, _ exp: PlainExp<L>) -> L {
    let e = decay(minusMagnitude(x), exp)
    let one = L(L.unit)
    let sum = one + e.high
    let lost = (e.high - (sum - one)) + e.low
    let share = L.pick(x, lessThan: L(0), e.high, one)
    let shareLow = L.pick(x, lessThan: L(0), e.low, L(0))
    let inverse = L(1) / sum
    let quotient = share * inverse
    let minus = L(0) - quotient
    let rest = minus.fma(sum, share) + minus.fma(lost, shareLow)
    return rest.fma(inverse, quotient)
  }

  @inline(__always)
  private static func logSigmoid<L: TileLanes>(_ x: L, _ exp: PlainExp<L>) -> L {
    let scaled = decay(minusMagnitude(x), exp)
    let scale = L(1 / L.unit)
    let high = scaled.high * scale
    let low = scaled.low * scale
    // Below, log1p(E) is E to the last bit; the series would meet subnormal numbers.
    let small = L(L.isSingle ? 0x1p-40 : 0x1p-60)
    let e = L.pick(high, lessThan: small, L(0), high)
    let eLow = L.pick(high, lessThan: small, L(0), low)
    let log = L.isSingle ? logOfSingle(onePlus: e, eLow) : logOfDouble(onePlus: e, eLow)
    let leading = L.pick(high, lessThan: small, high, log.leading)
    let rest = L.pick(high, lessThan: small, low, log.rest)
    return (L.pick(x, lessThan: L(0), x, L(0)) - leading) - rest
  }

  /// log(1 + e) as leading + rest, e from 0 to 1, by the atanh series of Log.swift: s = e / (2 + e)
  /// is at most 1/3, and degree 15 leaves out less than 2^-29 of the value.
  @inline(__always)
  private static func logOfSingle<L: TileLanes>(onePlus e: L, _ low: L) -> (leading: L, rest: L) {
    let divisor = L(2) + e
    let lost = (e - (divisor - L(2))) + low
    let inverse = L(1) / divisor
    let s = e * inverse
    let minus = L(0) - s
    let ofS = (minus.fma(divisor, e) + minus.fma(lost, low)) * inverse
    let z = s * s
    var p = L(2.0 / 15)
    p = p.fma(z, L(2.0 / 13))
    p = p.fma(z, L(2.0 / 11))
    p = p.fma(z, L(2.0 / 9))
    p = p.fma(z, L(2.0 / 7))
    p = p.fma(z, L(2.0 / 5))
    p = p.fma(z, L(2.0 / 3))
    return (s + s, (s * z).fma(p, ofS + ofS))
  }

  @inline(__always)
  private static func logOfDouble<L: TileLanes>(onePlus e: L, _ low: L) -> (leading: L, rest: L) {
    let log = log1p(SumOf<L.Eight>(high: e.eight, low: low.eight))
    return (L(eight: log.high), L(eight: log.low))
  }
}
