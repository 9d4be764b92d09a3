// One stage over one chunk of a row, from wherever its elements lie.
//
// Contiguous float32 and float64 rows are read and written where they are, a bias beside them too
// (Biased.swift). Everything else (narrow types, strides, masks) is first gathered into scratch as
// plain numbers, with a bias as pairs, so that every layout runs through the same passes and gives
// the same bits. Terms of softmax wait in out where that is contiguous.

import CSupport

extension Kernels {
  static var chunkSize: Int { @inline(__always) get { Int(SMXK_CHUNK) } }

  /// Whether rows are read and written where they lie.
  @inline(__always) static func isDirect(_ job: UnsafePointer<smxk_job>) -> Bool {
    job.pointee.direct == SMXK_DIRECT || job.pointee.direct == SMXK_DIRECT_PLAIN
  }

  static var nothingFound: smxk_partial {
    @inline(__always) get { smxk_partial(high: -.infinity, low: 0, count: 0) }
  }

  @inline(__always)
  static func row(
    of scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> UnsafeMutablePointer<smxk_row> {
    smxk_row_of(scratch)
  }

  /// The elements of one chunk as a stage sees them.
  struct Elements<L: Lanes> {
    /// The chunk's first element; only from..<to are visible.
    let high: UnsafeMutablePointer<L.Scalar>
    /// What x + bias rounded away, or nil.
    let low: UnsafeMutablePointer<L.Scalar>?
    let from: Int
    let to: Int
    /// What is still to be added to `high` where neither has been gathered, or nil.
    var bias: UnsafePointer<L.Scalar>? = nil

    /// `count` of them from place i on.
    @inline(__always) func part(_ i: Int, _ count: Int) -> Elements {
      Elements(
        high: high + i, low: low.map { $0 + i }, from: 0, to: count, bias: bias.map { $0 + i })
    }

    @inline(__always) var hasLow: Bool { low != nil || bias != nil }

    @inline(__always) func low(at i: Int, _ first: Int, _ last: Int) -> L {
      low == nil ? L(0) : load(low! + i, first, last, fill: 0)
    }
    @inline(__always) func high(at i: Int, _ first: Int, _ last: Int) -> L {
      load(high + i, first, last, fill: -L.Scalar.infinity)
    }
    /// Both. `low` is NaN where the sum of an x and a bias is not finite.
    @inline(__always) func pair(at i: Int, _ first: Int, _ last: Int) -> (high: L, low: L) {
      let x = high(at: i, first, last)
      guard let bias else { return (x, low(at: i, first, last)) }
      return exactSum(x, load(bias + i, first, last, fill: 0))
    }
  }

  /// Runs the row's stage over chunk number `chunk`.
  @inline(never)
  public static func chunk<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ chunk: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>, _ partial: inout smxk_partial
  ) {
    let start = chunk &* chunkSize
    let length = Swift.min(chunkSize, Int(job.pointee.cols) &- start)
    let from = Swift.min(Swift.max(Int(row.pointee.lower) &- start, 0), length)
    let to = Swift.max(from, Swift.min(Int(row.pointee.upper) &- start, length))
    if isGradient(job) {
      gradientChunk(L.self, job, row, from, to, start, length, scratch, &partial)
      return
    }
    func own(_ p: UnsafePointer<CChar>?) -> UnsafeMutablePointer<L.Scalar> {
      UnsafeMutableRawPointer(mutating: p!).assumingMemoryBound(to: L.Scalar.self) + start
    }
    let stage = row.pointee.stage
    let addsBias = addsBiasInPlace(L.self, job, row)
    let isDirect = isDirect(job) || addsBias
    let high =
      isDirect ? own(row.pointee.x) : smxk_high_of(scratch).assumingMemoryBound(to: L.Scalar.self)
    let low =
      job.pointee.bias == nil || addsBias
      ? nil : smxk_low_of(scratch).assumingMemoryBound(to: L.Scalar.self)
    let bias = addsBias ? UnsafePointer(own(row.pointee.bias)) : nil
    let elements = Elements<L>(high: high, low: low, from: from, to: to, bias: bias)

    let resident = row.pointee.resident != 0
    let isConstant = row.pointee.form == SMXK_CONSTANT && stage == SMXK_FINISH
    let isInPlace = isDirect || (stage == SMXK_FINISH && keepsTerms(job, row))
    if isDirect {
      partial.count = Int64(to &- from)
    } else if !isConstant && !isInPlace && (stage == SMXK_MAXIMUM || !resident) {
      partial.count = gather(L.self, job, row, elements, start, scratch)
    }
    switch stage {
    case SMXK_MAXIMUM:
      if !elements.hasLow {
        partial.high = Double(maximum(Own<L>.self, high, from, to))
      } else {
        findMaximum(elements, &partial)
      }
    case SMXK_FIND_NAN:
      partial.count =
        job.pointee.weights == nil
        ? findNaN(elements) : findWeights(job, row, elements, start)
    case SMXK_SUM: sumTerms(job, row, elements, start, resident, &partial)
    case SMXK_SECOND_MAXIMUM: findSecond(row, elements, &partial)
    case SMXK_PRECISE_SUM: sumPrecisely(row, elements, &partial)
    default:
      let out = isInPlace ? own(UnsafePointer(row.pointee.out)) : high
      finish(job, row, elements, out, length, hasTerms: (isInPlace || resident) && termsTell(row))
      if job.pointee.factor != nil { applyFactor(job, row, elements, out, start, length, scratch) }
      if !isInPlace { scatter(L.self, job, row, high, start, length) }
    }
  }

  /// Whether the terms of a row that is gathered wait in out, and need not be found again.
  @inline(__always)
  static func keepsTerms(_ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>) -> Bool {
    job.pointee.direct == SMXK_DIRECT_OUT && job.pointee.operation == SMXK_SOFTMAX && termsTell(row)
  }

  // -- stages over gathered or contiguous elements ------------------------------------------------

  @inline(__always)
  static func scaledExp<L: Lanes>(
    _: L.Type, _ row: UnsafePointer<smxk_row>, raise: Double = 0, least: L.Scalar = L.leastField
  ) -> ScaledExp<L> {
    ScaledExp<L>(
      maximum: L.Scalar(row.pointee.maximum), low: L.Scalar(row.pointee.maximum_low),
      temperature: row.pointee.temperature, raise: L.Scalar(raise), least: least)
  }

  @inline(__always) static func plainExp<L: Lanes>(
    _: L.Type, _ row: UnsafePointer<smxk_row>
  ) -> PlainExp<L> {
    let isPlain = row.pointee.form == SMXK_PLAIN || row.pointee.form == SMXK_BIASED
    return PlainExp<L>(maximum: L(isPlain ? L.Scalar(row.pointee.maximum) : 0))
  }

  /// Whether a term tells its element (Divisor, `sumBiased`), so that it may take that one's place.
  @inline(__always) static func termsTell(_ row: UnsafePointer<smxk_row>) -> Bool {
    row.pointee.form != SMXK_PLAIN || row.pointee.maximum.magnitude >= leastTellingMaximum
  }

  /// The term of a score in any of the forms.
  @inline(__always)
  static func term<L: Lanes>(
    _ form: smxk_form, _ plain: PlainExp<L>, _ scaled: ScaledExp<L>, _ x: L, _ low: L
  ) -> Exponential<L> {
    I.hasFastPaths
      ? termInline(form, plain, scaled, x, low) : termApart(form, plain, scaled, x, low)
  }
  @inline(never)
  private static func termApart<L: Lanes>(
    _ form: smxk_form, _ plain: PlainExp<L>, _ scaled: ScaledExp<L>, _ x: L, _ low: L
  ) -> Exponential<L> { termInline(form, plain, scaled, x, low) }

  @inline(__always)
  private static func termInline<L: Lanes>(
    _ form: smxk_form, _ plain: PlainExp<L>, _ scaled: ScaledExp<L>, _ x: L, _ low: L
  ) -> Exponential<L> {
    switch form {
    case SMXK_PLAIN, SMXK_BIASED: return plain(x, form == SMXK_PLAIN ? nil : low)
    case SMXK_SCALED: return scaled(x, low)
    default: return Exponential(scale: unit(form, scaled, x, low), quotient: L(0), scaledRest: L(0))
    }
  }

  /// The terms at temperatures 0 and inf: 2^headroom or 0.
  @inline(__always)
  static func unit<L: Lanes>(
    _ form: smxk_form, _ scaled: ScaledExp<L>, _ x: L, _ low: L
  ) -> L {
    form == SMXK_GREEDY
      ? unitAtMaximum(scaled, x, low)
      : L.pick(L(-L.Scalar.infinity), lessThan: x, L(L.unit), L(0))
  }

  /// 2^headroom where the score is the row's maximum, 0 elsewhere.
  @inline(__always)
  static func unitAtMaximum<L: Lanes>(_ scaled: ScaledExp<L>, _ x: L, _ low: L) -> L {
    let unit = L.pick(x * scaled.before, equalTo: scaled.maximum, L(L.unit), L(0))
    return L.pick(low * scaled.before, equalTo: scaled.maximumLow, unit, L(0))
  }

  @inline(__always)
  static func sumTerms<L: Lanes>(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>,
    _ start: Int, _ resident: Bool, _ partial: inout smxk_partial
  ) {
    let terms: UnsafeMutablePointer<L.Scalar>? =
      job.pointee.operation != SMXK_SOFTMAX || !termsTell(row)
      ? nil
      : isDirect(job) || keepsTerms(job, row)
        ? UnsafeMutableRawPointer(row.pointee.out!).assumingMemoryBound(to: L.Scalar.self) + start
        : resident ? elements.high : nil
    let total =
      job.pointee.weights != nil
      ? sumWeighted(job, row, elements, start) : sumTerms(row, elements, terms)
    partial.high = total.high
    partial.low = total.low
  }

  /// The sum of a chunk's terms, which go to `terms` if there is room, perhaps to the elements'.
  @inline(never)
  static func sumTerms<L: Lanes>(
    _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>,
    _ terms: UnsafeMutablePointer<L.Scalar>?
  ) -> Sum {
    let form = row.pointee.form
    if I.hasFastPaths && form == SMXK_BIASED {
      return sumBiased(row, elements, terms)
    } else if I.hasFastPaths && form == SMXK_PLAIN {
      let exp = PlainExp<L>(maximum: L(L.Scalar(row.pointee.maximum)))
      let p = elements.high
      let beside = Beside(row: p, ahead: p, lines: p)
      return terms != nil
        ? sumPlain(
          Own<L>.self, Yes.self, No.self, No.self, p, elements.from, elements.to,
          shift: exp.shift[0],
          cut: exp.cut[0], terms!, beside
        ).sum
        : sumPlain(
          Own<L>.self, No.self, No.self, No.self, p, elements.from, elements.to,
          shift: exp.shift[0],
          cut: exp.cut[0], p, beside
        ).sum
    } else if I.hasFastPaths && form == SMXK_SCALED && elements.low == nil {
      return sumScaled(row, elements, terms)
    }
    return sumAny(row, elements, terms)
  }

  /// The sum of terms in any form, which go to `terms` if there is room.
  @inline(never)
  static func sumAny<L: Lanes>(
    _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>,
    _ terms: UnsafeMutablePointer<L.Scalar>?
  ) -> Sum {
    let form = row.pointee.form
    // These have loops of their own: their code is left out here.
    if I.hasFastPaths && (form == SMXK_PLAIN || form == SMXK_BIASED) { return Sum(high: 0, low: 0) }
    let marks = form == SMXK_BIASED
    let maximum = L(L.Scalar(row.pointee.maximum))
    let maximumLow = L(L.Scalar(row.pointee.maximum_low))
    let plain = plainExp(L.self, row)
    let scaled = scaledExp(L.self, row)
    var sum = Accumulator<L>()
    for (i, first, last) in vectors(L.self, elements.from, elements.to) {
      let x = elements.high(at: i, first, last)
      let low = elements.low(at: i, first, last)
      let term = term(form, plain, scaled, x, low)
      let e = term.rounded()
      if let terms {
        store(marks ? mark(e, of: x, low, maximum, maximumLow) : e, terms + i, first, last)
      }
      sum.add(term, rounded: e)
    }
    return sum.total()
  }

  /// The same of scaled terms without a bias.
  @inline(__always)
  static func sumScaled<L: Lanes>(
    _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>,
    _ terms: UnsafeMutablePointer<L.Scalar>?
  ) -> Sum {
    let scaled = scaledExp(L.self, row)
    var sum = Accumulator<L>()
    for (i, first, last) in vectors(L.self, elements.from, elements.to) {
      let term = scaled(elements.high(at: i, first, last))
      let e = term.rounded()
      if let terms { store(e, terms + i, first, last) }
      sum.add(term, rounded: e)
    }
    return sum.total()
  }

  // -- other stages -------------------------------------------------------------------------------

  @inline(__always)
  static func findNaN<L: Lanes>(_ e: Elements<L>) -> Int64 {
    for i in e.from..<e.to where e.high[i].isNaN { return Int64(SMXK_NAN) }
    return 0
  }

  /// A quarter (so that it is finite) of the largest score other than the maximum, less the
  /// maximum, and how many equal the maximum.
  @inline(never)
  static func findSecond<L: Lanes>(
    _ row: UnsafePointer<smxk_row>, _ e: Elements<L>, _ partial: inout smxk_partial
  ) {
    let maximum = L.Scalar(row.pointee.maximum)
    let maximumLow = L.Scalar(row.pointee.maximum_low)
    var second = -Double.infinity
    var ties: Int64 = 0
    if e.low == nil {
      // The distance does not fall where the score does not, so the largest score has the largest
      // one.
      var highest = L(-L.Scalar.infinity)
      var equal = L(0)
      for (i, first, last) in vectors(L.self, e.from, e.to) {
        let x = e.high(at: i, first, last)
        highest = L.max(highest, L.pick(x, equalTo: L(maximum), L(-L.Scalar.infinity), x))
        equal = equal + L.pick(x, equalTo: L(maximum), L(1), L(0))
      }
      for lane in 0..<L.count { ties &+= Int64(Double(equal[lane])) }
      partial.high = Double(highest.largest()) * 0.25 - Double(maximum) * 0.25
      partial.count = ties
      return
    }
    for i in e.from..<e.to {
      let low = e.low![i]
      let quarter = Double(e.high[i]) * 0.25 - Double(maximum) * 0.25
      let distance = quarter + Double(low - maximumLow) * 0.25
      if e.high[i] == maximum && low == maximumLow {
        ties &+= 1
      } else if second < distance {
        second = distance
      }
    }
    partial.high = second
    partial.count = ties
  }

  @inline(never)
  static func sumPrecisely<L: Lanes>(
    _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>, _ partial: inout smxk_partial
  ) {
    let scaled = scaledExp(L.self, row, raise: row.pointee.raise)
    var sum = Accumulator<L>()
    // Order is part of the contract: leading, linear, rest of each vector.
    for (i, first, last) in vectors(L.self, elements.from, elements.to) {
      let x = elements.high(at: i, first, last)
      addPrecisely(scaled, x, elements.low(at: i, first, last), &sum)
    }
    let total = sum.total()
    partial.high = total.high
    partial.low = total.low
  }

  @inline(__always)
  static func addPrecisely<L: Lanes>(
    _ scaled: ScaledExp<L>, _ x: L, _ low: L, _ sum: inout Accumulator<L>
  ) {
    // The maximum itself stands outside this sum: as -inf its three terms are zero.
    let top = unitAtMaximum(scaled, x, low)
    let terms = scaled.terms(L.pick(top, equalTo: L(0), x, L(-L.Scalar.infinity)), low)
    sum.add(terms.leading)
    sum.add(terms.linear)
    sum.add(terms.rest)
  }
}
