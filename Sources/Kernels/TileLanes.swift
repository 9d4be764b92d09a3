// What attention asks of a vector beyond Lanes: 2^d, and lanes that change places.

/// A vector whose lanes are queries.
public protocol TileLanes: Lanes {
  static func / (a: Self, b: Self) -> Self
  /// The lanes of a and b by turns, within each quarter of the vector: of its lower half, and of
  /// its upper one.
  static func weave(_ a: Self, _ b: Self) -> (lower: Self, upper: Self)
  /// 16 bytes from each of four places.
  init(
    quarters p: UnsafeRawPointer, _ q: UnsafeRawPointer, _ r: UnsafeRawPointer,
    _ s: UnsafeRawPointer)
  /// Without its sign.
  func magnitude() -> Self
  /// With the sign of another; self has none.
  func signed(as other: Self) -> Self
  func floor() -> Self
  /// self less the nearest whole number.
  func rest() -> Self
  /// 2^r = 1 + c1·r + … + cn·r^n for |r| <= 1/2: n, and each c.
  static var exp2Degree: Int { get }
  static func exp2Coefficient(_ k: Int) -> Scalar
  /// Finite scores are kept within plus and minus this, so that their multiples by log2(e) are
  /// finite.
  static var scoreLimit: Scalar { get }
  /// Up to here a score times log2(e) is near enough to its floor for `exp2`; from here on scores
  /// are counted from a base (AttentionWeights.swift).
  static var baseLimit: Scalar { get }
  /// The exponent of the least weight that is not 0.
  static var leastExponent: Scalar { get }
  /// self · 2^n, where d, which n is the rounded number of, is the least exponent or more; else 0.
  func weight(byPowerOf n: Self, from d: Self) -> Self
}

extension TileLanes {
  /// 2^d for d up to 62, to 0.8 ulp; 0 for -inf, NaN for NaN.
  ///
  /// Nine operations of AVX-512. Reducing by the floor, which its last instruction takes by itself,
  /// would save one, but the rest is then not exact: below 0 it rounds, and not alike everywhere.
  @inline(__always) func exp2() -> Self {
    let r = rest()
    return Self.power(r).scaled(byPowerOf: self - r, from: self)
  }

  /// The same for what multiplies values: 0 below the least exponent. So it is no subnormal number,
  /// nor is its product with a value of 2^-26 (2^-62) or more; some CPUs take 150 cycles for each.
  /// Scores with a spread of 16 took attention 16 times as long as scores with one of 1, a spread
  /// of 32 a hundred times. One operation more.
  @inline(__always) func weight() -> Self {
    let r = rest()
    return Self.power(r).weight(byPowerOf: self - r, from: self)
  }

  /// 2^r for |r| <= 1/2.
  @inline(__always) private static func power(_ r: Self) -> Self {
    var p = Self(Self.exp2Coefficient(Self.exp2Degree))
    var k = Self.exp2Degree &- 1
    while k >= 1 {
      p = p.fma(r, Self(Self.exp2Coefficient(k)))
      k = k &- 1
    }
    return p.fma(r, Self(1))
  }
}

extension Kernels.F32: TileLanes {
  @inline(__always) public static func / (a: Self, b: Self) -> Self { Self(v: a.v / b.v) }
  /// The lanes of a and b by turns: of their lower halves, and of their upper ones.
  @inline(__always) static func zip(_ a: Self, _ b: Self) -> (lower: Self, upper: Self) {
    (Self(v: I.zipLower(a.v, b.v)), Self(v: I.zipUpper(a.v, b.v)))
  }
  @inline(__always)
  public init(
    quarters p: UnsafeRawPointer, _ q: UnsafeRawPointer, _ r: UnsafeRawPointer,
    _ s: UnsafeRawPointer
  ) {
    v = I.loadQuarters(p, q, r, s)
  }
  @inline(__always) public static func weave(_ a: Self, _ b: Self) -> (lower: Self, upper: Self) {
    (Self(v: I.weaveLower(a.v, b.v)), Self(v: I.weaveUpper(a.v, b.v)))
  }
  @inline(__always) public func magnitude() -> Self {
    Self(
      v: unsafeBitCast(
        unsafeBitCast(v, to: SIMD16<UInt32>.self) & 0x7fff_ffff, to: SIMD16<Float>.self))
  }
  @inline(__always) public func signed(as other: Self) -> Self {
    let sign = unsafeBitCast(other.v, to: SIMD16<UInt32>.self) & ~0x7fff_ffff
    return Self(
      v: unsafeBitCast(unsafeBitCast(v, to: SIMD16<UInt32>.self) | sign, to: SIMD16<Float>.self))
  }
  @inline(__always) public func floor() -> Self { Self(v: I.floor(v)) }
  @inline(__always) public func rest() -> Self { Self(v: I.rest(v)) }
  @inline(__always) public func scaled(byPowerOf n: Self, from d: Self) -> Self {
    Self(v: I.scaled(v, n.v, from: d.v))
  }
  public static var scoreLimit: Float { @inline(__always) get { 0x1p126 } }
  public static var baseLimit: Float { @inline(__always) get { 0x1p20 } }
  public static var leastExponent: Float { @inline(__always) get { -100 } }
  @inline(__always) public func weight(byPowerOf n: Self, from d: Self) -> Self {
    Self(v: I.scaled(v, n.v, from: d.v, least: Self.leastExponent))
  }
  /// Minimax; relative error 2^-28.3 (scripts/exp2_coefficients.py).
  public static var exp2Degree: Int { @inline(__always) get { 6 } }
  @inline(__always) public static func exp2Coefficient(_ k: Int) -> Float {
    switch k {
    case 6: 0x1.416b5ep-13
    case 5: 0x1.5f082ep-10
    case 4: 0x1.3b2de0p-7
    case 3: 0x1.c6af7cp-5
    case 2: 0x1.ebfbdcp-3
    default: 0x1.62e430p-1
    }
  }
}

extension Kernels.F64: TileLanes {
  @inline(__always)
  public init(
    quarters p: UnsafeRawPointer, _ q: UnsafeRawPointer, _ r: UnsafeRawPointer,
    _ s: UnsafeRawPointer
  ) {
    v = I.loadQuarters(p, q, r, s)
  }
  @inline(__always) public static func weave(_ a: Self, _ b: Self) -> (lower: Self, upper: Self) {
    (Self(v: I.weaveLower(a.v, b.v)), Self(v: I.weaveUpper(a.v, b.v)))
  }
  @inline(__always) public func magnitude() -> Self {
    Self(
      v: unsafeBitCast(
        unsafeBitCast(v, to: SIMD8<UInt64>.self) & 0x7fff_ffff_ffff_ffff, to: SIMD8<Double>.self))
  }
  @inline(__always) public func signed(as other: Self) -> Self {
    let sign = unsafeBitCast(other.v, to: SIMD8<UInt64>.self) & ~0x7fff_ffff_ffff_ffff
    return Self(
      v: unsafeBitCast(unsafeBitCast(v, to: SIMD8<UInt64>.self) | sign, to: SIMD8<Double>.self))
  }
  @inline(__always) public func floor() -> Self { Self(v: I.floor(v)) }
  @inline(__always) public func rest() -> Self { Self(v: I.rest(v)) }
  @inline(__always) public func scaled(byPowerOf n: Self, from d: Self) -> Self {
    Self(v: I.scaled(v, n.v, from: d.v))
  }
  public static var scoreLimit: Double { @inline(__always) get { 0x1p1022 } }
  public static var baseLimit: Double { @inline(__always) get { 0x1p40 } }
  public static var leastExponent: Double { @inline(__always) get { -960 } }
  @inline(__always) public func weight(byPowerOf n: Self, from d: Self) -> Self {
    Self(v: I.scaled(v, n.v, from: d.v, least: Self.leastExponent))
  }
  /// Minimax; relative error 2^-57.8 (scripts/exp2_coefficients.py).
  public static var exp2Degree: Int { @inline(__always) get { 11 } }
  @inline(__always) public static func exp2Coefficient(_ k: Int) -> Double {
    switch k {
    case 11: 0x1.e80ed97c90dfbp-32
    case 10: 0x1.e611a0995f669p-28
    case 9: 0x1.b5260da5529ebp-24
    case 8: 0x1.62bfcdde498a8p-20
    case 7: 0x1.ffcbfbf8c6419p-17
    case 6: 0x1.4309130c012ecp-13
    case 5: 0x1.5d87fe78b3b9cp-10
    case 4: 0x1.3b2ab6fba11f5p-7
    case 3: 0x1.c6b08d704a0d4p-5
    case 2: 0x1.ebfbdff82c59cp-3
    default: 0x1.62e42fefa39efp-1
    }
  }
}
