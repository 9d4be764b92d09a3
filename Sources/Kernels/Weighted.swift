// logsumexp with weights: log |sum of b·exp(x)| and the sign of that sum, as SciPy has it.
//
// Weights have any sign and size, so the terms are not bounded by the first one and Fast2Sum does not
// apply: each product is taken exactly and added in pairs of float64, element after element.

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
    let scaled = scaledExp(L.self, row)
    let scale = 1 / Double(L.unit)
    let last = job.pointee.inner![Int(job.pointee.inner_count) &- 1]
    var sum = Sum(high: 0, low: 0)
    var i = elements.from
    while i < elements.to {
      let run = run(job, at: start &+ i, limit: elements.to &- i, index: nil)
      for j in i..<i &+ run.length where elements.high[j] != -.infinity {
        let x = L(elements.high[j])
        let low = L(elements.low == nil ? 0 : elements.low![j])
        let term = Double(scaled(x, low).rounded()[0]) * scale
        let offset: Int = run.weights &+ (j &- i) &* Int(last.weights)
        let p = UnsafeRawPointer(row.pointee.weights!) + offset
        // Order is part of the contract.
        let product = Sum.product(term, readScalar(job.pointee.dtype, p))
        sum.addAny(product)
      }
      i = i &+ run.length
    }
    return sum
  }

  /// NaN among the elements and weights, and the signs of the weights at +inf, as kernels.h counts them.
  @inline(never)
  static func findWeights<L: Lanes>(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>,
    _ start: Int
  ) -> Int64 {
    let last = job.pointee.inner![Int(job.pointee.inner_count) &- 1]
    var hasNaN = false
    var hasPositive = false
    var hasNegative = false
    var i = elements.from
    while i < elements.to {
      let run = run(job, at: start &+ i, limit: elements.to &- i, index: nil)
      for j in i..<i &+ run.length where elements.high[j] != -.infinity {
        let offset: Int = run.weights &+ (j &- i) &* Int(last.weights)
        let weight = readScalar(job.pointee.dtype, UnsafeRawPointer(row.pointee.weights!) + offset)
        hasNaN = hasNaN || elements.high[j].isNaN || weight.isNaN
        hasPositive = hasPositive || (elements.high[j] == .infinity && weight > 0)
        hasNegative = hasNegative || (elements.high[j] == .infinity && weight < 0)
      }
      i = i &+ run.length
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
