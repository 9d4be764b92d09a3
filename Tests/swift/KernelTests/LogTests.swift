// The logarithm that every row takes once, against log and log1p in 80 bits.

import Foundation
import Testing

@testable import Kernels

@Suite struct LogTests {
  /// A pair against 64 bits of Float80: a few units of its last place.
  static let bound: Float80 = 0x1p-58

  static func error(_ value: Sum, _ exact: Float80) -> Float80 {
    let difference = abs(Float80(value.high) + Float80(value.low) - exact)
    return exact == 0 ? difference : difference / abs(exact)
  }

  @Test func log1pFromTheSmallestToTheLargest() {
    var generator = SplitMix64(seed: 1)
    for exponent in -1000...60 {
      let significand = Double.random(in: 1..<2, using: &generator)
      let t = Double(sign: .plus, exponent: exponent, significand: significand)
      let exact = Foundation.log1p(Float80(t))
      #expect(Self.error(Under.log1p(Sum(high: t, low: 0)), exact) <= Self.bound, "log1p(\(t))")
    }
  }

  @Test func log1pOfPairs() {
    var generator = SplitMix64(seed: 2)
    for _ in 0..<2000 {
      let high = Double.random(in: 0...20, using: &generator)
      let low = high * Double.random(in: -0x1p-54...0x1p-54, using: &generator)
      let exact = Foundation.log1p(Float80(high) + Float80(low))
      #expect(Self.error(Under.log1p(Sum(high: high, low: low)), exact) <= Self.bound)
    }
  }

  /// sqrt(1/2) and sqrt(2) among them.
  @Test(
    arguments: [0.5, 0.7071067811865476, 1, 1.4142135623730951, 2, 3, 0x1p-900, 0x1p900])
  func logAroundTheEdgesOfItsInterval(center: Double) {
    for w in [center.nextDown, center, center.nextUp] {
      let exact = Foundation.log(Float80(w))
      #expect(Self.error(Under.log(Sum(high: w, low: 0)), exact) <= Self.bound, "log(\(w))")
    }
  }

  @Test func logOfOneIsZero() {
    #expect(Under.log(Sum(high: 1, low: 0)).high == 0)
    #expect(Under.log1p(Sum(high: 0, low: 0)).high == 0)
  }
}
