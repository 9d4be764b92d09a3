// float64 arithmetic on one number, or on eight side by side: what each row needs once.
//
// A row alone uses Double. Rows that lie side by side (Columns.swift, FewElements.swift) use a
// vector or two, one row in each lane; the operations and their order are the same, so the results
// are.

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
  /// k as a whole number and 2^-k, such that self · 2^-k is in [sqrt(1/2), sqrt(2)]; self positive,
  /// normal and below 2^1022.
  func binaryScale() -> (k: Self, factor: Self)
  /// The largest power of two not above self; self positive and normal, 0 for 0.
  var binade: Self { get }
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
  @inline(__always) public var binade: Double {
    Double(bitPattern: bitPattern & 0x7ff0_0000_0000_0000)
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
      Self(v: shifted) - Self(0x1.8p52), Self(v: unsafeBitCast(factor, to: SIMD8<Double>.self))
    )
  }
  @inline(__always) public var binade: Self {
    let bits = unsafeBitCast(v, to: SIMD8<UInt64>.self) & SIMD8(repeating: 0x7ff0_0000_0000_0000)
    return Self(v: unsafeBitCast(bits, to: SIMD8<Double>.self))
  }
  /// The exponent of 2 in each lane as its bits have it: -1023 for 0, 1024 for what is not finite.
  @inline(__always) var exponentField: Self {
    let field =
      (unsafeBitCast(v, to: SIMD8<UInt64>.self) &>> SIMD8(repeating: 52)) & SIMD8(repeating: 2047)
    // A whole number in the last bits of 2^52.
    let shifted = unsafeBitCast(
      field | SIMD8(repeating: 0x4330_0000_0000_0000), to: SIMD8<Double>.self)
    return Self(v: shifted) - Self(0x1p52 + 1023)
  }
}

extension Kernels {
  /// A float64 for each lane of L.
  struct Widened<L: Lanes>: Wide {
    let lower: L.Eight
    /// Of the lanes from the ninth on, where there are any.
    let upper: L.Eight

    @inline(__always) init(lower: L.Eight, upper: L.Eight) {
      self.lower = lower
      self.upper = upper
    }
    @inline(__always) init(
      _ value: Double
    ) {
      self.init(lower: L.Eight(value), upper: L.Eight(value))
    }
    @inline(__always) init(_ lanes: L) {
      let lanes = lanes.whole
      self.init(lower: lanes.eight, upper: lanes.upperEight)
    }
    @inline(__always) init(at p: UnsafePointer<Double>) {
      self.init(lower: L.loadEight(p), upper: L.isSingle ? L.loadEight(p + 8) : L.Eight(0))
    }
    @inline(__always) func store(at p: UnsafeMutablePointer<Double>) {
      L.storeEight(lower, p)
      if L.isSingle { L.storeEight(upper, p + 8) }
    }
    /// Rounded to L's type.
    @inline(__always) var lanes: L { L(lower: lower, upper: upper) }

    @inline(__always) static func + (a: Self, b: Self) -> Self { both(a, b) { $0 + $1 } }
    @inline(__always) static func - (a: Self, b: Self) -> Self { both(a, b) { $0 - $1 } }
    @inline(__always) static func * (a: Self, b: Self) -> Self { both(a, b) { $0 * $1 } }
    @inline(__always) static func / (a: Self, b: Self) -> Self { both(a, b) { $0 / $1 } }
    @inline(__always) func fma(_ b: Self, _ c: Self) -> Self {
      Self(
        lower: lower.fma(b.lower, c.lower), upper: L.isSingle ? upper.fma(b.upper, c.upper) : upper)
    }
    @inline(__always) static func pick(
      _ a: Self, lessThan b: Self, _ yes: Self, _ no: Self
    ) -> Self {
      Self(
        lower: L.Eight.pick(a.lower, lessThan: b.lower, yes.lower, no.lower),
        upper: L.isSingle ? L.Eight.pick(a.upper, lessThan: b.upper, yes.upper, no.upper) : no.upper
      )
    }
    @inline(__always) static func pick(
      _ a: Self, equalTo b: Self, _ yes: Self, _ no: Self
    ) -> Self {
      Self(
        lower: L.Eight.pick(a.lower, equalTo: b.lower, yes.lower, no.lower),
        upper: L.isSingle ? L.Eight.pick(a.upper, equalTo: b.upper, yes.upper, no.upper) : no.upper)
    }
    @inline(__always) func binaryScale() -> (k: Self, factor: Self) {
      let a = lower.binaryScale()
      if !L.isSingle {
        return (Self(lower: a.k, upper: upper), Self(lower: a.factor, upper: upper))
      }
      let b = upper.binaryScale()
      return (Self(lower: a.k, upper: b.k), Self(lower: a.factor, upper: b.factor))
    }

    @inline(__always) var binade: Self {
      Self(lower: lower.binade, upper: L.isSingle ? upper.binade : upper)
    }

    @inline(__always) private static func both(
      _ a: Self, _ b: Self, _ each: (L.Eight, L.Eight) -> L.Eight
    ) -> Self {
      Self(lower: each(a.lower, b.lower), upper: L.isSingle ? each(a.upper, b.upper) : a.upper)
    }
  }
}
