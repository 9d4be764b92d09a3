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

/// An unevaluated sum of two float64. For float32 rows `low` is zero: 53 bits are enough.
public struct Sum {
  public var high: Double
  public var low: Double

  @inline(__always) public init(high: Double, low: Double) {
    self.high = high
    self.low = low
  }

  /// Knuth's TwoSum: a + b = high + low exactly.
  @inline(__always) static func exact(_ a: Double, _ b: Double) -> Sum {
    let high = a + b
    let part = high - a
    return Sum(high: high, low: (a - (high - part)) + (b - part))
  }

  /// Dekker's Fast2Sum, for |a| >= |b|.
  @inline(__always) static func exact(larger a: Double, _ b: Double) -> Sum {
    let high = a + b
    return Sum(high: high, low: b - (high - a))
  }

  /// a·b = high + low exactly.
  @inline(__always) static func product(_ a: Double, _ b: Double) -> Sum {
    let high = a * b
    return Sum(high: high, low: (-high).addingProduct(a, b))
  }

  /// The quotient, to 2^-100.
  @inline(__always) func divided(by other: Sum) -> Sum {
    let quotient = high / other.high
    let rest = high.addingProduct(-quotient, other.high) + low.addingProduct(-quotient, other.low)
    return Sum(high: quotient, low: rest / other.high)
  }

  @inline(__always) mutating func add(_ other: Sum) {
    let s = Sum.exact(high, other.high)
    self = Sum.exact(larger: s.high, s.low + (low + other.low))
  }
}

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

  /// Adds an exponential before its last rounding: `rounded` decides the upper part, what that and the
  /// addition lost is found from the factors. One operation more than `add`.
  @inline(__always) mutating func add(_ term: Exponential<L>, rounded: L) {
    // Order is part of the contract.
    let s = high + rounded
    low = low + term.quotient.fma(term.scaledRest, term.scale - (s - high))
    high = s
  }

  @inline(__always) func total() -> Sum { high.total(origin: L.sumOrigin, low: low) }
}
