// Sums that keep what a float32 or float64 accumulator would lose, in one written order.
//
// A row is cut into chunks of 4096 elements. Within a chunk, lane l takes elements l, l + count,
// l + 2·count … by Fast2Sum (Dekker 1971): s = a + e, and e - (s - a) is exactly what that rounding
// lost, provided |a| >= |e|. Starting every lane at 2^(headroom + 2), above any single term, makes
// that so, for one addition more than the plain sum needs registers; the lost parts add up in a
// second accumulator. At the end of a chunk the lanes meet in a fixed tree (`total`), and the
// chunks' sums are added in their order.
//
// Why not plain lanes, flushed to float64 every few vectors: one float32 rounding of a dominant
// partial sum is up to one ulp of every result of the row, and the budget is a tenth of that.

/// An unevaluated sum of two float64, or of eight side by side. For float32 rows `low` is zero: 53
/// bits are enough.
public struct SumOf<W: Wide> {
  public var high: W
  public var low: W

  @inline(__always) public init(high: W, low: W) {
    self.high = high
    self.low = low
  }

  /// Knuth's TwoSum: a + b = high + low exactly.
  @inline(__always) static func exact(_ a: W, _ b: W) -> Self {
    let high = a + b
    let part = high - a
    return Self(high: high, low: (a - (high - part)) + (b - part))
  }

  /// Dekker's Fast2Sum, for |a| >= |b|.
  @inline(__always) static func exact(larger a: W, _ b: W) -> Self {
    let high = a + b
    return Self(high: high, low: b - (high - a))
  }

  /// a·b = high + low exactly.
  @inline(__always) static func product(_ a: W, _ b: W) -> Self {
    let high = a * b
    return Self(high: high, low: a.fma(b, W(0) - high))
  }

  /// The quotient, to 2^-100.
  @inline(__always) func divided(by other: Self) -> Self {
    let quotient = high / other.high
    let minus = W(0) - quotient
    let rest = minus.fma(other.high, high) + minus.fma(other.low, low)
    return Self(high: quotient, low: rest / other.high)
  }

  @inline(__always) mutating func add(_ other: Self) {
    let s = Self.exact(high, other.high)
    self = Self.exact(larger: s.high, s.low + (low + other.low))
  }
}

extension Kernels {
  /// The sum of one lane of a chunk, for rows side by side.
  @inline(__always) static func laneSum<L: Lanes, W: Wide>(
    _ high: L, _ low: L, _ wide: (L) -> W
  ) -> SumOf<W> {
    let h = wide(high) - W(Double(L.sumOrigin))
    return L.isSingle ? SumOf(high: h + wide(low), low: W(0)) : SumOf(high: h, low: wide(low))
  }

  /// Two lanes, or two halves of the tree, as Lanes.total adds them.
  @inline(__always)
  static func meet<L: Lanes, W: Wide>(_ a: SumOf<W>, _ b: SumOf<W>, _: L.Type) -> SumOf<W> {
    if L.isSingle { return SumOf(high: a.high + b.high, low: W(0)) }
    let s = SumOf.exact(a.high, b.high)
    return SumOf(high: s.high, low: (a.low + b.low) + s.low)
  }
}

/// The sum of one row.
public typealias Sum = SumOf<Double>

/// The lanes of one chunk's sum.
struct Accumulator<L: Lanes> {
  var high: L
  var low: L

  @inline(__always) init(high: L, low: L) {
    self.high = high
    self.low = low
  }

  @inline(__always) init() {
    high = L(L.sumOrigin)
    low = L(0)
  }

  /// Adds one vector of terms, each at most 2^(headroom + 1) in magnitude.
  @inline(__always) mutating func add(_ term: L) {
    // Order is part of the contract.
    let s = high + term
    low = low + (term - (s - high))
    high = s
  }

  /// Adds an exponential before its last rounding: `rounded` decides the upper part, what that and
  /// the addition lost is found from the factors. One operation more than `add`.
  @inline(__always) mutating func add(_ term: Exponential<L>, rounded: L) {
    // Order is part of the contract.
    let s = high + rounded
    low = low + term.quotient.fma(term.scaledRest, term.scale - (s - high))
    high = s
  }

  /// Lane l takes what lane l + n holds.
  @inline(__always) mutating func turn(by n: Int) {
    high = high.turned(by: n)
    low = low.turned(by: n)
  }

  @inline(__always) func total() -> Sum { high.total(origin: L.sumOrigin, low: low) }
}
