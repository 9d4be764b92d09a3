// The weights that sampling draws by: exponentials as whole numbers.
//
//     weight = round(2^52 · 2^y),      y = (x - max) · log2(e) / T,      in float64 for every dtype
//
// Whole numbers, because their sums are exact: no order of summation is to be written down, and
// which algorithm found an element (a list of candidates, a histogram, a scan) cannot show. 2^-52
// of the largest weight is where a float64 sum of such weights would round as well. Two roundings
// of y, 53 at most where a weight is not 0, leave 2^-46 of the weight.
//
// Limit: 12 operations of 2^y, 6 around them, for 8 elements: 9 cycles on two vector ports.

import CSupport

extension Kernels {
  /// 2^52: adding it leaves a whole number in the low bits.
  static var unitWeight: Double { @inline(__always) get { 0x1p52 } }

  @inline(__always)
  static func weights(_ x: SIMD8<Double>, _ exponent: smxk_exponent) -> SIMD8<UInt64> {
    let y = (F64(v: x) * F64(exponent.before) - F64(exponent.base)) * F64(exponent.factor)
    // A weight of 2^-64 is 0 already. -inf · 0 is a NaN; the threshold hides it.
    let power = F64.max(F64(-64), y).exp2()
    let shifted = power.fma(F64(unitWeight), F64(unitWeight))
    return unsafeBitCast(shifted.v, to: SIMD8<UInt64>.self)
      &- SIMD8(repeating: unitWeight.bitPattern)
  }

  /// The weights of a block, 0 for what is not above the threshold; returns their sum.
  @inline(never)
  public static func weigh<L: SamplingLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ block: UnsafePointer<smxk_block>,
    _ exponent: UnsafePointer<smxk_exponent>, _ weights: UnsafeMutablePointer<UInt64>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> UInt64 {
    let from = Int(block.pointee.from)
    let count = Int(block.pointee.to) &- from
    let p = numbers(L.self, job, from: from, to: from &+ count, scratch)
    let exponent = exponent.pointee
    let bound = F64(block.pointee.threshold)
    var sum = SIMD8<UInt64>(repeating: 0)
    @inline(__always) func ofEight(_ x: SIMD8<Double>) -> SIMD8<UInt64> {
      let w = F64(v: unsafeBitCast(Self.weights(x, exponent), to: SIMD8<Double>.self))
      return unsafeBitCast(
        F64.pick(bound, lessThan: F64(v: x), w, F64(0)).v, to: SIMD8<UInt64>.self)
    }
    var i = 0
    while i &+ 8 <= count {
      let w = ofEight(L.wideEight(at: p + i))
      UnsafeMutableRawPointer(weights + i).storeBytes(of: w, as: SIMD8<UInt64>.self)
      sum = sum &+ w
      i = i &+ 8
    }
    if i < count {
      var rest: L = load(p + i, 0, count &- i, fill: -L.Scalar.infinity)
      let w = withUnsafePointer(to: &rest) {
        ofEight(L.wideEight(at: UnsafeRawPointer($0).assumingMemoryBound(to: L.Scalar.self)))
      }
      let to = UnsafeMutableRawPointer(weights + i).assumingMemoryBound(to: Double.self)
      F64(v: unsafeBitCast(w, to: SIMD8<Double>.self)).store(at: to, from: 0, to: count &- i)
      sum = sum &+ w
    }
    var total: UInt64 = 0
    for lane in 0..<8 { total = total &+ sum[lane] }
    return total
  }

  /// The weights of finite numbers that lie side by side.
  @inline(never)
  public static func weighList(
    _ values: UnsafePointer<Double>, _ count: Int, _ exponent: UnsafePointer<smxk_exponent>,
    _ weights: UnsafeMutablePointer<UInt64>
  ) {
    let exponent = exponent.pointee
    var i = 0
    while i < count {
      let lanes = Swift.min(8, count &- i)
      let v: F64 = load(values + i, 0, lanes, fill: 0)
      let w = F64(v: unsafeBitCast(Self.weights(v.v, exponent), to: SIMD8<Double>.self))
      store(w, UnsafeMutableRawPointer(weights).assumingMemoryBound(to: Double.self) + i, 0, lanes)
      i = i &+ lanes
    }
  }

  /// log(x), x a positive normal number.
  @inline(never)
  public static func log(_ x: Double) -> Double {
    let pair = log(SumOf<Double>(high: x, low: 0))
    return pair.high + pair.low
  }

  /// Standard Gumbel noise from uniform numbers u = (n + 1/2)·2^-52, n the upper 52 bits: both
  /// logarithms are then of normal numbers. To 1 ulp in float64, and rounded once to float32.
  @inline(never)
  public static func gumbel<L: SamplingLanes>(
    _: L.Type, _ bits: UnsafePointer<UInt64>, _ count: Int, _ noise: UnsafeMutableRawPointer
  ) {
    let out = noise.assumingMemoryBound(to: L.Scalar.self)
    var i = 0
    while i < count {
      let lanes = Swift.min(8, count &- i)
      let p = UnsafeRawPointer(bits + i).assumingMemoryBound(to: Double.self)
      let words = unsafeBitCast(F64(at: p, from: 0, to: lanes, fill: 0).v, to: SIMD8<UInt64>.self)
      // n in the low bits of a number from 1 to 2, less 1 - 2^-53.
      let one = (words &>> SIMD8(repeating: 12)) | SIMD8(repeating: (1.0).bitPattern)
      let u = F64(v: unsafeBitCast(one, to: SIMD8<Double>.self)) - F64(0x1.fffffffffffffp-1)
      let first = log(SumOf<F64>(high: u, low: F64(0)))
      let second = log(SumOf<F64>(high: F64(0) - first.high, low: F64(0) - first.low))
      let g = F64(0) - (second.high + second.low)
      L(narrowing: g.v).store(at: out + i, from: 0, to: lanes)
      i = i &+ lanes
    }
  }
}
