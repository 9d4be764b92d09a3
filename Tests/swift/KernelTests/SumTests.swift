// Exact transformations, and the compensated sum of a chunk: its error, and what does not show in
// it.

import Testing

@testable import Kernels

@Suite struct SumTests {
  /// Numbers of 20 bits at scales of 2^-20 to 2^20: sums and products of two are exact in Float80.
  static func numbers(_ count: Int, seed: UInt64) -> [Double] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in
      let bits = Double(Int64(bitPattern: generator.next()) >> 11)
      return bits * Double(sign: .plus, exponent: Int(generator.next() % 8) - 52, significand: 1)
    }
  }

  @Test func twoSumLosesNothing() {
    let numbers = Self.numbers(4000, seed: 1)
    for (a, b) in zip(numbers, numbers.dropFirst()) {
      let s = Sum.exact(a, b)
      #expect(s.high == a + b)
      #expect(Float80(s.high) + Float80(s.low) == Float80(a) + Float80(b), "\(a) + \(b)")
    }
  }

  @Test func fast2SumAgreesWithTwoSum() {
    let numbers = Self.numbers(4000, seed: 2)
    for (a, b) in zip(numbers, numbers.dropFirst()) {
      let (large, small) = abs(a) >= abs(b) ? (a, b) : (b, a)
      let fast = Sum.exact(larger: large, small)
      let slow = Sum.exact(a, b)
      #expect(fast.high == slow.high && fast.low == slow.low, "\(a) + \(b)")
    }
  }

  @Test func productLosesNothing() {
    let numbers = Self.numbers(2000, seed: 3)
    for (a, b) in zip(numbers, numbers.dropFirst()) {
      let s = Sum.product(a, b)
      #expect(s.high == a * b)
      #expect((-s.high).addingProduct(a, b) == s.low)
    }
  }

  /// A row of terms that a plain sum of float32 gets wrong by many units.
  @Test func chunkOfFloatKeepsItsDigits() {
    var generator = SplitMix64(seed: 4)
    var sum = Accumulator<F32>()
    var exact: Float80 = 0
    for _ in 0..<256 {
      var lanes = [Float](repeating: 0, count: 16)
      for lane in 0..<16 {
        lanes[lane] = Float.random(in: 0...1, using: &generator) * F32.unit
        exact += Float80(lanes[lane])
      }
      sum.add(lanes.withUnsafeBufferPointer { F32(at: $0.baseAddress!) })
    }
    let total = sum.total()
    #expect(abs(Float80(total.high) - exact) <= exact * 0x1p-40)
  }

  @Test func chunkOfDoubleKeepsItsDigits() {
    var generator = SplitMix64(seed: 5)
    var sum = Accumulator<F64>()
    var exact: Float80 = 0
    for _ in 0..<512 {
      var lanes = [Double](repeating: 0, count: 8)
      for lane in 0..<8 {
        // 40 bits: the sum of 4096 fits into the 64 of Float80.
        let bits = Double(generator.next() >> 24) * 0x1p-40
        lanes[lane] = bits * F64.unit
        exact += Float80(lanes[lane])
      }
      sum.add(lanes.withUnsafeBufferPointer { F64(at: $0.baseAddress!) })
    }
    let total = sum.total()
    #expect(Float80(total.high) + Float80(total.low) == exact)
  }

  /// Zeros between the terms, which is what masked elements are, change no bit.
  @Test func zerosDoNotShow() {
    var generator = SplitMix64(seed: 6)
    var sum = Accumulator<F32>()
    var spread = Accumulator<F32>()
    for i in 0..<200 {
      let term = F32(Float.random(in: 0...1, using: &generator) * F32.unit)
      sum.add(term)
      spread.add(term)
      if i % 3 == 0 { spread.add(F32(0)) }
    }
    let (a, b) = (sum.total(), spread.total())
    #expect(a.high == b.high && a.low == b.low)
  }
}
