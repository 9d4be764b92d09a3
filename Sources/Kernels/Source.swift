// From the caller's memory to scratch and back: any dtype, any strides, mask, bias and weights.
//
// A row is the flattening of the reduced axes in C order. A chunk of it is a few runs along the
// last of them; each run is read with one stride for each operand. The masks act here, by
// selection, so that a NaN in a masked element is gone before any arithmetic.

import CSupport

extension Kernels {
  @inline(__always) static func quietNaN<L: Lanes>(_: L.Type) -> L.Scalar { L.Scalar.nan }

  /// 2^k for k up to 1023, 0 below the normal range.
  @inline(__always) static func powerOfTwo(_ k: Int) -> Double {
    k < -1022 ? 0 : Double(bitPattern: UInt64(bitPattern: Int64(k &+ 1023)) &<< 52)
  }

  // -- one row's pointers -------------------------------------------------------------------------

  /// Sets the row's pointers and temperature from its number.
  @inline(never)
  static func locate(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>, _ number: Int
  ) {
    var x = 0
    var out = 0
    var mask = 0
    var bias = 0
    var temperature = 0
    var weights = 0
    var sign = 0
    var factor = 0
    var rest = number
    var i = Int(job.pointee.outer_count) &- 1
    while i >= 0 {
      let axis = job.pointee.outer![i]
      let quotient = i == 0 ? 0 : rest / Int(axis.count)
      let place = rest &- quotient &* Int(axis.count)
      rest = quotient
      x = x &+ place &* Int(axis.x)
      out = out &+ place &* Int(axis.out)
      mask = mask &+ place &* Int(axis.mask)
      bias = bias &+ place &* Int(axis.bias)
      temperature = temperature &+ place &* Int(axis.temperature)
      weights = weights &+ place &* Int(axis.weights)
      sign = sign &+ place &* Int(axis.sign)
      factor = factor &+ place &* Int(axis.factor)
      if job.pointee.structure != nil {
        smxk_index_of(row)[Int(axis.place)] = Int64(place)
      }
      i = i &- 1
    }
    row.pointee.x = (job.pointee.x! + x).assumingMemoryBound(to: CChar.self)
    row.pointee.out = (job.pointee.out! + out).assumingMemoryBound(to: CChar.self)
    row.pointee.mask = job.pointee.mask.map { ($0 + mask).assumingMemoryBound(to: CChar.self) }
    row.pointee.bias = job.pointee.bias.map { ($0 + bias).assumingMemoryBound(to: CChar.self) }
    row.pointee.weights = job.pointee.weights.map {
      ($0 + weights).assumingMemoryBound(to: CChar.self)
    }
    row.pointee.sign = job.pointee.sign.map { ($0 + sign).assumingMemoryBound(to: CChar.self) }
    row.pointee.temperature =
      job.pointee.temperature.map {
        readScalar(job.pointee.temperature_dtype, $0 + temperature)
      } ?? 1
    row.pointee.factor = job.pointee.factor.map { readScalar(job.pointee.dtype, $0 + factor) } ?? 1
  }

  // -- runs ---------------------------------------------------------------------------------------

  /// Byte offsets of one run's first element in each operand, and its length.
  struct Run {
    var x = 0
    var out = 0
    var mask = 0
    var bias = 0
    var weights = 0
    var length = 0
  }

  /// The run that begins at element `position` of the row, `limit` elements at most. With a
  /// structure, the element's index goes to `index`.
  @inline(__always)
  static func run(
    _ job: UnsafePointer<smxk_job>, at position: Int, limit: Int,
    index: UnsafeMutablePointer<Int64>?
  ) -> Run {
    var run = Run()
    var rest = position
    let last = Int(job.pointee.inner_count) &- 1
    var i = last
    while i >= 0 {
      let axis = job.pointee.inner![i]
      let quotient = i == 0 ? 0 : rest / Int(axis.count)
      let place = rest &- quotient &* Int(axis.count)
      rest = quotient
      if i == last { run.length = Swift.min(limit, Int(axis.count) &- place) }
      run.x = run.x &+ place &* Int(axis.x)
      run.out = run.out &+ place &* Int(axis.out)
      run.mask = run.mask &+ place &* Int(axis.mask)
      run.bias = run.bias &+ place &* Int(axis.bias)
      run.weights = run.weights &+ place &* Int(axis.weights)
      if let index { index[Int(axis.place)] = Int64(place) }
      i = i &- 1
    }
    return run
  }

  /// Reads elements from..<to of the chunk that begins at `start` into scratch: scores in `high`,
  /// the rounding of x + bias in `low`, hidden ones -inf. Returns the number of visible elements.
  @inline(never)
  static func gather<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>,
    _ elements: Elements<L>, _ start: Int, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Int64 {
    let last = job.pointee.inner![Int(job.pointee.inner_count) &- 1]
    let tests = row.pointee.tests_elements != 0
    let index = tests ? ownIndex(row, scratch) : nil
    var visible: Int64 = 0
    var i = elements.from
    while i < elements.to {
      let run = run(job, at: start &+ i, limit: elements.to &- i, index: index)
      let high = elements.high + i
      let x = UnsafeRawPointer(row.pointee.x!) + run.x
      if let bias = row.pointee.bias {
        let low = elements.low! + i
        let bias = UnsafeRawPointer(bias) + run.bias
        let a = place(L.self, job.pointee.dtype, x, Int(last.x), high, run.length)
        let b = place(L.self, job.pointee.bias_dtype, bias, Int(last.bias), low, run.length)
        addExactly(L.self, a, b, high, low, run.length)
      } else {
        read(L.self, job.pointee.dtype, x, Int(last.x), high, run.length)
      }
      if let weights = row.pointee.weights {
        let p = UnsafeRawPointer(weights) + run.weights
        hideWeightless(L.self, high, job.pointee.dtype, p, Int(last.weights), run.length)
      }
      visible &+= Int64(run.length)
      let mask = row.pointee.mask.map { UnsafeRawPointer($0) + run.mask }
      if let index {
        eachVisibility(job, index, run.length, mask: mask, Int(last.mask)) { j, count, bytes in
          visible &-= hide(L.self, high + j, bytes, 1, count)
        }
      } else if let mask {
        visible &-= hide(L.self, high, mask, Int(last.mask), run.length)
      }
      i = i &+ run.length
    }
    return visible
  }

  /// The row's index in this thread's scratch: several threads may be at work on one row, each at
  /// another element.
  @inline(__always)
  static func ownIndex(
    _ shared: UnsafePointer<smxk_row>, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> UnsafeMutablePointer<Int64> {
    let own = smxk_index_of(row(of: scratch))
    let index = smxk_index_of(UnsafeMutablePointer(mutating: shared))
    if own != index { for axis in 0...Int(SMX_MAX_DIMS) { own[axis] = index[axis] } }
    return own
  }

  /// Hides the elements whose mask byte is zero and counts them.
  @inline(__always)
  static func hide<L: Lanes>(
    _: L.Type, _ high: UnsafeMutablePointer<L.Scalar>, _ mask: UnsafeRawPointer, _ stride: Int,
    _ length: Int
  ) -> Int64 {
    let closed = -L.Scalar.infinity
    var hidden: Int64 = 0
    var j = 0
    if stride == 1 {
      var count = L(0)
      while j &+ L.count <= length {
        let hides = L.pick(L(bytes: mask + j), equalTo: L(0), L(1), L(0))
        count = count + hides
        L.pick(hides, equalTo: L(0), L(at: high + j), L(closed)).store(at: high + j)
        j = j &+ L.count
      }
      for lane in 0..<L.count { hidden &+= Int64(Double(count[lane])) }
    }
    while j < length {
      if mask.load(fromByteOffset: j &* stride, as: UInt8.self) == 0 {
        high[j] = closed
        hidden &+= 1
      }
      j = j &+ 1
    }
    return hidden
  }

  /// Writes the `length` results of the chunk that begins at `start`.
  @inline(never)
  static func scatter<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>,
    _ results: UnsafePointer<L.Scalar>, _ start: Int, _ length: Int
  ) {
    let last = job.pointee.inner![Int(job.pointee.inner_count) &- 1]
    var i = 0
    while i < length {
      let run = run(job, at: start &+ i, limit: length &- i, index: nil)
      write(
        L.self, job.pointee.dtype, UnsafeMutableRawPointer(row.pointee.out!) + run.out,
        Int(last.out), results + i, run.length)
      i = i &+ run.length
    }
  }
}
