// What a kernel asks of an instruction set: only the operations that Swift does not lower well.
//
// Every kernel is a static member of `Kernels<I>`. Each ISA target instantiates it with a marker of
// its own, so that the symbols of two instruction sets can never be taken for one another; a free
// function or an extension of SIMD16 would be one weak symbol for all of them.

import CSupport

/// The operations of CSupport's lanes.h and narrow.h, as a marker type passes them on. None of them
/// may round differently from one instruction set to the next.
public protocol ISA {
  /// Whether the registers hold four vectors of a chain at a time (Pair.swift).
  static var interleaves: Bool { get }
  /// Whether the common rows have passes of their own (PlainRows.swift, Columns.swift). Where fma
  /// is a call of some tens of operations they would double the code for a small gain.
  static var hasFastPaths: Bool { get }
  /// Whether a tile of attention is three vectors wide (TileProduct.swift).
  static var hasWideTiles: Bool { get }
  /// Whether a vector times powers of two, whatever they are, is one operation (SumExp.swift).
  static var scalesByPowers: Bool { get }
  static func fma(_ a: SIMD16<Float>, _ b: SIMD16<Float>, _ c: SIMD16<Float>) -> SIMD16<Float>
  static func fma(_ a: SIMD8<Double>, _ b: SIMD8<Double>, _ c: SIMD8<Double>) -> SIMD8<Double>
  /// a·b + c, or 0 in lanes where x < bound.
  static func fma(
    _ a: SIMD16<Float>, _ b: SIMD16<Float>, _ c: SIMD16<Float>, unless x: SIMD16<Float>,
    lessThan bound: SIMD16<Float>
  ) -> SIMD16<Float>
  static func fma(
    _ a: SIMD8<Double>, _ b: SIMD8<Double>, _ c: SIMD8<Double>, unless x: SIMD8<Double>,
    lessThan bound: SIMD8<Double>
  ) -> SIMD8<Double>
  static func max(_ a: SIMD16<Float>, _ b: SIMD16<Float>) -> SIMD16<Float>
  static func pick(
    _ a: SIMD16<Float>, lessThan b: SIMD16<Float>, _ yes: SIMD16<Float>, _ no: SIMD16<Float>
  ) -> SIMD16<Float>
  static func pick(
    _ a: SIMD16<Float>, equalTo b: SIMD16<Float>, _ yes: SIMD16<Float>, _ no: SIMD16<Float>
  ) -> SIMD16<Float>
  static func max(_ a: SIMD8<Double>, _ b: SIMD8<Double>) -> SIMD8<Double>
  static func pick(
    _ a: SIMD8<Double>, lessThan b: SIMD8<Double>, _ yes: SIMD8<Double>, _ no: SIMD8<Double>
  ) -> SIMD8<Double>
  static func pick(
    _ a: SIMD8<Double>, equalTo b: SIMD8<Double>, _ yes: SIMD8<Double>, _ no: SIMD8<Double>
  ) -> SIMD8<Double>
  /// A bit for each lane that is not <= bound, a NaN among them.
  static func above(_ v: SIMD16<Float>, _ bound: SIMD16<Float>) -> UInt32
  static func above(_ v: SIMD8<Double>, _ bound: SIMD8<Double>) -> UInt32
  static func whole(_ v: SIMD16<Float>) -> SIMD16<Float>
  static func widen(_ v: SIMD8<Float>) -> SIMD8<Double>
  static func narrow(_ v: SIMD8<Double>) -> SIMD8<Float>
  static func floor(_ v: SIMD16<Float>) -> SIMD16<Float>
  static func floor(_ v: SIMD8<Double>) -> SIMD8<Double>
  static func rest(_ v: SIMD16<Float>) -> SIMD16<Float>
  static func rest(_ v: SIMD8<Double>) -> SIMD8<Double>
  static func scaled(_ p: SIMD16<Float>, _ n: SIMD16<Float>, from d: SIMD16<Float>) -> SIMD16<Float>
  static func scaled(_ p: SIMD8<Double>, _ n: SIMD8<Double>, from d: SIMD8<Double>) -> SIMD8<Double>
  static func scaled(
    _ p: SIMD16<Float>, _ n: SIMD16<Float>, from d: SIMD16<Float>, least: Float
  ) -> SIMD16<Float>
  static func scaled(
    _ p: SIMD8<Double>, _ n: SIMD8<Double>, from d: SIMD8<Double>, least: Double
  ) -> SIMD8<Double>
  static func turn(_ v: SIMD16<Float>, by n: Int) -> SIMD16<Float>
  static func turn(_ v: SIMD8<Double>, by n: Int) -> SIMD8<Double>
  static func zipLower(_ a: SIMD16<Float>, _ b: SIMD16<Float>) -> SIMD16<Float>
  static func zipUpper(_ a: SIMD16<Float>, _ b: SIMD16<Float>) -> SIMD16<Float>
  static func largest(_ v: SIMD16<Float>) -> Float
  static func weaveLower(_ a: SIMD16<Float>, _ b: SIMD16<Float>) -> SIMD16<Float>
  static func weaveUpper(_ a: SIMD16<Float>, _ b: SIMD16<Float>) -> SIMD16<Float>
  static func weaveLower(_ a: SIMD8<Double>, _ b: SIMD8<Double>) -> SIMD8<Double>
  static func weaveUpper(_ a: SIMD8<Double>, _ b: SIMD8<Double>) -> SIMD8<Double>
  static func largest(_ v: SIMD8<Double>) -> Double
  static func total(_ high: SIMD16<Float>, _ low: SIMD16<Float>, origin: Float) -> smxk_pair
  static func total(_ high: SIMD8<Double>, _ low: SIMD8<Double>, origin: Double) -> smxk_pair
  static func load(_ p: UnsafePointer<Float>, from: Int, to: Int, fill: Float) -> SIMD16<Float>
  static func load(_ p: UnsafePointer<Double>, from: Int, to: Int, fill: Double) -> SIMD8<Double>
  static func store(_ v: SIMD16<Float>, _ p: UnsafeMutablePointer<Float>, from: Int, to: Int)
  static func store(_ v: SIMD8<Double>, _ p: UnsafeMutablePointer<Double>, from: Int, to: Int)
  /// Sixteen numbers of two bytes, lanes from..<to of which are in memory.
  static func load(_ p: UnsafeRawPointer, from: Int, to: Int) -> SIMD16<UInt16>
  static func store(_ v: SIMD16<UInt16>, _ p: UnsafeMutableRawPointer, from: Int, to: Int)
  /// `fill` in the lanes outside from..<to.
  static func fill(_ v: SIMD16<Float>, from: Int, to: Int, _ fill: Float) -> SIMD16<Float>
  /// Past the caches, to where p is aligned to the vector; the fence comes before another thread is
  /// told.
  static func stream(_ v: SIMD16<Float>, _ p: UnsafeMutablePointer<Float>)
  static func stream(_ v: SIMD8<Double>, _ p: UnsafeMutablePointer<Double>)
  static func streamFence()
  static func prefetchRead(_ p: UnsafeRawPointer)
  static func prefetchAhead(_ p: UnsafeRawPointer)
  static func prefetchWrite(_ p: UnsafeRawPointer)
  /// 16 bytes from each of four places.
  static func loadQuarters(
    _ p: UnsafeRawPointer, _ q: UnsafeRawPointer, _ r: UnsafeRawPointer, _ s: UnsafeRawPointer
  ) -> SIMD16<Float>
  static func loadQuarters(
    _ p: UnsafeRawPointer, _ q: UnsafeRawPointer, _ r: UnsafeRawPointer, _ s: UnsafeRawPointer
  ) -> SIMD8<Double>
  static func loadBytes(_ p: UnsafeRawPointer) -> SIMD16<Float>
  static func loadBytes(_ p: UnsafeRawPointer) -> SIMD8<Double>
  static func loadFloat16(_ p: UnsafePointer<UInt16>) -> SIMD16<Float>
  static func loadBFloat16(_ p: UnsafePointer<UInt16>) -> SIMD16<Float>
  static func halvesFloat16(_ words: SIMD16<Float>, upper: Bool) -> SIMD16<Float>
  static func storeFloat16(_ v: SIMD16<Float>, _ p: UnsafeMutablePointer<UInt16>)
  static func storeBFloat16(_ v: SIMD16<Float>, _ p: UnsafeMutablePointer<UInt16>)
}

/// The namespace of all kernels for one instruction set.
public enum Kernels<I: ISA> {}
