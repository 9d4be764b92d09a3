// Checks of structured masks and temperatures: everything that a kernel will read as a number.

import CSupport
import CSwiftmax

/// Conditions that one list may hold; a longer one is taken for a cycle.
private let longestList = 64

/// Checks a structure against the scores x, whose last two axes are queries and keys.
func checkStructure(_ structure: UnsafePointer<smx_mask>?, _ x: Tensor) throws(Failure) {
  var condition = structure
  var length = 0
  while let c = condition {
    length += 1
    if length > longestList {
      throw failure(SMX_ERROR_VALUE, "structure is a list of more than 64 conditions, or a cycle")
    }
    try requireSize(c, "structure.size")
    if x.rank < 2 {
      throw failure(SMX_ERROR_SHAPE) {
        $0.add("structure needs queries and keys as the last two axes, but ")
        $0.add(x.name)
        $0.add(" has shape ")
        $0.add(shapeOf: x.raw)
      }
    }
    try checkCondition(c, x)
    condition = c.pointee.also
  }
}

private func checkCondition(_ c: UnsafePointer<smx_mask>, _ x: Tensor) throws(Failure) {
  let queries = x.length(x.rank - 2)
  let keys = x.length(x.rank - 1)
  if c.pointee.window != 0 && (c.pointee.window_left < -1 || c.pointee.window_right < -1) {
    throw failure(SMX_ERROR_VALUE) {
      $0.add("window_left and window_right must be -1 or more, but are ")
      $0.add(c.pointee.window_left)
      $0.add(" and ")
      $0.add(c.pointee.window_right)
    }
  }
  _ = try integers(c.pointee.query_offset, "query_offset", x)
  if let lengths = try integers(c.pointee.key_lengths, "key_lengths", x) {
    try requireRange(lengths, 0, keys, "keys")
  }
  if let lengths = try integers(c.pointee.query_lengths, "query_lengths", x) {
    try requireRange(lengths, 0, queries, "queries")
  }
  let ofQueries = try integers(c.pointee.query_segments, "query_segments", x, last: queries)
  let ofKeys = try integers(c.pointee.key_segments, "key_segments", x, last: keys)
  if (ofQueries == nil) != (ofKeys == nil) {
    throw failure(SMX_ERROR_NULL, "query_segments and key_segments must be given together")
  }
}

/// An integer tensor over the leading axes of x, with `last` over one axis more.
private func integers(
  _ raw: UnsafePointer<smx_tensor>?, _ name: StaticString, _ x: Tensor, last: Int64? = nil
) throws(Failure) -> Tensor? {
  guard let tensor = try Tensor.optional(raw, name) else { return nil }
  try tensor.requireIntegers()
  let leading = last == nil ? tensor.rank : tensor.rank - 1
  var fits = leading >= 0 && leading <= x.rank - 2
  if fits {
    for axis in 0..<leading {
      fits = fits && (tensor.length(axis) == x.length(axis))
    }
    if let last { fits = fits && tensor.length(leading) == last }
  }
  if !fits {
    throw failure(SMX_ERROR_SHAPE) {
      $0.add(name)
      $0.add(" of shape ")
      $0.add(shapeOf: tensor.raw)
      $0.add(last == nil ? " is not a number for each of" : " is not a row of ids for each of")
      $0.add(" the leading axes of ")
      $0.add(x.name)
      $0.add(" of shape ")
      $0.add(shapeOf: x.raw)
    }
  }
  if tensor.rank > 0 && tensor.raw.pointee.strides == nil {
    throw failure(SMX_ERROR_NULL) {
      $0.add(name)
      $0.add(".strides is NULL: inside a structure strides must be given")
    }
  }
  return tensor
}

/// Calls body with the address of each element.
func forEach(
  _ tensor: Tensor, _ body: (UnsafeRawPointer) throws(Failure) -> Void
) throws(Failure) {
  let run = tensor.rank == 0 ? 1 : tensor.length(tensor.rank - 1)
  let step = tensor.rank == 0 ? 0 : Int(tensor.stride(tensor.rank - 1))
  var i: Int64 = 0
  while i < tensor.count {
    var p = UnsafeRawPointer(tensor.place(i))
    for _ in 0..<run {
      try body(p)
      p += step
    }
    i += run
  }
}

/// Makes each element 0, byte by byte.
func clear(_ tensor: Tensor?) throws(Failure) {
  guard let tensor else { return }
  try forEach(tensor) { (p) throws(Failure) in
    let p = UnsafeMutableRawPointer(mutating: p)
    for i in 0..<Int(itemSize(tensor.dtype)) {
      p.storeBytes(of: 0, toByteOffset: i, as: UInt8.self)
    }
  }
}

private func requireRange(
  _ tensor: Tensor, _ least: Int64, _ most: Int64, _ what: StaticString
) throws(Failure) {
  try forEach(tensor) { (p) throws(Failure) in
    let value = smxk_integer(tensor.dtype, p)
    if value >= least && value <= most { return }
    throw failure(SMX_ERROR_VALUE) {
      $0.add(tensor.name)
      $0.add(" holds ")
      $0.add(value)
      $0.add(", but there are ")
      $0.add(most)
      $0.add(" ")
      $0.add(what)
    }
  }
}

/// Temperatures are float and none is negative or NaN.
func requireTemperatures(_ tensor: Tensor) throws(Failure) {
  if !isFloat(tensor.dtype) {
    throw failure(SMX_ERROR_DTYPE) {
      $0.add("temperature has dtype ")
      $0.add(dtypeName(tensor.dtype))
      $0.add(", but must have a float dtype")
    }
  }
  for i in 0..<tensor.count where !(tensor.number(i) >= 0) {
    throw failure(SMX_ERROR_VALUE) {
      $0.add("temperature must be 0 or more, not negative or NaN, but holds ")
      $0.add(cString: smxk_decimal(tensor.number(i)))
    }
  }
}
