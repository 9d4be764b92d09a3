// Single elements of a caller's tensor, for what is looked at one by one: indices, lengths, scores.
// Out of line: they are called from many places, and the library's size matters more there than a
// call.

import CSupport
import CSwiftmax

extension Tensor {
  /// The address of element `index` in C order.
  @inline(never) func place(_ index: Int64) -> UnsafeMutableRawPointer {
    var rest = index
    var offset: Int64 = 0
    var axis = rank - 1
    // One division an axis, and none for the first: they are most of the time of what looks at
    // every element.
    while axis >= 0 {
      let quotient = axis == 0 ? 0 : rest / length(axis)
      offset = offset &+ (rest &- quotient &* length(axis)) &* stride(axis)
      rest = quotient
      axis -= 1
    }
    return raw.pointee.data + Int(offset)
  }

  /// The number at `index` of an int32 or int64 tensor.
  @inline(never) func integer(_ index: Int64) -> Int64 { smxk_integer(dtype, place(index)) }

  /// The bytes from one element to the next along the last axis.
  var step: Int { Int(stride(rank - 1)) }

  /// The number at `index` of a tensor of floats.
  func number(_ index: Int64) -> Double { number(at: place(index)) }

  @inline(never) func number(at p: UnsafeRawPointer) -> Double {
    switch Int(dtype) {
    case SMX_FLOAT64: return p.loadUnaligned(as: Double.self)
    case SMX_FLOAT32: return Double(p.loadUnaligned(as: Float.self))
    case SMX_BFLOAT16:
      return Double(Float(bitPattern: UInt32(p.loadUnaligned(as: UInt16.self)) << 16))
    default:
      let bits = UInt32(p.loadUnaligned(as: UInt16.self))
      // The fields where float32 has them; its exponents begin 112 lower, and subnormal numbers
      // agree.
      let isFinite = bits & 0x7c00 != 0x7c00
      let magnitude =
        Float(bitPattern: (bits & 0x7fff) << 13 | (isFinite ? 0 : 0x7f80_0000))
        * (isFinite ? 0x1p112 : 1)
      return Double(bits & 0x8000 == 0 ? magnitude : -magnitude)
    }
  }

  /// Stores a number that the dtype, float32 or float64, holds.
  @inline(never) func store(_ value: Double, _ index: Int64) {
    if Int(dtype) == SMX_FLOAT64 {
      place(index).storeBytes(of: value, as: Double.self)
    } else {
      place(index).storeBytes(of: Float(value), as: Float.self)
    }
  }

  /// Stores 0, an infinity or a NaN of the dtype.
  @inline(never) func store(special value: Double, at p: UnsafeMutableRawPointer) {
    let single = Float(value)
    // bfloat16 is the upper half; of a float16 the exponent has 5 bits.
    let upper = UInt16(single.bitPattern >> 16)
    switch Int(dtype) {
    case SMX_FLOAT64: p.storeBytes(of: value, as: Double.self)
    case SMX_FLOAT32: p.storeBytes(of: single, as: Float.self)
    case SMX_BFLOAT16: p.storeBytes(of: upper, as: UInt16.self)
    default:
      let half: UInt16 = value == 0 ? 0 : value.isNaN ? 0x7e00 : 0x7c00
      p.storeBytes(of: upper & 0x8000 | half, as: UInt16.self)
    }
  }

  /// The index of each axis that element `index` in C order has, "[1, 2]".
  @inline(never) func add(_ index: Int64, to sentence: inout Sentence) {
    if rank == 0 { return }
    var count = self.count
    var rest = index
    sentence.add("[")
    for axis in 0..<rank {
      count /= length(axis)
      if axis > 0 { sentence.add(", ") }
      sentence.add(rest / count)
      rest %= count
    }
    sentence.add("]")
  }

  @inline(never) func requireIntegers() throws(Failure) {
    if Int(dtype) == SMX_INT32 || Int(dtype) == SMX_INT64 { return }
    throw failure(SMX_ERROR_DTYPE) {
      $0.add(name)
      $0.add(" has dtype ")
      $0.add(dtypeName(dtype))
      $0.add(", but must have int32 or int64")
    }
  }

  @inline(never) func requireFloats() throws(Failure) {
    if isFloat(dtype) { return }
    throw failure(SMX_ERROR_DTYPE) {
      $0.add(name)
      $0.add(" has dtype ")
      $0.add(dtypeName(dtype))
      $0.add(", but must have float16, bfloat16, float32 or float64")
    }
  }

  @inline(never) func requireRank(atLeast least: Int) throws(Failure) {
    if rank >= least { return }
    throw failure(SMX_ERROR_SHAPE) {
      $0.add(name)
      $0.add(" must have at least ")
      $0.add(Int64(least))
      $0.add(least == 1 ? " axis" : " axes")
      $0.add(", but has shape ")
      $0.add(shapeOf: raw)
    }
  }

  /// Requires the shape of another tensor's axes but the last `dropped`, followed by `own` axes of
  /// any length.
  @inline(never) func require(
    leadingOf other: Tensor, dropping dropped: Int, own: Int = 0, _ why: StaticString
  ) throws(Failure) {
    var fits = rank - own == other.rank - dropped
    if fits { for axis in 0..<rank - own { fits = fits && length(axis) == other.length(axis) } }
    if !fits { throw disagree(self, other, why) }
  }
}
