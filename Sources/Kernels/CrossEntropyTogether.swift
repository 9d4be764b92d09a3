// Losses and gradients of a few rows at a time, their states known.
//
// Beside its elements a row's loss and gradient take three exponentials, two divisions and what
// lies between them: a chain that mostly waits for itself, longer than the work on a hundred
// elements. So eight rows take it side by side, a lane a row. Rows of FewElements.swift lie in
// lanes already, and so are their gradients computed. The operations of each row and their order
// are those of `crossEntropyRow`, which takes the rows that want more.
//
// One thread, AVX-512 (Zen 4), ns a row with its gradient, row by row before: 60000 × 10 float32
// 115, now 42; 16384 × 32 142, 73; 4096 × 128 188, 109; 1024 × 1000 540, 469; float64 60000 × 10
// 160, 100; the loss alone of up to 512 classes 3 to 6 less.

import CSupport

extension Kernels {
  /// Whether the rows of a job lie where they are computed, at equal distances, and have one class
  /// each or are few elements.
  @inline(__always)
  static func finishesTogether<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>
  ) -> Bool {
    let asksInLanes = I.hasWideTiles && hasFewElements(L.self, smxk_logits_of(job))
    return I.hasFastPaths && liesEvenly(job) && (!asks(job) || asksInLanes)
  }

  /// Numbers of up to sixteen rows, in scratch's `low`, behind those that their states come from.
  struct LossNumbers<L: Lanes> {
    private let memory: UnsafeMutableRawPointer

    @inline(__always) init(_ scratch: UnsafeMutablePointer<smxk_scratch>) {
      memory = smxk_low_of(scratch) + 3 &* numbersBytes
    }

    @inline(__always) private func doubles(_ kind: Int) -> UnsafeMutablePointer<Double> {
      memory.assumingMemoryBound(to: Double.self) + 16 &* kind
    }
    @inline(__always) private func lanes(_ kind: Int) -> UnsafeMutablePointer<L.Scalar> {
      (memory + 2048).assumingMemoryBound(to: L.Scalar.self) + 16 &* kind
    }

    /// Of Asked and RowState, and what the caller multiplies the row's loss by.
    @inline(__always) var total: UnsafeMutablePointer<Double> { doubles(0) }
    @inline(__always) var far: UnsafeMutablePointer<Double> { doubles(1) }
    @inline(__always) var relative: UnsafeMutablePointer<Double> { doubles(2) }
    @inline(__always) var lse: UnsafeMutablePointer<Double> { doubles(3) }
    @inline(__always) var factor: UnsafeMutablePointer<Double> { doubles(4) }
    /// The loss, and the gradient of the row's class.
    @inline(__always) var loss: UnsafeMutablePointer<Double> { doubles(5) }
    @inline(__always) var ofTarget: UnsafeMutablePointer<Double> { doubles(6) }
    @inline(__always) var relativeLow: UnsafeMutablePointer<Double> { doubles(7) }
    @inline(__always) var maximum: UnsafeMutablePointer<L.Scalar> { lanes(0) }
    /// The row's class, -1 where its gradient is like that of the others.
    @inline(__always) var target: UnsafeMutablePointer<L.Scalar> { lanes(1) }
    /// Of Share.
    @inline(__always) var shift: UnsafeMutablePointer<L.Scalar> { lanes(2) }
    @inline(__always) var cut: UnsafeMutablePointer<L.Scalar> { lanes(3) }
    @inline(__always) var share: UnsafeMutablePointer<L.Scalar> { lanes(4) }
    /// Not zero where the row goes its own way.
    @inline(__always) var isSpecial: UnsafeMutablePointer<L.Scalar> { lanes(5) }
    /// Of Share at a temperature.
    @inline(__always) var raise: UnsafeMutablePointer<L.Scalar> { lanes(6) }
  }

  /// Rows first ..< first + count, as many as `rowsTogether` says.
  @inline(never)
  static func finishRows<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, first: Int, count: Int,
    _ states: UnsafePointer<RowState>,
    _ place: UnsafeMutablePointer<smxk_row>, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    let logits = smxk_logits_of(job)
    let numbers = LossNumbers<L>(scratch)
    // Lanes without a row are computed with, in writeFewGradients.
    if count <= 8 && L.count > 8 {
      L(0).store(at: numbers.target)
      L(0).store(at: numbers.shift)
      L(0).store(at: numbers.cut)
      L(0).store(at: numbers.share)
      L(0).store(at: numbers.maximum)
      L(0).store(at: numbers.raise)
      F64(0).store(at: numbers.ofTarget + 8)
      F64(0).store(at: numbers.factor + 8)
    }
    enterLosses(job, numbers, first: first, count: count, states)
    if I.hasWideTiles && asks(job) {
      let few = FewElements<L>(length: Int(logits.pointee.cols), scratch)
      askFew(few, job, first: first, count: count, numbers)
    }
    var start = 0
    while start < count {
      findLosses(job, numbers, start)
      start = start &+ 8
    }
    if job.pointee.has_grad != 0 && hasFewElements(L.self, logits) {
      let few = FewElements<L>(length: Int(logits.pointee.cols), scratch)
      writeFewGradients(few, job, first: first, count: count, numbers)
    } else if job.pointee.has_grad != 0 {
      writeGradients(L.self, logits, first: first, count: count, numbers)
    }
    let rows = smxk_rows_of(job)
    let axis = rows.pointee.outer!
    for r in 0..<count {
      let index = first &+ r
      if numbers.isSpecial[r] != 0 {
        crossEntropyRow(L.self, job, index, place, states + r, scratch)
        continue
      }
      if let lse = rows.pointee.sign {
        writeScalar(
          rows.pointee.dtype,
          lse.assumingMemoryBound(to: CChar.self) + index &* Int(axis.pointee.sign), states[r].lse)
      }
      if job.pointee.has_loss != 0 {
        let out =
          rows.pointee.out!.assumingMemoryBound(to: CChar.self) + index &* Int(axis.pointee.out)
        writeScalar(rows.pointee.dtype, out, numbers.loss[r])
      }
      if job.pointee.losses != nil { addLoss(job, index, numbers.loss[r]) }
    }
  }

  /// What the rows ask; lanes without a row do as the last one.
  @inline(__always)
  static func enterLosses<L: Lanes>(
    _ job: UnsafePointer<smxk_cross_entropy>, _ numbers: LossNumbers<L>, first: Int, count: Int,
    _ states: UnsafePointer<RowState>
  ) {
    let (logits, rows) = (smxk_logits_of(job), smxk_rows_of(job))
    let (step, axis) = (Int(logits.pointee.outer!.pointee.x), rows.pointee.outer!)
    L(0).store(at: numbers.isSpecial)
    for r in 0..<(count &+ 7) & ~7 {
      let from = Swift.min(r, count &- 1)
      let index = first &+ from
      let state = states + from
      let target =
        state.pointee.kind == .finite
        ? target(job, rows.pointee.x! + index &* Int(axis.pointee.x)) : nil
      let x = logits.pointee.x! + index &* step
      let isGiven = target != nil || (state.pointee.kind == .finite && job.pointee.is_classes == 0)
      let asked =
        asks(job)
        ? Asked()
        : target.map { askOne(job, x, $0, isHidden: false, maximum: state.pointee.maximum) }
          ?? Asked()
      numbers.total[r] = asked.total
      numbers.far[r] = asked.far
      numbers.relative[r] = state.pointee.relative
      numbers.relativeLow[r] = state.pointee.relativeLow
      numbers.lse[r] = state.pointee.lse
      numbers.maximum[r] = L.Scalar(state.pointee.maximum)
      numbers.isSpecial[r] = isGiven ? 0 : 1
      numbers.target[r] = L.Scalar(Double(target ?? -1))
      if job.pointee.has_grad == 0 { continue }
      let factor =
        job.pointee.factor
        * given(job, rows.pointee.bias.map { $0 + index &* Int(axis.pointee.bias) })
      let temperature = job.pointee.temperature
      numbers.factor[r] = temperature == 1 ? factor : factor / temperature
      if asked.total == 0 && !asks(job) { numbers.target[r] = -1 }
    }
  }

  /// Losses of eight rows, the first of them in lane `start` of all, and the numbers of their
  /// gradients.
  @inline(__always)
  static func findLosses<L: Lanes>(
    _ job: UnsafePointer<smxk_cross_entropy>, _ numbers: LossNumbers<L>, _ start: Int
  ) where L.Eight == F64 {
    let total = F64(at: numbers.total + start)
    let far = F64(at: numbers.far + start)
    let relative = F64(at: numbers.relative + start)
    let lse = F64(at: numbers.lse + start)
    // Of 1 everything is itself.
    let temperature = job.pointee.temperature
    let distance = temperature == 1 ? far : far / F64(temperature)
    var loss = total * relative + distance
    if job.pointee.z_loss != 0 { loss = loss + F64(job.pointee.z_loss) * (lse * lse) }
    loss.store(at: numbers.loss + start)
    // Of NaN the sign is the CPU's own.
    let isSpecial = L(at: numbers.isSpecial + start, from: 0, to: 8, fill: 0)
    let special = L.pick(L(eight: loss - loss), equalTo: L(0), isSpecial, L(1))
    special.store(at: numbers.isSpecial + start, from: 0, to: 8)
    if job.pointee.has_grad == 0 { return }
    let ofLse = job.pointee.z_loss == 0 ? F64(0) : F64(2 * job.pointee.z_loss) * lse
    let factor = F64(at: numbers.factor + start)
    let m = L(at: numbers.maximum + start, from: 0, to: 8, fill: 0)
    let relativeLow = F64(at: numbers.relativeLow + start)
    let share = EightShares<L>(
      maximum: m, relative: SumOf(high: relative, low: relativeLow), of: factor * (total + ofLse),
      isScaled: temperature != 1)
    share.raise.store(at: numbers.raise + start, from: 0, to: 8)
    share.plain.shift.store(at: numbers.shift + start, from: 0, to: 8)
    share.plain.cut.store(at: numbers.cut + start, from: 0, to: 8)
    share.factor.store(at: numbers.share + start, from: 0, to: 8)
    // A factor that is no number makes NaN.
    L.pick(share.factor - share.factor, equalTo: L(0), special, L(1)).store(
      at: numbers.isSpecial + start, from: 0, to: 8)
    let ofTarget = temperature == 1 ? far / total : far / total / F64(temperature)
    let ofOne = F64.pick(total, equalTo: F64(0), F64(0), relative + ofTarget)
    let less1 = exponentialLess1(F64(0) - ofOne)
    let value = factor * (total * less1 + ofLse * exponential(F64(0) - ofOne))
    value.store(at: numbers.ofTarget + start)
  }

  /// Share of eight rows of the plain form, or of one temperature, in the first eight lanes.
  struct EightShares<L: Lanes> where L.Eight == F64 {
    let plain: PlainExp<L>
    let raise: L
    let factor: L

    @inline(__always) init(maximum m: L, relative: SumOf<F64>, of whole: F64, isScaled: Bool) {
      let term =
        isScaled ? SumOf(high: F64(1), low: F64(0)) : Top<L>(plain: m).eight.exact
      let number = share(
        of: whole, exponential(F64(0) - relative.high), log: relative, term: term)
      func clamped(_ x: F64, _ low: Double, _ high: Double) -> F64 {
        F64.pick(F64(high), lessThan: x, F64(high), F64.max(F64(low), x))
      }
      let exponent = clamped(number.exponentField, -1022, 500)
      let headroom = L.isSingle ? clamped(exponent + F64(40), -64, 100) : exponent + F64(500)
      factor = L(eight: number * powerOfTwo(minus: headroom))
      raise = L(eight: headroom) - L(L.headroom)
      let fieldZero = L(L.fieldZero - L.headroom) + L(eight: headroom)
      let n = Kernels.exponent(m)
      plain = PlainExp<L>(exponent: n, fieldZero: fieldZero, least: L.leastFieldOfShare)
    }
  }

  /// The gradients of rows that are not special.
  @inline(__always)
  static func writeGradients<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int, _ numbers: LossNumbers<L>
  ) where L.Eight == F64 {
    let cols = Int(job.pointee.cols)
    let axis = job.pointee.outer!
    let isNarrow = L.isSingle && job.pointee.direct == SMXK_DIRECT_NARROW
    for r in 0..<count where numbers.isSpecial[r] == 0 {
      let x = job.pointee.x! + (first &+ r) &* Int(axis.pointee.x)
      let out = job.pointee.out! + (first &+ r) &* Int(axis.pointee.out)
      let share = ShareNumbers(
        shift: numbers.shift[r], cut: numbers.cut[r], factor: numbers.share[r])
      if isNarrow {
        writeNarrow(L.self, job, x, out, share)
      } else {
        writeShares(Own<L>.self, x, out, cols, share, streams: job.pointee.streams != 0)
      }
      if numbers.target[r] >= 0 {
        let place =
          out.assumingMemoryBound(to: CChar.self) + Int(Double(numbers.target[r])) &* itemSize(job)
        writeScalar(job.pointee.dtype, place, numbers.ofTarget[r])
      }
    }
  }

  /// The same of rows that lie in lanes.
  @inline(__always)
  static func writeFewGradients<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_cross_entropy>, first: Int, count: Int,
    _ numbers: LossNumbers<L>
  ) where L.Eight == F64 {
    if I.hasWideTiles && job.pointee.temperature != 1 {
      let exp = scaledExp(
        Yes.self, few, L(at: numbers.maximum), raise: L(at: numbers.raise),
        least: L.leastFieldOfShare)
      for i in 0..<few.length { exp(L(at: few.x(i))).rounded().store(at: few.result(i)) }
    } else {
      let exp = PlainExp<L>(shift: L(at: numbers.shift), cut: L(at: numbers.cut))
      for i in 0..<few.length { exp(L(at: few.x(i))).rounded().store(at: few.result(i)) }
    }
    let share = L(at: numbers.share)
    if I.hasWideTiles && asks(job) {
      let factor = Widened<L>(at: numbers.factor)
      for i in 0..<few.length {
        let asked = (Widened<L>(at: few.asked(i)) * factor).lanes
        quiet(L(at: few.result(i)).fma(share, L(0) - asked)).store(at: few.result(i))
      }
    } else {
      let target = L(at: numbers.target)
      let ofTarget = L(lower: F64(at: numbers.ofTarget), upper: F64(at: numbers.ofTarget + 8))
      let product = FarProduct(high: share)
      let isFar = I.hasFastPaths && product.marks(L(at: few.result(0))).largest() > 0
      for i in 0..<few.length {
        let term = L(at: few.result(i))
        let e = isFar ? product(term) : term * share
        L.pick(target, equalTo: L(L.Scalar(Double(i))), ofTarget, e).store(at: few.result(i))
      }
    }
    let logits = smxk_logits_of(job)
    let step = Int(logits.pointee.outer!.pointee.out)
    let out = logits.pointee.out! + first &* step
    let isDone = !(L(at: numbers.isSpecial).largest() > 0)
    if isBeside(logits) {
      let inner = Int(logits.pointee.inner![0].out)
      putBeside(few, out, inner, count, few.length, unless: isDone ? nil : numbers.isSpecial)
    } else if step == few.length &* itemSize(logits) && isDone {
      putRows(few, logits, count, few.length, out)
    } else {
      for r in 0..<count where numbers.isSpecial[r] == 0 {
        putRow(few, logits, r, few.length, out + r &* step)
      }
    }
  }
}
