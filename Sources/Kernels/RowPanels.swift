// Rows that do not lie along memory, a panel of them at a time: turned, worked on as the common
// rows that they then are, and their results turned back.
//
//     in memory, rows side by side        panel, rows along memory
//     element 0   a0 b0 c0 d0 …           a0 a1 a2 …
//     element 1   a1 b1 c1 d1 …     →     b0 b1 b2 …
//     element 2   a2 b2 c2 d2 …           c0 c1 c2 …
//
// A panel holds the lanes' own type, so that narrow numbers are converted on the way, 16 × 16 of
// them at a time (Turning.swift). It fits into the second-level cache at most, the first-level one
// if that leaves 64 rows: element i of these is 256 bytes of whole lines. Rows that do not lie side
// by side either are read one after the other; short ones are still worth their panel, for what a
// row costs in the stages is more than their elements.
//
// Losses and whatever has a temperature take this way along any axis but the last. Softmax and
// gradients of float32 and float64 have Columns.swift and GradientColumns.swift, and narrow rows
// are brought to these (BesidePanels.swift). What a row's results are does not depend on where it
// lies.

import CSupport

extension Kernels {
  /// Rows under way together, in a thread's panel.
  struct RowPanel<L: Lanes> {
    /// Elements of a row, and from one row to the next.
    let length: Int
    let pitch: Int
    /// Room for so many rows.
    let rows: Int
    /// Rows stay side by side (BesidePanels.swift).
    let isBeside: Bool
    private let memory: UnsafeMutablePointer<L.Scalar>

    @inline(__always) init(
      _ job: UnsafePointer<smxk_job>, _ scratch: UnsafeMutablePointer<smxk_scratch>,
      isBeside: Bool = false
    ) {
      length = Int(job.pointee.cols)
      pitch = Int(smxk_panel_pitch(Int64(length), Int64(L.count)))
      rows = Int(job.pointee.panel_rows)
      self.isBeside = isBeside
      memory = scratch.pointee.panel!.assumingMemoryBound(to: L.Scalar.self)
    }

    /// A square on its way.
    @inline(__always) var square: UnsafeMutablePointer<L.Scalar> { memory }
    /// The rows, which their results take the place of. A square may reach a vector beyond.
    @inline(__always) var x: UnsafeMutablePointer<L.Scalar> { memory + L.count &* L.count }
    /// The second operand's, or one result for each row.
    @inline(__always) var second: UnsafeMutablePointer<L.Scalar> {
      x + (rows &* pitch &+ L.count)
    }
  }

  /// The job of a panel's rows, which are numbered from 0, on its axes.
  @inline(__always)
  static func panelJob<L: Lanes>(
    _ panel: RowPanel<L>, _ job: UnsafePointer<smxk_job>, outer: UnsafeMutablePointer<smxk_axis>,
    inner: UnsafeMutablePointer<smxk_axis>
  ) -> smxk_job {
    let size = Int64(MemoryLayout<L.Scalar>.stride)
    let isSum = job.pointee.operation == SMXK_LOGSUMEXP
    outer.pointee = smxk_axis()
    outer.pointee.count = Int64(panel.rows)
    outer.pointee.x = Int64(panel.pitch) &* size
    outer.pointee.out = isSum ? size : outer.pointee.x
    outer.pointee.weights = outer.pointee.x
    inner.pointee = smxk_axis()
    inner.pointee.count = Int64(panel.length)
    inner.pointee.x = size
    inner.pointee.out = size
    inner.pointee.weights = size
    if panel.isBeside { (outer.pointee, inner.pointee) = axesBeside(panel, isSum: isSum) }
    var own = job.pointee
    own.dtype = smx_dtype(L.isSingle ? SMX_FLOAT32 : SMX_FLOAT64)
    own.direct = job.pointee.temperature == nil ? SMXK_DIRECT_PLAIN : SMXK_DIRECT
    if panel.isBeside { own.direct = SMXK_DIRECT_COLUMNS }
    own.streams = 0
    own.panel_rows = 0
    own.outer_count = 1
    own.inner_count = 1
    own.outer = UnsafePointer(outer)
    own.inner = UnsafePointer(inner)
    own.rows = Int64(panel.rows)
    own.x = UnsafeRawPointer(panel.x)
    own.out = UnsafeMutableRawPointer(isSum ? panel.second : panel.x)
    if job.pointee.weights != nil { own.weights = UnsafeRawPointer(panel.second) }
    return own
  }

  /// Rows first ..< first + count of a job with panels.
  @inline(never)
  static func rowsInPanels<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let panel = RowPanel<L>(job, scratch, isBeside: staysBeside(L.self, job))
    var outer = smxk_axis()
    var inner = smxk_axis()
    withUnsafeMutablePointer(to: &outer) { outer in
      withUnsafeMutablePointer(to: &inner) { inner in
        var own = panelJob(panel, job, outer: outer, inner: inner)
        withUnsafePointer(to: &own) { own in
          var row = first
          while row < first &+ count {
            let rows = Swift.min(panel.rows, first &+ count &- row)
            fill(panel, job, first: row, count: rows, scratch)
            rowsInPlace(L.self, own, first: 0, count: rows, scratch)
            empty(panel, job, first: row, count: rows, scratch)
            row = row &+ rows
          }
        }
      }
    }
  }

  /// Calls `body` for rows that lie at equal distances, `row(of: scratch)` being the first of them.
  @inline(__always)
  static func eachRun(
    _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>, _ body: (_ start: Int, _ rows: Int) -> Void
  ) {
    let adjacent = Int(job.pointee.outer![Int(job.pointee.outer_count) &- 1].count)
    var start = 0
    while start < count {
      let row = first &+ start
      locate(job, Self.row(of: scratch), row)
      let rows = Swift.min(adjacent &- row % adjacent, count &- start)
      body(start, rows)
      start = start &+ rows
    }
  }

  /// Brings rows first ..< first + count into the panel.
  @inline(never)
  static func fill<L: Lanes>(
    _ panel: RowPanel<L>, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let place = row(of: scratch)
    let outer = job.pointee.outer![Int(job.pointee.outer_count) &- 1]
    let inner = job.pointee.inner![0]
    if panel.isBeside {
      fillBeside(panel, job, first: first, count: count, scratch)
      return
    }
    eachRun(job, first: first, count: count, scratch) { start, rows in
      let at = start &* panel.pitch
      turnIn(
        panel, job.pointee.dtype, UnsafeRawPointer(place.pointee.x!), Int(outer.x), Int(inner.x),
        rows, panel.x + at)
      if let weights = place.pointee.weights {
        turnIn(
          panel, job.pointee.dtype, UnsafeRawPointer(weights), Int(outer.weights),
          Int(inner.weights), rows, panel.second + at)
      }
    }
  }

  /// Takes their results out of it.
  @inline(never)
  static func empty<L: Lanes>(
    _ panel: RowPanel<L>, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let dtype = job.pointee.dtype
    let place = row(of: scratch)
    let outer = job.pointee.outer![Int(job.pointee.outer_count) &- 1]
    let inner = job.pointee.inner![0]
    if panel.isBeside && job.pointee.operation != SMXK_LOGSUMEXP {
      emptyBeside(panel, job, first: first, count: count, scratch)
      return
    }
    eachRun(job, first: first, count: count, scratch) { start, rows in
      let out = UnsafeMutableRawPointer(place.pointee.out!)
      if job.pointee.operation == SMXK_LOGSUMEXP {
        write(L.self, dtype, out, Int(outer.out), panel.second + start, rows)
      } else {
        turnOut(
          panel, dtype, panel.x + start &* panel.pitch, rows, out, Int(outer.out), Int(inner.out))
      }
    }
  }

  /// Whether rows are turned in squares: so many lie side by side. Fewer are read one by one, which
  /// takes longer where each number is converted.
  @inline(__always)
  static func turnsRows<L: Lanes>(
    _: L.Type, _ dtype: smx_dtype, _ rows: Int, _ distance: Int
  ) -> Bool {
    isOwn(L.self, dtype)
      ? rows >= L.count / 2 && distance == MemoryLayout<L.Scalar>.stride
      : rows >= 4 && distance == 2
  }

  /// `rows` rows of any dtype, `distance` bytes from one to the next and `step` from element to
  /// element, to a place in the panel.
  @inline(never)
  static func turnIn<L: Lanes>(
    _ panel: RowPanel<L>, _ dtype: smx_dtype, _ p: UnsafeRawPointer, _ distance: Int, _ step: Int,
    _ rows: Int, _ to: UnsafeMutablePointer<L.Scalar>
  ) {
    let isOwn = isOwn(L.self, dtype)
    if !turnsRows(L.self, dtype, rows, distance) {
      for r in 0..<rows {
        read(L.self, dtype, p + r &* distance, step, to + r &* panel.pitch, panel.length)
      }
    } else if isOwn {
      turnIn(Own<L>.self, panel, p, step, rows, to)
    } else if L.isSingle && Int(dtype) == SMX_FLOAT16 {
      turnIn(Narrow<Float16>.self, panel, p, step, rows, to)
    } else if L.isSingle {
      turnIn(Narrow<BFloat16>.self, panel, p, step, rows, to)
    }
  }

  @inline(__always)
  static func turnIn<F: Format, L: Lanes>(
    _: F.Type, _ panel: RowPanel<L>, _ p: UnsafeRawPointer, _ step: Int, _ rows: Int,
    _ to: UnsafeMutablePointer<L.Scalar>
  ) {
    let square = UnsafeMutableRawPointer(panel.square).assumingMemoryBound(to: F.L.Scalar.self)
    let isWhole = F.size == MemoryLayout<L.Scalar>.stride && step % F.size == 0
    // The last elements first: what a square has too many is the next row's beginning.
    var i = panel.length
    while i > 0 {
      i = (i &- 1) / L.count &* L.count
      let elements = Swift.min(L.count, panel.length &- i)
      let line = p + i &* step
      // The next square's lines; beyond the first it is a wish for nothing.
      for k in 0..<L.count { I.prefetchRead(line + (k &- L.count) &* step) }
      var c = 0
      while c < rows {
        let columns = Swift.min(L.count, rows &- c)
        let place = to + (c &* panel.pitch &+ i)
        if isWhole && elements == L.count && columns == L.count {
          let from = (line + c &* F.size).assumingMemoryBound(to: L.Scalar.self)
          turnSquare(L.self, from, step / F.size, place, panel.pitch)
        } else {
          for k in 0..<elements {
            let from = line + k &* step
            let v =
              columns == L.count ? F.load(from, c) : F.load(from, c, 0, columns, fill: 0)
            v.store(at: square + k &* L.count)
          }
          turnSquare(
            L.self, panel.square, L.count, place, panel.pitch, rows: L.count, columns: columns)
        }
        c = c &+ L.count
      }
    }
  }

  /// The way back of `turnIn`.
  @inline(never)
  static func turnOut<L: Lanes>(
    _ panel: RowPanel<L>, _ dtype: smx_dtype, _ from: UnsafePointer<L.Scalar>, _ rows: Int,
    _ out: UnsafeMutableRawPointer, _ distance: Int, _ step: Int
  ) {
    let isOwn = isOwn(L.self, dtype)
    if !turnsRows(L.self, dtype, rows, distance) {
      for r in 0..<rows {
        write(L.self, dtype, out + r &* distance, step, from + r &* panel.pitch, panel.length)
      }
    } else if isOwn {
      turnOut(Own<L>.self, panel, from, rows, out, step)
    } else if L.isSingle && Int(dtype) == SMX_FLOAT16 {
      turnOut(Narrow<Float16>.self, panel, from, rows, out, step)
    } else if L.isSingle {
      turnOut(Narrow<BFloat16>.self, panel, from, rows, out, step)
    }
  }

  @inline(__always)
  static func turnOut<F: Format, L: Lanes>(
    _: F.Type, _ panel: RowPanel<L>, _ from: UnsafePointer<L.Scalar>, _ rows: Int,
    _ out: UnsafeMutableRawPointer, _ step: Int
  ) {
    let square = UnsafeMutableRawPointer(panel.square).assumingMemoryBound(to: F.L.Scalar.self)
    let isWhole = F.size == MemoryLayout<L.Scalar>.stride && step % F.size == 0
    var i = 0
    while i < panel.length {
      let elements = Swift.min(L.count, panel.length &- i)
      let line = out + i &* step
      for k in 0..<L.count { I.prefetchWrite(line + (L.count &+ k) &* step) }
      var c = 0
      while c < rows {
        let columns = Swift.min(L.count, rows &- c)
        let place = from + (c &* panel.pitch &+ i)
        if isWhole && elements == L.count && columns == L.count {
          let to = (line + c &* F.size).assumingMemoryBound(to: L.Scalar.self)
          turnSquare(L.self, place, panel.pitch, to, step / F.size)
        } else {
          turnSquare(
            L.self, place, panel.pitch, panel.square, L.count, rows: columns, columns: elements)
          for k in 0..<elements {
            let v = F.L(at: square + k &* L.count)
            if columns == L.count {
              F.store(v, line + k &* step, c)
            } else {
              F.store(v, line + k &* step, c, 0, columns)
            }
          }
        }
        c = c &+ L.count
      }
      i = i &+ L.count
    }
  }
}
