// Cross-entropy of rows: the loss, the logarithm of the row's sum, the gradient. Read this file
// first.
//
//     relative = log(sum of exp((x - max) / T))                       >= 0
//     lse      = max / T + relative
//     loss     = sum over k of c_k · (relative + (max - x_k) / T) + z · lse²
//     d loss / d x_j = ((C + 2·z·lse) · p_j - c_j) / T,
//     C = sum of c_k,   p_j = exp((x_j - max)/T - relative)
//
// where c_k is what a row asks of class k: the class's weight times its (smoothed) target. Nothing
// cancels: relative and max - x_k are both at least 0, and for float32 both are kept in float64.
// With t = the sum of all but one maximum, relative = log(1 + t), and log1p keeps the digits of t.
// The sum has every term with an error of 1.31 · 2^-24 at most; taking the maximum's term off again
// leaves t that error, and what that does to log(1 + t) is at most as much: with the last rounding,
// 2 ulp. Where t is below 2^-5, and where lse is so near 0 that one ulp of it or of the maximum is
// narrower than that, a second pass adds the others alone, to 2^-27 (Chunk.swift).
//
// A row with one class as its target and nothing else to it needs x_k alone (`askOne`); smoothing
// and probabilities take one more pass (CrossEntropyTargets.swift). CrossEntropyGradient.swift has
// the gradient; of rows of few classes CrossEntropyShort.swift finds the logarithms side by side,
// CrossEntropyFew.swift what they ask of their classes, CrossEntropyTogether.swift losses and the
// gradients' numbers.

import CSupport

extension Kernels {
  /// A row's sum, from its chunks.
  struct RowSum {
    var maximum = -Double.infinity
    /// N of the chunk with the maximum.
    var exponent = 0.0
    /// 2^headroom · exp(x) / 2^N over the chunks so far.
    var sum = Sum(high: 0, low: 0)
    /// Largest maximum of chunks that were not summed.
    var leftOut = -Double.infinity
    var visible = 0

    @inline(__always)
    mutating func add<L: Lanes>(_: L.Type, _ chunk: ChunkSum) {
      if !(chunk.maximum.magnitude < Double(L.plainLimit)) {
        leftOut = Swift.max(leftOut, chunk.maximum)
        if maximum < chunk.maximum && chunk.maximum >= Double(L.plainLimit) {
          maximum = chunk.maximum
          exponent = 0x1p20
        }
        // Nothing or NaN.
        sum.high += chunk.sum.high
        return
      }
      let n = Double(Kernels.exponent(L(L.Scalar(chunk.maximum)))[0])
      // Order is part of the contract: chunk after chunk. A change of scale is exact.
      if maximum < chunk.maximum {
        if maximum > -.infinity {
          scale(by: Kernels.powerOfTwo(Int(Swift.max(exponent - n, -2000))))
        }
        maximum = chunk.maximum
        exponent = n
        sum.add(chunk.sum)
      } else {
        let factor = Kernels.powerOfTwo(Int(Swift.max(n - exponent, -2000)))
        sum.add(Sum(high: chunk.sum.high * factor, low: chunk.sum.low * factor))
      }
    }

    @inline(__always) mutating func scale(by factor: Double) {
      sum = Sum(high: sum.high * factor, low: sum.low * factor)
    }
  }

  /// What a row's loss and gradient are made of.
  struct RowState {
    enum Kind {
      case finite
      /// As finite, but that the logarithm of its sum wants the precise sum (`isRough`).
      case rough
      /// No element is visible.
      case empty
      /// A NaN, +inf, or nothing but -inf.
      case special
    }
    var kind = Kind.finite
    var maximum = 0.0
    /// log(sum of exp((x - maximum) / T)), and what its rounding lost.
    var relative = 0.0
    var relativeLow = 0.0
    var lse = 0.0
    var visible = 0
  }

  @inline(__always)
  public static func crossEntropyRows<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    if I.hasFastPaths && job.pointee.logits.panel_rows > 0 {
      lossesInPanels(L.self, job, first: first, count: count, scratch)
    } else {
      lossesInPlace(L.self, job, first: first, count: count, scratch)
    }
  }

  @inline(never)
  static func lossesInPlace<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    defer { if job.pointee.logits.streams != 0 { I.streamFence() } }
    var place = smxk_row()
    withUnsafeMutablePointer(to: &place) { place in
      let together = rowsTogether(L.self, job)
      if job.pointee.is_log != 0 {
        var certain = RowState(visible: Int(job.pointee.logits.cols))
        withUnsafePointer(to: &certain) { state in
          for index in first..<first &+ count {
            crossEntropyRow(L.self, job, index, place, state, scratch)
          }
        }
        return
      }
      if together == 1 {
        for index in first..<first &+ count {
          crossEntropyRow(L.self, job, index, place, nil, scratch)
        }
        return
      }
      var room = InlineArray<16, RowState>(repeating: RowState())
      withUnsafeMutablePointer(to: &room) { room in
        let states = UnsafeMutableRawPointer(room).assumingMemoryBound(to: RowState.self)
        var index = first
        let isFew = hasFewElements(L.self, smxk_logits_of(job))
        if isFew { FewElements<L>(length: Int(job.pointee.logits.cols), scratch).clearBeyond() }
        // Without a gradient, a long row has its loss while the next one is summed.
        let finishes = finishesTogether(L.self, job) && (together >= 8 || job.pointee.has_grad != 0)
        while index < first &+ count {
          let rows = Swift.min(together, first &+ count &- index)
          if isFew {
            findFewStates(L.self, job, first: index, count: rows, states, scratch)
          } else {
            findStates(L.self, job, first: index, count: rows, states, scratch)
          }
          if finishes {
            finishRows(L.self, job, first: index, count: rows, states, place, scratch)
          } else {
            for r in 0..<rows {
              crossEntropyRow(L.self, job, index &+ r, place, states + r, scratch)
            }
          }
          index = index &+ rows
        }
      }
    }
  }

  /// `known` is the row's state if that has been found (CrossEntropyShort.swift), or nothing to
  /// find where rows hold log-probabilities.
  @inline(never)
  static func crossEntropyRow<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, _ index: Int,
    _ place: UnsafeMutablePointer<smxk_row>,
    _ known: UnsafePointer<RowState>?, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    let row = row(of: scratch)
    if let known, known.pointee.kind == .finite, liesEvenly(job) {
      beginEvenRow(job, row, place, index)
    } else {
      beginRow(smxk_logits_of(job), row, index)
      row.pointee.temperature = job.pointee.temperature
      locate(smxk_rows_of(job), place, index)
    }
    if known != nil && job.pointee.temperature != 1 { row.pointee.form = SMXK_SCALED }
    let target = target(job, UnsafeRawPointer(place.pointee.x!))
    let isIgnored = target == nil && job.pointee.is_classes != 0
    var loss = 0.0
    if !isIgnored || place.pointee.sign != nil {
      let state =
        if let known, known.pointee.kind == .finite {
          known.pointee
        } else if let known, known.pointee.kind == .rough {
          preciseState(L.self, job, row, known, scratch)
        } else {
          state(L.self, job, row, scratch)
        }
      if let lse = place.pointee.sign { writeScalar(job.pointee.rows.dtype, lse, state.lse) }
      if !isIgnored {
        var asked = Asked()
        if state.kind == .special {
          loss = .nan
        } else {
          asked =
            asks(job)
            ? ask(L.self, job, row, place, target, state, scratch)
            : askOne(
              job, UnsafeRawPointer(row.pointee.x!), target!,
              isHidden: isHidden(smxk_logits_of(job), row, target!), maximum: state.maximum)
          loss = asked.loss(state, job)
        }
        if job.pointee.has_grad != 0 {
          writeGradient(L.self, job, row, place, target, state, asked, scratch)
        }
      }
    }
    if isIgnored && job.pointee.has_grad != 0 { fillGradient(L.self, job, row, 0, scratch) }
    if job.pointee.has_loss != 0 { writeScalar(job.pointee.rows.dtype, place.pointee.out, loss) }
    if job.pointee.losses != nil { addLoss(job, index, isIgnored ? nil : loss) }
  }

  /// Adds the loss of row `index`, nil where it does not count, to its block's sum. One thread has
  /// a block's rows, one after the other.
  @inline(__always)
  static func addLoss(_ job: UnsafePointer<smxk_cross_entropy>, _ index: Int, _ loss: Double?) {
    let place = index &- Int(job.pointee.first)
    let block = job.pointee.losses! + place >> Int(job.pointee.sum_shift)
    if place & (1 << Int(job.pointee.sum_shift) &- 1) == 0 {
      block.pointee = smxk_partial(high: 0, low: 0, count: 0)
    }
    guard let loss else { return }
    // Order is part of the contract: row after row.
    let sum = SumOf.exact(block.pointee.high, loss)
    block.pointee.high = sum.high
    // What an overflow loses is no number.
    if sum.low - sum.low == 0 { block.pointee.low += sum.low }
    block.pointee.count += 1
  }

  /// The row's class; nil where it is ignored, and where targets are probabilities.
  @inline(__always)
  static func target(_ job: UnsafePointer<smxk_cross_entropy>, _ place: UnsafeRawPointer) -> Int? {
    if job.pointee.is_classes == 0 { return nil }
    let number = Int(smxk_integer(job.pointee.target_dtype, place))
    return number == Int(job.pointee.ignore_index) ? nil : number
  }

  // -- the sum ------------------------------------------------------------------------------------

  /// One chunk of the row, where it lies or gathered; `next` is how long the one is that will be
  /// next, `distance` bytes behind it if it lies where it is (0: behind this one).
  @inline(__always)
  static func sumChunk<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ start: Int,
    _ length: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>, _ visible: inout Int, _ known: inout L.Scalar,
    next: Int,
    distance: Int = 0
  ) -> ChunkSum {
    func bytes(_ size: Int) -> Int { distance == 0 ? chunkSize &* size : distance }
    let x = UnsafeRawPointer(row.pointee.x!)
    if job.pointee.direct == SMXK_DIRECT_PLAIN {
      visible = visible &+ length
      return sumChunk(
        Own<L>.self, x + start &* MemoryLayout<L.Scalar>.stride, length, &known, next: next,
        distance: bytes(MemoryLayout<L.Scalar>.stride))
    }
    if I.hasFastPaths && L.isSingle && job.pointee.direct == SMXK_DIRECT_NARROW {
      visible = visible &+ length
      var maximum = Float(Double(known))
      let sum =
        Int(job.pointee.dtype) == SMX_FLOAT16
        ? sumChunk(
          Narrow<Float16>.self, x + start &* 2, length, &maximum, next: next, distance: bytes(2))
        : sumChunk(
          Narrow<BFloat16>.self, x + start &* 2, length, &maximum, next: next, distance: bytes(2))
      known = L.Scalar(maximum)
      return sum
    }
    let elements = elements(L.self, length, scratch)
    visible = visible &+ Int(gather(L.self, job, row, elements, start, scratch))
    return sumChunk(
      Own<L>.self, UnsafeRawPointer(elements.high), length, &known, next: 0, distance: 0)
  }

  /// Room for a chunk's elements.
  @inline(__always)
  static func elements<L: Lanes>(
    _: L.Type, _ length: Int, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Elements<L> {
    Elements<L>(
      high: smxk_high_of(scratch).assumingMemoryBound(to: L.Scalar.self), low: nil, from: 0,
      to: length)
  }

  /// The row's maximum and the logarithm relative to it.
  @inline(__always)
  static func state<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, _ row: UnsafeMutablePointer<smxk_row>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> RowState {
    let logits = smxk_logits_of(job)
    if row.pointee.temperature != 1,
      let state = stateAtTemperature(L.self, logits, row, scratch)
    {
      return state
    }
    let cols = Int(logits.pointee.cols)
    var found = RowSum()
    var known = L.Scalar.nan
    var start = 0
    while start < cols {
      let length = Swift.min(chunkSize, cols &- start)
      let next = Swift.min(chunkSize, cols &- start &- length)
      var visible = 0
      let chunk = sumChunk(
        L.self, logits, row, start, length, scratch, &visible, &known, next: next)
      if visible > 0 {
        found.add(L.self, chunk)
        found.visible = found.visible &+ visible
      }
      start = start &+ length
    }
    var state = RowState(maximum: found.maximum, visible: found.visible)
    if found.visible == 0 {
      state.kind = .empty
      state.maximum = 0
      state.lse = -.infinity
      return state
    }
    let leftOut = found.leftOut
    if found.sum.high.isNaN || leftOut == .infinity
      || (found.maximum == -.infinity && leftOut == -.infinity)
    {
      state.kind = .special
      state.lse = found.sum.high.isNaN ? .nan : leftOut
      return state
    }
    row.pointee.form = SMXK_PLAIN
    row.pointee.maximum = found.maximum
    // A chunk that was left out may matter unless it is so far below that its terms are 0.
    let isPlain =
      row.pointee.temperature == 1 && found.maximum.magnitude < Double(L.plainLimit)
      && !(leftOut + 2048 > found.maximum)
    if !isPlain {
      return stateInStages(L.self, logits, row, from: SMXK_MAXIMUM, visible: state.visible, scratch)
    }
    let relative = logOfOthers(maximum: L(L.Scalar(found.maximum)), found.sum) { Double($0[0]) }
    state.relative = relative.high
    state.relativeLow = relative.low
    state.lse = LogSum<Double>.absolute(Sum(high: found.maximum, low: 0), relative)
    if isRough(maximum: found.maximum, state.relative, state.lse) == 0 { return state }
    return stateInStages(
      L.self, logits, row, from: SMXK_SECOND_MAXIMUM, visible: state.visible, scratch)
  }

  /// log(1 + t), t the sum of all but one maximum relative to that: of one row, or in each lane of
  /// another.
  @inline(__always)
  static func logOfOthers<L: Lanes, W: Wide>(
    maximum m: L, _ sum: SumOf<W>, _ part: (L) -> W
  ) -> SumOf<W> {
    let plain = PlainExp<L>(maximum: m)
    let exp = SumExp<L>(shift: plain.shift, cut: plain.cut, power: L(0))
    let scale = W(1 / Double(L.unit))
    let others = SumOf.exact(sum.high, W(0) - part(exp(No.self, m)))
    let t = SumOf(high: others.high * scale, low: (others.low + sum.low) * scale)
    if L.isSingle {
      // The maximum's term by the same formula as the others, unrounded: both lack the same
      // n·ln2Low.
      let r = exp.rest(exponent(m), m)
      let rest = part(r)
      let term = rest.fma(rest.fma(part(r.expTail()), W(1)), W(1))
      // At least 2^-5, or the row is rough: 1 + t has all the digits that a float32 needs.
      return SumOf(high: logOfSingle(W(1) + (t.high + t.low) / term), low: W(0))
    }
    return log1p(t.divided(by: Top<L>(plain: m).wide(part).exact))
  }

  /// Not 0 where the sum's rounding could be seen (Log.swift explains both; here terms carry 1.45 ·
  /// 2^-24 of the others' share t/(1 + t), which half an ulp of `larger`, 2^-24 of the power of two
  /// below it, must hold).
  @inline(__always)
  static func isRough<W: Wide>(maximum: W, _ relative: W, _ lse: W) -> W {
    func larger(_ a: W, _ b: W) -> W { W.pick(a, lessThan: b, b, a) }
    func magnitude(_ a: W) -> W { W.pick(a, lessThan: W(0), W(0) - a, a) }
    // The share is below 1, and below relative.
    let share = W.pick(relative, lessThan: W(1), relative, W(1))
    let isClose = W.pick(
      larger(magnitude(maximum), magnitude(lse)).binade, lessThan: W(1.5) * share, W(1), W(0))
    // log(1 + 2^-5)
    return W.pick(relative, lessThan: W(0x1.f829b0e783300p-6), W(1), isClose)
  }
}
