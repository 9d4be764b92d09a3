// Rows along an axis that is not the last: lanes across adjacent rows instead of along one.
//
// A block of up to 512 rows (256 of float64) lies side by side in memory, element i of all of them
// in one run of 2 KB. The passes walk i, so that memory is read in runs as long as a row of the
// block: the hardware fetches those ahead, and a power of two between them, which sends all into a
// few sets of the cache, costs no more than any other distance.
//
// A row's sum has the order of Sum.swift. Lane l of the row-wise order takes elements l, l + count,
// …; here the pass for the sum takes those elements of all rows, then the next lane's, in the order
// in which the lanes meet in the tree, so that a handful of partial sums is all that waits. What
// each row needs once is found for eight rows at a time. Blocks with a row that the plain form
// cannot do, and rows whose logarithm wants the precise sum, take the row-wise way.

import CSupport

extension Kernels {
  /// A block at work. Its numbers lie in scratch's `low`, which the stages need only for a bias,
  /// the partial sums in `high`.
  struct ColumnBlock<L: Lanes> {
    let x: UnsafeRawPointer
    let out: UnsafeMutableRawPointer
    /// Rows take places begin..<end, `width` at most, so that out's vectors are whole lines of
    /// memory: place 0 would be at x and out.
    let begin: Int
    let end: Int
    let length: Int
    /// Bytes from one element of a row to the next.
    let xStride: Int
    let outStride: Int
    /// From an element of x to what the pass for the sum asks for: the lane's next element, or
    /// where the block stays in the second-level cache the same element of the next block.
    var ahead: Int
    let memory: UnsafeMutableRawPointer
    let partials: UnsafeMutablePointer<Double>

    @inline(__always) var rows: Int { end &- begin }

    /// Runs of 2 KB, whatever the lanes' type.
    static var mostRows: Int { @inline(__always) get { 32 &* L.count } }
    static var width: Int { @inline(__always) get { mostRows &+ L.count } }
    /// Numbers of one partial sum: a float64 a row for float32, a pair for float64. At most five
    /// wait.
    static var level: Int { @inline(__always) get { L.isSingle ? width : 2 &* width } }

    @inline(__always) init(
      _ job: UnsafePointer<smxk_job>, first: Int, rows: Int,
      _ scratch: UnsafeMutablePointer<smxk_scratch>
    ) {
      let row = row(of: scratch)
      locate(job, row, first)
      let inner = job.pointee.inner![0]
      begin = (L.count &- toBoundary(Own<L>.self, row.pointee.out!)) & (L.count &- 1)
      end = begin &+ rows
      let bytes = begin &* MemoryLayout<L.Scalar>.stride
      x = UnsafeRawPointer(row.pointee.x! - bytes)
      out = UnsafeMutableRawPointer(row.pointee.out! - bytes)
      length = Int(job.pointee.cols)
      xStride = Int(inner.x)
      outStride = Int(inner.out)
      ahead = L.count &* xStride
      memory = smxk_low_of(scratch)
      partials = smxk_high_of(scratch).assumingMemoryBound(to: Double.self)
    }

    /// A number of each row.
    @inline(__always) func numbers(_ kind: Int) -> UnsafeMutablePointer<L.Scalar> {
      memory.assumingMemoryBound(to: L.Scalar.self) + kind &* Self.width
    }
    @inline(__always) var maximum: UnsafeMutablePointer<L.Scalar> { numbers(0) }
    @inline(__always) var special: UnsafeMutablePointer<L.Scalar> { numbers(1) }
    /// For the sum: shift and cut of the exponential, high and low of the lane. Then the
    /// divisors' high, low and what the maximum gets, or the logarithms.
    @inline(__always) func own(_ kind: Int) -> UnsafeMutablePointer<L.Scalar> { numbers(2 &+ kind) }
    @inline(__always) var sumsHigh: UnsafeMutablePointer<Double> {
      UnsafeMutableRawPointer(numbers(6)).assumingMemoryBound(to: Double.self)
    }
    @inline(__always) var sumsLow: UnsafeMutablePointer<Double> { sumsHigh + Self.width }

    /// Calls `body` at every vector of places, with its lanes that are rows.
    @inline(__always) func eachVector(_ body: (_ row: Int, _ lanes: Range<Int>) -> Void) {
      var row = 0
      if begin > 0 {
        body(row, begin..<Swift.min(end, L.count))
        row = L.count
      }
      while row &+ L.count <= end {
        body(row, 0..<L.count)
        row = row &+ L.count
      }
      if row < end { body(row, 0..<(end &- row)) }
    }

    /// Calls `body` at every eight rows.
    @inline(__always) func eachEight(_ body: (_ row: Int) -> Void) {
      var row = 0
      while row < end {
        body(row)
        row = row &+ 8
      }
    }

    @inline(__always) func load(_ p: UnsafeRawPointer, _ row: Int, _ lanes: Range<Int>) -> L {
      Kernels.load(
        p.assumingMemoryBound(to: L.Scalar.self) + row, lanes.lowerBound, lanes.upperBound, fill: 0)
    }
    @inline(__always) func store(
      _ v: L, _ p: UnsafeMutableRawPointer, _ row: Int, _ lanes: Range<Int>
    ) {
      Kernels.store(
        v, p.assumingMemoryBound(to: L.Scalar.self) + row, lanes.lowerBound, lanes.upperBound)
    }
  }

  /// Rows first ..< first + count.
  @inline(__always)
  static func columns<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let adjacent = Int(job.pointee.outer![Int(job.pointee.outer_count) &- 1].count)
    let end = first &+ count
    func rows(from row: Int) -> Int {
      Swift.min(ColumnBlock<L>.mostRows, adjacent &- row % adjacent, end &- row)
    }
    var row = first
    var block = ColumnBlock<L>(job, first: row, rows: rows(from: row), scratch)
    while true {
      let next = row &+ block.rows
      if next >= end {
        columnBlock(block, job, first: row, scratch)
        return
      }
      let following = ColumnBlock<L>(job, first: next, rows: rows(from: next), scratch)
      let isSmall = block.length &* block.rows &* MemoryLayout<L.Scalar>.stride <= 1 << 19
      if isSmall { block.ahead = following.x - block.x }
      columnBlock(block, job, first: row, scratch)
      row = next
      block = following
    }
  }

  @inline(never)
  static func columnBlock<L: Lanes>(
    _ block: ColumnBlock<L>, _ job: UnsafePointer<smxk_job>, first: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    guard findMaxima(block) else {
      for row in 0..<block.rows { rowInStages(L.self, job, first &+ row, scratch) }
      return
    }
    let isSoftmax = job.pointee.operation == SMXK_SOFTMAX
    var start = 0
    while start < block.length {
      let end = Swift.min(start &+ chunkSize, block.length)
      if isSoftmax {
        sumChunk(Yes.self, block, start, end)
      } else {
        sumChunk(No.self, block, start, end)
      }
      start = end
    }
    if isSoftmax {
      divideColumns(block)
    } else {
      finishLogarithms(block, job, first: first, scratch)
    }
  }

  /// Maxima of all rows, and from them what the exponentials need. False where a row is not plain.
  @inline(__always)
  static func findMaxima<L: Lanes>(_ block: ColumnBlock<L>) -> Bool {
    let lowest = L(-L.Scalar.infinity)
    block.eachVector { row, _ in lowest.store(at: block.maximum + row) }
    var x = block.x
    for _ in 0..<block.length {
      block.eachVector { row, lanes in
        I.prefetchRead(x + (block.xStride &+ row &* MemoryLayout<L.Scalar>.stride))
        L.max(block.load(x, row, lanes), L(at: block.maximum + row)).store(at: block.maximum + row)
      }
      x += block.xStride
    }
    var largest = L(0)
    block.eachVector { row, _ in
      let m = L(at: block.maximum + row)
      largest = L.max(L.pick(m, lessThan: L(0), L(0) - m, m), largest)
      let exp = PlainExp<L>(maximum: m)
      exp.shift.store(at: block.own(0) + row)
      exp.cut.store(at: block.own(1) + row)
    }
    return largest.largest() < L.plainLimit
  }

  /// Adds the chunk start..<end to the sums of all rows; each term is kept in out if Keeps, the
  /// maximum's as its negative.
  @inline(__always)
  static func sumChunk<L: Lanes, Keeps: Choice>(
    _: Keeps.Type, _ block: ColumnBlock<L>, _ start: Int, _ end: Int
  ) {
    let high = block.own(2)
    let low = block.own(3)
    // Partial sums, deepest first: after a lane, as many as there are ones in the number of lanes
    // so far.
    var depth = 0
    for step in 0..<L.count {
      // Order is part of the contract: as Lanes.total.
      let lane = reversed(step, below: L.count)
      sumLane(Keeps.self, block, start &+ lane, end)
      let leaf = block.partials + depth &* ColumnBlock<L>.level
      block.eachEight { row in
        let ofHigh: L = load(high + row, 0, 8, fill: 0)
        let ofLow: L = load(low + row, 0, 8, fill: 0)
        put(L.self, laneSum(ofHigh, ofLow) { $0.eight }, leaf, row)
      }
      depth = depth &+ 1
      var ones = step
      while ones & 1 == 1 {
        let b = block.partials + (depth &- 1) &* ColumnBlock<L>.level
        let a = b - ColumnBlock<L>.level
        block.eachEight { row in
          put(L.self, meet(take(L.self, a, row), take(L.self, b, row), L.self), a, row)
        }
        depth = depth &- 1
        ones = ones >> 1
      }
    }
    block.eachEight { row in
      var sum = take(L.self, block.partials, row)
      if !L.isSingle { sum = SumOf.exact(larger: sum.high, sum.low) }
      if start > 0 {
        let part = sum
        sum = SumOf(high: L.loadEight(block.sumsHigh + row), low: L.loadEight(block.sumsLow + row))
        sum.add(part)
      }
      L.storeEight(sum.high, block.sumsHigh + row)
      L.storeEight(sum.low, block.sumsLow + row)
    }
  }

  /// The elements of one lane, first, first + count, … of all rows, into own(2) and own(3).
  @inline(__always)
  static func sumLane<L: Lanes, Keeps: Choice>(
    _: Keeps.Type, _ block: ColumnBlock<L>, _ first: Int, _ end: Int
  ) {
    let high = block.own(2)
    let low = block.own(3)
    let empty = Accumulator<L>()
    block.eachVector { row, _ in
      empty.high.store(at: high + row)
      empty.low.store(at: low + row)
    }
    var i = first
    while i < end {
      let x = block.x + i &* block.xStride
      let out = block.out + i &* block.outStride
      block.eachVector { row, lanes in
        let bytes = row &* MemoryLayout<L.Scalar>.stride
        I.prefetchRead(x + (block.ahead &+ bytes))
        if Keeps.isTrue { I.prefetchWrite(out + (L.count &* block.outStride &+ bytes)) }
        let exp = PlainExp<L>(shift: L(at: block.own(0) + row), cut: L(at: block.own(1) + row))
        let x = block.load(x, row, lanes)
        let term = exp(x)
        let e = term.rounded()
        if Keeps.isTrue {
          // Negative marks the maximum, whose term need not tell it.
          block.store(L.pick(x, equalTo: L(at: block.maximum + row), L(0) - e, e), out, row, lanes)
        }
        var sum = Accumulator<L>(high: L(at: high + row), low: L(at: low + row))
        sum.add(term, rounded: e)
        sum.high.store(at: high + row)
        sum.low.store(at: low + row)
      }
      i = i &+ L.count
    }
  }

  /// The bits of `step` in reverse, for a power of two `below`.
  @inline(__always) static func reversed(_ step: Int, below count: Int) -> Int {
    var result = 0
    var bit = 1
    while bit < count {
      result = result << 1 | (step & bit != 0 ? 1 : 0)
      bit = bit << 1
    }
    return result
  }

  @inline(__always)
  static func take<L: Lanes>(_: L.Type, _ p: UnsafePointer<Double>, _ row: Int) -> SumOf<L.Eight> {
    SumOf(
      high: L.loadEight(p + row),
      low: L.isSingle ? L.Eight(0) : L.loadEight(p + ColumnBlock<L>.width + row))
  }
  @inline(__always)
  static func put<L: Lanes>(
    _: L.Type, _ sum: SumOf<L.Eight>, _ p: UnsafeMutablePointer<Double>, _ row: Int
  ) {
    L.storeEight(sum.high, p + row)
    if !L.isSingle { L.storeEight(sum.low, p + ColumnBlock<L>.width + row) }
  }

  @inline(__always)
  static func divideColumns<L: Lanes>(_ block: ColumnBlock<L>) {
    block.eachEight { row in
      let numbers = Divisors<L>(
        maximum: load(block.maximum + row, 0, 8, fill: 0),
        SumOf(high: L.loadEight(block.sumsHigh + row), low: L.loadEight(block.sumsLow + row)))
      store(numbers.high, block.own(0) + row, 0, 8)
      store(numbers.low, block.own(1) + row, 0, 8)
      store(numbers.ofMaximum, block.own(2) + row, 0, 8)
      store(numbers.isSpecial, block.special + row, 0, 8)
    }
    if columnsLookFar(block) {
      divideFarColumns(block)
    } else {
      divideNearColumns(block)
    }
    for row in block.begin..<block.end where block.special[row] != 0 {
      // Its sum is NaN.
      for i in 0..<block.length {
        (block.out + i &* block.outStride).assumingMemoryBound(to: L.Scalar.self)[row] = quietNaN(
          L.self)
      }
    }
  }

  @inline(__always)
  static func divideNearColumns<L: Lanes>(_ block: ColumnBlock<L>) {
    var out = block.out
    for _ in 0..<block.length {
      block.eachVector { row, lanes in
        I.prefetchWrite(out + (block.outStride &+ row &* MemoryLayout<L.Scalar>.stride))
        let e = block.load(out, row, lanes)
        let quotient = e.fma(L(at: block.own(0) + row), e * L(at: block.own(1) + row))
        block.store(L.pick(e, lessThan: L(0), L(at: block.own(2) + row), quotient), out, row, lanes)
      }
      out += block.outStride
    }
  }

  /// log_softmax and logsumexp of the block; a row that wants the precise sum goes through the
  /// stages.
  @inline(__always)
  static func finishLogarithms<L: Lanes>(
    _ block: ColumnBlock<L>, _ job: UnsafePointer<smxk_job>, first: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let operation = job.pointee.operation
    let logs = block.own(0)
    block.eachEight { row in
      let numbers = Logarithms<L>(
        operation, maximum: load(block.maximum + row, 0, 8, fill: 0),
        SumOf(high: L.loadEight(block.sumsHigh + row), low: L.loadEight(block.sumsLow + row)))
      store(operation == SMXK_LOG_SOFTMAX ? numbers.relative : numbers.absolute, logs + row, 0, 8)
      store(numbers.isSpecial, block.special + row, 0, 8)
    }
    let isInPlace = block.x == UnsafeRawPointer(block.out)
    // Terms wait in out; log_softmax has none. Every element of the rows is then a whole number of
    // lines from the first.
    let streams = job.pointee.streams != 0 && block.outStride & 63 == 0
    // In place a special row goes first, and the pass that then meets its results takes nothing off
    // them.
    if isInPlace {
      for row in block.begin..<block.end where block.special[row] != 0 {
        rowInStages(L.self, job, first &+ row &- block.begin, scratch)
        block.maximum[row] = 0
        logs[row] = 0
      }
    }
    if operation == SMXK_LOG_SOFTMAX {
      var x = block.x
      var out = block.out
      for _ in 0..<block.length {
        block.eachVector { row, lanes in
          let bytes = row &* MemoryLayout<L.Scalar>.stride
          I.prefetchRead(x + (block.xStride &+ bytes))
          if !streams { I.prefetchWrite(out + (block.outStride &+ bytes)) }
          let y = (block.load(x, row, lanes) - L(at: block.maximum + row)) - L(at: logs + row)
          if streams && lanes.count == L.count {
            y.stream(at: out.assumingMemoryBound(to: L.Scalar.self) + row)
          } else {
            block.store(y, out, row, lanes)
          }
        }
        x += block.xStride
        out += block.outStride
      }
    } else {
      block.eachVector { row, lanes in block.store(L(at: logs + row), block.out, row, lanes) }
    }
    if !isInPlace {
      for row in block.begin..<block.end where block.special[row] != 0 {
        rowInStages(L.self, job, first &+ row &- block.begin, scratch)
      }
    }
  }
}
