// The gradient of a row's loss, written once from the logits, in place if they are the same memory.
//
//     out_j = f · p_j - s · c_j,      s = factor / T,   f = s · (C + 2·z·lse)
//
// p_j is exp(x_j) relative to a power of two, times one number of the row, which takes in f, the
// sum and the maximum's remainder. The power is chosen (`headroom`) so that this number is near
// 2^-40 (2^-500 for float64): neither underflows where the result does not, down to the smallest
// subnormal. 14 vector operations, 1 load, 1 store; p is off by at most 1.31 · 2^-24 and two
// roundings, 3 ulp.
//
// At a row's one class p - 1 would cancel; it is expm1(-loss) instead.

import CSupport

extension Kernels {
  /// What a pass over a row takes of its Share: scalars, which it is given in registers.
  struct ShareNumbers<Scalar> {
    let shift: Scalar
    let cut: Scalar
    let factor: Scalar
  }

  /// f · p_j of a row.
  struct Share<L: Lanes> {
    let plain: PlainExp<L>
    let scaled: ScaledExp<L>
    let factor: L
    let isPlain: Bool
    var isFinite: Bool { @inline(__always) get { factor[0] - factor[0] == 0 } }
    @inline(__always) var numbers: ShareNumbers<L.Scalar> {
      ShareNumbers(shift: plain.shift[0], cut: plain.cut[0], factor: factor[0])
    }

    @inline(__always)
    init(_ row: UnsafePointer<smxk_row>, _ state: RowState, of whole: Double) {
      let m = L(L.Scalar(state.maximum))
      isPlain = row.pointee.form == SMXK_PLAIN
      let term = Top<L>(plain: m).ofRow.exact
      let relative = Sum(high: state.relative, low: state.relativeLow)
      let number = share(
        of: whole, exponential(-relative.high), log: relative,
        term: isPlain ? term : Sum(high: 1, low: 0))
      // Within the range of exponents, also for a factor of 0; 500 more is within float64's, too.
      let field = Int(number.bitPattern &>> 52) & 2047
      let exponent = Double(Swift.min(Swift.max(field &- 1023, -1022), 500))
      let headroom = L.isSingle ? Swift.min(Swift.max(exponent + 40, -64), 100) : exponent + 500
      factor = L(L.Scalar(number * powerOfTwo(-Int(headroom))))
      let fieldZero = L.fieldZero - L.headroom + L.Scalar(headroom)
      let n = Kernels.exponent(m)
      plain = PlainExp<L>(exponent: n, fieldZero: L(fieldZero), least: L.leastFieldOfShare)
      scaled = ScaledExp<L>(
        maximum: isPlain ? 0 : L.Scalar(state.maximum), low: 0,
        temperature: row.pointee.temperature,
        raise: L.Scalar(headroom) - L.headroom, least: L.leastFieldOfShare)
    }
  }

  /// What the caller multiplies the row's gradient by.
  @inline(__always) static func given(
    _ job: UnsafePointer<smxk_cross_entropy>, _ place: UnsafeRawPointer?
  ) -> Double {
    place.map { readScalar(job.pointee.rows.bias_dtype, $0) } ?? 1
  }

  /// The gradient of a row that counts.
  @inline(__always)
  static func writeGradient<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, _ row: UnsafeMutablePointer<smxk_row>,
    _ place: UnsafePointer<smxk_row>, _ target: Int?, _ state: RowState, _ asked: Asked,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    guard state.kind == .finite else {
      fillGradient(L.self, job, row, state.kind == .special ? .nan : 0, scratch)
      return
    }
    let logits = smxk_logits_of(job)
    let factor =
      job.pointee.factor * given(job, UnsafeRawPointer(place.pointee.bias))
      / job.pointee.temperature
    let ofLse = job.pointee.z_loss == 0 ? 0 : 2 * job.pointee.z_loss * state.lse
    let share = Share<L>(row, state, of: factor * (asked.total + ofLse))
    if asks(job) {
      writeInChunks(L.self, job, row, place, target, state, share, asked: factor, scratch)
      return
    }
    guard let target else { return }
    // Before its logit is gone.
    let isHidden = isHidden(logits, row, target)
    let loss =
      asked.total == 0 ? 0 : state.relative + asked.far / asked.total / job.pointee.temperature
    // A factor that is no number makes NaN, whose sign is the CPU's own.
    let isDirect = I.hasFastPaths && row.pointee.form == SMXK_PLAIN && share.isFinite
    if isDirect && logits.pointee.direct == SMXK_DIRECT_PLAIN {
      writeShares(
        Own<L>.self, UnsafeRawPointer(row.pointee.x!), UnsafeMutableRawPointer(row.pointee.out!),
        Int(logits.pointee.cols), share.numbers, streams: logits.pointee.streams != 0)
    } else if isDirect && L.isSingle && logits.pointee.direct == SMXK_DIRECT_NARROW {
      writeNarrow(
        L.self, logits, UnsafeRawPointer(row.pointee.x!), UnsafeMutableRawPointer(row.pointee.out!),
        share.numbers)
    } else {
      writeInChunks(L.self, job, row, place, target, state, share, asked: factor, scratch)
    }
    if isHidden || asked.total == 0 { return }
    let value = factor * (asked.total * exponentialLess1(-loss) + ofLse * exponential(-loss))
    writeScalar(
      logits.pointee.dtype, row.pointee.out + target &* Int(logits.pointee.inner![0].out),
      value == value ? value : .nan)
  }

  @inline(__always)
  static func writeNarrow<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ x: UnsafeRawPointer,
    _ out: UnsafeMutableRawPointer,
    _ share: ShareNumbers<L.Scalar>
  ) {
    // L is F32 here, which the type system does not know.
    let numbers = ShareNumbers(
      shift: Float(Double(share.shift)), cut: Float(Double(share.cut)),
      factor: Float(Double(share.factor)))
    let cols = Int(job.pointee.cols)
    let streams = job.pointee.streams != 0
    if Int(job.pointee.dtype) == SMX_FLOAT16 {
      writeShares(Narrow<Float16>.self, x, out, cols, numbers, streams: streams)
    } else {
      writeShares(Narrow<BFloat16>.self, x, out, cols, numbers, streams: streams)
    }
  }

  /// out = f · p of a contiguous row, in whole vectors of out, four at a time (Pair.swift).
  @inline(never)
  static func writeShares<F: Format>(
    _: F.Type, _ x: UnsafeRawPointer, _ out: UnsafeMutableRawPointer, _ count: Int,
    _ share: ShareNumbers<F.L.Scalar>,
    streams: Bool
  ) {
    typealias L = F.L
    let exp = PlainExp<L>(shift: L(share.shift), cut: L(share.cut))
    let factor = L(share.factor)
    if sharesLookFar(
      F.self, x, count, cut: share.cut, least: L.leastFieldOfShare, share.factor)
    {
      writeFarShares(F.self, x, out, count, share)
      return
    }
    let wide = exp.widened()
    var i = 0
    // The first vector ends where a whole one of out begins.
    var length = count >= 8 &* L.count ? toBoundary(F.self, out) : 0
    if length == 0 { length = Swift.min(L.count, count) }
    while true {
      // One body for whole and partial vectors: its code is large.
      while i < count && (length < L.count || !I.interleaves || i &+ 4 &* L.count > count) {
        let isWhole = length == L.count
        let v = exp(isWhole ? F.load(x, i) : F.load(x, i, 0, length, fill: 0)).rounded() * factor
        if isWhole { F.store(v, out, i) } else { F.store(v, out, i, 0, length) }
        i = i &+ length
        length = Swift.min(L.count, count &- i)
      }
      if i >= count { return }
      i = writeFours(F.self, x, out, i, count, wide, factor, streams: streams)
      length = Swift.min(L.count, count &- i)
    }
  }

  /// Four vectors at a time from i on, as many as there are; returns the place behind them.
  @inline(__always)
  static func writeFours<F: Format>(
    _: F.Type, _ x: UnsafeRawPointer, _ out: UnsafeMutableRawPointer, _ first: Int, _ count: Int,
    _ wide: PlainExp<Pair<Pair<F.L>>>, _ factor: F.L, streams: Bool
  ) -> Int {
    typealias L = F.L
    var i = first
    while I.interleaves && i &+ 4 &* L.count <= count {
      let j = i &+ L.count
      let k = j &+ L.count
      let l = k &+ L.count
      // Half a page ahead, where the hardware's own prefetching stops; 2048 bytes are 8 rounds of
      // this loop. What goes past the caches is not to be there.
      for vector in 0..<4 where !streams && (F.size &* L.count == 64 || vector & 1 == 0) {
        I.prefetchWrite(out + ((i &+ vector &* L.count) &* F.size &+ 2048))
      }
      let e = wide(Pair(Pair(F.load(x, i), F.load(x, j)), Pair(F.load(x, k), F.load(x, l))))
        .rounded()
      put(F.self, e.a.a * factor, out, i, streams: streams)
      put(F.self, e.a.b * factor, out, j, streams: streams)
      put(F.self, e.b.a * factor, out, k, streams: streams)
      put(F.self, e.b.b * factor, out, l, streams: streams)
      i = l &+ L.count
    }
    return i
  }

  /// The gradient of any row, chunk by chunk through scratch; where more than one class has a c_k,
  /// it is multiplied by `factor` and taken off.
  @inline(never)
  static func writeInChunks<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, _ row: UnsafeMutablePointer<smxk_row>,
    _ place: UnsafePointer<smxk_row>, _ target: Int?, _ state: RowState, _ share: Share<L>,
    asked factor: Double,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    let asks = asks(job)
    let c = smxk_low_of(scratch).assumingMemoryBound(to: Double.self)
    // In the lanes' own type and the same memory: element i lies at or before the one that it comes
    // from.
    let asked = UnsafeMutableRawPointer(c).assumingMemoryBound(to: L.Scalar.self)
    let logits = smxk_logits_of(job)
    let cols = Int(logits.pointee.cols)
    let hasOverflown = factor - factor == 0 && !share.isFinite
    let isDirect = isDirect(logits)
    func own(_ p: UnsafePointer<CChar>?) -> UnsafeMutablePointer<L.Scalar> {
      UnsafeMutableRawPointer(mutating: p!).assumingMemoryBound(to: L.Scalar.self)
    }
    var start = 0
    while start < cols {
      let length = Swift.min(chunkSize, cols &- start)
      let elements = elements(L.self, length, scratch)
      let x = isDirect ? own(row.pointee.x) + start : elements.high
      let out = isDirect ? own(UnsafePointer(row.pointee.out)) + start : elements.high
      if !isDirect { _ = gather(L.self, logits, row, elements, start, scratch) }
      if asks {
        fillAsked(L.self, job, row, place, target, state, start, length, c)
        for (k, _, _) in vectors(L.self, 0, length) {
          let lower = F64(at: c + k) * F64(factor)
          L(lower: lower, upper: L.isSingle ? F64(at: c + (k &+ 8)) * F64(factor) : lower).store(
            at: asked + k)
        }
      }
      if share.isPlain {
        writeChunk(Yes.self, x, out, length, share, asks ? asked : nil, hasOverflown: hasOverflown)
      } else {
        writeChunk(No.self, x, out, length, share, asks ? asked : nil, hasOverflown: hasOverflown)
      }
      if row.pointee.mask != nil { clearHidden(L.self, logits, row, start, length, out) }
      if !isDirect { scatter(L.self, logits, row, out, start, length) }
      start = start &+ length
    }
  }

  /// out = f · p of x, less what is asked; x may be out.
  @inline(__always)
  static func writeChunk<L: Lanes, IsPlain: Choice>(
    _: IsPlain.Type, _ x: UnsafePointer<L.Scalar>, _ out: UnsafeMutablePointer<L.Scalar>,
    _ length: Int,
    _ share: Share<L>, _ asked: UnsafePointer<L.Scalar>?, hasOverflown: Bool
  ) {
    let product = FarProduct(high: share.factor)
    let isFar =
      I.hasFastPaths && asked == nil && !hasOverflown
      && chunkLooksFar(IsPlain.self, x, length, share, product)
    for (i, first, last) in vectors(L.self, 0, length) {
      let x: L = load(x + i, first, last, fill: -L.Scalar.infinity)
      let e = (IsPlain.isTrue ? share.plain(x) : share.scaled(x)).rounded()
      // 0 times a number that has overflowed to inf is 0.
      let factor = hasOverflown ? L.pick(e, equalTo: L(0), L(0), share.factor) : share.factor
      let value: L
      if let asked {
        value = e.fma(factor, L(0) - load(asked + i, first, last, fill: 0))
      } else {
        value = isFar ? product(e) : e * factor
      }
      store(quiet(value), out + i, first, last)
    }
  }

  /// Whether such a product looks far, one vector in 64: each costs an exponential.
  @inline(__always)
  static func chunkLooksFar<L: Lanes, IsPlain: Choice>(
    _: IsPlain.Type, _ x: UnsafePointer<L.Scalar>, _ length: Int, _ share: Share<L>,
    _ product: FarProduct<L>
  ) -> Bool {
    var found = L(0)
    var i = 0
    while i &+ L.count <= length {
      let x = L(at: x + i)
      let e = (IsPlain.isTrue ? share.plain(x) : share.scaled(x)).rounded()
      found = L.max(found, product.marks(e))
      i = i &+ 64 &* L.count
    }
    return found.largest() > 0
  }

  /// A hidden class has gradient 0, even where the target asks for it.
  @inline(__always)
  static func clearHidden<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ start: Int,
    _ length: Int,
    _ results: UnsafeMutablePointer<L.Scalar>
  ) {
    for k in 0..<length where isHidden(job, row, start &+ k) { results[k] = 0 }
  }

  /// The gradient of a row's classes is `value`, but for hidden ones.
  @inline(never)
  static func fillGradient<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, _ row: UnsafeMutablePointer<smxk_row>,
    _ value: L.Scalar,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let logits = smxk_logits_of(job)
    let cols = Int(logits.pointee.cols)
    let high = smxk_high_of(scratch).assumingMemoryBound(to: L.Scalar.self)
    fill(L.self, high, 0, Swift.min(chunkSize, cols), value)
    var start = 0
    while start < cols {
      let length = Swift.min(chunkSize, cols &- start)
      if row.pointee.mask != nil {
        fill(L.self, high, 0, length, value)
        clearHidden(L.self, logits, row, start, length, high)
      }
      scatter(L.self, logits, row, high, start, length)
      start = start &+ length
    }
  }
}
