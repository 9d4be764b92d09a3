// Random numbers without a state: Philox4x32-10 of Salmon, Moraes, Dror and Shaw (2011).
//
// A number is a function of key and counter, so a row's draws depend on nothing but the row's own
// counter: not on the batch, the thread or what was drawn before.

import CSupport
import CSwiftmax

/// Four words, of a counter or of the result.
struct Words {
  var a: UInt32
  var b: UInt32
  var c: UInt32
  var d: UInt32

  /// Two numbers of 64 bits.
  var first: UInt64 { UInt64(a) | UInt64(b) &<< 32 }
  var second: UInt64 { UInt64(c) | UInt64(d) &<< 32 }

  /// This counter after ten rounds under a key.
  func philox(_ key: UInt64) -> Words {
    var w = self
    var k0 = UInt32(truncatingIfNeeded: key)
    var k1 = UInt32(truncatingIfNeeded: key &>> 32)
    for _ in 0..<10 {
      let p0 = UInt64(0xd251_1f53) &* UInt64(w.a)
      let p1 = UInt64(0xcd9e_8d57) &* UInt64(w.c)
      w = Words(
        a: UInt32(truncatingIfNeeded: p1 &>> 32) ^ w.b ^ k0, b: UInt32(truncatingIfNeeded: p1),
        c: UInt32(truncatingIfNeeded: p0 &>> 32) ^ w.d ^ k1, d: UInt32(truncatingIfNeeded: p0))
      // The golden ratio and sqrt(3) - 1, by which the key of each round differs.
      k0 = k0 &+ 0x9e37_79b9
      k1 = k1 &+ 0xbb67_ae85
    }
    return w
  }
}

/// The numbers of one row.
struct RowRandom {
  let seed: UInt64
  let counter: Int64
  let draw: Int64

  private func words(_ a: UInt64, _ b: UInt64) -> Words {
    let counter = UInt64(bitPattern: counter)
    return Words(
      a: UInt32(truncatingIfNeeded: a), b: UInt32(truncatingIfNeeded: b),
      c: UInt32(truncatingIfNeeded: counter),
      d: UInt32(truncatingIfNeeded: counter &>> 32)
    ).philox(seed)
  }

  /// For draw number draw + i.
  func ofDraw(_ i: Int64) -> UInt64 {
    let number = UInt64(bitPattern: draw &+ i)
    return words(number, number &>> 32).first
  }

  /// For the noise of elements 2·i and 2·i + 1.
  func ofElements(_ i: Int64) -> Words {
    words(UInt64(bitPattern: i), UInt64(bitPattern: draw) | 1 &<< 31)
  }
}

@implementation @_cdecl("smx_philox")
public func smx_philox(
  _ counter: UnsafePointer<UInt32>!, _ key: UnsafePointer<UInt32>!,
  _ out: UnsafeMutablePointer<UInt32>!
) -> smx_status {
  guard let counter, let key, let out else {
    return failure(SMX_ERROR_NULL, "counter, key and out of smx_philox must not be NULL").status
  }
  let words = Words(a: counter[0], b: counter[1], c: counter[2], d: counter[3])
    .philox(UInt64(key[0]) | UInt64(key[1]) &<< 32)
  out[0] = words.a
  out[1] = words.b
  out[2] = words.c
  out[3] = words.d
  return smx_status(SMX_OK)
}
