// Numbers of any dtype, at equal distances in memory, as the kernels compute them, and back.

import CSupport

extension Kernels {
  /// How many of a row's weights are read at a time.
  static var weightsAtOnce: Int { @inline(__always) get { 64 } }

  @inline(never)
  static func readScalar(_ dtype: smx_dtype, _ p: UnsafeRawPointer) -> Double {
    switch Int(dtype) {
    case SMX_FLOAT64: return p.loadUnaligned(as: Double.self)
    case SMX_FLOAT32: return Double(p.loadUnaligned(as: Float.self))
    default:
      var half = SIMD16<UInt16>(repeating: p.loadUnaligned(as: UInt16.self))
      return withUnsafePointer(to: &half) {
        let q = UnsafeRawPointer($0).assumingMemoryBound(to: UInt16.self)
        return Double((Int(dtype) == SMX_FLOAT16 ? I.loadFloat16(q) : I.loadBFloat16(q))[0])
      }
    }
  }

  /// Rounds to the dtype; narrow types by way of float32.
  @inline(never)
  static func writeScalar(_ dtype: smx_dtype, _ p: UnsafeMutablePointer<CChar>, _ value: Double) {
    let raw = UnsafeMutableRawPointer(p)
    let value = value.isNaN ? Double.nan : value
    switch Int(dtype) {
    case SMX_FLOAT64: raw.storeBytes(of: value, as: Double.self)
    case SMX_FLOAT32: raw.storeBytes(of: Float(value), as: Float.self)
    default:
      var half = SIMD16<UInt16>(repeating: 0)
      let v = SIMD16<Float>(repeating: Float(value))
      withUnsafeMutablePointer(to: &half) {
        let q = UnsafeMutableRawPointer($0).assumingMemoryBound(to: UInt16.self)
        Int(dtype) == SMX_FLOAT16 ? I.storeFloat16(v, q) : I.storeBFloat16(v, q)
      }
      raw.storeBytes(of: half[0], as: UInt16.self)
    }
  }

  /// `length` numbers of L.Scalar from places so many bytes apart to others.
  @inline(__always)
  private static func move<L: Lanes>(
    _: L.Type, _ from: UnsafeRawPointer, _ fromStride: Int, _ to: UnsafeMutableRawPointer,
    _ toStride: Int, _ length: Int
  ) {
    let size = MemoryLayout<L.Scalar>.stride
    var j = 0
    while fromStride == size && toStride == size && j &+ L.count <= length {
      Own<L>.store(Own<L>.load(from, j), to, j)
      j = j &+ L.count
    }
    while j < length {
      (to + j &* toStride).storeBytes(
        of: (from + j &* fromStride).loadUnaligned(as: L.Scalar.self), as: L.Scalar.self)
      j = j &+ 1
    }
  }

  /// `length` numbers of a dtype, `stride` bytes apart, as L.Scalar.
  @inline(never)
  static func read<L: Lanes>(
    _: L.Type, _ dtype: smx_dtype, _ p: UnsafeRawPointer, _ stride: Int,
    _ to: UnsafeMutablePointer<L.Scalar>, _ length: Int
  ) {
    if isOwn(L.self, dtype) {
      move(L.self, p, stride, UnsafeMutableRawPointer(to), MemoryLayout<L.Scalar>.stride, length)
      return
    }
    // Only float32 lanes hold narrow types.
    if L.count != 16 { return }
    let out = UnsafeMutableRawPointer(to).assumingMemoryBound(to: Float.self)
    readNarrow(dtype, p, stride, length) { j, v, n in
      for lane in 0..<n { out[j &+ lane] = v[lane] }
    } whole: { j, v in
      UnsafeMutableRawPointer(out + j).storeBytes(of: v, as: SIMD16<Float>.self)
    }
  }

  /// `length` numbers of any dtype, `stride` bytes apart, as float64.
  @inline(never)
  static func readNumbers(
    _ dtype: smx_dtype, _ p: UnsafeRawPointer, _ stride: Int, _ length: Int,
    _ to: UnsafeMutablePointer<Double>
  ) {
    switch Int(dtype) {
    case SMX_FLOAT64: read(F64.self, dtype, p, stride, to, length)
    case SMX_FLOAT32:
      var j = 0
      while stride == 4 && j &+ 8 <= length {
        F64(v: I.widen((p + 4 &* j).loadUnaligned(as: SIMD8<Float>.self))).store(at: to + j)
        j = j &+ 8
      }
      while j < length {
        to[j] = Double((p + j &* stride).loadUnaligned(as: Float.self))
        j = j &+ 1
      }
    default:
      readNarrow(dtype, p, stride, length) { j, v, n in
        for lane in 0..<n { to[j &+ lane] = Double(v[lane]) }
      } whole: { j, v in
        F32(v: v).eight.store(at: to + j)
        F32(v: v).upperEight.store(at: to + (j &+ 8))
      }
    }
  }

  /// The numbers where they lie, or in `room` if not as L.Scalar one after the other.
  @inline(__always)
  static func place<L: Lanes>(
    _: L.Type, _ dtype: smx_dtype, _ p: UnsafeRawPointer, _ stride: Int,
    _ room: UnsafeMutablePointer<L.Scalar>,
    _ length: Int
  ) -> UnsafePointer<L.Scalar> {
    if isOwn(L.self, dtype) && stride == MemoryLayout<L.Scalar>.stride {
      return p.assumingMemoryBound(to: L.Scalar.self)
    }
    read(L.self, dtype, p, stride, room, length)
    return UnsafePointer(room)
  }

  /// Whether a dtype is the one that the lanes compute in.
  @inline(__always) static func isOwn<L: Lanes>(_: L.Type, _ dtype: smx_dtype) -> Bool {
    Int(dtype) == (L.count == 16 ? SMX_FLOAT32 : SMX_FLOAT64)
  }

  /// float16 or bfloat16, sixteen at a time: `whole` for full vectors, `part` for the rest.
  @inline(__always)
  static func readNarrow(
    _ dtype: smx_dtype, _ p: UnsafeRawPointer, _ stride: Int, _ length: Int,
    part: (Int, SIMD16<Float>, Int) -> Void, whole: (Int, SIMD16<Float>) -> Void
  ) {
    let isHalf = Int(dtype) == SMX_FLOAT16
    var j = 0
    if stride == 2 {
      let q = p.assumingMemoryBound(to: UInt16.self)
      while j &+ 16 <= length {
        whole(j, isHalf ? I.loadFloat16(q + j) : I.loadBFloat16(q + j))
        j = j &+ 16
      }
    }
    while j < length {
      let n = Swift.min(16, length &- j)
      var bits = SIMD16<UInt16>(repeating: 0)
      for lane in 0..<n {
        bits[lane] = (p + (j &+ lane) &* stride).loadUnaligned(as: UInt16.self)
      }
      withUnsafePointer(to: &bits) {
        let q = UnsafeRawPointer($0).assumingMemoryBound(to: UInt16.self)
        part(j, isHalf ? I.loadFloat16(q) : I.loadBFloat16(q), n)
      }
      j = j &+ n
    }
  }

  /// `length` numbers to a dtype, `stride` bytes apart.
  @inline(never)
  static func write<L: Lanes>(
    _: L.Type, _ dtype: smx_dtype, _ p: UnsafeMutableRawPointer, _ stride: Int,
    _ from: UnsafePointer<L.Scalar>, _ length: Int
  ) {
    if isOwn(L.self, dtype) {
      move(L.self, UnsafeRawPointer(from), MemoryLayout<L.Scalar>.stride, p, stride, length)
      return
    }
    if L.count != 16 { return }
    let floats = UnsafeRawPointer(from).assumingMemoryBound(to: Float.self)
    let isHalf = Int(dtype) == SMX_FLOAT16
    var j = 0
    while j < length {
      let n = Swift.min(16, length &- j)
      let loaded = I.load(floats + j, from: 0, to: n, fill: 0)
      let v = I.pick(loaded, equalTo: loaded, loaded, SIMD16<Float>(repeating: .nan))
      if n == 16 && stride == 2 {
        let q = (p + 2 &* j).assumingMemoryBound(to: UInt16.self)
        isHalf ? I.storeFloat16(v, q) : I.storeBFloat16(v, q)
      } else {
        var bits = SIMD16<UInt16>(repeating: 0)
        withUnsafeMutablePointer(to: &bits) {
          let q = UnsafeMutableRawPointer($0).assumingMemoryBound(to: UInt16.self)
          isHalf ? I.storeFloat16(v, q) : I.storeBFloat16(v, q)
        }
        for lane in 0..<n {
          (p + (j &+ lane) &* stride).storeBytes(of: bits[lane], as: UInt16.self)
        }
      }
      j = j &+ n
    }
  }
}
