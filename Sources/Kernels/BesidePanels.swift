// Narrow rows that lie side by side, in a panel (RowPanels.swift) that leaves them so: their
// numbers become float32 on the way, and Columns.swift and GradientColumns.swift take them from
// there.
//
//     in memory, bfloat16         panel, float32
//     element 0   a0 b0 c0 …      a0 b0 c0 …
//     element 1   a1 b1 c1 …  →   a1 b1 c1 …
//
// One thread (Xeon), ns an element of bfloat16 softmax, turned before and now: rows of 10 1.85,
// 1.3; of 64 1.3, 0.7; of 150 1.15, 0.8.

import CSupport

extension Kernels {
  /// Whether a job's rows are left side by side: as many as a vector has lanes at least.
  @inline(__always)
  static func staysBeside<L: Lanes>(_: L.Type, _ job: UnsafePointer<smxk_job>) -> Bool {
    let last = job.pointee.outer![Int(job.pointee.outer_count) &- 1]
    let isSum = job.pointee.operation == SMXK_LOGSUMEXP
    return !isOwn(L.self, job.pointee.dtype) && job.pointee.temperature == nil
      && Int(last.count) >= L.count && Int(job.pointee.panel_rows) >= L.count && last.x == 2
      && (isSum || last.out == 2) && (!isGradient(job) || last.weights == 2)
  }

  /// Its axes, kept and reduced.
  @inline(__always)
  static func axesBeside<L: Lanes>(
    _ panel: RowPanel<L>, isSum: Bool
  ) -> (outer: smxk_axis, inner: smxk_axis) {
    let size = Int64(MemoryLayout<L.Scalar>.stride)
    var outer = smxk_axis()
    outer.count = Int64(panel.rows)
    outer.x = size
    outer.out = size
    outer.weights = size
    var inner = smxk_axis()
    inner.count = Int64(panel.length)
    inner.x = size &* Int64(panel.rows)
    inner.out = isSum ? size : inner.x
    inner.weights = inner.x
    return (outer, inner)
  }

  /// Brings rows first ..< first + count into the panel.
  @inline(never)
  static func fillBeside<L: Lanes>(
    _ panel: RowPanel<L>, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let place = row(of: scratch)
    let inner = job.pointee.inner![0]
    eachRun(job, first: first, count: count, scratch) { start, rows in
      for operand in 0..<(isGradient(job) ? 2 : 1) {
        let p = UnsafeRawPointer(operand == 0 ? place.pointee.x! : place.pointee.weights!)
        let step = Int(operand == 0 ? inner.x : inner.weights)
        let to = (operand == 0 ? panel.x : panel.second) + start
        if Int(job.pointee.dtype) == SMX_FLOAT16 {
          widen(Narrow<Float16>.self, panel, p, step, rows, to)
        } else {
          widen(Narrow<BFloat16>.self, panel, p, step, rows, to)
        }
      }
    }
  }

  /// Takes their results out of it.
  @inline(never)
  static func emptyBeside<L: Lanes>(
    _ panel: RowPanel<L>, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let place = row(of: scratch)
    let step = Int(job.pointee.inner![0].out)
    eachRun(job, first: first, count: count, scratch) { start, rows in
      let out = UnsafeMutableRawPointer(place.pointee.out!)
      if Int(job.pointee.dtype) == SMX_FLOAT16 {
        narrow(Narrow<Float16>.self, panel, panel.x + start, rows, out, step)
      } else {
        narrow(Narrow<BFloat16>.self, panel, panel.x + start, rows, out, step)
      }
    }
  }

  /// `rows` rows, `step` bytes from element to element, to a place in the panel.
  @inline(never)
  static func widen<F: Format, L: Lanes>(
    _: F.Type, _ panel: RowPanel<L>, _ p: UnsafeRawPointer, _ step: Int, _ rows: Int,
    _ to: UnsafeMutablePointer<L.Scalar>
  ) {
    var line = p
    var to = UnsafeMutableRawPointer(to).assumingMemoryBound(to: F.L.Scalar.self)
    for _ in 0..<panel.length {
      for (c, _, last) in vectors(F.L.self, 0, rows) {
        I.prefetchRead(line + (step &+ c &* F.size))
        if last == F.L.count {
          F.load(line, c).store(at: to + c)
        } else {
          F.load(line, c, 0, last, fill: 0).store(at: to + c, from: 0, to: last)
        }
      }
      line += step
      to += panel.rows
    }
  }

  /// The way back.
  @inline(never)
  static func narrow<F: Format, L: Lanes>(
    _: F.Type, _ panel: RowPanel<L>, _ from: UnsafePointer<L.Scalar>, _ rows: Int,
    _ out: UnsafeMutableRawPointer, _ step: Int
  ) {
    var line = out
    var from = UnsafeRawPointer(from).assumingMemoryBound(to: F.L.Scalar.self)
    for _ in 0..<panel.length {
      for (c, _, last) in vectors(F.L.self, 0, rows) {
        I.prefetchWrite(line + (step &+ c &* F.size))
        if last == F.L.count {
          F.store(F.L(at: from + c), line, c)
        } else {
          F.store(F.L(at: from + c, from: 0, to: last, fill: 0), line, c, 0, last)
        }
      }
      line += step
      from += panel.rows
    }
  }
}
