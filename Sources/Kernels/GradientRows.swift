// Gradients of contiguous rows, T = 1 and nothing masked: the stages of Gradient.swift without
// their bookkeeping.
//
// Memory is the limit: y and dy are read and dx is written, 12 bytes for an element of float32. A
// row has two passes, and what each waits for is asked for in the other. The sum reads y and dy
// from the cache and asks for dx's lines; the results fill those and ask for the next row's y and
// dy. Of a row too long for that to stay in the second-level cache only dx is asked for, a page
// ahead of its results.
//
// Limits, AVX-512 with two vector ports, 16 float32: sum 10 operations (four conversions of two
// each, two fma), results 3 and a store: 6.5 cycles, where 192 bytes from memory take 40.

import CSupport

extension Kernels {
  /// Rows first ..< first + count.
  @inline(__always)
  static func gradients<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    if I.hasFastPaths && job.pointee.direct == SMXK_DIRECT_COLUMNS {
      gradientColumns(L.self, job, first: first, count: count, scratch)
    } else if I.hasFastPaths && job.pointee.direct == SMXK_DIRECT_PLAIN {
      gradientRows(Own<L>.self, job, first, count, scratch)
    } else if I.hasFastPaths && L.isSingle && job.pointee.direct == SMXK_DIRECT_NARROW {
      if Int(job.pointee.dtype) == SMX_FLOAT16 {
        gradientRows(Narrow<Float16>.self, job, first, count, scratch)
      } else {
        gradientRows(Narrow<BFloat16>.self, job, first, count, scratch)
      }
    } else {
      for index in first..<first &+ count { rowInStages(L.self, job, index, scratch) }
    }
  }

  @inline(__always)
  static func gradientRows<F: Format>(
    _: F.Type, _ job: UnsafePointer<smxk_job>, _ first: Int, _ count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    if job.pointee.operation == SMXK_LOG_SOFTMAX_VJP {
      gradientRows(F.self, Yes.self, job, first, count, scratch)
    } else {
      gradientRows(F.self, No.self, job, first, count, scratch)
    }
  }

  /// The longest row of which five (y, dy, dx, the next y and dy) are taken to fit into the
  /// second-level cache.
  static var nearRowBytes: Int { @inline(__always) get { 1 << 17 } }
  /// The longest row worth taking that way (one thread: 128 float32 15 % less time, 1024 up to 20 %
  /// more).
  static var shortGradientBytes: Int { @inline(__always) get { 1 << 10 } }

  @inline(never)
  static func gradientRows<F: Format, IsLog: Choice>(
    _: F.Type, _: IsLog.Type, _ job: UnsafePointer<smxk_job>, _ first: Int, _ count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let cols = Int(job.pointee.cols)
    let isNear = cols &* F.size <= nearRowBytes
    let end = first &+ count
    // Of short rows the next one's sum is found before a row's results: two chains that do not wait
    // for each other. (Eight rows' lanes, turned and added side by side, with or without such a
    // lag: up to a fifth less time for rows of float32 up to 16, none from 32 on; a tenth more for
    // float64 from 64 on, and for one call.)
    let lag = cols &* F.size <= shortGradientBytes ? 1 : 0
    var ready = (at: gradientRow(job, first, isNear, ahead: 0, scratch), sum: Sum(high: 0, low: 0))
    for turn in first..<end &+ lag {
      let before = ready
      if turn < end {
        ready.at = gradientRow(
          job, turn, isNear, ahead: turn &+ 1 &+ lag < end ? 1 &+ lag : 0, scratch)
        ready.sum = gradientSum(F.self, IsLog.self, ready.at, cols)
      }
      let index = turn &- lag
      if index < first { continue }
      let (at, sum) = lag == 0 ? ready : before
      // Before anything is written over y or dy. (NaN is not below.)
      guard sum.high.magnitude < gradientLimit(F.L.self) else {
        rowInStages(F.L.self, job, index, scratch)
        continue
      }
      if IsLog.isTrue {
        finishRow(F.self, LogSoftmaxGradient<F.L>(sum), at, cols)
      } else {
        finishRow(F.self, SoftmaxGradient<F.L>(sum), at, cols)
      }
    }
  }

  /// Where a row lies, and what its passes ask for beside: element i of it together with element i
  /// of the row.
  struct GradientRow {
    let y: UnsafeRawPointer
    let dy: UnsafeRawPointer
    let out: UnsafeMutableRawPointer
    let streams: Bool
    /// During the sum, to be written.
    let lines: UnsafeRawPointer
    /// During the results.
    let first: UnsafeRawPointer
    let second: UnsafeRawPointer
  }

  @inline(__always)
  static func gradientRow(
    _ job: UnsafePointer<smxk_job>, _ index: Int, _ isNear: Bool, ahead: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> GradientRow {
    var y = job.pointee.x!
    var dy = job.pointee.weights!
    var out = job.pointee.out!
    // To the row that is asked for, `ahead` from this one. Rows that are not evenly spaced ask for
    // their own lines, and so does a task's last row, which another thread's may follow.
    var yStep = 0
    var dyStep = 0
    if job.pointee.outer_count == 1 {
      let axis = job.pointee.outer!
      yStep = ahead &* Int(axis.pointee.x)
      dyStep = ahead &* Int(axis.pointee.weights)
      y += index &* Int(axis.pointee.x)
      dy += index &* Int(axis.pointee.weights)
      out += index &* Int(axis.pointee.out)
    } else {
      let row = row(of: scratch)
      locate(job, row, index)
      y = UnsafeRawPointer(row.pointee.x!)
      dy = UnsafeRawPointer(row.pointee.weights!)
      out = UnsafeMutableRawPointer(row.pointee.out!)
    }
    let streams = job.pointee.streams != 0
    // Lines of results that go past the caches are not asked for.
    let pageAhead = streams ? y : UnsafeRawPointer(out) + 4096
    return GradientRow(
      y: y, dy: dy, out: out, streams: streams,
      lines: isNear && !streams ? UnsafeRawPointer(out) : y,
      first: isNear ? y + yStep : pageAhead, second: isNear ? dy + dyStep : pageAhead)
  }

  @inline(__always)
  static func gradientSum<F: Format, IsLog: Choice>(
    _: F.Type, _: IsLog.Type, _ at: GradientRow, _ cols: Int
  ) -> Sum {
    var sum = Sum(high: 0, low: 0)
    var start = 0
    while start < cols {
      let bytes = start &* F.size
      let part = sumGradient(
        F.self, IsLog.self, at.y + bytes, at.dy + bytes, 0, Swift.min(chunkSize, cols &- start),
        lines: at.lines + bytes)
      // The first chunk stands alone: adding it to zero would change nothing but take its time.
      if start == 0 { sum = part } else { sum.add(part) }
      start = start &+ chunkSize
    }
    return sum
  }

  @inline(__always)
  static func finishRow<F: Format, G: Gradient>(
    _: F.Type, _ gradient: G, _ at: GradientRow, _ cols: Int
  ) where G.L == F.L {
    write(F.self, No.self, at.out, cols, streams: at.streams) { i in
      let bytes = i &* F.size
      I.prefetchAhead(at.first + bytes)
      I.prefetchAhead(at.second + bytes)
      return gradient(F.load(at.y, i), F.load(at.dy, i))
    } part: { i, lanes in
      gradient(F.load(at.y, i, 0, lanes, fill: 0), F.load(at.dy, i, 0, lanes, fill: 0))
    }
  }
}
