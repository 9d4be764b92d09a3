// The vector of float32, and the constants that belong to its width.

import CSupport

extension Kernels {
  /// 16 lanes of Float: one AVX-512 register, two of AVX2, four of SSE and NEON.
  public struct F32: Lanes {
    var v: SIMD16<Float>

    @inline(__always) init(v: SIMD16<Float>) { self.v = v }

    public static var count: Int { @inline(__always) get { 16 } }

    @inline(__always) public init(_ value: Float) { v = SIMD16<Float>(repeating: value) }
    @inline(__always) public init(at p: UnsafePointer<Float>) {
      v = UnsafeRawPointer(p).loadUnaligned(as: SIMD16<Float>.self)
    }
    @inline(__always)
    public init(at p: UnsafePointer<Float>, from: Int, to: Int, fill: Float) {
      v = I.load(p, from: from, to: to, fill: fill)
    }
    @inline(__always) public init(bytes p: UnsafeRawPointer) { v = I.loadBytes(p) }
    @inline(__always) public func store(at p: UnsafeMutablePointer<Float>) {
      UnsafeMutableRawPointer(p).storeBytes(of: v, as: SIMD16<Float>.self)
    }
    @inline(__always) public func store(at p: UnsafeMutablePointer<Float>, from: Int, to: Int) {
      I.store(v, p, from: from, to: to)
    }
    @inline(__always) public func stream(at p: UnsafeMutablePointer<Float>) { I.stream(v, p) }
    public subscript(lane: Int) -> Float { @inline(__always) get { v[lane] } }

    @inline(__always) public static func + (a: Self, b: Self) -> Self { Self(v: a.v + b.v) }
    @inline(__always) public static func - (a: Self, b: Self) -> Self { Self(v: a.v - b.v) }
    @inline(__always) public static func * (a: Self, b: Self) -> Self { Self(v: a.v * b.v) }
    @inline(__always) public func fma(_ b: Self, _ c: Self) -> Self {
      Self(v: I.fma(v, b.v, c.v))
    }
    @inline(__always)
    public func fma(_ b: Self, _ c: Self, unless x: Self, lessThan bound: Self) -> Self {
      Self(v: I.fma(v, b.v, c.v, unless: x.v, lessThan: bound.v))
    }
    @inline(__always) public static func max(_ bound: Self, _ x: Self) -> Self {
      Self(v: I.max(bound.v, x.v))
    }
    @inline(__always)
    public static func pick(_ a: Self, lessThan b: Self, _ yes: Self, _ no: Self) -> Self {
      Self(v: I.pick(a.v, lessThan: b.v, yes.v, no.v))
    }
    @inline(__always)
    public static func pick(_ a: Self, equalTo b: Self, _ yes: Self, _ no: Self) -> Self {
      Self(v: I.pick(a.v, equalTo: b.v, yes.v, no.v))
    }
    @inline(__always) public func shiftedIntoExponent() -> Self {
      let bits = unsafeBitCast(v, to: SIMD16<UInt32>.self)
      return Self(v: unsafeBitCast(bits &<< 23, to: SIMD16<Float>.self))
    }

    @inline(__always) public var eight: F64 { F64(v: I.widen(v.lowHalf)) }
    @inline(__always) public init(eight: F64) {
      v = SIMD16<Float>(lowHalf: I.narrow(eight.v), highHalf: SIMD8<Float>(repeating: 0))
    }
    @inline(__always) public var whole: Self { Self(v: I.whole(v)) }
    @inline(__always) public var upperEight: F64 { F64(v: I.widen(v.highHalf)) }
    @inline(__always) public init(lower: F64, upper: F64) {
      v = SIMD16<Float>(lowHalf: I.narrow(lower.v), highHalf: I.narrow(upper.v))
    }
    @inline(__always) public static func total(
      eight high: F64, low: F64
    ) -> Sum {
      F64.total(eight: high, low: low)
    }
    @inline(__always) public static func loadEight(_ p: UnsafePointer<Double>) -> F64 { F64(at: p) }
    @inline(__always) public static func storeEight(
      _ v: F64, _ p: UnsafeMutablePointer<Double>
    ) {
      v.store(at: p)
    }

    @inline(__always) public func turned(by n: Int) -> Self { Self(v: I.turn(v, by: n)) }
    @inline(__always) public func largest() -> Float { I.largest(v) }
    @inline(__always) public func total(origin: Float, low: Self) -> Sum {
      let pair = I.total(v, low.v, origin: origin)
      return Sum(high: pair.high, low: pair.low)
    }

    @inline(__always) public func wholeAsUnits() -> Self { minus(bits: Float(0x1p23).bitPattern) }
    @inline(__always) public func normalAsUnits() -> Self { minus(bits: 149 << 23) }
    @inline(__always) private func minus(bits: UInt32) -> Self {
      let bits = unsafeBitCast(v, to: SIMD16<UInt32>.self) &- SIMD16<UInt32>(repeating: bits)
      return Self(v: unsafeBitCast(bits, to: SIMD16<Float>.self))
    }
    @inline(__always) public func withSign(of other: Self) -> Self {
      let sign = SIMD16<UInt32>(repeating: 0x8000_0000)
      let bits =
        unsafeBitCast(v, to: SIMD16<UInt32>.self)
        | (unsafeBitCast(other.v, to: SIMD16<UInt32>.self) & sign)
      return Self(v: unsafeBitCast(bits, to: SIMD16<Float>.self))
    }

    public static var isSingle: Bool { @inline(__always) get { true } }
    public static var headroom: Float { @inline(__always) get { 0x1p6 } }
    public static var fieldZero: Float { @inline(__always) get { 0x1.7ep7 } }
    public static var leastField: Float { @inline(__always) get { 31 } }
    public static var leastFieldOfShare: Float { @inline(__always) get { 15 } }
    public static var roundingShift: Float { @inline(__always) get { 0x1.8p23 } }
    public static var wholeFrom: Float { @inline(__always) get { 0x1p23 } }
    public static var unitsInside: Float { @inline(__always) get { 0x1p100 } }
    public static var unitsOutside: Float { @inline(__always) get { 0x1p49 } }
    public static var leastOrdinary: Float { @inline(__always) get { 0x1p47 } }
    public static var plainLimit: Float { @inline(__always) get { 0x1p16 } }
    public static var sumOrigin: Float { @inline(__always) get { 0x1p66 } }
    public static var unit: Float { @inline(__always) get { 0x1p64 } }
    public static var leastPower: Float { @inline(__always) get { 216 } }
    public static var powerLimit: Float { @inline(__always) get { 40 } }
    public static var log2e: Float { @inline(__always) get { 0x1.715476p0 } }
    public static var ln2High: Float { @inline(__always) get { 0x1.62e430p-1 } }
    public static var ln2Low: Float { @inline(__always) get { -0x1.05c610p-29 } }
    /// Minimax, degree 6 of exp in all; relative error 2^-28.1 (scripts/exp_coefficients.py).
    public static var expDegree: Int { @inline(__always) get { 6 } }
    @inline(__always) public static func expCoefficient(_ k: Int) -> Float {
      switch k {
      case 6: 0x1.6b170ap-10
      case 5: 0x1.124544p-7
      case 4: 0x1.555822p-5
      case 3: 0x1.555482p-3
      default: 0x1.fffffcp-2
      }
    }
  }
}
