// logsumexp with weights: log |sum of b·exp(x)| and the sign of that sum, as SciPy has it.
//
// Weights have any sign and size, so the terms are not bounded by the first one and Fast2Sum does
// not apply. Of float32 a lane is one float64, where the product of two float32 is exact; of
// float64 it is a pair, and so is each product (Dot2 of Ogita, Rump, Oishi 2005), like the sums of
// the gradients.

import CSupport

extension SumOf<Double> {
  /// A sum that is not finite is ±inf or NaN, as in one number.
  @inline(__always) mutating func addAny(_ other: Self) {
    let whole = high + other.high
    if whole.isFinite { add(other) } else { self = Self(high: whole, low: 0) }
  }
}

extension Kernels {
  @inline(never)
  static func sumWeighted<L: Lanes>(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>,
    _ start: Int
  ) -> Sum {
    // There is no temperature beside weights.
    // What is left where large terms cancel may be small.
    let scaled = scaledExp(L.self, row, least: 1)
    let lower = L.Eight(1 / Double(L.unit))
    var terms = Terms<L>()
    var room = InlineArray<64, Double>(repeating: 0)
    withUnsafeMutablePointer(to: &room) { room in
      let weights = UnsafeMutableRawPointer(room).assumingMemoryBound(to: Double.self)
      var base = elements.from & ~(weightsAtOnce &- 1)
      while base < elements.to {
        let from = Swift.max(base, elements.from)
        let to = Swift.min(base &+ weightsAtOnce, elements.to)
        readWeights(job, row, start, from, to, weights + (from &- base))
        for (i, first, last) in vectors(L.self, from, to) {
          let x = elements.high(at: i, first, last)
          let difference =
            I.hasFastPaths && elements.low == nil
            ? scaled.difference(scaled: x)
            : scaled.difference(scaled: x, elements.low(at: i, first, last))
          // Of a term that is not there the weight may be anything.
          let weight = Widened<L>.pick(
            Widened(x), equalTo: Widened(-Double.infinity), Widened(0),
            Widened(at: weights + (i &- base)))
          terms.add(Widened(scaled.atOne(difference).rounded()), times: weight, lower)
        }
        base = base &+ weightsAtOnce
      }
    }
    let sum = terms.total()
    if !sum.high.isFinite { return Sum(high: plainSum(terms), low: 0) }
    let scale = L.isSingle ? 1 / Double(L.unit) : 1
    return Sum(high: sum.high * scale, low: sum.low * scale)
  }

  /// The lanes one after the other: ±inf or NaN where the tree of pairs is not finite.
  @inline(never)
  private static func plainSum<L: Lanes>(_ terms: Terms<L>) -> Double {
    var room = InlineArray<8, Double>(repeating: 0)
    return withUnsafeMutablePointer(to: &room) {
      let lanes = UnsafeMutableRawPointer($0).assumingMemoryBound(to: Double.self)
      L.storeEight(L.isSingle ? terms.first + terms.second : terms.first, lanes)
      var sum = 0.0
      for lane in 0..<8 { sum += lanes[lane] }
      return sum
    }
  }

  /// The weights of elements from ..< to of the chunk at `start`.
  @inline(never)
  static func readWeights(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ start: Int, _ from: Int,
    _ to: Int,
    _ weights: UnsafeMutablePointer<Double>
  ) {
    let stride = Int(job.pointee.inner![Int(job.pointee.inner_count) &- 1].weights)
    var i = from
    while i < to {
      let run = run(job, at: start &+ i, limit: to &- i, index: nil)
      let p = UnsafeRawPointer(row.pointee.weights!) + run.weights
      readNumbers(job.pointee.dtype, p, stride, run.length, weights + (i &- from))
      i = i &+ run.length
    }
  }

  /// Elements whose weight is 0 are not there, a weight that is NaN is theirs.
  @inline(never)
  static func hideWeightless<L: Lanes>(
    _: L.Type, _ high: UnsafeMutablePointer<L.Scalar>, _ dtype: smx_dtype, _ p: UnsafeRawPointer,
    _ stride: Int,
    _ length: Int
  ) {
    var room = InlineArray<64, Double>(repeating: 0)
    withUnsafeMutablePointer(to: &room) { room in
      let weights = UnsafeMutableRawPointer(room).assumingMemoryBound(to: Double.self)
      var base = 0
      while base < length {
        let count = Swift.min(weightsAtOnce, length &- base)
        readNumbers(dtype, p + base &* stride, stride, count, weights)
        for (i, first, last) in vectors(L.self, 0, count) {
          let weight = Widened<L>(at: weights + i).lanes
          let x = L.pick(
            weight, equalTo: L(0), L(-L.Scalar.infinity),
            load(high + (base &+ i), first, last, fill: 0))
          store(L.pick(weight, equalTo: weight, x, weight), high + (base &+ i), first, last)
        }
        base = base &+ count
      }
    }
  }

  /// NaN among the elements and weights, and the signs of the weights at +inf, as kernels.h counts
  /// them.
  @inline(never)
  static func findWeights<L: Lanes>(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>,
    _ start: Int
  ) -> Int64 {
    var hasNaN = false
    var hasPositive = false
    var hasNegative = false
    var weight = 0.0
    for i in elements.from..<elements.to where elements.high[i] != -.infinity {
      readWeights(job, row, start, i, i &+ 1, &weight)
      hasNaN = hasNaN || elements.high[i].isNaN || weight.isNaN
      // An infinite weight makes any term infinite.
      let isInfinite = elements.high[i] == .infinity || weight.isInfinite
      hasPositive = hasPositive || (isInfinite && weight > 0)
      hasNegative = hasNegative || (isInfinite && weight < 0)
    }
    return Int64(
      (hasNaN ? SMXK_NAN : 0) &+ (hasPositive ? SMXK_POSITIVE : 0)
        &+ (hasNegative ? SMXK_NEGATIVE : 0))
  }

  /// +inf times weights: +inf, or -inf, or where both occur NaN.
  @inline(__always)
  static func writeInfinite(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>, _ found: Int64
  ) {
    let hasNegative = found & Int64(SMXK_POSITIVE &- 1) != 0
    let hasPositive = found >= Int64(SMXK_POSITIVE)
    if !hasNegative || hasPositive {
      setConstant(job, row, hasNegative ? .nan : .infinity)
      return
    }
    let sign = row.pointee.sign
    writeScalar(job.pointee.dtype, row.pointee.out!, sign == nil ? .nan : .infinity)
    if let sign { writeScalar(job.pointee.dtype, sign, -1) }
    row.pointee.stage = SMXK_DONE
  }

  /// log |sum| + maximum, and the sign: NaN for a negative sum where no sign is asked for.
  @inline(never)
  static func writeWeighted<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>, _ sum: Sum
  ) {
    let dtype = job.pointee.dtype
    let isNegative = sum.high < 0
    var result = Double.infinity
    if sum.high == 0 {
      result = -.infinity
    } else if sum.high.isFinite {
      let magnitude = isNegative ? Sum(high: -sum.high, low: -sum.low) : sum
      // Very small sums are scaled into the range of `log`.
      let isSmall = magnitude.high < 0x1p-900
      let scale = isSmall ? 0x1p512 : 1
      let value = log(Sum(high: magnitude.high * scale, low: magnitude.low * scale))
      var total = Sum.exact(row.pointee.maximum, value.high)
      total.low += row.pointee.maximum_low + value.low
      result = (total.high + total.low) - (isSmall ? 0x1.62e42fefa39efp8 : 0)
    }
    if let sign = row.pointee.sign {
      writeScalar(dtype, sign, sum.high == 0 ? 0 : isNegative ? -1 : 1)
    } else if isNegative {
      result = .nan
    }
    writeScalar(dtype, row.pointee.out!, result)
    row.pointee.stage = SMXK_DONE
  }
}
