// tanh and 2^d of attention's vectors against 80 bits. `make exhaustive` has tanh of every float32,
// through the ABI.

import Foundation
import Testing

@testable import Kernels

/// One unit in the last place at a value of that size.
private func ulp<T: BinaryFloatingPoint>(_: T.Type, _ value: Float80) -> Float80 {
  Float80(max(T(abs(value)), T.leastNormalMagnitude).ulp)
}

@Suite struct TanhTests {
  /// Found over all float32 and over 150 million float64, and a little more (Tanh.swift). The
  /// promise is 2.
  static let bound: Float80 = 1.8

  /// Numbers over all binades in which tanh is neither x nor 1, and where its error is largest.
  static func numbers(seed: UInt64) -> [Double] {
    var generator = SplitMix64(seed: seed)
    var found: [Double] = [0x1.fab29p-5, 0x1.002318p-4, 0x1.fe6240c23f2d6p-6, 0x1.c4c70602587ebp-3]
    for exponent in -28...4 {
      for _ in 0..<60 {
        found.append(Double.random(in: 1..<2, using: &generator) * exp2(Double(exponent)))
      }
    }
    for _ in 0..<600 {
      found.append(Double.random(in: 0.03...0.064, using: &generator))
      found.append(Double.random(in: 0.17...0.26, using: &generator))
    }
    // Both sides of where n changes.
    for n in 0..<40 {
      let edge = (Double(n) + 0.5) * 0.5 * Double(ln2High)
      for step in [-3, -1, 0, 1, 3] as [Double] { found.append(edge * (1 + step * 0x1p-30)) }
    }
    return found
  }

  @Test func float() {
    for number in Self.numbers(seed: 1) {
      let x = Float(number)
      let exact = Foundation.tanh(Float80(x))
      let got = F32(x).tanh()[0]
      let error = abs(Float80(got) - exact) / ulp(Float.self, exact)
      #expect(error <= Self.bound, "tanh of \(x): \(got), \(error) ulp")
      #expect(F32(-x).tanh()[0] == -got)
    }
  }

  @Test func double() {
    for x in Self.numbers(seed: 2) {
      let exact = Foundation.tanh(Float80(x))
      let got = F64(x).tanh()[0]
      let error = abs(Float80(got) - exact) / ulp(Double.self, exact)
      #expect(error <= Self.bound, "tanh of \(x): \(got), \(error) ulp")
      #expect(F64(-x).tanh()[0] == -got)
    }
  }

  /// Where x is so small that E is 2x, down to the last subnormal.
  @Test func smallNumbers() {
    for exponent in -149 ... -26 {
      let x = Float(sign: .plus, exponent: exponent, significand: 1)
      #expect(F32(x).tanh()[0] == x, "\(x)")
    }
    for exponent in -1074 ... -55 {
      let x = Double(sign: .plus, exponent: exponent, significand: 1)
      #expect(F64(x).tanh()[0] == x, "\(x)")
    }
  }

  @Test func specialValues() {
    for x in [9.1, 20, 1000, .greatestFiniteMagnitude, .infinity] as [Float] {
      #expect(F32(x).tanh()[0] == 1 && F32(-x).tanh()[0] == -1, "\(x)")
    }
    for x in [19.1, 20, 1000, .greatestFiniteMagnitude, .infinity] as [Double] {
      #expect(F64(x).tanh()[0] == 1 && F64(-x).tanh()[0] == -1, "\(x)")
    }
    #expect(F32(.nan).tanh()[0].isNaN && F64(.nan).tanh()[0].isNaN)
    #expect(F32(0).tanh()[0].sign == .plus && F32(-0.0).tanh()[0].sign == .minus)
    #expect(F64(0).tanh()[0].sign == .plus && F64(-0.0).tanh()[0].sign == .minus)
  }

  @Test func signs() {
    #expect(F32(-2).magnitude()[0] == 2 && F64(-2).magnitude()[0] == 2)
    #expect(F32(-0.0).magnitude()[0].sign == .plus && F64(-.infinity).magnitude()[0] == .infinity)
    #expect(F32(3).signed(as: F32(-1))[0] == -3 && F32(3).signed(as: F32(1))[0] == 3)
    #expect(F64(3).signed(as: F64(-0.0))[0] == -3 && F64(3).signed(as: F64(.infinity))[0] == 3)
  }
}

@Suite struct Exp2Tests {
  /// TileLanes.swift.
  static let bound: Float80 = 0.8

  @Test func float() {
    var generator = SplitMix64(seed: 3)
    for i in 0..<6000 {
      let d = Float.random(in: i % 2 == 0 ? -126...62 : -2...2, using: &generator)
      let exact = Foundation.exp2(Float80(d))
      let got = F32(d).exp2()[0]
      let error = abs(Float80(got) - exact) / ulp(Float.self, exact)
      #expect(error <= Self.bound, "2 to the \(d): \(got), \(error) ulp")
    }
  }

  @Test func double() {
    var generator = SplitMix64(seed: 4)
    for i in 0..<6000 {
      let d = Double.random(in: i % 2 == 0 ? -1022...62 : -2...2, using: &generator)
      let exact = Foundation.exp2(Float80(d))
      let got = F64(d).exp2()[0]
      let error = abs(Float80(got) - exact) / ulp(Double.self, exact)
      #expect(error <= Self.bound, "2 to the \(d): \(got), \(error) ulp")
    }
  }

  /// Powers of two are exact, in the subnormal range too: rescaling must not round.
  @Test func wholeNumbers() {
    for n in -149...62 {
      #expect(F32(Float(n)).exp2()[0] == Float(sign: .plus, exponent: n, significand: 1), "\(n)")
    }
    for n in -1074...62 {
      #expect(F64(Double(n)).exp2()[0] == Double(sign: .plus, exponent: n, significand: 1), "\(n)")
    }
  }

  @Test func specialValues() {
    for d in [-152, -1000, -1e30, -.greatestFiniteMagnitude, -.infinity] as [Float] {
      #expect(F32(d).exp2()[0] == 0, "\(d)")
    }
    for d in [-1077, -1e5, -1e300, -.greatestFiniteMagnitude, -.infinity] as [Double] {
      #expect(F64(d).exp2()[0] == 0, "\(d)")
    }
    #expect(F32(.nan).exp2()[0].isNaN && F64(.nan).exp2()[0].isNaN)
  }

  /// A larger exponent never has the smaller power, also where the rest changes its sign.
  @Test func rises() {
    for center in [-20.5, -1.5, -0.5, 0, 0.5, 1, 7.5] as [Float] {
      var d = center - 200 * center.ulp
      var before = F32(d).exp2()[0]
      for _ in 0..<400 {
        d = d.nextUp
        let power = F32(d).exp2()[0]
        #expect(before <= power * (1 + 0x1p-23), "at \(d)")
        before = power
      }
    }
  }
}
