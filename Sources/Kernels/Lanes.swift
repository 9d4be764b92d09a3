// The virtual vector: 16 float32 or 8 float64, on every instruction set.
//
// Its width is part of the bits contract: it fixes which elements of a row meet in which partial
// sum. SSE holds it in four registers, AVX2 in two, AVX-512 in one. Swift never contracts a
// product and a sum by itself, so each operation below rounds once, everywhere.

/// A vector of one scalar type, with the operations that the kernels use.
public protocol Lanes {
  associatedtype Scalar: BinaryFloatingPoint
  /// Eight float64.
  associatedtype Eight: Wide
  /// Number of lanes. Order is part of the contract.
  static var count: Int { get }

  init(_ value: Scalar)
  init(at p: UnsafePointer<Scalar>)
  /// Lanes from..<to from memory, `fill` in the others, whose memory is not touched.
  init(at p: UnsafePointer<Scalar>, from: Int, to: Int, fill: Scalar)
  /// Bytes as numbers.
  init(bytes p: UnsafeRawPointer)
  func store(at p: UnsafeMutablePointer<Scalar>)
  func store(at p: UnsafeMutablePointer<Scalar>, from: Int, to: Int)
  /// Past the caches; p is aligned to the vector.
  func stream(at p: UnsafeMutablePointer<Scalar>)
  subscript(lane: Int) -> Scalar { get }

  static func + (a: Self, b: Self) -> Self
  static func - (a: Self, b: Self) -> Self
  static func * (a: Self, b: Self) -> Self
  /// self·b + c, rounded once.
  func fma(_ b: Self, _ c: Self) -> Self
  /// The same, or 0 in lanes where x < bound.
  func fma(_ b: Self, _ c: Self, unless x: Self, lessThan bound: Self) -> Self

  /// The larger of each pair; a NaN in `x` stays, a NaN in `bound` is passed over.
  static func max(_ bound: Self, _ x: Self) -> Self
  /// a < b ? yes : no in each lane.
  static func pick(_ a: Self, lessThan b: Self, _ yes: Self, _ no: Self) -> Self
  /// a == b ? yes : no in each lane.
  static func pick(_ a: Self, equalTo b: Self, _ yes: Self, _ no: Self) -> Self
  /// The bits of each lane shifted into the exponent field: 2^(k - bias) from a k in the low bits.
  func shiftedIntoExponent() -> Self

  /// self · 2^n for self from 1/2 to 2 (any, where one instruction does it: `scalesByPowers`),
  /// rounded once where that is subnormal; n is d rounded to a whole number, 62 at most. 0 where d
  /// is -inf.
  func scaled(byPowerOf n: Self, from d: Self) -> Self

  /// The first eight lanes as float64, and eight float64 rounded into the first lanes.
  var eight: Eight { get }
  init(eight: Eight)
  /// These lanes, behind which the compiler does not look: it takes nothing in halves from here
  /// back, nor another number where it sees that this one does not matter.
  var whole: Self { get }
  /// The lanes from the ninth on, where there are any, and both halves put together.
  var upperEight: Eight { get }
  init(lower: Eight, upper: Eight)
  /// Eight float64 from memory and back.
  static func loadEight(_ p: UnsafePointer<Double>) -> Eight
  static func storeEight(_ v: Eight, _ p: UnsafeMutablePointer<Double>)

  /// (self - origin) + low over all lanes, in the fixed tree of Sum.swift.
  func total(origin: Scalar, low: Self) -> Sum
  /// high + low over eight lanes, in the same tree, as a pair; NaN where it is not finite.
  static func total(eight high: Eight, low: Eight) -> Sum
  /// Lane l of the result is lane l + n of this, counted around.
  func turned(by n: Int) -> Self
  /// The largest lane; a maximum does not depend on the order.
  func largest() -> Scalar

  /// 2^23 + k (2^52 + k for float64) as k times the smallest number, and k as that where it is a
  /// normal number; by their bits, since a product may take its time (FarResults.swift).
  func wholeAsUnits() -> Self
  func normalAsUnits() -> Self
  /// These lanes, none below 0, with the signs of others.
  func withSign(of other: Self) -> Self

  /// Whether sums and logarithms need 53 bits only.
  static var isSingle: Bool { get }

  // The constants of Exp.swift for this scalar type.
  static var log2e: Scalar { get }
  /// ln 2 as the sum of two numbers.
  static var ln2High: Scalar { get }
  static var ln2Low: Scalar { get }
  /// exp(r) = 1 + r + c2·r² + … + cn·r^n for |r| <= 0.3495: n, and each c.
  static var expDegree: Int { get }
  static func expCoefficient(_ k: Int) -> Scalar
  /// Exponent of the factor that keeps all terms of a sum normal numbers.
  static var headroom: Scalar { get }
  /// Where the exponent field of a term reaches zero: headroom plus the exponent bias.
  static var fieldZero: Scalar { get }
  /// About the lowest exponent field of a term; terms below are 0 (Exp.swift). And of those whose
  /// results may be larger (CrossEntropyGradient.swift).
  static var leastField: Scalar { get }
  static var leastFieldOfShare: Scalar { get }
  /// 1.5 · 2^(significand bits): adding it rounds to a whole number.
  static var roundingShift: Scalar { get }
  /// From here on, up to twice it, a number's last bit is 1.
  static var wholeFrom: Scalar { get }
  /// The two factors that make the smallest number 1, and the least result in that unit whose lower
  /// part is a normal number (FarResults.swift).
  static var unitsInside: Scalar { get }
  static var unitsOutside: Scalar { get }
  static var leastOrdinary: Scalar { get }
  /// Beyond this magnitude of a row's maximum, the difference is taken before the reduction.
  static var plainLimit: Scalar { get }
  /// 2^(headroom + 2), above every single term: the start of a compensated sum.
  static var sumOrigin: Scalar { get }
  /// 2^headroom.
  static var unit: Scalar { get }
  /// Up to this magnitude of a maximum 2^(headroom - N) times a coefficient is a normal number.
  static var powerLimit: Scalar { get }
  /// 2^headroom · 2^-leastPower is below the smallest number.
  static var leastPower: Scalar { get }
}

extension Lanes {
  /// (exp(r) - 1 - r) / r², this vector being r.
  @inline(__always) func expTail() -> Self {
    var p = Self(Self.expCoefficient(Self.expDegree))
    var k = Self.expDegree &- 1
    while k >= 2 {
      p = p.fma(self, Self(Self.expCoefficient(k)))
      k = k &- 1
    }
    return p
  }
}
