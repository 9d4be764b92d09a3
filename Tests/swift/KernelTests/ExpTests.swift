// Terms of the sum against exp in 80 bits: the bound that Exp.swift derives.

import Foundation
import Testing

@testable import Kernels

@Suite struct ExpTests {
  /// Of the term, from the comment of Exp.swift.
  static let bound: Float80 = 1.31

  @Test(arguments: [0, 1, -1, 0.5, 3, 40, -90, 88.7, 1000, -5000, 30000, -65535] as [Float])
  func plainTermsOfFloat(maximum: Float) {
    var generator = SplitMix64(seed: 1)
    let n = (maximum * F32.log2e + F32.roundingShift) - F32.roundingShift
    let exp = Under.PlainExp<F32>(maximum: F32(maximum))
    for i in 0..<1500 {
      let below = Float.random(in: 0...(i % 2 == 0 ? 2 : 100), using: &generator)
      let x = i == 0 ? maximum : maximum - below
      let term = Float80(exp(F32(x)).rounded()[0]) / Float80(F32.unit)
      let exact = Foundation.exp(reduced(Double(x), by: Double(n)))
      // Terms below 2^-126 of the unit are out of any result's sight and may flush to zero.
      if exact < 0x1p-126 { continue }
      let error = abs(term - exact) / exact * 0x1p24
      #expect(error <= Self.bound, "exp of \(x) below \(maximum): \(term), \(exact)")
    }
  }

  @Test(arguments: [0, 1, -2, 0.7, 300, -700, 708] as [Double])
  func plainTermsOfDouble(maximum: Double) {
    var generator = SplitMix64(seed: 2)
    let n = (maximum * F64.log2e + F64.roundingShift) - F64.roundingShift
    let exp = Under.PlainExp<F64>(maximum: F64(maximum))
    for i in 0..<1500 {
      let below = Double.random(in: 0...(i % 2 == 0 ? 2 : 700), using: &generator)
      let x = i == 0 ? maximum : maximum - below
      let term = Float80(exp(F64(x)).rounded()[0]) / Float80(F64.unit)
      let exact = Foundation.exp(reduced(x, by: n))
      let error = abs(term - exact) / exact * 0x1p53
      #expect(error <= Self.bound, "exp of \(x) below \(maximum): \(term), \(exact)")
    }
  }

  @Test(arguments: [0.25, 0.5, 0.75, 1, 3, 100] as [Double])
  func scaledTermsOfFloat(temperature: Double) {
    var generator = SplitMix64(seed: 3)
    for maximum in [0, -7.5, 70000, 1e9, -1e30] as [Float] {
      let exp = Under.ScaledExp<F32>(maximum: maximum, low: 0, temperature: temperature)
      for i in 0..<300 {
        let below = Float.random(in: 0...20, using: &generator)
        let x = i == 0 ? maximum : maximum - below
        let term = Float80(exp(F32(x), F32(0)).rounded()[0]) / Float80(F32.unit)
        let exact = Foundation.exp((Float80(x) - Float80(maximum)) / Float80(temperature))
        if exact < 0x1p-126 { continue }
        let error = abs(term - exact) / exact * 0x1p24
        #expect(error <= Self.bound, "exp of \(x) below \(maximum) over \(temperature)")
      }
    }
  }

  @Test func theMaximumIsExactInTheScaledForm() {
    for maximum in [0, 5, 1e20] as [Float] {
      let exp = Under.ScaledExp<F32>(maximum: maximum, low: 0, temperature: 3)
      #expect(exp(F32(maximum), F32(0)).rounded()[0] == F32.unit)
    }
  }

  @Test func specialValues() {
    let float = Under.PlainExp<F32>(maximum: F32(2))
    let double = Under.PlainExp<F64>(maximum: F64(2))
    #expect(float(F32(-.infinity)).rounded()[0] == 0)
    #expect(double(F64(-.infinity)).rounded()[0] == 0)
    #expect(float(F32(-.greatestFiniteMagnitude)).rounded()[0] == 0)
    #expect(double(F64(-.greatestFiniteMagnitude)).rounded()[0] == 0)
    #expect(float(F32(.nan)).rounded()[0].isNaN)
    #expect(double(F64(.nan)).rounded()[0].isNaN)
  }

  /// One element larger never has the smaller term.
  @Test func isMonotoneNextToTheMaximum() {
    let exp = Under.PlainExp<F32>(maximum: F32(1))
    var x: Float = 0.99
    var before = exp(F32(x)).rounded()[0]
    while x < 1 {
      x = x.nextUp
      let term = exp(F32(x)).rounded()[0]
      #expect(before <= term, "at \(x)")
      before = term
      x += 0x1p-20
    }
  }
}
