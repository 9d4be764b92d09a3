// What a row of logits says of its label at a temperature: loss, its derivatives, the answer's
// confidence.
//
// With b = 1/T, y = b·(x - max x) <= 0 and w = exp(y), all in float64,
//
//     loss = log(sum of w) - y[label],   slope = E[y] - y[label],   curvature = Var[y],
//
// E and Var under w / sum of w.
//
// The slope is b times the loss's derivative by b, the curvature b² times the second: without a
// unit, so that neither overflows however the logits are scaled. The maximum and what equals it are
// counted apart from the others' sum, so that the loss of a row that is nearly certain has all its
// digits.

import CSupport

extension Kernels {
  /// What turns logits into weights.
  struct Weighting {
    let largest: F64
    let inverse: F64
    let exp: PlainExp<F64>

    @inline(__always) init(largest: Double, inverse: Double) {
      self.largest = F64(largest)
      self.inverse = F64(inverse)
      exp = PlainExp(maximum: F64(0))
    }
  }

  /// Sums over a row: weights 2^headroom too large.
  struct Moments {
    /// How many logits equal the largest.
    private var ties = Sum(high: 0, low: 0)
    /// Of the others, the sums of w, w·y and w·y².
    private var weight = Sum(high: 0, low: 0)
    private var first = Sum(high: 0, low: 0)
    private var second = Sum(high: 0, low: 0)

    @inline(__always) init() {}

    /// Adds `count` logits. Order is part of the contract: lane l takes elements l, l + 8, … of
    /// whatever type; the lanes meet in the tree of Sum.swift.
    @inline(never)
    mutating func add<L: Lanes>(
      _ x: UnsafePointer<L.Scalar>, _ count: Int, _ weighting: Weighting, _: L.Type
    ) where L.Eight == F64 {
      let zero = F64(0)
      var (t, w, wy, wyy) = (zero, zero, zero, zero)
      var i = 0
      while i < count {
        let v: L = load(x + i, 0, Swift.min(count &- i, L.count), fill: -L.Scalar.infinity)
        for half in 0..<L.count / 8 {
          let d = (half == 0 ? v : v.turned(by: 8)).eight - weighting.largest
          let y = d * weighting.inverse
          let isTop = F64.pick(d, equalTo: zero, F64(1), zero)
          let weight = F64.pick(d, equalTo: zero, zero, decay(y, weighting.exp).high)
          // What weighs nothing may be infinitely far away.
          let near = F64.pick(weight, equalTo: zero, zero, y)
          let product = weight * near
          t = t + isTop
          w = w + weight
          wy = wy + product
          wyy = product.fma(near, wyy)
        }
        i = i &+ L.count
      }
      ties.add(t.total(origin: 0, low: zero))
      weight.add(w.total(origin: 0, low: zero))
      first.add(wy.total(origin: 0, low: zero))
      second.add(wyy.total(origin: 0, low: zero))
    }

    @inline(__always) mutating func add(
      _ x: UnsafePointer<Double>, _ count: Int, _ weighting: Weighting
    ) {
      add(x, count, weighting, F64.self)
    }

    /// The sum of the weights without the largest one, which is 1.
    @inline(__always) var rest: Sum {
      let scale = 1 / F64.unit
      let sum = Sum.exact(ties.high - 1, weight.high * scale)
      return Sum(high: sum.high, low: sum.low + weight.low * scale)
    }

    /// What a row comes to whose label lies y below the largest logit.
    @inline(never) func write(_ y: Double, _ judgement: UnsafeMutablePointer<smxk_judgement>) {
      let rest = rest
      let sum = 1 + (rest.high + rest.low)
      let mean = first.high * (1 / F64.unit) / sum
      let variance = second.high * (1 / F64.unit) / sum - mean * mean
      let log = logOf(onePlus: rest)
      judgement.pointee.loss = (log.high - y) + log.low
      judgement.pointee.slope = mean - y
      judgement.pointee.curvature = variance < 0 ? 0 : variance
      judgement.pointee.confidence = 1 / sum
    }
  }

  /// Rows first ..< first + count of the call.
  public static func judge<L: Lanes>(
    _: L.Type, _ call: UnsafePointer<smxk_calibration>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    for index in first..<first &+ count { judgeRow(L.self, call, index, scratch) }
  }

  @inline(never)
  private static func judgeRow<L: Lanes>(
    _: L.Type, _ call: UnsafePointer<smxk_calibration>, _ index: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    let job = call.pointee.job!
    let judgement = call.pointee.judgements! + index
    let row = row(of: scratch)
    beginRow(job, row, index)
    row.pointee.resident = job.pointee.cols <= chunkSize ? 1 : 0
    visitChunks(L.self, job, row, scratch)
    let largest = row.pointee.found.high
    let label = Int(judgement.pointee.label)
    let own = readScalar(
      job.pointee.dtype, UnsafeRawPointer(row.pointee.x!) + label &* Int(job.pointee.inner![0].x))

    let weighting = Weighting(largest: largest, inverse: call.pointee.inverse)
    var moments = Moments()
    var isEarlier = false
    var hasNaN: Int64 = 0
    var start = 0
    while start < Int(job.pointee.cols) {
      let length = Swift.min(chunkSize, Int(job.pointee.cols) &- start)
      let x = elements(L.self, job, row, start, length, scratch)
      if call.pointee.are_probabilities != 0 {
        hasNaN |= findNaN(
          Elements<L>(high: UnsafeMutablePointer(mutating: x), low: nil, from: 0, to: length))
      } else {
        moments.add(x, length, weighting, L.self)
      }
      if call.pointee.is_first != 0 && own == largest && start < label {
        isEarlier =
          isEarlier || has(L.self, x, Swift.min(length, label &- start), L.Scalar(largest))
      }
      start = start &+ length
    }
    if call.pointee.is_first != 0 {
      judgement.pointee.distance = own - largest
      judgement.pointee.is_right = own == largest && !isEarlier ? 1 : 0
    }
    if call.pointee.are_probabilities != 0 {
      judgement.pointee.confidence = hasNaN != 0 ? .nan : largest
      judgement.pointee.loss = minusLog(own)
      return
    }
    moments.write((own - largest) * call.pointee.inverse, judgement)
    if !largest.isFinite { judgement.pointee.loss = .nan }
  }

  /// A chunk of the row as numbers of L: where they lie, or gathered.
  @inline(__always)
  private static func elements<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>, _ start: Int,
    _ length: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> UnsafePointer<L.Scalar> {
    if isDirect(job) {
      return UnsafeRawPointer(row.pointee.x!).assumingMemoryBound(to: L.Scalar.self) + start
    }
    let room = smxk_high_of(scratch).assumingMemoryBound(to: L.Scalar.self)
    if row.pointee.resident == 0 {
      _ = gather(
        L.self, job, row, Elements<L>(high: room, low: nil, from: 0, to: length), start, scratch)
    }
    return UnsafePointer(room)
  }

  /// Whether one of `count` numbers is `value`.
  @inline(never)
  private static func has<L: Lanes>(
    _: L.Type, _ x: UnsafePointer<L.Scalar>, _ count: Int, _ value: L.Scalar
  ) -> Bool {
    var found = L(0)
    for (i, first, last) in vectors(L.self, 0, count) {
      found = L.max(
        L.pick(load(x + i, first, last, fill: .nan), equalTo: L(value), L(1), L(0)), found)
    }
    return found.largest() != 0
  }

  /// -log p; inf for 0, NaN below.
  @inline(never) private static func minusLog(_ p: Double) -> Double {
    if !(p > 0) || p == .infinity { return p == 0 ? .infinity : .nan }
    // 2^200 brings a subnormal number into the range of `log`.
    let isSmall = p < 0x1p-900
    let value = log(Sum(high: isSmall ? p * 0x1p200 : p, low: 0))
    return (isSmall ? 200 * 0x1.62e42fefa39efp-1 : 0) - (value.high + value.low)
  }
}
