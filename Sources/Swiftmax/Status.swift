// Statuses and the sentence that goes with each: which argument, and which two things disagree.
//
// Sentences are built in the thread's own buffer of CSupport, so that an error can be reported even
// when memory is out.

import CSupport
import CSwiftmax

/// Writes a sentence piece by piece; what does not fit is cut.
struct Sentence {
  private let buffer = smxk_sentence()
  private var length = 0

  @inline(never) mutating func add(_ text: StaticString) {
    for i in 0..<text.utf8CodeUnitCount { append(CChar(bitPattern: text.utf8Start[i])) }
  }

  @inline(never) mutating func add(cString text: UnsafePointer<CChar>) {
    var p = text
    while p.pointee != 0 {
      append(p.pointee)
      p += 1
    }
  }

  @inline(never) mutating func add(_ number: Int64) {
    if number < 0 { append(45) }
    add(magnitude: number.magnitude)
  }

  /// A size_t, which Swift sees as Int.
  @inline(never) mutating func add(size: Int) { add(magnitude: UInt64(UInt(bitPattern: size))) }

  @inline(never) private mutating func add(magnitude: UInt64) {
    // The largest power of ten that is not above the magnitude, then digit by digit.
    var power: UInt64 = 1
    while magnitude / power >= 10 { power = power &* 10 }
    while power > 0 {
      append(CChar(48 &+ Int8(truncatingIfNeeded: magnitude / power % 10)))
      power /= 10
    }
  }

  /// (2, 3, 4)
  @inline(never) mutating func add(shape: UnsafePointer<Int64>?, _ count: Int) {
    append(40)
    for i in 0..<count {
      if i > 0 { add(", ") }
      add(shape![i])
    }
    if count == 1 { append(44) }
    append(41)
  }

  @inline(never) mutating func add(shapeOf tensor: UnsafePointer<smx_tensor>) {
    add(shape: tensor.pointee.shape, Int(tensor.pointee.ndim))
  }

  @inline(never) private mutating func append(_ character: CChar) {
    guard length < Int(SMXK_SENTENCE) - 1 else { return }
    buffer[length] = character
    length += 1
    buffer[length] = 0
  }
}

/// What a check throws: a status, its sentence already written.
struct Failure: Error {
  let status: smx_status
}

/// Writes the sentence and gives the failure.
func failure(_ status: Int, _ write: (inout Sentence) -> Void) -> Failure {
  var sentence = Sentence()
  write(&sentence)
  return Failure(status: smx_status(status))
}

func failure(_ status: Int, _ text: StaticString) -> Failure {
  failure(status) { $0.add(text) }
}

/// The same with the number that was given instead.
func failure(_ status: Int, _ text: StaticString, got number: Double) -> Failure {
  failure(status) {
    $0.add(text)
    $0.add(", but is ")
    $0.add(cString: smxk_decimal(number))
  }
}

func failure(_ status: Int, _ text: StaticString, got number: Int32) -> Failure {
  failure(status) {
    $0.add(text)
    $0.add(", but is ")
    $0.add(Int64(number))
  }
}

/// A struct that the caller may leave out.
func read<T>(_ given: UnsafePointer<T>?, or standard: T) throws(Failure) -> T {
  guard let given else { return standard }
  try requireSize(given)
  return given.pointee
}

/// Refuses a struct of another version of the header: each begins with its size.
func requireSize<T>(
  _ given: UnsafePointer<T>, _ name: StaticString = "options.size"
) throws(Failure) {
  let size = UnsafeRawPointer(given).loadUnaligned(as: Int.self)
  if size == MemoryLayout<T>.size { return }
  throw failure(SMX_ERROR_SIZE) {
    $0.add(name)
    $0.add(" is ")
    $0.add(size: size)
    $0.add(", but this version's struct has ")
    $0.add(Int64(MemoryLayout<T>.size))
    $0.add(" bytes")
  }
}

func dtypeName(_ dtype: smx_dtype) -> StaticString {
  switch Int(dtype) {
  case SMX_BOOL: return "bool"
  case SMX_INT32: return "int32"
  case SMX_INT64: return "int64"
  case SMX_FLOAT16: return "float16"
  case SMX_BFLOAT16: return "bfloat16"
  case SMX_FLOAT32: return "float32"
  case SMX_FLOAT64: return "float64"
  default: return "no dtype"
  }
}

func isFloat(_ dtype: smx_dtype) -> Bool { itemSize(dtype) > 0 && Int(dtype) >= SMX_FLOAT16 }

/// Bytes of one element; 0 for an unknown dtype.
func itemSize(_ dtype: smx_dtype) -> Int64 {
  switch Int(dtype) {
  case SMX_BOOL: return 1
  case SMX_FLOAT16, SMX_BFLOAT16: return 2
  case SMX_FLOAT32, SMX_INT32: return 4
  case SMX_FLOAT64, SMX_INT64: return 8
  default: return 0
  }
}
