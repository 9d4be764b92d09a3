// How a row's numbers lie in memory: as the lanes compute them, or narrower.

import CSupport

/// Vectors of L to and from contiguous memory. `i` counts elements.
protocol Format {
  associatedtype L: Lanes
  /// Bytes of an element.
  static var size: Int { get }
  static func load(_ p: UnsafeRawPointer, _ i: Int) -> L
  /// Lanes first..<last, `fill` in the others, whose memory is not touched.
  static func load(_ p: UnsafeRawPointer, _ i: Int, _ first: Int, _ last: Int, fill: L.Scalar) -> L
  /// Rounds to nearest even where the format is narrower.
  static func store(_ v: L, _ p: UnsafeMutableRawPointer, _ i: Int)
  /// Past the caches, to where a vector is aligned; of narrow formats through them (Run.swift).
  static func stream(_ v: L, _ p: UnsafeMutableRawPointer, _ i: Int)
  static func store(_ v: L, _ p: UnsafeMutableRawPointer, _ i: Int, _ first: Int, _ last: Int)
}

/// Sixteen numbers of two bytes as float32, and back.
protocol Conversion {
  static func load(_ p: UnsafePointer<UInt16>) -> SIMD16<Float>
  static func store(_ v: SIMD16<Float>, _ p: UnsafeMutablePointer<UInt16>)
  /// Whether `part` costs less than `load`.
  static var partsAreCheap: Bool { get }
  /// The lower or the upper half of each 32-bit word.
  static func part(_ words: SIMD16<Float>, upper: Bool) -> SIMD16<Float>
}

extension Kernels {
  /// The lanes' own type.
  enum Own<L: Lanes>: Format {
    static var size: Int { @inline(__always) get { MemoryLayout<L.Scalar>.stride } }
    @inline(__always) static func load(_ p: UnsafeRawPointer, _ i: Int) -> L {
      L(at: p.assumingMemoryBound(to: L.Scalar.self) + i)
    }
    @inline(__always)
    static func load(
      _ p: UnsafeRawPointer, _ i: Int, _ first: Int, _ last: Int, fill: L.Scalar
    ) -> L {
      L(at: p.assumingMemoryBound(to: L.Scalar.self) + i, from: first, to: last, fill: fill)
    }
    @inline(__always) static func store(_ v: L, _ p: UnsafeMutableRawPointer, _ i: Int) {
      v.store(at: p.assumingMemoryBound(to: L.Scalar.self) + i)
    }
    @inline(__always) static func stream(_ v: L, _ p: UnsafeMutableRawPointer, _ i: Int) {
      v.stream(at: p.assumingMemoryBound(to: L.Scalar.self) + i)
    }
    @inline(__always)
    static func store(_ v: L, _ p: UnsafeMutableRawPointer, _ i: Int, _ first: Int, _ last: Int) {
      v.store(at: p.assumingMemoryBound(to: L.Scalar.self) + i, from: first, to: last)
    }
  }

  /// float16 or bfloat16, by C.
  enum Narrow<C: Conversion>: Format {
    typealias L = F32
    static var size: Int { @inline(__always) get { 2 } }
    @inline(__always) static func load(_ p: UnsafeRawPointer, _ i: Int) -> F32 {
      F32(v: C.load(p.assumingMemoryBound(to: UInt16.self) + i))
    }
    @inline(__always)
    static func load(
      _ p: UnsafeRawPointer, _ i: Int, _ first: Int, _ last: Int, fill: Float
    ) -> F32 {
      var bits = I.load(p + 2 &* i, from: first, to: last)
      let v = withUnsafePointer(to: &bits) { load(UnsafeRawPointer($0), 0) }
      return F32(v: I.fill(v.v, from: first, to: last, fill))
    }
    @inline(__always) static func store(_ v: F32, _ p: UnsafeMutableRawPointer, _ i: Int) {
      C.store(v.v, p.assumingMemoryBound(to: UInt16.self) + i)
    }
    @inline(__always) static func stream(
      _ v: F32, _ p: UnsafeMutableRawPointer, _ i: Int
    ) {
      store(v, p, i)
    }
    @inline(__always)
    static func store(_ v: F32, _ p: UnsafeMutableRawPointer, _ i: Int, _ first: Int, _ last: Int) {
      var bits = SIMD16<UInt16>(repeating: 0)
      withUnsafeMutablePointer(to: &bits) { store(v, UnsafeMutableRawPointer($0), 0) }
      I.store(bits, p + 2 &* i, from: first, to: last)
    }
  }

  enum Float16: Conversion {
    static var partsAreCheap: Bool { @inline(__always) get { false } }
    @inline(__always) static func load(_ p: UnsafePointer<UInt16>) -> SIMD16<Float> {
      I.loadFloat16(p)
    }
    @inline(__always) static func store(_ v: SIMD16<Float>, _ p: UnsafeMutablePointer<UInt16>) {
      I.storeFloat16(v, p)
    }
    @inline(__always) static func part(_ words: SIMD16<Float>, upper: Bool) -> SIMD16<Float> {
      I.halvesFloat16(words, upper: upper)
    }
  }

  enum BFloat16: Conversion {
    static var partsAreCheap: Bool { @inline(__always) get { true } }
    @inline(__always) static func load(_ p: UnsafePointer<UInt16>) -> SIMD16<Float> {
      I.loadBFloat16(p)
    }
    @inline(__always) static func store(_ v: SIMD16<Float>, _ p: UnsafeMutablePointer<UInt16>) {
      I.storeBFloat16(v, p)
    }
    @inline(__always) static func part(_ words: SIMD16<Float>, upper: Bool) -> SIMD16<Float> {
      let bits = unsafeBitCast(words, to: SIMD16<UInt32>.self)
      return unsafeBitCast(upper ? bits & 0xffff_0000 : bits &<< 16, to: SIMD16<Float>.self)
    }
  }
}
