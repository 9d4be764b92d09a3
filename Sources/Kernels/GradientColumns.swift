// Gradients of rows along an axis that is not the last: lanes across adjacent rows (Columns.swift).
//
// Both passes walk a block of rows side by side from element to element, as memory has them. Lane l
// of the row-wise order is the sum of elements l, l + count, …; here each element of all rows goes
// to its lane's sums, which wait in scratch for the chunk's end, when they meet as Lanes.total adds
// them. Lanes without an element would add exactly 0 there and are left out.
//
// Limits, AVX-512 with two vector ports, 16 float32: sum 6 operations, 4 loads and 2 stores;
// results 3 operations, 4 loads and a store: 6 cycles together, where 192 bytes from memory take
// 40. Rows wait for both operands to be in the cache at once, so a block has fewer of them than
// that of a softmax. A block with a row that the plain form cannot do goes through the stages.
//
// One thread (Xeon), 512 K elements of float32, ns an element, turned into rows before and now:
// rows of 2 22, 1.0; of 21 1.9, 0.7; of 64 1.2, 0.6; of 1000 1.5 to 3.2, 0.8 to 1.3.

import CSupport

extension Kernels {
  /// Rows first ..< first + count.
  @inline(never)
  static func gradientColumns<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let adjacent = Int(job.pointee.outer![Int(job.pointee.outer_count) &- 1].count)
    let end = first &+ count
    var row = first
    while row < end {
      let rows = Swift.min(GradientColumns<L>.mostRows, adjacent &- row % adjacent, end &- row)
      let block = GradientColumns<L>(job, first: row, rows: rows, scratch)
      if job.pointee.operation == SMXK_LOG_SOFTMAX_VJP {
        gradientBlock(Yes.self, block, job, first: row, scratch)
      } else {
        gradientBlock(No.self, block, job, first: row, scratch)
      }
      row = row &+ rows
    }
  }

  /// A block at work: y and out are those of `block`.
  struct GradientColumns<L: Lanes> {
    let block: ColumnBlock<L>
    let dy: UnsafeRawPointer
    let dyStride: Int

    static var mostRows: Int { @inline(__always) get { 16 &* L.count } }
    static var width: Int { @inline(__always) get { mostRows &+ L.count } }

    @inline(__always) init(
      _ job: UnsafePointer<smxk_job>, first: Int, rows: Int,
      _ scratch: UnsafeMutablePointer<smxk_scratch>
    ) {
      block = ColumnBlock(job, first: first, rows: rows, scratch)
      let bytes = block.begin &* MemoryLayout<L.Scalar>.stride
      dy = UnsafeRawPointer(row(of: scratch).pointee.weights! - bytes)
      dyStride = Int(job.pointee.inner![0].weights)
    }

    @inline(__always) func load(
      _ p: UnsafeRawPointer, _ row: Int, _ first: Int, _ last: Int
    ) -> L {
      Kernels.load(p.assumingMemoryBound(to: L.Scalar.self) + row, first, last, fill: 0)
    }

    /// A float64 for each row. The lanes' sums are one kind each, of float64 two; behind them the
    /// sums of the chunks so far, then S as `numbers` of the lanes' type. In `high` and `low`.
    @inline(__always) private func wide(_ kind: Int) -> UnsafeMutablePointer<Double> {
      block.partials + kind &* Self.width
    }
    @inline(__always) private func numbers(_ kind: Int) -> UnsafeMutablePointer<L.Scalar> {
      UnsafeMutableRawPointer(wide(18 &+ kind)).assumingMemoryBound(to: L.Scalar.self)
    }
    @inline(__always) private var sumsHigh: UnsafeMutablePointer<Double> { wide(16) }
    @inline(__always) private var sumsLow: UnsafeMutablePointer<Double> { wide(17) }
    @inline(__always) var high: UnsafeMutablePointer<L.Scalar> { numbers(0) }
    @inline(__always) var low: UnsafeMutablePointer<L.Scalar> { numbers(1) }
    @inline(__always) var scale: UnsafeMutablePointer<L.Scalar> { numbers(2) }

    /// Where lane `lane` of a vector of rows has its sums: of float32 two times eight rows, of
    /// float64 high and low parts.
    @inline(__always) func first(_ lane: Int, _ row: Int) -> UnsafeMutablePointer<Double> {
      wide(lane) + row
    }
    @inline(__always) func second(_ lane: Int, _ row: Int) -> UnsafeMutablePointer<Double> {
      wide(L.isSingle ? lane : lane &+ 8) + (L.isSingle ? row &+ 8 : row)
    }

    /// Lane `lane` of eight rows as the tree takes it: of float32 together with the lane eight
    /// further on.
    @inline(__always) private func leaf(
      _ lane: Int, of lanes: Int, _ row: Int
    ) -> SumOf<L.Eight> {
      // Order is part of the contract: as Terms.total.
      let high = L.loadEight(wide(lane) + row)
      if !L.isSingle { return SumOf(high: high, low: L.loadEight(wide(lane &+ 8) + row)) }
      let other = lane &+ 8 < lanes ? L.loadEight(wide(lane &+ 8) + row) : L.Eight(0)
      return SumOf(high: high + other, low: L.Eight(0))
    }

    @inline(__always) private func meet(
      _ a: SumOf<L.Eight>, _ b: SumOf<L.Eight>
    ) -> SumOf<L.Eight> {
      Kernels.meet(a, b, F64.self)
    }

    /// Lanes `lane` and `lane` + 4 of eight, or the first where there is no other.
    @inline(__always) private func pair(
      _ lane: Int, of lanes: Int, _ row: Int
    ) -> SumOf<L.Eight> {
      let a = leaf(lane, of: lanes, row)
      return lane &+ 4 < lanes ? meet(a, leaf(lane &+ 4, of: lanes, row)) : a
    }

    /// Adds a chunk's sums, of which `lanes` have been entered, to those of the chunks before.
    @inline(never) func addChunk(lanes: Int, isFirst: Bool) {
      block.eachEight { row in
        // Order is part of the contract: as Lanes.total.
        var sum = pair(0, of: lanes, row)
        if lanes > 2 { sum = meet(sum, pair(2, of: lanes, row)) }
        if lanes > 1 {
          var odd = pair(1, of: lanes, row)
          if lanes > 3 { odd = meet(odd, pair(3, of: lanes, row)) }
          sum = meet(sum, odd)
        }
        sum = SumOf.exact(larger: sum.high, sum.low)
        if !isFirst {
          let part = sum
          sum = SumOf(high: L.loadEight(sumsHigh + row), low: L.loadEight(sumsLow + row))
          sum.add(part)
        }
        L.storeEight(sum.high, sumsHigh + row)
        L.storeEight(sum.low, sumsLow + row)
      }
    }

    /// S in the lanes' type, and for log_softmax the factors of LogSoftmaxGradient. False where a
    /// row's is out of the plain form's reach.
    @inline(never) func findNumbers(isLog: Bool) -> Bool {
      // Lanes without a row are computed with, too.
      for kind in 0..<3 { L(0).store(at: numbers(kind) + ((block.end &- 1) & ~(L.count &- 1))) }
      var largest = L(0)
      block.eachEight { row in
        let sum = L.loadEight(sumsHigh + row)
        let upper = L(eight: sum)
        let lower = L(eight: (sum - upper.eight) + L.loadEight(sumsLow + row))
        let magnitude = L.pick(upper, lessThan: L(0), L(0) - upper, upper)
        largest = L.max(L.pick(upper, equalTo: upper, magnitude, L(.infinity)), largest)
        let ofSum = L.Eight.pick(sum, lessThan: L.Eight(0), L.Eight(0) - sum, sum)
        let small = L.Eight.pick(ofSum, lessThan: L.Eight(0x1p-20), L.Eight(1), L.Eight(0))
        let isSmall = L(eight: small)
        let factor = isLog ? L.pick(isSmall, equalTo: L(0), L(1 / L.unit), L(1)) : L(1)
        store(upper * factor, high + row, 0, 8)
        store(lower * factor, low + row, 0, 8)
        store(L.pick(isSmall, equalTo: L(0), L(1), L(1 / L.unit)), scale + row, 0, 8)
      }
      return largest.largest() < L.Scalar(gradientLimit(L.self))
    }
  }

  @inline(never)
  static func gradientBlock<L: Lanes, IsLog: Choice>(
    _: IsLog.Type, _ columns: GradientColumns<L>, _ job: UnsafePointer<smxk_job>, first: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let block = columns.block
    var start = 0
    while start < block.length {
      let end = Swift.min(start &+ chunkSize, block.length)
      sumChunk(IsLog.self, columns, start, end)
      columns.addChunk(lanes: Swift.min(end &- start, L.count), isFirst: start == 0)
      start = end
    }
    // Before anything is written over y or dy.
    guard columns.findNumbers(isLog: IsLog.isTrue) else {
      for row in 0..<block.rows { rowInStages(L.self, job, first &+ row, scratch) }
      return
    }
    differentiate(IsLog.self, columns, streams: job.pointee.streams != 0)
  }

  /// The sums of the chunk start..<end by lanes.
  @inline(__always)
  static func sumChunk<L: Lanes, IsLog: Choice>(
    _: IsLog.Type, _ columns: GradientColumns<L>, _ start: Int, _ end: Int
  ) {
    let block = columns.block
    var y = block.x + start &* block.xStride
    var dy = columns.dy + start &* columns.dyStride
    for i in start..<end {
      let lane = i & (L.count &- 1)
      let isFirst = i &- start < L.count
      for (row, first, last) in vectors(L.self, block.begin, block.end) {
        let bytes = row &* MemoryLayout<L.Scalar>.stride
        if !IsLog.isTrue { I.prefetchRead(y + (block.xStride &+ bytes)) }
        I.prefetchRead(dy + (columns.dyStride &+ bytes))
        let ofFirst = columns.first(lane, row)
        let ofSecond = columns.second(lane, row)
        var terms = Terms<L>()
        if !isFirst {
          terms.first = L.loadEight(ofFirst)
          terms.second = L.loadEight(ofSecond)
        }
        if IsLog.isTrue {
          terms.add(columns.load(dy, row, first, last))
        } else {
          terms.add(columns.load(y, row, first, last), times: columns.load(dy, row, first, last))
        }
        L.storeEight(terms.first, ofFirst)
        L.storeEight(terms.second, ofSecond)
      }
      y += block.xStride
      dy += columns.dyStride
    }
  }

  /// The results of a block, the numbers being known.
  @inline(__always)
  static func differentiate<L: Lanes, IsLog: Choice>(
    _: IsLog.Type, _ columns: GradientColumns<L>, streams: Bool
  ) {
    let block = columns.block
    // Every element of the rows is then a whole number of lines from the first.
    let streams = streams && block.outStride & 63 == 0
    var y = block.x
    var dy = columns.dy
    var out = block.out
    for _ in 0..<block.length {
      for (row, first, last) in vectors(L.self, block.begin, block.end) {
        let bytes = row &* MemoryLayout<L.Scalar>.stride
        I.prefetchRead(y + (block.xStride &+ bytes))
        I.prefetchRead(dy + (columns.dyStride &+ bytes))
        if !streams { I.prefetchWrite(out + (block.outStride &+ bytes)) }
        let high = L(at: columns.high + row)
        let low = L(at: columns.low + row)
        let ofY = columns.load(y, row, first, last)
        let ofDy = columns.load(dy, row, first, last)
        let dx: L
        if IsLog.isTrue {
          let probability = Probability<L>(scale: L(at: columns.scale + row))
          dx = LogSoftmaxGradient(high: high, low: low, probability: probability)(ofY, ofDy)
        } else {
          dx = SoftmaxGradient(high: high, low: low)(ofY, ofDy)
        }
        if streams && last &- first == L.count {
          dx.stream(at: out.assumingMemoryBound(to: L.Scalar.self) + row)
        } else {
          store(dx, out.assumingMemoryBound(to: L.Scalar.self) + row, first, last)
        }
      }
      y += block.xStride
      dy += columns.dyStride
      out += block.outStride
    }
  }
}
