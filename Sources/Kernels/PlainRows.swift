// The common rows: contiguous, plain form, nothing masked.
//
// A row has three passes, and between them waits: for the maximum across its lanes, and for the sum
// across the lanes, its reciprocal and the first quotient. Together some 150 cycles, which a row of
// 128 elements would spend as long on as on its arithmetic. So short rows go in blocks of up to
// eight, and the passes of neighbouring blocks alternate:
//
//     terms and sums of a block's rows, and the maxima of the next block's   (sumPlain)
//     their divisors or logarithms, eight at a time                          (EightRows)
//     results of the block before, whose divisors have long been known       (writeResults)
//
// Each row's own operations and their order are those of Softmax.swift; rows that turn out to be
// special go there. 64 × 128 float32 softmax, one thread: 0.52 ns an element row by row, 0.44 in
// blocks.

import CSupport

extension Kernels {
  /// Rows under way together.
  struct RowBlock<L: Lanes> {
    let numbers: EightRows<L>
    /// First row, and how many.
    var first = 0
    var count = 0
    /// Terms of row r at r·cols.
    var terms: UnsafeMutablePointer<L.Scalar>

    @inline(__always) var x: UnsafeMutablePointer<UnsafeRawPointer> {
      (numbers.memory + EightRows<L>.size).assumingMemoryBound(to: UnsafeRawPointer.self)
    }
    @inline(__always) var out: UnsafeMutablePointer<UnsafeMutableRawPointer> {
      (numbers.memory + (EightRows<L>.size &+ 64)).assumingMemoryBound(
        to: UnsafeMutableRawPointer.self)
    }
    /// Bytes of scratch, terms aside.
    static var size: Int { @inline(__always) get { EightRows<L>.size &+ 128 } }
  }

  /// Rows first ..< first + count of a plain job.
  @inline(__always)
  static func plainRows<F: Format>(
    _: F.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    if job.pointee.operation == SMXK_SOFTMAX {
      plainRows(F.self, Yes.self, job, first: first, count: count, scratch)
    } else {
      plainRows(F.self, No.self, job, first: first, count: count, scratch)
    }
  }

  @inline(__always)
  static func plainRows<F: Format, IsSoftmax: Choice>(
    _: F.Type, _: IsSoftmax.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let stride = MemoryLayout<F.L.Scalar>.stride
    // Narrow terms have no place in out: they are kept in scratch as long as they fit.
    if Int(job.pointee.cols) <= (F.size < stride ? chunkSize : shortRowBytes / stride) {
      shortRows(F.self, IsSoftmax.self, job, first: first, count: count, scratch)
    } else {
      longRows(F.self, IsSoftmax.self, job, first: first, count: count, scratch)
    }
  }

  /// A block of short rows. Of softmax, terms: two blocks and their rows share the first-level
  /// cache. Else there are none, and eight rows are worth more than that cache (logsumexp of 512 ×
  /// 1024: 17 % less time; log_softmax 5 %, of float64 12 %), unless they come from memory (65536 ×
  /// 1024: 20 % and 10 % more). A longer row is a block of its own up to shortRowBytes, or one
  /// chunk where out cannot hold its terms.
  @inline(__always) static func blockBytes<IsSoftmax: Choice>(
    _: IsSoftmax.Type, isFromMemory: Bool
  ) -> Int {
    IsSoftmax.isTrue || isFromMemory ? 4096 : 32768
  }
  static var shortRowBytes: Int { @inline(__always) get { 8192 } }

  @inline(never)
  static func shortRows<F: Format, IsSoftmax: Choice>(
    _: F.Type, _: IsSoftmax.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    typealias L = F.L
    let cols = Int(job.pointee.cols)
    let bytes = Swift.max(cols &* MemoryLayout<L.Scalar>.stride, 1)
    let streams = job.pointee.streams != 0
    let blockBytes = blockBytes(IsSoftmax.self, isFromMemory: streams)
    let rowsPerBlock = Swift.min(8, Swift.max(1, blockBytes / bytes))
    var previous = block(L.self, 0, scratch)
    var current = block(L.self, 1, scratch)
    var next = block(L.self, 2, scratch)
    var terms = previous.terms
    var otherTerms = current.terms
    // What is asked for is out's lines; where those are not wanted, the rows behind the next
    // block's.
    let behind = 3 &* blockBytes
    var row = first
    var far = FarWatch()
    enter(job, &next, row, Swift.min(rowsPerBlock, first &+ count &- row), scratch)
    for r in 0..<next.count { next.numbers.setMaximum(r, maximum(F.self, next.x[r], 0, cols)) }
    // Once more after the last block, whose results are then written.
    while next.count > 0 || current.count > 0 {
      (previous, current, next) = (current, next, previous)
      (terms, otherTerms) = (otherTerms, terms)
      // Aligned as out is: `divide` has no arithmetic to hide a vector across two lines behind,
      // `sumPlain` has.
      current.terms = terms + (isOwn(F.self) ? (Int(bitPattern: current.out[0]) & 63) / F.size : 0)
      row = row &+ current.count
      enter(job, &next, row, Swift.min(rowsPerBlock, first &+ count &- row), scratch)
      let numbers = current.numbers
      for r in 0..<current.count {
        let x = current.x[r]
        let isWritten = job.pointee.operation != SMXK_LOGSUMEXP
        let lines = !isWritten ? x : streams ? x + behind : UnsafeRawPointer(current.out[r])
        let beside = Beside(row: r < next.count ? next.x[r] : x, ahead: x, lines: lines)
        let swept = sumPlain(
          F.self, IsSoftmax.self, Yes.self, No.self, x, 0, cols, shift: numbers.shift[r],
          cut: numbers.cut[r],
          current.terms + r &* cols, beside)
        numbers.setSum(r, swept.sum)
        if r < next.count { next.numbers.setMaximum(r, swept.highest) }
      }
      if current.count > 0 {
        if IsSoftmax.isTrue {
          numbers.findDivisors()
        } else {
          numbers.findLogarithms(job.pointee.operation)
        }
      }
      writeResults(F.self, IsSoftmax.self, No.self, job, previous, &far, streams: streams, scratch)
    }
  }

  /// One row after the other; its terms wait in out, or are computed once more where out is too
  /// narrow for them.
  @inline(never)
  static func longRows<F: Format, IsSoftmax: Choice>(
    _: F.Type, _: IsSoftmax.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    typealias L = F.L
    let cols = Int(job.pointee.cols)
    let isOwn = isOwn(F.self)
    var block = block(L.self, 0, scratch)
    let numbers = block.numbers
    // A row's maximum is found beside the sum of the row before, and its lines are asked for beside
    // that of the one before this, while the exponentials keep the arithmetic busy; of rows so long
    // that three of them do not stay in the second-level cache, only the next one's lines. Without
    // results beside them, rows may be twice as long: their lines are asked for one chunk ahead
    // (logsumexp of 64 × 131072: 8 to 12 % less time). Half a page ahead out's lines, too (4096 ×
    // 4096, one thread: 0.57 ns an element with rows alone, 0.46 with both). Rows behind the last
    // one are another thread's.
    let isShort = cols &* F.size <= 1 << 18
    let isNear = isShort || (job.pointee.operation == SMXK_LOGSUMEXP && cols &* F.size <= 1 << 19)
    let step = job.pointee.outer_count == 1 ? Int(job.pointee.outer![0].x) : 0
    // Results may go past the caches, but terms stay in the second level: those of all rows where
    // the last one's results will lie, which come last.
    let lastRow = first &+ count &- 1
    let isEven = job.pointee.outer_count == 1
    let streams = job.pointee.streams != 0 && (!IsSoftmax.isTrue || (isOwn && isShort && isEven))
    let sharedTerms =
      IsSoftmax.isTrue && streams
      ? job.pointee.out! + lastRow &* Int(job.pointee.outer![0].out) : nil
    var known = L.Scalar.nan
    var far = FarWatch()
    for row in first..<first &+ count {
      enter(job, &block, row, 1, scratch)
      let x = block.x[0]
      block.terms = (sharedTerms ?? block.out[0]).assumingMemoryBound(to: L.Scalar.self)
      let maximum = known.isNaN ? maximum(F.self, x, 0, cols) : known
      known = .nan
      // Whether the terms do not tell the element that is the maximum, and take its place in out.
      let isAmbiguous =
        IsSoftmax.isTrue && isOwn && maximum.magnitude < L.Scalar(leastTellingMaximum)
      // Before its terms overwrite it in place. (A NaN among them is one of the terms.)
      guard
        maximum.magnitude < L.plainLimit && !(isAmbiguous && x == UnsafeRawPointer(block.out[0]))
      else {
        rowInStages(L.self, job, row, scratch)
        continue
      }
      numbers.setMaximum(0, maximum)
      let rest = first &+ count &- row &- 1
      let next = x + (rest > 0 ? step : 0)
      let ahead =
        isShort ? x + Swift.min(rest, 2) &* step : isNear ? next + chunkSize &* F.size : next
      let measured = isNear ? next : x
      let isWritten = IsSoftmax.isTrue || (job.pointee.operation == SMXK_LOG_SOFTMAX && !streams)
      let out = isWritten ? UnsafeRawPointer(block.terms) + 512 &* F.size : x
      let (shift, cut) = (numbers.shift[0], numbers.cut[0])
      var highest = -L.Scalar.infinity
      var sum = Sum(high: 0, low: 0)
      var start = 0
      while start < cols {
        let length = Swift.min(chunkSize, cols &- start)
        let bytes = start &* F.size
        let beside = Beside(row: measured + bytes, ahead: ahead + bytes, lines: out + bytes)
        let swept =
          isOwn
          ? sumPlain(
            F.self, IsSoftmax.self, Yes.self, Yes.self, x + bytes, 0, length, shift: shift,
            cut: cut,
            block.terms + start, beside)
          : sumPlain(
            F.self, No.self, Yes.self, Yes.self, x + bytes, 0, length, shift: shift, cut: cut,
            block.terms, beside)
        highest = Swift.max(swept.highest, highest)
        // The first chunk stands alone: adding it to zero would change nothing but take its time.
        if start == 0 { sum = swept.sum } else { sum.add(swept.sum) }
        start = start &+ length
      }
      if isNear && rest > 0 && step != 0 { known = highest }
      numbers.setSum(0, sum)
      if IsSoftmax.isTrue {
        numbers.findDivisors()
      } else {
        numbers.findLogarithms(job.pointee.operation)
      }
      if isAmbiguous && numbers.divisor(0).showsTop { numbers.isSpecial[0] = 1 }
      let isPast = streams && (sharedTerms == nil || row < lastRow)
      writeResults(
        F.self, IsSoftmax.self, Yes.self, job, block, &far, streams: isPast,
        scratch)
    }
  }

  /// The results of a block's rows, one of which is looked at now and then.
  @inline(__always)
  static func writeResults<F: Format, IsSoftmax: Choice, IsLong: Choice>(
    _: F.Type, _: IsSoftmax.Type, _: IsLong.Type, _ job: UnsafePointer<smxk_job>,
    _ block: RowBlock<F.L>,
    _ far: inout FarWatch, streams: Bool, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    typealias L = F.L
    let cols = Int(job.pointee.cols)
    let numbers = block.numbers
    if IsSoftmax.isTrue && (isOwn(F.self) || !IsLong.isTrue) && block.first >= far.next
      && block.count > 0 && numbers.isSpecial[0] == 0
    {
      far.look(block.terms, cols, numbers.divisor(0), row: block.first, rows: IsLong.isTrue ? 4 : 8)
    }
    for r in 0..<block.count {
      if numbers.isSpecial[r] != 0 {
        rowInStages(L.self, job, block.first &+ r, scratch)
      } else if IsSoftmax.isTrue && IsLong.isTrue && F.size < MemoryLayout<L.Scalar>.stride {
        let divisor = numbers.divisor(r)
        if sharesLookFar(
          F.self, block.x[r], cols, cut: numbers.cut[r], least: L.leastField, numbers.high[r])
        {
          divideFarAgain(
            F.self, block.x[r], block.out[r], cols, shift: numbers.shift[r], cut: numbers.cut[r],
            divisor.numbers)
        } else {
          divideAgain(F.self, block.x[r], block.out[r], cols, numbers.exp(r), divisor)
        }
      } else if IsSoftmax.isTrue && far.isFar {
        divideFar(
          F.self, block.terms + r &* cols, of: IsLong.isTrue ? nil : block.x[r], block.out[r], cols,
          numbers.divisor(r).numbers)
      } else if IsSoftmax.isTrue {
        divide(
          F.self, IsLong.self, block.terms + r &* cols, of: IsLong.isTrue ? nil : block.x[r],
          block.out[r], cols,
          numbers.divisor(r), streams: streams)
      } else if job.pointee.operation == SMXK_LOG_SOFTMAX {
        subtract(
          F.self, IsLong.self, block.x[r], block.out[r], cols, maximum: L(numbers.maximum[r]),
          logSum: L(numbers.relativeLog[r]), streams: streams)
      } else {
        F.store(L(numbers.absoluteLog[r]), block.out[r], 0, 0, 1)
      }
    }
  }

  @inline(__always)
  static func block<L: Lanes>(
    _: L.Type, _ place: Int, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> RowBlock<L> {
    // Of `high`, the first half may be needed by a special row on its way through the stages; `low`
    // is only where there is a bias. A chunk of terms fits into either, with a line more.
    let terms =
      place & 1 == 0 ? smxk_high_of(scratch) + halfOfScratch : smxk_low_of(scratch) + numbersBytes
    let numbers = EightRows<L>(memory: smxk_low_of(scratch) + place &* RowBlock<L>.size)
    numbers.clear()
    return RowBlock(numbers: numbers, terms: terms.assumingMemoryBound(to: L.Scalar.self))
  }

  static var halfOfScratch: Int { @inline(__always) get { 4 &* Int(SMXK_CHUNK) } }
  /// Room for three blocks' numbers.
  static var numbersBytes: Int { @inline(__always) get { 8192 } }

  /// Points a block at rows first ..< first + count.
  @inline(__always)
  static func enter<L: Lanes>(
    _ job: UnsafePointer<smxk_job>, _ block: inout RowBlock<L>, _ first: Int, _ count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    block.first = first
    block.count = count
    for r in 0..<count {
      if job.pointee.outer_count == 1 {
        let axis = job.pointee.outer!
        block.x[r] = job.pointee.x! + (first &+ r) &* Int(axis.pointee.x)
        block.out[r] = job.pointee.out! + (first &+ r) &* Int(axis.pointee.out)
      } else {
        let row = row(of: scratch)
        locate(job, row, first &+ r)
        block.x[r] = UnsafeRawPointer(row.pointee.x!)
        block.out[r] = UnsafeMutableRawPointer(row.pointee.out!)
      }
    }
  }
}
