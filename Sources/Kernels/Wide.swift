// float64 arithmetic on one number, or on eight side by side: what each row needs once.
//
// A row alone uses Double. Rows that lie side by side (Columns.swift) use a vector, one row in each lane; the
// operations and their order are the same, so the results are.

/// Numbers with 53 bits.
public protocol Wide {
  init(_ value: Double)
  static func + (a: Self, b: Self) -> Self
  static func - (a: Self, b: Self) -> Self
  static func * (a: Self, b: Self) -> Self
  static func / (a: Self, b: Self) -> Self
  /// self·b + c, rounded once.
  func fma(_ b: Self, _ c: Self) -> Self
  /// a < b ? yes : no in each lane.
  static func pick(_ a: Self, lessThan b: Self, _ yes: Self, _ no: Self) -> Self
  /// a == b ? yes : no in each lane.
  static func pick(_ a: Self, equalTo b: Self, _ yes: Self, _ no: Self) -> Self
  /// k as a whole number and 2^-k, such that self · 2^-k is in [sqrt(1/2), sqrt(2)]; self positive, normal and
  /// below 2^1022.
  func binaryScale() -> (k: Self, factor: Self)
}

extension Double: Wide {
  @inline(__always) public func fma(_ b: Double, _ c: Double) -> Double { c.addingProduct(self, b) }
  @inline(__always)
  public static func pick(_ a: Double, lessThan b: Double, _ yes: Double, _ no: Double) -> Double {
    a < b ? yes : no
  }
  @inline(__always)
  public static func pick(_ a: Double, equalTo b: Double, _ yes: Double, _ no: Double) -> Double {
    a == b ? yes : no
  }
  @inline(__always) public func binaryScale() -> (k: Double, factor: Double) {
    // The bits of sqrt(1/2), so that the exponent field counts from there.
    let k = Int64(bitPattern: bitPattern &- 0x3fe6_a09e_667f_3bcd) &>> 52
    return (Double(k), Double(bitPattern: UInt64(bitPattern: 1023 &- k) &<< 52))
  }
}

extension Kernels.F64: Wide {
  @inline(__always) public static func / (a: Self, b: Self) -> Self { Self(v: a.v / b.v) }
  @inline(__always) public func binaryScale() -> (k: Self, factor: Self) {
    let bits = unsafeBitCast(v, to: SIMD8<Int64>.self) &- SIMD8(repeating: 0x3fe6_a09e_667f_3bcd)
    let k = bits &>> SIMD8(repeating: 52)
    // A whole number in the last bits of 1.5·2^52.
    let shifted = unsafeBitCast(
      k &+ SIMD8(repeating: 0x4338_0000_0000_0000), to: SIMD8<Double>.self)
    let factor = (SIMD8<Int64>(repeating: 1023) &- k) &<< SIMD8(repeating: 52)
    return (
      Self(v: shifted) - Self(0x1.8p52), Self(v: unsafeBitCast(factor, to: SIMD8<Double>.self)))
  }
}
