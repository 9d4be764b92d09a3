// The few operations that come from C: partial loads and stores, narrow types.

import Testing

@testable import Kernels

@Suite struct LanesTests {
  @Test func partialLoadsAndStoresTouchTheirLanesOnly() {
    let numbers = (0..<16).map { Float($0) + 1 }
    for from in 0...16 {
      for to in from...16 {
        var out = [Float](repeating: -1, count: 16)
        numbers.withUnsafeBufferPointer { numbers in
          let v = F32(at: numbers.baseAddress!, from: from, to: to, fill: -7)
          for lane in 0..<16 {
            #expect(v[lane] == (from <= lane && lane < to ? numbers[lane] : -7))
          }
          out.withUnsafeMutableBufferPointer { v.store(at: $0.baseAddress!, from: from, to: to) }
        }
        for lane in 0..<16 {
          #expect(out[lane] == (from <= lane && lane < to ? numbers[lane] : -1))
        }
      }
    }
  }

  /// The boundaries pass NaN over on one side and keep it on the other.
  @Test func maximumAndNaN() {
    #expect(F32.max(F32(1), F32(2))[0] == 2)
    #expect(F32.max(F32(2), F32(1))[0] == 2)
    #expect(F32.max(F32(1), F32(.nan))[0].isNaN)
    #expect(F32.max(F32(.nan), F32(1))[0] == 1)
    #expect(F64.max(F64(1), F64(.nan))[0].isNaN)
    #expect(F64.max(F64(.nan), F64(1))[0] == 1)
  }

  /// Every float16 widens exactly and comes back as itself; every NaN as the quiet one.
  @Test func everyFloat16() {
    for first in stride(from: 0, to: 0x10000, by: 16) {
      let bits = (0..<16).map { UInt16(first + $0) }
      let wide = bits.withUnsafeBufferPointer { HereOfTests.loadFloat16($0.baseAddress!) }
      var back = [UInt16](repeating: 0, count: 16)
      back.withUnsafeMutableBufferPointer { HereOfTests.storeFloat16(wide, $0.baseAddress!) }
      for lane in 0..<16 {
        let exact = float16(bits[lane])
        if exact.isNaN {
          #expect(wide[lane].isNaN && back[lane] & 0x7fff == 0x7e00)
        } else {
          #expect(wide[lane].bitPattern == exact.bitPattern && back[lane] == bits[lane])
        }
      }
    }
  }

  /// Halfway between two neighbours and one unit of float32 on each side of it.
  @Test func roundingToFloat16AndBFloat16() {
    for bits in stride(from: UInt16(0), to: 0x7bff, by: 7) {
      let (low, high) = (float16(bits), float16(bits + 1))
      let middle = (low + high) / 2
      let even = bits % 2 == 0 ? bits : bits + 1
      let pairs = [(middle.nextDown, bits), (middle, even), (middle.nextUp, bits + 1)]
      for (value, expected) in pairs {
        var out = [UInt16](repeating: 0, count: 16)
        out.withUnsafeMutableBufferPointer {
          HereOfTests.storeFloat16(SIMD16<Float>(repeating: value), $0.baseAddress!)
        }
        #expect(out[3] == expected, "\(value)")
      }
    }
    for bits in stride(from: UInt32(0), to: 0x7f7f, by: 7) {
      let middle = bits << 16 | 0x8000
      let even = bits % 2 == 0 ? bits : bits + 1
      for (value, expected) in [(middle - 1, bits), (middle, even), (middle + 1, bits + 1)] {
        var out = [UInt16](repeating: 0, count: 16)
        out.withUnsafeMutableBufferPointer {
          let v = SIMD16<Float>(repeating: Float(bitPattern: value))
          HereOfTests.storeBFloat16(v, $0.baseAddress!)
        }
        #expect(UInt32(out[3]) == expected, "\(value)")
      }
    }
  }
}

/// A float16 from its definition.
private func float16(_ bits: UInt16) -> Float {
  let exponent = Int(bits >> 10 & 31)
  let fraction = Float(bits & 1023)
  let sign: Float = bits & 0x8000 == 0 ? 1 : -1
  if exponent == 31 { return fraction == 0 ? sign * .infinity : .nan }
  if exponent == 0 { return sign * fraction * 0x1p-24 }
  return sign * Float(sign: .plus, exponent: exponent - 25, significand: fraction + 1024)
}
