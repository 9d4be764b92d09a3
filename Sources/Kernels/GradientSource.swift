// Gradients of rows that lie anyhow: two operands into scratch, and what is masked out of them and
// of the results.

import CSupport

extension Kernels {
  /// Reads elements from..<to of the chunk that begins at `start`: y, and dy unless nil. Masked
  /// ones become 0, whatever they were.
  @inline(never)
  static func gatherGradient<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>,
    _ y: UnsafeMutablePointer<L.Scalar>,
    _ dy: UnsafeMutablePointer<L.Scalar>?, _ from: Int, _ to: Int, _ start: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let last = job.pointee.inner![Int(job.pointee.inner_count) &- 1]
    let dtype = job.pointee.dtype
    var i = from
    while i < to {
      let run = run(job, at: start &+ i, limit: to &- i, index: nil)
      // One body for both: `read` is large.
      for operand in 0..<(dy == nil ? 1 : 2) {
        let isY = operand == 0
        let p =
          UnsafeRawPointer(isY ? row.pointee.x! : row.pointee.weights!)
          + (isY ? run.x : run.weights)
        read(L.self, dtype, p, Int(isY ? last.x : last.weights), (isY ? y : dy!) + i, run.length)
      }
      i = i &+ run.length
    }
    conceal(L.self, job, row, y, dy, from, to, start, scratch)
  }

  /// Makes those of the elements from..<to that are masked 0, in p and, unless nil, in q.
  @inline(never)
  static func conceal<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>,
    _ p: UnsafeMutablePointer<L.Scalar>,
    _ q: UnsafeMutablePointer<L.Scalar>?, _ from: Int, _ to: Int, _ start: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let tests = row.pointee.tests_elements != 0
    guard tests || row.pointee.mask != nil else { return }
    let index = tests ? ownIndex(row, scratch) : nil
    let step = Int(job.pointee.inner![Int(job.pointee.inner_count) &- 1].mask)
    var i = from
    while i < to {
      let run = run(job, at: start &+ i, limit: to &- i, index: index)
      let mask = row.pointee.mask.map { UnsafeRawPointer($0) + run.mask }
      if let index {
        eachVisibility(job, index, run.length, mask: mask, step) { j, count, bytes in
          clear(L.self, bytes, 1, p + (i &+ j), q.map { $0 + (i &+ j) }, count)
        }
      } else if let mask {
        clear(L.self, mask, step, p + i, q.map { $0 + i }, run.length)
      }
      i = i &+ run.length
    }
  }

  /// Makes those 0 whose byte is zero.
  @inline(never)
  static func clear<L: Lanes>(
    _: L.Type, _ bytes: UnsafeRawPointer, _ step: Int, _ p: UnsafeMutablePointer<L.Scalar>,
    _ q: UnsafeMutablePointer<L.Scalar>?, _ count: Int
  ) {
    let other = q ?? p
    var j = 0
    while step == 1 && j &+ L.count <= count {
      let shown = L(bytes: bytes + j)
      L.pick(shown, equalTo: L(0), L(0), L(at: p + j)).store(at: p + j)
      if q != nil { L.pick(shown, equalTo: L(0), L(0), L(at: other + j)).store(at: other + j) }
      j = j &+ L.count
    }
    while j < count {
      if bytes.load(fromByteOffset: j &* step, as: UInt8.self) == 0 {
        p[j] = 0
        other[j] = 0
      }
      j = j &+ 1
    }
  }

  /// Multiplies a chunk's results of softmax by the row's factor. Here masked elements are 0 beside
  /// NaN too, and a row without a sum is 0 whatever the factor.
  @inline(never)
  static func applyFactor<L: Lanes>(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>,
    _ out: UnsafeMutablePointer<L.Scalar>, _ start: Int, _ length: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let factor = L(L.Scalar(row.pointee.factor))
    if row.pointee.form != SMXK_CONSTANT {
      for (i, first, last) in vectors(L.self, elements.from, elements.to) {
        store(quiet(load(out + i, first, last, fill: 0) * factor), out + i, first, last)
      }
    }
    fill(L.self, out, 0, elements.from, 0)
    fill(L.self, out, elements.to, length, 0)
    if isDirect(job) { return }
    conceal(L.self, job, row, out, nil, elements.from, elements.to, start, scratch)
  }
}
