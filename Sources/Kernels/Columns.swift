// Rows along an axis that is not the last: lanes across adjacent rows instead of along one.
//
// A block of up to 128 rows lies side by side in memory, element i of all of them in one short run. The passes
// walk i, a vector of rows at a time. A row's sum still has the order of Sum.swift: lane l of
// the row-wise order is accumulator l here, and the accumulators meet in the same tree, so both ways give
// the same bits. Blocks with a row that the plain form cannot do, and rows whose logarithm wants the
// precise sum, take the row-wise way.
//
// The limit is memory: 512 bytes of each line of x are used in three passes while the block stays in the
// second-level cache. Reading row by row instead fetches a line for each element.

import CSupport

extension Kernels {
  /// Rows of one block.
  static var blockRows: Int { @inline(__always) get { 128 } }

  /// One block at work. Scratch holds the accumulators, `high` and `low`, as [lane][row].
  struct Block<L: Lanes> {
    let x: UnsafePointer<L.Scalar>
    let out: UnsafeMutablePointer<L.Scalar>
    /// Rows of the block, and the same rounded up to whole vectors.
    let rows: Int
    let padded: Int
    let length: Int
    /// Bytes from one element of a row to the next.
    let xStride: Int
    let outStride: Int
    let high: UnsafeMutablePointer<L.Scalar>
    let low: UnsafeMutablePointer<L.Scalar>
    /// One number for each row: maximum, shift and floor of its exponential, then the divisor.
    let maximum: UnsafeMutablePointer<L.Scalar>
    let shift: UnsafeMutablePointer<L.Scalar>
    let floor: UnsafeMutablePointer<L.Scalar>
    let sums: UnsafeMutablePointer<Sum>

    @inline(__always) func x(_ i: Int, _ row: Int) -> L {
      let p = (UnsafeRawPointer(x) + i &* xStride).assumingMemoryBound(to: L.Scalar.self) + row
      return load(p, 0, Swift.min(rows &- row, L.count), fill: 0)
    }
    @inline(__always) func out(_ i: Int) -> UnsafeMutablePointer<L.Scalar> {
      (UnsafeMutableRawPointer(out) + i &* outStride).assumingMemoryBound(to: L.Scalar.self)
    }
    @inline(__always) func store(_ v: L, _ i: Int, _ row: Int) {
      Kernels.store(v, out(i) + row, 0, Swift.min(rows &- row, L.count))
    }
    /// Asks for element i of all rows before its turn.
    @inline(__always) func prefetch(_ i: Int, writes: Bool) {
      guard i < length else { return }
      var row = 0
      while row < rows {
        I.prefetchRead(UnsafeRawPointer(x) + (i &* xStride &+ row &* MemoryLayout<L.Scalar>.stride))
        if writes { I.prefetchWrite(out(i) + row) }
        row = row &+ L.count
      }
    }
  }

  /// Rows first ..< first + count, all within one run of adjacent rows.
  @inline(never)
  static func columns<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let block = makeBlock(L.self, job, first, count, scratch)
    guard findMaxima(block) else {
      for index in first..<first &+ count { rowInStages(L.self, job, index, scratch) }
      return
    }
    sumColumns(block, keeping: job.pointee.operation == SMXK_SOFTMAX)
    if job.pointee.operation == SMXK_SOFTMAX {
      divideColumns(block)
    } else {
      finishLogarithms(job, block, first, scratch)
    }
  }

  @inline(__always)
  static func makeBlock<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ first: Int, _ count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Block<L> {
    let row = row(of: scratch)
    locate(job, row, first)
    let inner = job.pointee.inner![0]
    let memory = smxk_high_of(scratch).assumingMemoryBound(to: L.Scalar.self)
    let numbers = smxk_low_of(scratch).assumingMemoryBound(to: L.Scalar.self)
    let rows = blockRows
    return Block<L>(
      x: UnsafeRawPointer(row.pointee.x!).assumingMemoryBound(to: L.Scalar.self),
      out: UnsafeMutableRawPointer(row.pointee.out!).assumingMemoryBound(to: L.Scalar.self),
      rows: count, padded: (count &+ L.count &- 1) & ~(L.count &- 1),
      length: Int(job.pointee.cols), xStride: Int(inner.x), outStride: Int(inner.out),
      high: memory, low: memory + rows &* L.count,
      maximum: numbers, shift: numbers + rows, floor: numbers + 2 &* rows,
      sums: UnsafeMutableRawPointer(numbers + 4 &* rows).assumingMemoryBound(to: Sum.self))
  }

  /// Maxima of all rows, and from them what the exponentials need. False where a row is not plain.
  @inline(__always)
  static func findMaxima<L: Lanes>(_ block: Block<L>) -> Bool {
    let lowest = L(-L.Scalar.infinity)
    var row = 0
    while row < block.padded {
      lowest.store(at: block.maximum + row)
      row = row &+ L.count
    }
    for i in 0..<block.length {
      block.prefetch(i &+ 8, writes: false)
      row = 0
      while row < block.padded {
        L.max(block.x(i, row), L(at: block.maximum + row)).store(at: block.maximum + row)
        row = row &+ L.count
      }
    }
    for row in 0..<block.padded {
      let maximum = block.maximum[row]
      guard maximum.magnitude < L.plainLimit else { return false }
      let exp = PlainExp<L>(maximum: maximum)
      block.shift[row] = exp.shift[0]
      block.floor[row] = exp.floor[0]
    }
    return true
  }

  /// Sums of all rows, chunk by chunk; each term is kept in out for softmax.
  @inline(__always)
  static func sumColumns<L: Lanes>(_ block: Block<L>, keeping: Bool) {
    var start = 0
    while start < block.length {
      let end = Swift.min(start &+ chunkSize, block.length)
      clearAccumulators(block)
      for i in start..<end {
        block.prefetch(i &+ 4, writes: keeping)
        let lane = (i & (L.count &- 1)) &* block.padded
        var row = 0
        while row < block.padded {
          let exp = PlainExp<L>(shift: L(at: block.shift + row), floor: L(at: block.floor + row))
          let term = exp(block.x(i, row))
          let e = term.rounded()
          if keeping { block.store(e, i, row) }
          let place = lane &+ row
          var sum = Accumulator<L>(high: L(at: block.high + place), low: L(at: block.low + place))
          sum.add(term, rounded: e)
          sum.high.store(at: block.high + place)
          sum.low.store(at: block.low + place)
          row = row &+ L.count
        }
      }
      var row = 0
      while row < block.padded {
        L.totals(
          block.high + row, block.low + row, stride: block.padded, origin: L.sumOrigin,
          block.sums + row, adding: start > 0)
        row = row &+ L.count
      }
      start = end
    }
  }

  @inline(__always)
  static func clearAccumulators<L: Lanes>(_ block: Block<L>) {
    let empty = Accumulator<L>()
    var place = 0
    while place < L.count &* block.padded {
      empty.high.store(at: block.high + place)
      empty.low.store(at: block.low + place)
      place = place &+ L.count
    }
  }

  @inline(__always)
  static func divideColumns<L: Lanes>(_ block: Block<L>) {
    // The accumulators have done their work; their place holds the divisors.
    let high = block.high
    let low = block.high + block.padded
    let top = block.high + 2 &* block.padded
    let share = block.high + 3 &* block.padded
    var hasNaN = false
    for row in 0..<block.padded {
      let divisor = Divisor(block.sums[row], Top<L>(plain: block.maximum[row]))
      high[row] = divisor.high[0]
      low[row] = divisor.low[0]
      top[row] = divisor.top[0]
      share[row] = divisor.topShare[0]
      hasNaN = hasNaN || block.sums[row].high.isNaN
    }
    for i in 0..<block.length {
      var row = 0
      while row < block.padded {
        let e: L = load(block.out(i) + row, 0, Swift.min(block.rows &- row, L.count), fill: 0)
        let quotient = e.fma(L(at: high + row), e * L(at: low + row))
        block.store(L.pick(e, equalTo: L(at: top + row), L(at: share + row), quotient), i, row)
        row = row &+ L.count
      }
    }
    if !hasNaN { return }
    for row in 0..<block.rows where block.sums[row].high.isNaN {
      for i in 0..<block.length { block.out(i)[row] = quietNaN(L.self) }
    }
  }

  /// log_softmax and logsumexp of the block; a vector with a row that wants the precise sum goes row by row.
  @inline(__always)
  static func finishLogarithms<L: Lanes>(
    _ job: UnsafePointer<smxk_job>, _ block: Block<L>, _ first: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let operation = job.pointee.operation
    let logs = block.high
    for row in 0..<block.padded {
      let maximum = block.maximum[row]
      let t: Sum = Top<L>(plain: maximum).others(of: block.sums[row])
      let sum: Sum = log1p(t)
      let isPlain =
        !needsPreciseSum(operation, t.high, sum.high, maximum: Double(maximum)) && !t.high.isNaN
      let log = isPlain ? sum : Sum(high: .nan, low: 0)
      logs[row] = operation == SMXK_LOG_SOFTMAX
        ? L.Scalar(log.high) : L.Scalar(sumOfLog(maximum: Double(maximum), low: 0, log))
    }
    var row = 0
    while row < block.padded {
      let last = Swift.min(block.rows &- row, L.count)
      var isPlain = true
      for lane in 0..<last { isPlain = isPlain && !logs[row &+ lane].isNaN }
      if !isPlain {
        block.floor[row] = .nan
      } else if operation == SMXK_LOGSUMEXP {
        store(L(at: logs + row), block.out + row, 0, last)
      } else {
        block.floor[row] = 0
      }
      row = row &+ L.count
    }
    if operation == SMXK_LOG_SOFTMAX { subtractColumns(block, logs) }
    // Scratch is theirs from here on; which rows remain is kept in a bit for each vector.
    var remaining: UInt64 = 0
    row = 0
    while row < block.padded {
      if block.floor[row].isNaN { remaining |= 1 &<< UInt64(row / L.count) }
      row = row &+ L.count
    }
    row = 0
    while row < block.padded {
      if remaining & (1 &<< UInt64(row / L.count)) != 0 {
        for index in row..<Swift.min(row &+ L.count, block.rows) {
          rowInStages(L.self, job, first &+ index, scratch)
        }
      }
      row = row &+ L.count
    }
  }

  @inline(__always)
  static func subtractColumns<L: Lanes>(_ block: Block<L>, _ logs: UnsafePointer<L.Scalar>) {
    for i in 0..<block.length {
      block.prefetch(i &+ 4, writes: true)
      var row = 0
      while row < block.padded {
        if !block.floor[row].isNaN {
          let y = (block.x(i, row) - L(at: block.maximum + row)) - L(at: logs + row)
          block.store(y, i, row)
        }
        row = row &+ L.count
      }
    }
  }
}
