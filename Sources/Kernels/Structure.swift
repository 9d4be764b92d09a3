// Structured masks: which keys a query sees, by arithmetic instead of an array.
//
// A structure is a list of conditions joined by AND (swiftmax.h, smx_mask). Seen from one query,
// causal, window and lengths each leave an interval of keys, so a row along the keys needs only the
// intersection of intervals; segments, and rows along any other axes, ask for each element.

import CSupport

extension Kernels {
  /// An element of an integer tensor whose axes are the leading ones of the scores: one value for
  /// all, for each batch entry, for each head and so on.
  @inline(__always)
  static func integer(_ tensor: UnsafePointer<smx_tensor>, _ index: UnsafePointer<Int64>) -> Int {
    var p = UnsafeRawPointer(tensor.pointee.data!)
    for axis in 0..<Int(tensor.pointee.ndim) {
      p += Int(index[axis]) &* Int(tensor.pointee.strides[axis])
    }
    return Int(smxk_integer(tensor.pointee.dtype, p))
  }

  /// A segment id: `integer` with one more axis, the query's or the key's place.
  @inline(__always)
  static func segment(
    _ tensor: UnsafePointer<smx_tensor>, _ index: UnsafePointer<Int64>, at place: Int
  ) -> Int {
    let last = Int(tensor.pointee.ndim) &- 1
    var p = UnsafeRawPointer(tensor.pointee.data!) + place &* Int(tensor.pointee.strides[last])
    for axis in 0..<last { p += Int(index[axis]) &* Int(tensor.pointee.strides[axis]) }
    return Int(smxk_integer(tensor.pointee.dtype, p))
  }

  /// The keys that one condition lets query i see, segments aside: an interval.
  @inline(__always)
  static func interval(
    _ condition: UnsafePointer<smx_mask>, _ index: UnsafePointer<Int64>, query i: Int,
    of queries: Int, keys: Int
  ) -> (lower: Int, upper: Int) {
    var lower = 0
    var upper = keys
    let c = condition.pointee
    if c.causal != 0 || c.window != 0 {
      let offset =
        c.query_offset.map { integer($0, index) }
        ?? (keys &- queries)
      // Offset and sides may be any integers: a place that no key has is the nearest one behind the
      // keys, or in front.
      @inline(__always) func place(_ shift: Int) -> Int { shift < keys ? shift &+ i : keys }
      if c.causal != 0 { upper = Swift.min(upper, place(offset) &+ 1) }
      if c.window != 0 {
        let left = Int(c.window_left)
        let right = Int(c.window_right)
        if left >= 0 { lower = Swift.max(lower, place(Swift.max(offset, Int.min &+ left) &- left)) }
        if right >= 0 {
          upper = Swift.min(upper, place(Swift.min(offset, Int.max &- right) &+ right) &+ 1)
        }
      }
    }
    if let lengths = c.key_lengths { upper = Swift.min(upper, integer(lengths, index)) }
    if let lengths = c.query_lengths, i >= integer(lengths, index) { upper = 0 }
    return (lower, upper)
  }

  /// Fills lower, upper and tests_elements of a row.
  @inline(never)
  static func findInterval(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>
  ) {
    let index = smxk_index_of(row)
    let isAlongKeys =
      job.pointee.inner_count == 1 && job.pointee.inner![0].place == job.pointee.key_place
    guard isAlongKeys else {
      row.pointee.tests_elements = 1
      return
    }
    var lower = 0
    var upper = Int(job.pointee.cols)
    var condition = job.pointee.structure
    while let c = condition {
      let found = interval(
        c, index, query: Int(index[Int(job.pointee.query_place)]), of: Int(job.pointee.query_count),
        keys: Int(job.pointee.key_count))
      lower = Swift.max(lower, found.lower)
      upper = Swift.min(upper, found.upper)
      if c.pointee.query_segments != nil { row.pointee.tests_elements = 1 }
      condition = c.pointee.also
    }
    row.pointee.lower = Int64(lower)
    row.pointee.upper = Int64(Swift.max(lower, upper))
  }

  /// Elements that are asked for at once, a byte each.
  typealias Visibility = InlineArray<256, UInt8>

  /// Calls `body` with the bytes of `findVisible` for `length` elements, some at a time.
  @inline(__always)
  static func eachVisibility(
    _ job: UnsafePointer<smxk_job>, _ index: UnsafeMutablePointer<Int64>, _ length: Int,
    mask: UnsafeRawPointer?, _ step: Int,
    _ body: (_ first: Int, _ count: Int, _ bytes: UnsafePointer<UInt8>) -> Void
  ) {
    var room = Visibility(repeating: 0)
    withUnsafeMutablePointer(to: &room) { room in
      let bytes = UnsafeMutableRawPointer(room).assumingMemoryBound(to: UInt8.self)
      var first = 0
      while first < length {
        let count = Swift.min(Visibility.count, length &- first)
        findVisible(job, index, count, mask: mask.map { $0 + first &* step }, step, bytes)
        body(first, count, bytes)
        first = first &+ count
      }
    }
  }

  /// A byte for each of `count` elements from the index on, along the row's last axis: 1 where
  /// every condition shows it and the mask, if any, whose bytes are `step` apart. The index moves
  /// on.
  @inline(never)
  static func findVisible(
    _ job: UnsafePointer<smxk_job>, _ index: UnsafeMutablePointer<Int64>, _ count: Int,
    mask: UnsafeRawPointer?, _ step: Int, _ bytes: UnsafeMutablePointer<UInt8>
  ) {
    let axis = Int(job.pointee.inner![Int(job.pointee.inner_count) &- 1].place)
    let isAlongKeys = axis == Int(job.pointee.key_place)
    for j in 0..<count { bytes[j] = 1 }
    if let mask {
      for j in 0..<count where mask.load(fromByteOffset: j &* step, as: UInt8.self) == 0 {
        bytes[j] = 0
      }
    }
    guard isAlongKeys else {
      for j in 0..<count {
        if !isVisible(job, index) { bytes[j] = 0 }
        index[axis] &+= 1
      }
      return
    }
    let first = Int(index[axis])
    let i = Int(index[Int(job.pointee.query_place)])
    var condition = job.pointee.structure
    while let c = condition {
      let keys = interval(
        c, index, query: i, of: Int(job.pointee.query_count), keys: Int(job.pointee.key_count))
      let lower = Swift.min(Swift.max(keys.lower &- first, 0), count)
      let upper = Swift.max(Swift.min(keys.upper &- first, count), lower)
      for j in 0..<lower { bytes[j] = 0 }
      for j in upper..<count { bytes[j] = 0 }
      if let queries = c.pointee.query_segments, let keys = c.pointee.key_segments {
        keepSegment(keys, index, from: first, count, segment(queries, index, at: i), bytes)
      }
      condition = c.pointee.also
    }
    index[axis] &+= Int64(count)
  }

  /// Clears the bytes of keys first ..< first + count whose segment is another one.
  @inline(__always)
  static func keepSegment(
    _ keys: UnsafePointer<smx_tensor>, _ index: UnsafePointer<Int64>, from first: Int, _ count: Int,
    _ own: Int, _ bytes: UnsafeMutablePointer<UInt8>
  ) {
    let last = Int(keys.pointee.ndim) &- 1
    let step = Int(keys.pointee.strides[last])
    var p = UnsafeRawPointer(keys.pointee.data!) + first &* step
    for axis in 0..<last { p += Int(index[axis]) &* Int(keys.pointee.strides[axis]) }
    // Side by side they are compared a vector at a time.
    let dtype = keys.pointee.dtype
    if Int(dtype) == SMX_INT64 && step == 8 {
      for j in 0..<count {
        bytes[j] &= (p + 8 &* j).loadUnaligned(as: Int64.self) == Int64(own) ? 1 : 0
      }
    } else if Int(dtype) == SMX_INT32 && step == 4 && Int(Int32(truncatingIfNeeded: own)) == own {
      let own = Int32(truncatingIfNeeded: own)
      for j in 0..<count { bytes[j] &= (p + 4 &* j).loadUnaligned(as: Int32.self) == own ? 1 : 0 }
    } else {
      for j in 0..<count { bytes[j] &= Int(smxk_integer(dtype, p + j &* step)) == own ? 1 : 0 }
    }
  }

  /// Whether the element at `index` meets every condition.
  @inline(never)
  static func isVisible(_ job: UnsafePointer<smxk_job>, _ index: UnsafePointer<Int64>) -> Bool {
    let i = Int(index[Int(job.pointee.query_place)])
    let j = Int(index[Int(job.pointee.key_place)])
    var condition = job.pointee.structure
    while let c = condition {
      let keys = interval(
        c, index, query: i, of: Int(job.pointee.query_count), keys: Int(job.pointee.key_count))
      guard keys.lower <= j && j < keys.upper else { return false }
      if let queries = c.pointee.query_segments, let keys = c.pointee.key_segments {
        guard segment(queries, index, at: i) == segment(keys, index, at: j) else { return false }
      }
      condition = c.pointee.also
    }
    return true
  }
}
