// Cross-entropy of short rows: the logarithms of eight rows side by side.
//
// The logarithm of a sum is a chain of divisions and products that mostly waits for itself. So a
// few rows are summed first, and one chain gives all their logarithms, a lane a row
// (EightRows.swift). The operations of each row and their order are those of `state`, which takes
// the rows that want more. (One thread, side by side with one row at a time: 60000 × 10 25 % less
// time, 4096 × 128 27 %.)

import CSupport

extension Kernels {
  /// How many rows take their logarithms together; 1 where `state` takes each.
  @inline(__always)
  static func rowsTogether<L: Lanes>(_: L.Type, _ job: UnsafePointer<smxk_cross_entropy>) -> Int {
    let cols = Int(smxk_logits_of(job).pointee.cols)
    // Where fma is a call, the 19 KB of code that it takes are not worth the gain.
    if !I.hasFastPaths || job.pointee.is_log != 0 || cols == 0 { return 1 }
    let isFew = hasFewElements(L.self, smxk_logits_of(job))
    if job.pointee.temperature != 1 { return isFew && areScaled(L.self, job) ? L.count : 1 }
    if isFew { return L.count }
    // The gradient finds its rows in the first-level cache.
    return Swift.max(1, Swift.min(8, 16384 / (cols &* MemoryLayout<L.Scalar>.stride)))
  }

  /// Whether the lanes of rows of few elements have the job's temperature.
  @inline(__always)
  static func areScaled<L: Lanes>(_: L.Type, _ job: UnsafePointer<smxk_cross_entropy>) -> Bool {
    I.hasWideTiles && form(L.self, job.pointee.temperature) == SMXK_SCALED
  }

  /// Whether rows lie where they are computed, they and what belongs to them at equal distances.
  @inline(__always) static func liesEvenly(_ job: UnsafePointer<smxk_cross_entropy>) -> Bool {
    smxk_logits_of(job).pointee.direct != SMXK_DIRECT_NONE
      && smxk_logits_of(job).pointee.outer_count == 1 && smxk_rows_of(job).pointee.outer_count == 1
  }

  /// `beginRow` and `locate` of such a row whose state is known, as far as its loss and gradient
  /// need them: in full they took a third of the time of rows of 16.
  @inline(__always)
  static func beginEvenRow(
    _ job: UnsafePointer<smxk_cross_entropy>, _ row: UnsafeMutablePointer<smxk_row>,
    _ place: UnsafeMutablePointer<smxk_row>, _ index: Int
  ) {
    let logits = smxk_logits_of(job)
    let axis = logits.pointee.outer!
    row.pointee.x = (logits.pointee.x! + index &* Int(axis.pointee.x)).assumingMemoryBound(
      to: CChar.self)
    row.pointee.out = (logits.pointee.out! + index &* Int(axis.pointee.out)).assumingMemoryBound(
      to: CChar.self)
    row.pointee.mask = nil
    row.pointee.bias = nil
    row.pointee.weights = nil
    row.pointee.temperature = job.pointee.temperature
    row.pointee.tests_elements = 0
    row.pointee.form = SMXK_PLAIN
    let rows = smxk_rows_of(job)
    let own = rows.pointee.outer!
    func at(_ base: UnsafeRawPointer?, _ step: Int64) -> UnsafeMutablePointer<CChar>? {
      guard let base else { return nil }
      return UnsafeMutableRawPointer(mutating: base + index &* Int(step)).assumingMemoryBound(
        to: CChar.self)
    }
    place.pointee.x = UnsafePointer(at(rows.pointee.x, own.pointee.x))
    place.pointee.out = at(rows.pointee.out, own.pointee.out)
    place.pointee.sign = at(rows.pointee.sign, own.pointee.sign)
    place.pointee.bias = UnsafePointer(at(rows.pointee.bias, own.pointee.bias))
  }

  /// What `state` is of rows first ..< first + count, at most eight and each of one chunk; .special
  /// where it has to be asked, .rough where the row's stages are.
  @inline(never)
  static func findStates<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, first: Int, count: Int,
    _ states: UnsafeMutablePointer<RowState>, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    let logits = smxk_logits_of(job)
    let row = row(of: scratch)
    let numbers = EightRows<L>(memory: smxk_low_of(scratch))
    numbers.clear()
    let cols = Int(logits.pointee.cols)
    // With one axis of rows the next one's maximum is found beside this one's sum.
    let step = logits.pointee.outer_count == 1 ? Int(logits.pointee.outer![0].x) : 0
    var known = L.Scalar.nan
    // Lanes without a row do as the last one.
    for r in 0..<8 {
      let from = Swift.min(r, count &- 1)
      if r == from {
        beginRow(logits, row, first &+ r)
        states[r] = RowState(kind: .special)
        let chunk = sumChunk(
          L.self, logits, row, 0, cols, scratch, &states[r].visible, &known,
          next: step != 0 && r &+ 1 < count ? cols : 0, distance: step)
        states[r].maximum = chunk.maximum
        var sum = Sum(high: 0, low: 0)
        sum.add(chunk.sum)
        // No number: a row that the plain form cannot do.
        numbers.setSum(
          r, chunk.maximum.magnitude < Double(L.plainLimit) ? sum : Sum(high: .nan, low: 0))
      } else {
        numbers.setSum(r, Sum(high: numbers.sums[from], low: numbers.sums[8 &+ from]))
      }
      numbers.maximum[r] = L.Scalar(states[from].maximum)
    }
    let relative = logOfOthers(maximum: L(at: numbers.maximum), numbers.sum) { $0.eight }
    for r in 0..<count {
      let log = Sum(high: relative.high[r], low: relative.low[r])
      states[r].relative = log.high
      states[r].relativeLow = log.low
      states[r].lse = LogSum<Double>.absolute(Sum(high: states[r].maximum, low: 0), log)
      if states[r].visible > 0 && !log.high.isNaN {
        states[r].kind =
          isRough(maximum: states[r].maximum, log.high, states[r].lse) != 0 ? .rough : .finite
      }
    }
  }

  /// The same of up to L.count rows that FewElements.swift takes, rough ones included.
  @inline(never)
  static func findFewStates<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, first: Int, count: Int,
    _ states: UnsafeMutablePointer<RowState>, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let logits = smxk_logits_of(job)
    let cols = Int(logits.pointee.cols)
    let few = FewElements<L>(length: cols, scratch)
    if isBeside(logits) {
      let x = logits.pointee.x! + first &* Int(logits.pointee.outer!.pointee.x)
      takeBeside(few, x, Int(logits.pointee.inner![0].x), count)
    } else {
      turn(logits, first, count, of: first &+ count, to: few)
    }
    let maximum = few.maximum
    if I.hasWideTiles && job.pointee.temperature != 1 {
      findScaledLogarithms(few, maximum, job.pointee.temperature)
    } else {
      findPlainLogarithms(few, maximum)
    }
    let numbers = few.numbers
    maximum.store(at: few.result(0))
    for r in 0..<count {
      states[r] = RowState(
        kind: few.special[r] == 0 ? .finite : .special, maximum: Double(few.result(0)[r]),
        relative: numbers[r], relativeLow: numbers[2 &* L.count &+ r],
        lse: numbers[L.count &+ r], visible: cols)
    }
  }

  /// The logarithms of rows in lanes, to `numbers`: relative to the maximum, whole, and what the
  /// first one's rounding lost.
  @inline(__always)
  private static func findPlainLogarithms<L: Lanes>(_ few: FewElements<L>, _ maximum: L) {
    typealias W = Widened<L>
    let plain = PlainExp<L>(maximum: maximum)
    let exp = SumExp<L>(shift: plain.shift, cut: plain.cut, power: L(0))
    for lane in 0..<few.lanes {
      var sum = Accumulator<L>()
      var i = lane
      while i < few.length {
        sum.add(exp(No.self, L(at: few.x(i))))
        i = i &+ L.count
      }
      few.enter(sum, lane)
    }
    let sum = few.sum()
    let ofMaximum = SumOf(high: W(maximum), low: W(0))
    var relative = logOfOthers(maximum: maximum, sum) { W($0) }
    var lse = LogSum<W>.absolute(ofMaximum, relative)
    let special = special(maximum: maximum, sum: sum.high.lanes)
    let isRough = L.pick(
      special, equalTo: L(0), Self.isRough(maximum: ofMaximum.high, relative.high, lse).lanes, L(0))
    if isRough.largest() > 0 {
      let precise = preciseLogarithms(No.self, few, maximum)
      relative.high = W.pick(W(isRough), equalTo: W(0), relative.high, precise.high)
      relative.low = W.pick(W(isRough), equalTo: W(0), relative.low, precise.low)
      let other = LogSum<W>.absolute(ofMaximum, SumOf(high: precise.high, low: W(0)))
      lse = W.pick(W(isRough), equalTo: W(0), lse, other)
    }
    few.put(relative, lse, special)
  }

  /// The same at a temperature, one for all rows.
  @inline(never)
  private static func findScaledLogarithms<L: Lanes>(
    _ few: FewElements<L>, _ maximum: L, _ temperature: Double
  ) {
    typealias W = Widened<L>
    for r in 0..<L.count { few.temperature[r] = temperature }
    _ = enterFactors(few, L.count)
    let terms = FewTerms<L, Yes, No>(few)
    for lane in 0..<few.lanes {
      var sum = Accumulator<L>()
      var i = lane
      while i < few.length {
        let term = terms(i)
        sum.add(term, rounded: term.rounded())
        i = i &+ L.count
      }
      few.enter(sum, lane)
    }
    let sum = few.sum()
    let total = sum.high.lanes
    let isSpecial = L.pick(total, equalTo: total, terms.isLarge, L(1))
    let log = logarithms(terms, SMXK_LOG_SOFTMAX, sum, isSpecial)
    let top = SumOf(high: W(maximum) / W(temperature), low: W(0))
    let lse = LogSum<W>.absolute(top, SumOf(high: log.relative.high, low: W(0)))
    few.put(log.relative, lse, log.isSpecial)
  }

  /// Of a row that `findStates` has found rough.
  @inline(__always)
  static func preciseState<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, _ row: UnsafeMutablePointer<smxk_row>,
    _ known: UnsafePointer<RowState>, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> RowState {
    row.pointee.maximum = known.pointee.maximum
    return stateInStages(
      L.self, smxk_logits_of(job), row, from: SMXK_SECOND_MAXIMUM, visible: known.pointee.visible,
      scratch)
  }

  /// The state by the stages of Softmax.swift, from one of them on and up to the logarithm.
  @inline(never)
  static func stateInStages<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>,
    from stage: Int, visible: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> RowState {
    runStages(L.self, job, row, from: stage, scratch)
    return state(of: row, visible: visible)
  }

  /// The state of a row that has come through the stages.
  @inline(__always)
  static func state(of row: UnsafePointer<smxk_row>, visible: Int) -> RowState {
    let maximum = row.pointee.maximum
    let relative = row.pointee.log_sum
    let top = row.pointee.temperature == 1 ? maximum : maximum / row.pointee.temperature
    let lse =
      top.isInfinite
      ? top : LogSum<Double>.absolute(Sum(high: top, low: 0), Sum(high: relative, low: 0))
    return RowState(
      maximum: maximum, relative: relative, relativeLow: row.pointee.log_sum_low, lse: lse,
      visible: visible)
  }

  /// The row's stages (Softmax.swift) from one of them on, up to the logarithm.
  @inline(never)
  static func runStages<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>,
    from stage: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    row.pointee.stage = stage
    row.pointee.found = nothingFound
    runStages(L.self, job, row, scratch)
  }

  /// From the one on that `advance` has chosen.
  @inline(never)
  static func runStages<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    while row.pointee.stage != SMXK_FINISH && row.pointee.stage != SMXK_DONE {
      visitChunks(L.self, job, row, scratch)
      advance(L.self, job, row)
    }
  }

  /// At a temperature, where the plain sum is not wanted; nil for a row that is empty or special,
  /// which shows there.
  @inline(__always)
  static func stateAtTemperature<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> RowState? {
    row.pointee.stage = SMXK_MAXIMUM
    row.pointee.found = nothingFound
    visitChunks(L.self, job, row, scratch)
    let visible = Int(row.pointee.found.count)
    advance(L.self, job, row)
    runStages(L.self, job, row, scratch)
    return row.pointee.form == SMXK_CONSTANT ? nil : state(of: row, visible: visible)
  }
}
