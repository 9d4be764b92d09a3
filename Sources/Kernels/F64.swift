// The vector of float64, and the constants that belong to its width.

import CSupport

extension Kernels {
  /// 8 lanes of Double: one AVX-512 register, two of AVX2, four of SSE and NEON.
  public struct F64: Lanes {
    var v: SIMD8<Double>

    @inline(__always) init(v: SIMD8<Double>) { self.v = v }

    public static var count: Int { @inline(__always) get { 8 } }

    @inline(__always) public init(_ value: Double) { v = SIMD8<Double>(repeating: value) }
    @inline(__always) public init(at p: UnsafePointer<Double>) {
      v = UnsafeRawPointer(p).loadUnaligned(as: SIMD8<Double>.self)
    }
    @inline(__always)
    public init(at p: UnsafePointer<Double>, from: Int, to: Int, fill: Double) {
      v = I.load(p, from: from, to: to, fill: fill)
    }
    @inline(__always) public init(bytes p: UnsafeRawPointer) { v = I.loadBytes(p) }
    @inline(__always) public func store(at p: UnsafeMutablePointer<Double>) {
      UnsafeMutableRawPointer(p).storeBytes(of: v, as: SIMD8<Double>.self)
    }
    @inline(__always) public func store(at p: UnsafeMutablePointer<Double>, from: Int, to: Int) {
      I.store(v, p, from: from, to: to)
    }
    @inline(__always) public func stream(at p: UnsafeMutablePointer<Double>) { I.stream(v, p) }
    public subscript(lane: Int) -> Double { @inline(__always) get { v[lane] } }

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
      let bits = unsafeBitCast(v, to: SIMD8<UInt64>.self)
      return Self(v: unsafeBitCast(bits &<< 52, to: SIMD8<Double>.self))
    }

    @inline(__always) public var eight: F64 { self }
    @inline(__always) public init(eight: F64) { self = eight }
    @inline(__always) public var whole: Self {
      Self(
        v: unsafeBitCast(I.whole(unsafeBitCast(v, to: SIMD16<Float>.self)), to: SIMD8<Double>.self))
    }
    @inline(__always) public var upperEight: F64 { F64(0) }
    @inline(__always) public init(lower: F64, upper: F64) { self = lower }
    @inline(__always) public static func total(
      eight high: F64, low: F64
    ) -> Sum {
      high.total(origin: 0, low: low)
    }
    @inline(__always) public static func loadEight(_ p: UnsafePointer<Double>) -> F64 { F64(at: p) }
    @inline(__always) public static func storeEight(
      _ v: F64, _ p: UnsafeMutablePointer<Double>
    ) {
      v.store(at: p)
    }

    @inline(__always) public func turned(by n: Int) -> Self { Self(v: I.turn(v, by: n)) }
    @inline(__always) public func largest() -> Double { I.largest(v) }
    @inline(__always) public func total(origin: Double, low: Self) -> Sum {
      let pair = I.total(v, low.v, origin: origin)
      return Sum(high: pair.high, low: pair.low)
    }

    @inline(__always) public func wholeAsUnits() -> Self { minus(bits: Double(0x1p52).bitPattern) }
    @inline(__always) public func normalAsUnits() -> Self { minus(bits: 1074 << 52) }
    @inline(__always) private func minus(bits: UInt64) -> Self {
      let bits = unsafeBitCast(v, to: SIMD8<UInt64>.self) &- SIMD8<UInt64>(repeating: bits)
      return Self(v: unsafeBitCast(bits, to: SIMD8<Double>.self))
    }
    @inline(__always) public func withSign(of other: Self) -> Self {
      let sign = SIMD8<UInt64>(repeating: 0x8000_0000_0000_0000)
      let bits =
        unsafeBitCast(v, to: SIMD8<UInt64>.self)
        | (unsafeBitCast(other.v, to: SIMD8<UInt64>.self) & sign)
      return Self(v: unsafeBitCast(bits, to: SIMD8<Double>.self))
    }

    public static var isSingle: Bool { @inline(__always) get { false } }
    public static var headroom: Double { @inline(__always) get { 0x1p9 } }
    public static var fieldZero: Double { @inline(__always) get { 0x1.7fcp10 } }
    public static var leastField: Double { @inline(__always) get { 443 } }
    public static var leastFieldOfShare: Double { @inline(__always) get { 440 } }
    public static var roundingShift: Double { @inline(__always) get { 0x1.8p52 } }
    public static var wholeFrom: Double { @inline(__always) get { 0x1p52 } }
    public static var unitsInside: Double { @inline(__always) get { 0x1p600 } }
    public static var unitsOutside: Double { @inline(__always) get { 0x1p474 } }
    public static var leastOrdinary: Double { @inline(__always) get { 0x1p105 } }
    public static var plainLimit: Double { @inline(__always) get { 0x1p30 } }
    public static var sumOrigin: Double { @inline(__always) get { 0x1p514 } }
    public static var unit: Double { @inline(__always) get { 0x1p512 } }
    public static var leastPower: Double { @inline(__always) get { 1590 } }
    public static var powerLimit: Double { @inline(__always) get { 300 } }
    public static var log2e: Double { @inline(__always) get { 0x1.71547652b82fep0 } }
    public static var ln2High: Double { @inline(__always) get { 0x1.62e42fefa39efp-1 } }
    public static var ln2Low: Double { @inline(__always) get { 0x1.abc9e3b39803fp-56 } }
    /// Minimax, degree 11 of exp in all; relative error 2^-57.1 (scripts/exp_coefficients.py).
    public static var expDegree: Int { @inline(__always) get { 11 } }
    @inline(__always) public static func expCoefficient(_ k: Int) -> Double {
      switch k {
      case 11: 0x1.ae88fb4a382a9p-26
      case 10: 0x1.28aa2c399e2a0p-22
      case 9: 0x1.71de701d5c848p-19
      case 8: 0x1.a0199d3854388p-16
      case 7: 0x1.a01a017d10af8p-13
      case 6: 0x1.6c16c18353724p-10
      case 5: 0x1.111111111aa76p-7
      case 4: 0x1.5555555550975p-5
      case 3: 0x1.5555555555508p-3
      default: 0x1.000000000000ap-1
      }
    }
  }
}
