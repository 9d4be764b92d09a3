// From the caller's memory to scratch and back: any dtype, any strides, mask, bias and weights.
//
// A row is the flattening of the reduced axes in C order. A chunk of it is a few runs along the last
// of them; each run is read with one stride for each operand. The masks act here, by selection, so
// that a NaN in a masked element is gone before any arithmetic.

import CSupport

extension Kernels {
  @inline(__always) static func quietNaN<L: Lanes>(_: L.Type) -> L.Scalar { L.Scalar.nan }

  /// 2^k, 0 below the normal range.
  @inline(__always) static func powerOfTwo(_ k: Int) -> Double {
    k < -1022 ? 0 : Double(bitPattern: UInt64(bitPattern: Int64(k &+ 1023)) &<< 52)
  }

  // -- one row's pointers -----------------------------------------------------------------------

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
    row.pointee.weights = job.pointee.weights.map { ($0 + weights).assumingMemoryBound(to: CChar.self) }
    row.pointee.sign = job.pointee.sign.map { ($0 + sign).assumingMemoryBound(to: CChar.self) }
    row.pointee.temperature = job.pointee.temperature.map {
      readScalar(job.pointee.temperature_dtype, $0 + temperature)
    } ?? 1
    row.pointee.factor = job.pointee.factor.map { readScalar(job.pointee.dtype, $0 + factor) } ?? 1
  }

  // -- scalars of any dtype -----------------------------------------------------------------------

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

  // -- runs ------------------------------------------------------------------------------------------

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

  /// Reads elements from..<to of the chunk that begins at `start` into scratch: scores in `high`, the
  /// rounding of x + bias in `low`, hidden ones -inf. Returns the number of visible elements.
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
      read(L.self, job.pointee.dtype, UnsafeRawPointer(row.pointee.x!) + run.x, Int(last.x), high, run.length)
      if let bias = row.pointee.bias {
        let low = elements.low! + i
        read(L.self, job.pointee.bias_dtype, UnsafeRawPointer(bias) + run.bias, Int(last.bias), low, run.length)
        addExactly(L.self, high, low, run.length)
      }
      if let weights = row.pointee.weights {
        for j in 0..<run.length {
          let p = UnsafeRawPointer(weights) + (run.weights &+ j &* Int(last.weights))
          let weight = readScalar(job.pointee.dtype, p)
          if weight == 0 { high[j] = -.infinity }
          if weight.isNaN { high[j] = .nan }
        }
      }
      visible &+= Int64(run.length)
      if let mask = row.pointee.mask {
        visible &-= hide(L.self, high, UnsafeRawPointer(mask) + run.mask, Int(last.mask), run.length)
      }
      if let index {
        for j in 0..<run.length {
          if !isVisible(job, index) {
            if !(high[j] == -.infinity && isMasked(row, run, last, j)) { visible &-= 1 }
            high[j] = -.infinity
          }
          index[Int(last.place)] &+= 1
        }
      }
      i = i &+ run.length
    }
    return visible
  }

  /// The row's index in this thread's scratch: several threads may be at work on one row, each at another
  /// element.
  @inline(__always)
  static func ownIndex(
    _ shared: UnsafePointer<smxk_row>, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> UnsafeMutablePointer<Int64> {
    let own = smxk_index_of(row(of: scratch))
    let index = smxk_index_of(UnsafeMutablePointer(mutating: shared))
    if own != index { for axis in 0...Int(SMX_MAX_DIMS) { own[axis] = index[axis] } }
    return own
  }

  @inline(__always)
  static func isMasked(
    _ row: UnsafePointer<smxk_row>, _ run: Run, _ last: smxk_axis, _ j: Int
  ) -> Bool {
    guard let mask = row.pointee.mask else { return false }
    return mask[run.mask &+ j &* Int(last.mask)] == 0
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

  /// high + low becomes (rounded sum, what the rounding lost); low is 0 where the sum is not finite.
  @inline(__always)
  static func addExactly<L: Lanes>(
    _: L.Type, _ high: UnsafeMutablePointer<L.Scalar>, _ low: UnsafeMutablePointer<L.Scalar>,
    _ length: Int
  ) {
    for (j, first, last) in vectors(L.self, 0, length) {
      let a: L = load(high + j, first, last, fill: 0)
      let b: L = load(low + j, first, last, fill: 0)
      let sum = a + b
      let part = sum - a
      let lost = (a - (sum - part)) + (b - part)
      store(sum, high + j, first, last)
      store(L.pick(lost - lost, equalTo: L(0), lost, L(0)), low + j, first, last)
    }
  }

  /// `length` numbers of a dtype, `stride` bytes apart, as L.Scalar.
  @inline(__always)
  static func read<L: Lanes>(
    _: L.Type, _ dtype: smx_dtype, _ p: UnsafeRawPointer, _ stride: Int,
    _ to: UnsafeMutablePointer<L.Scalar>, _ length: Int
  ) {
    if isOwn(L.self, dtype) {
      var j = 0
      while stride == MemoryLayout<L.Scalar>.stride && j &+ L.count <= length {
        L(at: p.assumingMemoryBound(to: L.Scalar.self) + j).store(at: to + j)
        j = j &+ L.count
      }
      while j < length {
        to[j] = (p + j &* stride).loadUnaligned(as: L.Scalar.self)
        j = j &+ 1
      }
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
      write(L.self, job.pointee.dtype, UnsafeMutableRawPointer(row.pointee.out!) + run.out,
        Int(last.out), results + i, run.length)
      i = i &+ run.length
    }
  }

  @inline(__always)
  static func write<L: Lanes>(
    _: L.Type, _ dtype: smx_dtype, _ p: UnsafeMutableRawPointer, _ stride: Int,
    _ from: UnsafePointer<L.Scalar>, _ length: Int
  ) {
    if isOwn(L.self, dtype) {
      var j = 0
      while stride == MemoryLayout<L.Scalar>.stride && j &+ L.count <= length {
        L(at: from + j).store(at: p.assumingMemoryBound(to: L.Scalar.self) + j)
        j = j &+ L.count
      }
      while j < length {
        (p + j &* stride).storeBytes(of: from[j], as: L.Scalar.self)
        j = j &+ 1
      }
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
