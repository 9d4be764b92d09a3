// Sums of weights: whole numbers of 128 bits, exact for rows of any length.

/// high·2^64 + low.
struct Mass {
  var high: UInt64 = 0
  var low: UInt64 = 0

  mutating func add(_ other: Mass) {
    let (sum, carry) = low.addingReportingOverflow(other.low)
    low = sum
    high = high &+ other.high &+ (carry ? 1 : 0)
  }

  mutating func add(_ weight: UInt64) { add(Mass(high: 0, low: weight)) }

  /// other is not larger.
  mutating func subtract(_ other: Mass) {
    let (difference, borrow) = low.subtractingReportingOverflow(other.low)
    low = difference
    high = high &- other.high &- (borrow ? 1 : 0)
  }

  func isBelow(_ other: Mass) -> Bool { high != other.high ? high < other.high : low < other.low }

  /// self · fraction / 2^64, rounded down.
  func scaled(_ fraction: UInt64) -> (whole: Mass, isExact: Bool) {
    let lower = low.multipliedFullWidth(by: fraction)
    let upper = high.multipliedFullWidth(by: fraction)
    var whole = Mass(high: upper.high, low: upper.low)
    whole.add(lower.high)
    return (whole, lower.low == 0)
  }

  /// The least whole number that is p · self or more, and not 0; p below 1. p counts to a multiple
  /// of 2^-64, rounded up.
  func share(_ p: Double) -> Mass {
    let units = p * 0x1p64
    var fraction = UInt64(units)
    if Double(fraction) < units { fraction += 1 }
    var (whole, isExact) = scaled(fraction)
    if !isExact { whole.add(1) }
    if whole.high == 0 && whole.low == 0 { whole.low = 1 }
    return whole
  }

  /// As a number of units of the largest weight.
  var number: Double { (Double(high) * 0x1p64 + Double(low)) * 0x1p-52 }
}
