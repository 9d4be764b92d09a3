// Rows of few elements on their way into the lanes and back (FewElements.swift).

import CSupport

extension Kernels {
  /// Whether the rows of a job are plain and short enough, and follow one another in memory or lie
  /// side by side.
  @inline(__always)
  static func hasFewElements<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, most: Int = FewElements<L>.most
  ) -> Bool {
    let cols = Int(job.pointee.cols)
    let isPlain =
      job.pointee.direct == SMXK_DIRECT_PLAIN
      || (L.isSingle && job.pointee.direct == SMXK_DIRECT_NARROW)
    let step = Int(job.pointee.outer!.pointee.x)
    let isThere = isBeside(job) ? step == itemSize(job) : isPlain && step == cols &* itemSize(job)
    return I.hasFastPaths && cols >= 1 && cols <= most && job.pointee.outer_count == 1 && isThere
  }

  @inline(__always) static func isBeside(_ job: UnsafePointer<smxk_job>) -> Bool {
    job.pointee.direct == SMXK_DIRECT_COLUMNS
  }

  @inline(__always) static func itemSize(_ job: UnsafePointer<smxk_job>) -> Int {
    Int(job.pointee.dtype) == SMX_FLOAT64 ? 8 : Int(job.pointee.dtype) == SMX_FLOAT32 ? 4 : 2
  }

  /// Whether the results of such rows lie side by side, too.
  @inline(__always) static func hasFewResults(_ job: UnsafePointer<smxk_job>) -> Bool {
    let results = job.pointee.operation == SMXK_LOGSUMEXP ? 1 : Int(job.pointee.cols)
    return Int(job.pointee.outer!.pointee.out) == results &* itemSize(job)
  }

  /// Rows first ..< first + count of such a job.
  @inline(never)
  static func fewRows<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let cols = Int(job.pointee.cols)
    let results = job.pointee.operation == SMXK_LOGSUMEXP ? 1 : cols
    let few = FewElements<L>(length: cols, scratch)
    few.clearBeyond()
    let size = itemSize(job)
    var row = first
    while row < first &+ count {
      let rows = Swift.min(L.count, first &+ count &- row)
      let out = job.pointee.out! + row &* results &* size
      turn(job, row, rows, of: first &+ count, to: few)
      if finishFew(No.self, No.self, few, job.pointee.operation) {
        putRows(few, job, rows, results, out)
      } else {
        for r in 0..<rows {
          if few.special[r] != 0 {
            rowInStages(L.self, job, row &+ r, scratch)
          } else {
            putRow(few, job, r, results, out + r &* results &* size)
          }
        }
      }
      row = row &+ rows
    }
  }

  /// Results of `rows` rows that follow one another in memory.
  @inline(__always)
  static func putRows<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_job>, _ rows: Int, _ results: Int,
    _ out: UnsafeMutableRawPointer
  ) {
    let isOwn = itemSize(job) == MemoryLayout<L.Scalar>.stride
    let q = out.assumingMemoryBound(to: L.Scalar.self)
    // Squares may write beyond the rows.
    let isThere = isOwn && !turnsSquares(L.self, results)
    turnBack(few, rows, results, to: isThere ? q : few.flat)
    if isOwn && !isThere {
      for (i, _, last) in vectors(L.self, 0, rows &* results) {
        store(L(at: few.flat + i), q + i, 0, last)
      }
    } else if !isOwn {
      narrow(L.self, job, few.flat, rows &* results, to: out)
    }
  }

  /// Their results, row after row, to `q`: `flat` where they are turned in squares.
  @inline(__always)
  static func turnBack<L: Lanes>(
    _ few: FewElements<L>, _ rows: Int, _ results: Int, to q: UnsafeMutablePointer<L.Scalar>
  ) {
    if turnsSquares(L.self, results) {
      // What a row's vector has beyond its end belongs to the next row, which is stored later: that
      // vector if it is in the same square, the row's first square if not.
      var i = results
      while i > 0 {
        i = (i &- 1) / L.count &* L.count
        turnSquare(L.self, few.result(i), L.count, few.flat + i, results)
      }
    } else {
      for i in 0..<results { for r in 0..<rows { q[r &* results &+ i] = few.result(i)[r] } }
    }
  }

  /// Those of the row in lane r.
  @inline(__always)
  static func putRow<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_job>, _ r: Int, _ results: Int,
    _ out: UnsafeMutableRawPointer
  ) {
    let place = out.assumingMemoryBound(to: CChar.self)
    for i in 0..<results {
      writeScalar(job.pointee.dtype, place + i &* itemSize(job), Double(few.result(i)[r]))
    }
  }

  /// Whether squares of a vector's size are worth their shuffles, of AVX-512: 4096 × 16 float32 of
  /// softmax 13 to 26 % less time than number by number, × 10 17 to 30 %.
  @inline(__always) static func turnsSquares<L: Lanes>(_: L.Type, _ cols: Int) -> Bool {
    I.hasWideTiles && cols > L.count / 4
  }

  /// Rows row ..< row + rows of those up to `end`, to `x`; 0 in lanes without one.
  @inline(__always)
  static func turn<L: Lanes>(
    _ job: UnsafePointer<smxk_job>, _ row: Int, _ rows: Int, of end: Int, to few: FewElements<L>
  ) {
    let cols = few.length
    let size = itemSize(job)
    let isOwn = size == MemoryLayout<L.Scalar>.stride
    let x = job.pointee.x! + row &* cols &* size
    let turns = turnsSquares(L.self, cols)
    // A square reads a vector from where it begins in each row, and so beyond the last row.
    let fits = cols == few.span || (end &- row &- rows) &* cols >= L.count
    let isThere = isOwn && (!turns || (rows == L.count && fits))
    let p = isThere ? x.assumingMemoryBound(to: L.Scalar.self) : UnsafePointer(few.flat)
    let numbers = rows &* cols
    if !isOwn {
      widen(L.self, job, x, numbers, to: few.flat)
    } else if !isThere {
      for (i, _, last) in vectors(L.self, 0, numbers) {
        Own<L>.load(x, i, 0, last, fill: 0).store(at: few.flat + i)
      }
    }
    if turns && !isThere { clear(few, few.flat, from: rows) }
    turn(few, p, rows, to: few.x(0))
  }

  /// Rows after the last one, whose lanes are computed with, too.
  @inline(__always)
  static func clear<L: Lanes>(
    _ few: FewElements<L>, _ flat: UnsafeMutablePointer<L.Scalar>, from rows: Int
  ) {
    for (i, first, last) in vectors(L.self, rows &* few.length, L.count &* few.length) {
      store(L(0), flat + i, first, last)
    }
  }

  /// `rows` rows that follow one another at p, to lanes.
  @inline(__always)
  static func turn<L: Lanes>(
    _ few: FewElements<L>, _ p: UnsafePointer<L.Scalar>, _ rows: Int,
    to x: UnsafeMutablePointer<L.Scalar>
  ) {
    let cols = few.length
    if turnsSquares(L.self, cols) {
      var i = 0
      while i < cols {
        turnSquare(L.self, p + i, cols, x + i &* L.count, L.count)
        i = i &+ L.count
      }
      return
    }
    for i in 0..<cols {
      if rows < L.count { L(0).store(at: x + i &* L.count) }
      for r in 0..<rows { x[i &* L.count &+ r] = p[r &* cols &+ i] }
    }
  }

  /// `transpose` of a square, which either type has.
  @inline(__always)
  static func turnSquare<L: Lanes>(
    _: L.Type, _ from: UnsafePointer<L.Scalar>, _ fromRow: Int,
    _ to: UnsafeMutablePointer<L.Scalar>, _ toRow: Int
  ) {
    let (p, q) = (UnsafeRawPointer(from), UnsafeMutableRawPointer(to))
    if L.isSingle {
      transpose(
        F32.self, p.assumingMemoryBound(to: Float.self), fromRow,
        q.assumingMemoryBound(to: Float.self), toRow)
    } else {
      transpose(
        F64.self, p.assumingMemoryBound(to: Double.self), fromRow,
        q.assumingMemoryBound(to: Double.self), toRow)
    }
  }

  /// The same of one that has fewer rows or columns.
  @inline(__always)
  static func turnSquare<L: Lanes>(
    _: L.Type, _ from: UnsafePointer<L.Scalar>, _ fromRow: Int,
    _ to: UnsafeMutablePointer<L.Scalar>, _ toRow: Int, rows: Int, columns: Int
  ) {
    let (p, q) = (UnsafeRawPointer(from), UnsafeMutableRawPointer(to))
    if L.isSingle {
      transpose(
        F32.self, p.assumingMemoryBound(to: Float.self), fromRow,
        q.assumingMemoryBound(to: Float.self), toRow, rows: rows, columns: columns)
    } else {
      transpose(
        F64.self, p.assumingMemoryBound(to: Double.self), fromRow,
        q.assumingMemoryBound(to: Double.self), toRow, rows: rows, columns: columns)
    }
  }

  /// `count` numbers of the job's narrow type, and back.
  @inline(__always)
  static func widen<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ x: UnsafeRawPointer, _ count: Int,
    to flat: UnsafeMutablePointer<L.Scalar>
  ) {
    func each<F: Format>(_: F.Type) {
      for (i, _, last) in vectors(F.L.self, 0, count) {
        let v = last == F.L.count ? F.load(x, i) : F.load(x, i, 0, last, fill: 0)
        v.store(at: UnsafeMutableRawPointer(flat).assumingMemoryBound(to: F.L.Scalar.self) + i)
      }
    }
    if Int(job.pointee.dtype) == SMX_FLOAT16 {
      each(Narrow<Float16>.self)
    } else {
      each(Narrow<BFloat16>.self)
    }
  }
  @inline(__always)
  static func narrow<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ flat: UnsafePointer<L.Scalar>, _ count: Int,
    to out: UnsafeMutableRawPointer
  ) {
    func each<F: Format>(_: F.Type) {
      for (i, _, last) in vectors(F.L.self, 0, count) {
        let v = F.L(at: UnsafeRawPointer(flat).assumingMemoryBound(to: F.L.Scalar.self) + i)
        if last == F.L.count { F.store(v, out, i) } else { F.store(v, out, i, 0, last) }
      }
    }
    if Int(job.pointee.dtype) == SMX_FLOAT16 {
      each(Narrow<Float16>.self)
    } else {
      each(Narrow<BFloat16>.self)
    }
  }

  /// Rows first ..< first + count of a job whose rows lie side by side.
  @inline(never)
  static func fewColumns<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let cols = Int(job.pointee.cols)
    let results = job.pointee.operation == SMXK_LOGSUMEXP ? 1 : cols
    let few = FewElements<L>(length: cols, scratch)
    let adjacent = Int(job.pointee.outer![Int(job.pointee.outer_count) &- 1].count)
    let inner = job.pointee.inner![0]
    let place = Self.row(of: scratch)
    var row = first
    // Rows left of those side by side.
    var rest = 0
    var x = UnsafeRawPointer(job.pointee.x!)
    var out = UnsafeMutableRawPointer(job.pointee.out!)
    while row < first &+ count {
      if rest == 0 {
        locate(job, place, row)
        rest = Swift.min(adjacent &- row % adjacent, first &+ count &- row)
        x = UnsafeRawPointer(place.pointee.x!)
        out = UnsafeMutableRawPointer(place.pointee.out!)
      }
      let rows = Swift.min(L.count, rest)
      takeBeside(few, x, Int(inner.x), rows)
      let isDone = finishFew(No.self, No.self, few, job.pointee.operation)
      for r in 0..<(isDone ? 0 : rows) where few.special[r] != 0 {
        rowInStages(L.self, job, row &+ r, scratch)
      }
      putBeside(few, out, Int(inner.out), rows, results, unless: isDone ? nil : few.special)
      row = row &+ rows
      rest = rest &- rows
      x += rows &* MemoryLayout<L.Scalar>.stride
      out += rows &* MemoryLayout<L.Scalar>.stride
    }
  }

  /// `rows` rows that lie side by side, to `x`; 0 in lanes without one.
  @inline(__always)
  static func takeBeside<L: Lanes>(
    _ few: FewElements<L>, _ x: UnsafeRawPointer, _ step: Int, _ rows: Int
  ) {
    for i in 0..<few.length {
      let p = (x + i &* step).assumingMemoryBound(to: L.Scalar.self)
      I.prefetchRead(p + 2 &* L.count)
      (load(p, 0, rows, fill: 0) as L).store(at: few.x(i))
    }
  }

  /// Their first `results` results, but for those of rows that are special.
  @inline(__always)
  static func putBeside<L: Lanes>(
    _ few: FewElements<L>, _ out: UnsafeMutableRawPointer, _ step: Int, _ rows: Int, _ results: Int,
    unless special: UnsafePointer<L.Scalar>?
  ) {
    for i in 0..<results {
      let p = (out + i &* step).assumingMemoryBound(to: L.Scalar.self)
      if let special {
        for r in 0..<rows where special[r] == 0 { p[r] = few.result(i)[r] }
      } else {
        store(L(at: few.result(i)), p, 0, rows)
      }
    }
  }
}
