// softmax, log_softmax and logsumexp of rows: the algorithm. Read this file first.
//
//     maximum  ->  sum of exp(x - maximum)  ->  e / sum     or   x - maximum - log(sum)
//
// A row passes through stages (kernels.h); each stage visits the row's chunks in any order and
// its partial results are absorbed in theirs, so one thread or many give the same bits. `advance`
// looks at what a stage found and chooses the next. The special rows of the contract (S1 to S8,
// S14) are all decided there, in one place, from the maximum and the number of visible elements.
//
// Contiguous rows that need nothing special, nearly all, take PlainRows.swift instead: the same
// passes in the same order without the bookkeeping. Short ones share the lanes (FewElements.swift).

import CSupport

extension Kernels {
  /// Rows first ..< first + count of the job, one after the other.
  @inline(__always)
  public static func rows<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    if I.hasFastPaths && job.pointee.panel_rows > 0 {
      rowsInPanels(L.self, job, first: first, count: count, scratch)
    } else {
      rowsInPlace(L.self, job, first: first, count: count, scratch)
    }
  }

  @inline(never)
  static func rowsInPlace<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    var first = first
    var count = count
    defer { if job.pointee.streams != 0 { I.streamFence() } }
    if isGradient(job) {
      gradients(L.self, job, first: first, count: count, scratch)
      return
    }
    if I.hasFastPaths && job.pointee.direct == SMXK_DIRECT_COLUMNS {
      // Fewer rows side by side than a block of Columns.swift is made for leave more to gain.
      let adjacent = Int(job.pointee.outer![Int(job.pointee.outer_count) &- 1].count)
      let most =
        adjacent < 4 &* L.count
        ? FewElements<L>.most : FewElements<L>.most(job.pointee.operation)
      if Int(job.pointee.cols) <= most {
        fewColumns(L.self, job, first: first, count: count, scratch)
      } else {
        columns(L.self, job, first: first, count: count, scratch)
      }
      return
    }
    let most = FewElements<L>.most(job.pointee.operation)
    if hasFewElements(L.self, job, most: most) && hasFewResults(job) {
      // Rows of more than a vector take it where at least half of the lanes have one.
      let rest = count & (L.count &- 1)
      let alone = Int(job.pointee.cols) > L.count && rest <= L.count / 2 ? rest : 0
      if alone < count {
        fewRows(L.self, job, first: first, count: count &- alone, scratch)
      }
      if alone == 0 { return }
      first = first &+ count &- alone
      count = alone
    }
    if I.hasFastPaths && job.pointee.direct == SMXK_DIRECT_PLAIN {
      plainRows(Own<L>.self, job, first: first, count: count, scratch)
      return
    }
    if I.hasFastPaths && L.isSingle && job.pointee.direct == SMXK_DIRECT_NARROW {
      if Int(job.pointee.dtype) == SMX_FLOAT16 {
        plainRows(Narrow<Float16>.self, job, first: first, count: count, scratch)
      } else {
        plainRows(Narrow<BFloat16>.self, job, first: first, count: count, scratch)
      }
      return
    }
    if gathersFew(L.self, job) && count > L.count / 2 {
      // As above: the last ones alone where most of their lanes would be empty.
      let rest = count & (L.count &- 1)
      let few = rest <= L.count / 2 ? count &- rest : count
      fewGathered(L.self, job, first: first, count: few, scratch)
      first = first &+ few
      count = count &- few
    }
    for index in first..<first &+ count { rowInStages(L.self, job, index, scratch) }
  }

  /// A row of any kind.
  @inline(never)
  static func rowInStages<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ index: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let row = row(of: scratch)
    beginRow(job, row, index)
    row.pointee.resident = job.pointee.cols <= chunkSize && !hasBiasBeside(L.self, job) ? 1 : 0
    while row.pointee.stage != SMXK_DONE {
      visitChunks(L.self, job, row, scratch)
      advance(L.self, job, row)
    }
  }

  /// The row's stage over all its chunks.
  @inline(__always)
  static func visitChunks<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    for chunk in chunks(job, row) {
      var partial = nothingFound
      Self.chunk(L.self, job, row, chunk, scratch, &partial)
      absorb(row, partial)
    }
  }

  // -- stages -------------------------------------------------------------------------------------

  /// Points the row state at row `index` and finds its visible interval.
  @inline(__always)
  public static func beginRow(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>, _ index: Int
  ) {
    locate(job, row, index)
    row.pointee.lower = 0
    row.pointee.upper = job.pointee.cols
    row.pointee.tests_elements = 0
    row.pointee.resident = 0
    if job.pointee.structure != nil { findInterval(job, row) }
    row.pointee.stage = isGradient(job) ? SMXK_SUM : SMXK_MAXIMUM
    row.pointee.found = nothingFound
    if isGradient(job) { row.pointee.found.high = 0 }
    row.pointee.form = SMXK_PLAIN
    row.pointee.maximum_low = 0
    row.pointee.log_sum = 0
    row.pointee.log_sum_low = 0
    row.pointee.sum_high = 1
    row.pointee.sum_low = 0
  }

  /// The chunks that the row's stage visits: those with a visible element, or all to write results.
  @inline(__always)
  static func chunks(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>
  ) -> Range<Int> {
    let isLast = row.pointee.stage == SMXK_FINISH
    let from = isLast ? 0 : Int(row.pointee.lower) / chunkSize
    let to = isLast ? Int(job.pointee.cols) : Int(row.pointee.upper)
    return from..<Swift.max(from, (to &+ chunkSize &- 1) / chunkSize)
  }

  /// Takes in what a stage found in one chunk; chunks come in order.
  @inline(__always)
  public static func absorb(_ row: UnsafeMutablePointer<smxk_row>, _ partial: smxk_partial) {
    row.pointee.found.count &+= partial.count
    switch row.pointee.stage {
    case SMXK_SUM, SMXK_PRECISE_SUM:
      // Order is part of the contract.
      var sum = Sum(high: partial.high, low: partial.low)
      if row.pointee.found.high != 0 {
        sum = Sum(high: row.pointee.found.high, low: row.pointee.found.low)
        sum.addAny(Sum(high: partial.high, low: partial.low))
      }
      row.pointee.found.high = sum.high
      row.pointee.found.low = sum.low
    default:
      let isLarger = row.pointee.found.high < partial.high
      if isLarger { row.pointee.found.high = partial.high }
      // Of equal maxima the larger low part.
      let isEqual = row.pointee.found.high == partial.high && row.pointee.found.low < partial.low
      if isLarger || isEqual { row.pointee.found.low = partial.low }
    }
  }

  /// Chooses the next stage from what the last one found.
  @inline(never)
  public static func advance<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>
  ) {
    let found = row.pointee.found
    switch row.pointee.stage {
    case SMXK_MAXIMUM:
      if job.pointee.bias != nil { row.pointee.maximum_low = found.low }
      chooseForm(L.self, job, row, maximum: found.high, visible: Int(found.count))
    case SMXK_FIND_NAN:
      if found.count >= Int64(SMXK_NAN) {
        setConstant(job, row, .nan)
      } else if found.count > 0 {
        writeInfinite(job, row, found.count)
      } else if row.pointee.form == SMXK_CONSTANT {
        setConstant(job, row, row.pointee.constant)
      } else {
        row.pointee.stage = SMXK_SUM
      }
    case SMXK_SUM:
      let sum = Sum(high: found.high, low: found.low)
      if isGradient(job) { useGradientSum(L.self, row, sum) } else { useSum(L.self, job, row, sum) }
    case SMXK_SECOND_MAXIMUM: chooseRaise(L.self, job, row, second: found.high, ties: found.count)
    case SMXK_PRECISE_SUM: usePreciseSum(L.self, job, row, found)
    default: row.pointee.stage = SMXK_DONE
    }
    row.pointee.found = nothingFound
    let isSum = row.pointee.stage == SMXK_SUM || row.pointee.stage == SMXK_PRECISE_SUM
    if isSum { row.pointee.found.high = 0 }
  }

  // -- decisions ----------------------------------------------------------------------------------

  /// After the maximum: contract S1 to S4, S8 and S14.
  @inline(__always)
  static func chooseForm<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>,
    maximum: Double, visible: Int
  ) {
    let operation = job.pointee.operation
    row.pointee.maximum = maximum
    if visible == 0 {
      setConstant(job, row, operation == SMXK_SOFTMAX ? 0 : -.infinity)
      return
    }
    if maximum.isInfinite {
      // +inf gives NaN, and +inf for logsumexp; -inf throughout gives NaN, -inf for logsumexp, and
      // with a bias that closed the row what a mask would give. A NaN among them overrules all.
      let isClosed = maximum < 0
      let closedValue = operation == SMXK_SOFTMAX ? 0 : -Double.infinity
      let isSum = operation == SMXK_LOGSUMEXP
      let value = isClosed && job.pointee.bias != nil ? closedValue : isSum ? maximum : .nan
      row.pointee.form = SMXK_CONSTANT
      row.pointee.constant = value
      row.pointee.stage = SMXK_FIND_NAN
      return
    }
    let temperature = row.pointee.temperature
    let isPlain =
      temperature == 1 && job.pointee.weights == nil && maximum.magnitude < Double(L.plainLimit)
    let plain = job.pointee.bias == nil ? SMXK_PLAIN : SMXK_BIASED
    row.pointee.form = isPlain ? plain : form(L.self, temperature)
    let hidesNaN = row.pointee.form == SMXK_GREEDY || row.pointee.form == SMXK_UNIFORM
    row.pointee.stage = hidesNaN ? SMXK_FIND_NAN : SMXK_SUM
  }

  /// Greedy, uniform or scaled. Where 1/T is no number of this type even after scaling, every
  /// difference is 0 or out of range.
  @inline(__always)
  static func form<L: Lanes>(_: L.Type, _ temperature: Double) -> smxk_form {
    let isZero =
      temperature == 0
      || 1 / (temperature * Double(L.unit)) > Double(L.Scalar.greatestFiniteMagnitude)
    let isInfinite = temperature * 0x1p-40 >= 1 / Double(L.Scalar.leastNormalMagnitude)
    return isZero ? SMXK_GREEDY : isInfinite ? SMXK_UNIFORM : SMXK_SCALED
  }

  @inline(__always)
  static func useSum<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>, _ sum: Sum
  ) {
    if sum.high.isNaN {
      setConstant(job, row, .nan)
      return
    }
    row.pointee.stage = SMXK_FINISH
    if job.pointee.operation == SMXK_SOFTMAX {
      row.pointee.sum_high = sum.high
      row.pointee.sum_low = sum.low
      return
    }
    if job.pointee.weights != nil {
      writeWeighted(L.self, job, row, sum)
      return
    }
    let isExact = row.pointee.form == SMXK_GREEDY || row.pointee.form == SMXK_UNIFORM
    let top = top(L.self, row)
    let log = LogSum(
      job.pointee.operation, sum, top.ofRow, maximum: maximum(of: row))
    if !isExact && log.isRough != 0 {
      row.pointee.stage = SMXK_SECOND_MAXIMUM
    } else {
      useLog(job, row, log.relative, log.absolute)
    }
  }

  @inline(__always)
  static func top<L: Lanes>(_: L.Type, _ row: UnsafePointer<smxk_row>) -> Top<L> {
    let form = row.pointee.form
    if form != SMXK_PLAIN && form != SMXK_BIASED { return Top<L>() }
    let low = form == SMXK_BIASED ? L(L.Scalar(row.pointee.maximum_low)) : nil
    return Top<L>(plain: L(L.Scalar(row.pointee.maximum)), low: low)
  }

  /// The distance of the second maximum, negative and a quarter of it, sets the scale of the sum
  /// without the maximum.
  @inline(__always)
  static func chooseRaise<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>,
    second: Double, ties: Int64
  ) {
    let raise = raise(second: second, temperature: row.pointee.temperature)
    row.pointee.raise = raise
    // Elements equal to the maximum beyond the first each add 1 to the sum of the others.
    row.pointee.ties = Double(ties &- 1)
    // 2^-raise below the smallest subnormal: nothing but the ties is left.
    if raise <= Double(L.fieldZero) {
      row.pointee.stage = SMXK_PRECISE_SUM
    } else {
      useRelativeLog(job, row, log1p(Sum(high: row.pointee.ties, low: 0)))
    }
  }

  /// The power of two that brings the second maximum's term to about 1.
  @inline(__always) static func raise<W: Wide>(second: W, temperature: W) -> W {
    let distance = (W(0) - second) / (temperature * W(0.25))
    // Rounds to a whole number; beyond 2^51, where it does not, no term is shown.
    return (distance * W(0x1.71547652b82fep0) + W(0x1.8p52)) - W(0x1.8p52)
  }

  @inline(__always)
  static func usePreciseSum<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>,
    _ found: smxk_partial
  ) {
    let k = Int(row.pointee.raise)
    let log = preciseLog(
      L.self, Sum(high: found.high, low: found.low), ties: row.pointee.ties, powerOfTwo(-(k / 2)),
      powerOfTwo(-(k &- k / 2)))
    useRelativeLog(job, row, log)
  }

  /// log(1 + ties + sum · factor · rest), the sum in units of 2^headroom: two factors, as their
  /// product may be below the smallest normal number, and neither is.
  @inline(__always)
  static func preciseLog<L: Lanes, W: Wide>(
    _: L.Type, _ sum: SumOf<W>, ties: W, _ factor: W, _ rest: W
  ) -> SumOf<W> {
    let lower = W(1 / Double(L.unit))
    let high = sum.high * lower * factor * rest
    let low = sum.low * lower * factor * rest
    let t = SumOf.exact(larger: ties, high)
    return log1p(
      SumOf(
        high: W.pick(ties, equalTo: W(0), high, t.high),
        low: W.pick(ties, equalTo: W(0), low, t.low)))
  }

  @inline(__always)
  static func maximum(of row: UnsafePointer<smxk_row>) -> Sum {
    Sum(high: row.pointee.maximum, low: row.pointee.maximum_low)
  }

  /// log of the sum relative to the maximum is known.
  @inline(__always)
  static func useRelativeLog(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>, _ relative: Sum
  ) {
    useLog(job, row, relative, LogSum<Double>.absolute(maximum(of: row), relative))
  }

  /// So is the logarithm itself.
  @inline(__always)
  static func useLog(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>, _ relative: Sum,
    _ absolute: Double
  ) {
    row.pointee.stage = SMXK_FINISH
    row.pointee.log_sum = relative.high
    row.pointee.log_sum_low = relative.low
    if job.pointee.operation == SMXK_LOGSUMEXP { setConstant(job, row, absolute) }
  }

  /// The whole row, or the sum's single result, is `value`.
  @inline(__always)
  static func setConstant(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>, _ value: Double
  ) {
    row.pointee.form = SMXK_CONSTANT
    row.pointee.constant = value
    row.pointee.stage = SMXK_FINISH
    if job.pointee.operation == SMXK_LOGSUMEXP {
      writeScalar(job.pointee.dtype, row.pointee.out, value)
      if let sign = row.pointee.sign {
        writeScalar(job.pointee.dtype, sign, value.isNaN ? .nan : value == -.infinity ? 0 : 1)
      }
      row.pointee.stage = SMXK_DONE
    }
  }
}
