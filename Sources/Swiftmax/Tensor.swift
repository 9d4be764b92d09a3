// Looking at a caller's tensor: is it whole, how large, and how does it lie against another's axes.

import CSupport
import CSwiftmax

/// A tensor of the caller's, known to be whole.
struct Tensor {
  let name: StaticString
  let raw: UnsafePointer<smx_tensor>
  /// Number of elements.
  let count: Int64

  var dtype: smx_dtype { raw.pointee.dtype }
  var rank: Int { Int(raw.pointee.ndim) }
  func length(_ axis: Int) -> Int64 { raw.pointee.shape[axis] }

  /// Byte stride of an axis; C order where the caller gave no strides.
  func stride(_ axis: Int) -> Int64 {
    if let strides = raw.pointee.strides { return strides[axis] }
    var stride = itemSize(dtype)
    var i = rank - 1
    while i > axis {
      stride = stride &* length(i)
      i -= 1
    }
    return stride
  }

  /// Checks pointer, rank, dtype, lengths and size.
  init(_ raw: UnsafePointer<smx_tensor>?, _ name: StaticString) throws(Failure) {
    guard let raw else {
      throw failure(SMX_ERROR_NULL) {
        $0.add(name)
        $0.add(" is NULL")
      }
    }
    let tensor = raw.pointee
    let size = itemSize(tensor.dtype)
    if size == 0 {
      throw failure(SMX_ERROR_DTYPE) {
        $0.add(name)
        $0.add(" has dtype ")
        $0.add(Int64(tensor.dtype))
        $0.add(", which is none of smx_dtype")
      }
    }
    if tensor.ndim < 0 || tensor.ndim > Int32(SMX_MAX_DIMS) {
      throw failure(SMX_ERROR_SHAPE) {
        $0.add(name)
        $0.add(" has ")
        $0.add(Int64(tensor.ndim))
        $0.add(" axes, but must have from 0 to ")
        $0.add(Int64(SMX_MAX_DIMS))
      }
    }
    if tensor.ndim > 0 && tensor.shape == nil {
      throw failure(SMX_ERROR_NULL) {
        $0.add(name)
        $0.add(".shape is NULL")
      }
    }
    var count: Int64 = 1
    var isTooLarge = false
    var isEmpty = false
    for axis in 0..<Int(tensor.ndim) {
      let length = tensor.shape[axis]
      if length < 0 {
        throw failure(SMX_ERROR_SHAPE) {
          $0.add(name)
          $0.add(" has a negative length: ")
          $0.add(shapeOf: raw)
        }
      }
      if length == 0 { isEmpty = true }
      let (product, overflow) = count.multipliedReportingOverflow(by: max(length, 1))
      isTooLarge = isTooLarge || overflow
      count = product
    }
    if isTooLarge || count > Int64.max / 16 {
      throw failure(SMX_ERROR_OVERFLOW) {
        $0.add(name)
        $0.add(" of shape ")
        $0.add(shapeOf: raw)
        $0.add(" is larger than memory can be")
      }
    }
    self.name = name
    self.raw = raw
    self.count = isEmpty ? 0 : count
    if tensor.data == nil && self.count > 0 {
      throw failure(SMX_ERROR_NULL) {
        $0.add(name)
        $0.add(".data is NULL, but its shape is ")
        $0.add(shapeOf: raw)
      }
    }
  }

  /// A shape, known to be one, whose memory is of no account: for scores, which exist only tile by
  /// tile, and noise.
  init(shapeOnly raw: UnsafePointer<smx_tensor>, _ name: StaticString) {
    self.name = name
    self.raw = raw
    count = 0
  }

  /// As above, nil for a NULL of an optional argument.
  static func optional(
    _ raw: UnsafePointer<smx_tensor>?, _ name: StaticString
  ) throws(Failure) -> Tensor? {
    raw == nil ? nil : try Tensor(raw, name)
  }

  func require(dtype expected: smx_dtype) throws(Failure) {
    if dtype == expected { return }
    throw failure(SMX_ERROR_DTYPE) {
      $0.add(name)
      $0.add(" has dtype ")
      $0.add(dtypeName(dtype))
      $0.add(", but must have ")
      $0.add(dtypeName(expected))
    }
  }

  func requireShape(of other: Tensor) throws(Failure) {
    var fits = rank == other.rank
    if fits { for axis in 0..<rank { fits = fits && length(axis) == other.length(axis) } }
    if !fits { throw disagree(self, other, " must have the shape of ") }
  }

  /// Stride against axis `axis` of a tensor of `rank` axes under the broadcasting rules of NumPy,
  /// which `requireBroadcast` has checked.
  func broadcastStride(_ axis: Int, rank target: Int) -> Int64 {
    let own = axis - (target - rank)
    return own < 0 || length(own) == 1 ? 0 : stride(own)
  }

  func requireBroadcast(to target: Tensor) throws(Failure) {
    var fits = rank <= target.rank
    if fits {
      for axis in 0..<rank {
        let length = length(axis)
        fits = fits && (length == 1 || length == target.length(axis + target.rank - rank))
      }
    }
    if fits { return }
    throw failure(SMX_ERROR_SHAPE) {
      $0.add(name)
      $0.add(" of shape ")
      $0.add(shapeOf: raw)
      $0.add(" does not broadcast to ")
      $0.add(target.name)
      $0.add(" of shape ")
      $0.add(shapeOf: target.raw)
    }
  }

  // -- memory -------------------------------------------------------------------------------------

  /// The bytes from the lowest to behind the highest element, and whether elements fill them.
  func extent() -> (lower: Int, upper: Int, isDense: Bool) {
    if count == 0 { return (0, 0, false) }
    var lower: Int64 = 0
    var upper = itemSize(dtype)
    var bytes = upper
    for axis in 0..<rank {
      let reach = stride(axis) &* (length(axis) - 1)
      if reach < 0 { lower = lower &+ reach } else { upper = upper &+ reach }
      // Along a broadcast axis elements are the same ones.
      if stride(axis) != 0 { bytes = bytes &* length(axis) }
    }
    let base = Int64(Int(bitPattern: raw.pointee.data))
    return (Int(base &+ lower), Int(base &+ upper), upper &- lower == bytes)
  }

  /// Whether both lie in the same places element for element.
  func isSame(as other: Tensor) -> Bool {
    guard raw.pointee.data == other.raw.pointee.data, dtype == other.dtype, rank == other.rank
    else { return false }
    for axis in 0..<rank {
      if length(axis) != other.length(axis)
        || (length(axis) > 1 && stride(axis) != other.stride(axis))
      {
        return false
      }
    }
    return true
  }

  /// Refuses an output that shares memory with an input other than by being the same tensor: their
  /// first elements are one, or one lies within the other's range and elements fill a range. Views
  /// that interleave are let through; that they do not touch is the caller's promise.
  func requireDistinct(from input: Tensor?, orSame: Bool = true) throws(Failure) {
    guard let input, !(orSame && isSame(as: input)) else { return }
    let own = extent()
    let other = input.extent()
    guard own.lower < other.upper, other.lower < own.upper,
      own.isDense || other.isDense || raw.pointee.data == input.raw.pointee.data
    else { return }
    throw failure(SMX_ERROR_OVERLAP) {
      $0.add(name)
      $0.add(" of shape ")
      $0.add(shapeOf: raw)
      $0.add(" overlaps ")
      $0.add(input.name)
      $0.add(" of shape ")
      $0.add(shapeOf: input.raw)
      if orSame { $0.add(" without being the same tensor") }
    }
  }

  /// Refuses an output that shares memory with a tensor of a structure, which `checkStructure` has
  /// checked.
  func requireDistinct(fromThoseOf structure: UnsafePointer<smx_mask>?) throws(Failure) {
    try forEachTensor(of: structure) { (input) throws(Failure) in
      try requireDistinct(from: input, orSame: false)
    }
  }

  /// Refuses an output in which two elements share a place, along one axis or two.
  func requireOwnPlaces() throws(Failure) {
    if count == 0 { return }
    for axis in 0..<rank where length(axis) > 1 {
      let step = stride(axis).magnitude
      if step == 0 {
        throw failure(SMX_ERROR_OVERLAP) {
          $0.add(name)
          $0.add(" has stride 0 along axis ")
          $0.add(Int64(axis))
          $0.add(" of length ")
          $0.add(length(axis))
          $0.add(": its elements share one place")
        }
      }
      if step < itemSize(dtype) { throw sharedPlaces(axis, axis) }
      for other in 0..<axis where length(other) > 1 {
        let (large, small) = stride(other).magnitude < step ? (axis, other) : (other, axis)
        if meets(large, small) { throw sharedPlaces(other, axis) }
      }
    }
  }

  /// Whether some steps along one axis lead to where steps along another do, whose stride is no
  /// larger. Of strides that meet after a million steps only, it is not told.
  private func meets(_ large: Int, _ small: Int) -> Bool {
    let size = Int64(itemSize(dtype))
    let step = Int64(stride(small).magnitude)
    let most = length(small) - 1
    var reach = Int64(stride(large).magnitude)
    var count: Int64 = 1
    while count < min(length(large), 1 << 20) && reach &- size < most &* step {
      let below = min(reach / step, most)
      if reach &- below &* step < size || (below < most && (below + 1) &* step &- reach < size) {
        return true
      }
      reach = reach &+ Int64(stride(large).magnitude)
      count += 1
    }
    return false
  }

  private func sharedPlaces(_ first: Int, _ second: Int) -> Failure {
    failure(SMX_ERROR_OVERLAP) {
      $0.add(name)
      $0.add(" of shape ")
      $0.add(shapeOf: raw)
      $0.add(" has elements that share a place: stride ")
      $0.add(stride(first))
      $0.add(" along axis ")
      $0.add(Int64(first))
      if first != second {
        $0.add(", ")
        $0.add(stride(second))
        $0.add(" along axis ")
        $0.add(Int64(second))
      }
    }
  }
}

/// Two shapes that do not belong together: "a of shape … <why> b of shape …".
func disagree(_ a: Tensor, _ b: Tensor, _ why: StaticString) -> Failure {
  failure(SMX_ERROR_SHAPE) {
    $0.add(a.name)
    $0.add(" of shape ")
    $0.add(shapeOf: a.raw)
    $0.add(why)
    $0.add(b.name)
    $0.add(" of shape ")
    $0.add(shapeOf: b.raw)
  }
}

/// Calls `body` with the tensors of a structure and of those that it is joined with.
@inline(never)
func forEachTensor(
  of structure: UnsafePointer<smx_mask>?, _ body: (Tensor?) throws(Failure) -> Void
) throws(Failure) {
  var condition = structure
  while let c = condition {
    try body(Tensor.optional(c.pointee.query_offset, "query_offset"))
    try body(Tensor.optional(c.pointee.key_lengths, "key_lengths"))
    try body(Tensor.optional(c.pointee.query_lengths, "query_lengths"))
    try body(Tensor.optional(c.pointee.query_segments, "query_segments"))
    try body(Tensor.optional(c.pointee.key_segments, "key_segments"))
    condition = UnsafePointer(c.pointee.also)
  }
}
