// The gradients of softmax and log_softmax by their results: what a row's sum is, and what follows
// from it.
//
//     softmax       S = sum of y·dy       dx = y·(dy - S) / T
//     log_softmax   S = sum of dy         dx = (dy - exp(y)·S) / T
//
// S is the only number that elements share, so a row has two stages: SUM and FINISH. It goes into
// dx where dy and S may nearly cancel, so it is kept to more digits than the elements have: float32
// adds products in float64, where each is exact, float64 adds them as pairs (Dot2 of Ogita, Rump,
// Oishi 2005), and both take S off as two numbers. float64 arithmetic is free here: a row of either
// type waits for memory.
//
// A sum that is not finite makes the row NaN. Where it is finite so are all y and dy of softmax,
// and no operation below can make a NaN of them.

import CSupport

/// dx from y and dy, the row's numbers being known.
protocol Gradient {
  associatedtype L: Lanes
  func callAsFunction(_ y: L, _ dy: L) -> L
}

extension Kernels {
  /// The sum of one chunk by lanes: of float32 in float64, of float64 in pairs.
  struct Terms<L: Lanes> {
    /// The first eight lanes, or the high parts.
    var first: L.Eight
    /// The other eight, or the low parts.
    var second: L.Eight

    @inline(__always) init() {
      first = L.Eight(0)
      second = L.Eight(0)
    }

    @inline(__always) mutating func add(_ y: L, times dy: L) {
      // Order is part of the contract.
      if L.isSingle {
        first = Self.sum(first, y.eight, dy.eight)
        second = Self.sum(second, y.upperEight, dy.upperEight)
      } else {
        let product = SumOf.product(y.eight, dy.eight)
        let sum = SumOf.exact(first, product.high)
        second = second + (product.low + sum.low)
        first = sum.high
      }
    }

    @inline(__always) mutating func add(_ dy: L) {
      // Order is part of the contract.
      if L.isSingle {
        first = first + dy.eight
        second = second + dy.upperEight
      } else {
        let sum = SumOf.exact(first, dy.eight)
        second = second + sum.low
        first = sum.high
      }
    }

    /// y·dy of float32's as they are, of float64's y times `lower` before; a sum that is not finite
    /// is ±inf or NaN.
    @inline(__always) mutating func add(_ y: Widened<L>, times dy: Widened<L>, _ lower: L.Eight) {
      // Order is part of the contract.
      if L.isSingle {
        first = Self.sum(first, y.lower, dy.lower)
        second = Self.sum(second, y.upper, dy.upper)
      } else {
        let product = SumOf.product(y.lower * lower, dy.lower)
        let sum = SumOf.exact(first, product.high)
        let lost = product.low + sum.low
        second = second + L.Eight.pick(lost - lost, equalTo: L.Eight(0), lost, L.Eight(0))
        first = sum.high
      }
    }

    /// sum + y·dy of numbers that were float32: the product is exact, so that fma, a call on v2,
    /// changes nothing.
    @inline(__always) static func sum(_ sum: L.Eight, _ y: L.Eight, _ dy: L.Eight) -> L.Eight {
      I.hasFastPaths ? y.fma(dy, sum) : sum + y * dy
    }

    @inline(__always) func total() -> Sum {
      L.isSingle
        ? L.total(eight: first + second, low: L.Eight(0)) : L.total(eight: first, low: second)
    }
  }

  /// S as two numbers of the lanes' type.
  @inline(__always) static func split<L: Lanes>(_: L.Type, _ sum: Sum) -> (high: L, low: L) {
    let high = L.Scalar(sum.high)
    return (L(high), L(L.Scalar((sum.high - Double(high)) + sum.low)))
  }

  /// Softmax, T = 1 and S far from overflow: three roundings of the result.
  struct SoftmaxGradient<L: Lanes>: Gradient {
    let high: L
    let low: L

    @inline(__always) init(high: L, low: L) {
      self.high = high
      self.low = low
    }
    @inline(__always) init(_ sum: Sum) { (high, low) = Kernels.split(L.self, sum) }
    @inline(__always) func callAsFunction(_ y: L, _ dy: L) -> L { y * ((dy - high) - low) }
  }

  /// exp(y) for y up to 32, NaN beyond: no logarithm of a probability, and out of the plain form's
  /// reach soon.
  struct Probability<L: Lanes> {
    let exp = PlainExp<L>(maximum: L(0))
    /// 1 where probabilities are wanted in units of 2^-headroom.
    var scale = L(1 / L.unit)

    @inline(__always) func callAsFunction(_ y: L) -> L {
      exp(L.pick(L(32), lessThan: y, L(L.Scalar.nan), y)).rounded() * scale
    }
  }

  /// The positive quiet NaN for any.
  @inline(__always) static func quiet<L: Lanes>(
    _ v: L
  ) -> L {
    L.pick(v, equalTo: v, v, L(quietNaN(L.self)))
  }

  /// log_softmax, likewise. Probabilities are multiplied in units of 2^-headroom, unless S is so
  /// small that it would not be a normal number then: of subnormal ones a product may take its
  /// time (FarResults.swift).
  struct LogSoftmaxGradient<L: Lanes>: Gradient {
    let high: L
    let low: L
    let probability: Probability<L>

    @inline(__always) init(high: L, low: L, probability: Probability<L>) {
      self.high = high
      self.low = low
      self.probability = probability
    }
    @inline(__always) init(_ sum: Sum) {
      let split = Kernels.split(L.self, sum)
      let factor = L(sum.high.magnitude < 0x1p-20 ? 1 : 1 / L.unit)
      high = split.high * factor
      low = split.low * factor
      probability = Probability(scale: L(sum.high.magnitude < 0x1p-20 ? 1 / L.unit : 1))
    }
    @inline(__always) func callAsFunction(_ y: L, _ dy: L) -> L {
      let minus = L(0) - probability(y)
      return Kernels.quiet(minus.fma(low, minus.fma(high, dy)))
    }
  }

  /// Either, with a temperature, or where dy - S could overflow: in float64, of float64 in halves
  /// then.
  struct ScaledGradient<L: Lanes, IsLog: Choice>: Gradient {
    let high: L.Eight
    let low: L.Eight
    let half: L.Eight
    let whole: L.Eight
    let temperature: L.Eight
    let inverse: L.Eight
    let probability = Probability<L>()

    @inline(__always) init(_ sum: Sum, temperature: Double) {
      let isHalf =
        !L.isSingle && !IsLog.isTrue && sum.high.magnitude >= Kernels.gradientLimit(L.self)
      let half = isHalf ? 0.5 : 1
      high = L.Eight(sum.high * half)
      low = L.Eight(sum.low * half)
      self.half = L.Eight(half)
      whole = L.Eight(1 / half)
      self.temperature = L.Eight(temperature)
      inverse = L.Eight(1 / temperature)
    }

    @inline(__always) func callAsFunction(_ y: L, _ dy: L) -> L {
      let y = IsLog.isTrue ? probability(y) : y
      let dx = L(
        lower: eight(y.eight, dy.eight),
        upper: L.isSingle ? eight(y.upperEight, dy.upperEight) : L.Eight(0))
      return IsLog.isTrue ? Kernels.quiet(dx) : dx
    }

    @inline(__always) func eight(_ y: L.Eight, _ dy: L.Eight) -> L.Eight {
      let minus = L.Eight(0) - y
      let dx = IsLog.isTrue ? minus.fma(low, minus.fma(high, dy)) : y * ((dy * half - high) - low)
      // 1/T of float32's temperatures is a float64 with digits to spare; of float64's it may
      // overflow.
      return L.isSingle ? dx * inverse : (dx / temperature) * whole
    }
  }

  /// From here on dy - S could overflow though y times it does not.
  @inline(__always) static func gradientLimit<L: Lanes>(
    _: L.Type
  ) -> Double {
    L.isSingle ? 0x1p100 : 0x1p960
  }

  // -- stages -------------------------------------------------------------------------------------

  @inline(__always) static func isGradient(_ job: UnsafePointer<smxk_job>) -> Bool {
    job.pointee.operation == SMXK_SOFTMAX_VJP || job.pointee.operation == SMXK_LOG_SOFTMAX_VJP
  }

  /// After the sum. At T = 0 the largest elements share equally and at T = inf all do, wherever x
  /// is: no gradient.
  @inline(__always)
  static func useGradientSum<L: Lanes>(
    _: L.Type, _ row: UnsafeMutablePointer<smxk_row>, _ sum: Sum
  ) {
    row.pointee.stage = SMXK_FINISH
    row.pointee.sum_high = sum.high
    row.pointee.sum_low = sum.low
    let temperature = row.pointee.temperature
    let isFlat = form(L.self, temperature) != SMXK_SCALED
    if !sum.high.isFinite || isFlat {
      row.pointee.form = SMXK_CONSTANT
      row.pointee.constant = sum.high.isFinite ? 0 : .nan
    } else {
      let isPlain = temperature == 1 && sum.high.magnitude < gradientLimit(L.self)
      row.pointee.form = isPlain ? SMXK_PLAIN : SMXK_SCALED
    }
  }

  /// SUM or FINISH of the elements from..<to of the chunk at `start`.
  @inline(never)
  static func gradientChunk<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ from: Int,
    _ to: Int, _ start: Int,
    _ length: Int, _ scratch: UnsafeMutablePointer<smxk_scratch>, _ partial: inout smxk_partial
  ) {
    let isDirect = isDirect(job)
    let isSum = row.pointee.stage == SMXK_SUM
    func own(_ p: UnsafePointer<CChar>?) -> UnsafeMutablePointer<L.Scalar> {
      UnsafeMutableRawPointer(mutating: p!).assumingMemoryBound(to: L.Scalar.self) + start
    }
    let y =
      isDirect ? own(row.pointee.x) : smxk_high_of(scratch).assumingMemoryBound(to: L.Scalar.self)
    let dy =
      isDirect
      ? own(row.pointee.weights) : smxk_low_of(scratch).assumingMemoryBound(to: L.Scalar.self)
    if !isDirect && (isSum || row.pointee.resident == 0) {
      gatherGradient(L.self, job, row, y, dy, from, to, start, scratch)
    }
    let isLog = job.pointee.operation == SMXK_LOG_SOFTMAX_VJP
    if isSum {
      let sum =
        isLog
        ? sumGradient(Own<L>.self, Yes.self, y, dy, from, to, lines: y)
        : sumGradient(Own<L>.self, No.self, y, dy, from, to, lines: y)
      partial.high = sum.high
      partial.low = sum.low
      return
    }
    let out = isDirect ? own(UnsafePointer(row.pointee.out)) : y
    finishGradient(L.self, row, isLog, y, dy, out, from, to)
    fill(L.self, out, 0, from, 0)
    fill(L.self, out, to, length, 0)
    if isDirect { return }
    conceal(L.self, job, row, out, nil, from, to, start, scratch)
    scatter(L.self, job, row, out, start, length)
  }

  /// Results from..<to, the row's sum and form being known.
  @inline(never)
  static func finishGradient<L: Lanes>(
    _: L.Type, _ row: UnsafePointer<smxk_row>, _ isLog: Bool, _ y: UnsafePointer<L.Scalar>,
    _ dy: UnsafePointer<L.Scalar>, _ out: UnsafeMutablePointer<L.Scalar>, _ from: Int, _ to: Int
  ) {
    let sum = Sum(high: row.pointee.sum_high, low: row.pointee.sum_low)
    let temperature = row.pointee.temperature
    switch row.pointee.form {
    case SMXK_CONSTANT:
      fill(L.self, out, from, to, row.pointee.constant.isNaN ? quietNaN(L.self) : 0)
    case SMXK_PLAIN:
      if isLog {
        differentiate(LogSoftmaxGradient<L>(sum), y, dy, out, from, to)
      } else {
        differentiate(SoftmaxGradient<L>(sum), y, dy, out, from, to)
      }
    default:
      if isLog {
        differentiate(ScaledGradient<L, Yes>(sum, temperature: temperature), y, dy, out, from, to)
      } else {
        differentiate(ScaledGradient<L, No>(sum, temperature: temperature), y, dy, out, from, to)
      }
    }
  }

  /// out = gradient(y, dy) of the elements from..<to; out may be either.
  @inline(__always)
  static func differentiate<G: Gradient>(
    _ gradient: G, _ y: UnsafePointer<G.L.Scalar>, _ dy: UnsafePointer<G.L.Scalar>,
    _ out: UnsafeMutablePointer<G.L.Scalar>, _ from: Int, _ to: Int
  ) {
    for (i, first, last) in vectors(G.L.self, from, to) {
      let dx = gradient(load(y + i, first, last, fill: 0), load(dy + i, first, last, fill: 0))
      store(dx, out + i, first, last)
    }
  }

  /// S of the elements from..<to of the chunk at y and dy. Asks for the lines of `lines` on its
  /// way.
  @inline(__always)
  static func sumGradient<F: Format, IsLog: Choice>(
    _: F.Type, _: IsLog.Type, _ y: UnsafeRawPointer, _ dy: UnsafeRawPointer, _ from: Int, _ to: Int,
    lines: UnsafeRawPointer
  ) -> Sum {
    typealias L = F.L
    var terms = Terms<L>()
    var i = from & ~(L.count &- 1)
    // Out of line it would find the terms in memory, where they have just been cleared in pieces,
    // and wait for these: half of the time of a row of five float64.
    @inline(__always) func addPart(_ first: Int, _ last: Int) {
      let dy = F.load(dy, i, first, last, fill: 0)
      if IsLog.isTrue {
        terms.add(dy)
      } else {
        terms.add(F.load(y, i, first, last, fill: 0), times: dy)
      }
    }
    if i < from {
      addPart(from &- i, Swift.min(to &- i, L.count))
      i = i &+ L.count
    }
    while i &+ L.count <= to {
      I.prefetchWrite(lines + i &* F.size)
      if IsLog.isTrue {
        terms.add(F.load(dy, i))
      } else {
        terms.add(F.load(y, i), times: F.load(dy, i))
      }
      i = i &+ L.count
    }
    if i < to { addPart(0, to &- i) }
    return terms.total()
  }
}
