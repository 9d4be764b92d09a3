// Log-probabilities of choices: of one element of a row, and of a ranking.

import CSupport

extension Kernels {
  /// log_softmax of the job's row `index` at one of its elements: the row passes through the stages of Softmax.swift up
  /// to the last, which is then done for that element alone. NaN, or a number of L.
  public static func logProbability<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ index: Int, of token: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Double {
    let row = row(of: scratch)
    beginRow(job, row, index)
    row.pointee.resident = job.pointee.cols <= chunkSize ? 1 : 0
    while row.pointee.stage != SMXK_FINISH {
      visitChunks(L.self, job, row, scratch)
      advance(L.self, job, row)
    }
    if row.pointee.form == SMXK_CONSTANT { return row.pointee.constant }
    let axis = job.pointee.inner![0]
    let isHidden = row.pointee.mask != nil && row.pointee.mask![token &* Int(axis.mask)] == 0
    let x = isHidden ? -Double.infinity
      : readScalar(job.pointee.dtype, UnsafeRawPointer(row.pointee.x!) + token &* Int(axis.x))
    return Double(
      logProbability(
        row.pointee.form, scaledExp(L.self, row), L(L.Scalar(x)), L(0), L(L.Scalar(row.pointee.log_sum)),
        L(L.Scalar(row.pointee.maximum)))[0])
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

  // -- Plackett–Luce ---------------------------------------------------------------------------------------

  /// The log-probability of a ranking of `count` scores. They come as the places are undone: first those that are not
  /// ranked, then the `ranked` others, last place first.
  ///
  /// From the back the scores that a place chooses from only grow in number, so their sum of exponentials runs along:
  /// as (1 + rest)·exp(largest), so that log1p(rest) has all its digits where one score dominates. Everything that
  /// is added has one sign; nothing cancels.
  public static func plackettLuce(_ scores: UnsafePointer<Double>, _ count: Int, ranked: Int) -> Double {
    let others = count &- ranked
    var largest = maximum(Own<F64>.self, scores, 0, others)
    var rest = Sum(high: 0, low: 0)
    if others > 0 && largest.isFinite {
      var moments = Moments()
      moments.add(scores, others, Weighting(largest: largest, inverse: 1))
      rest = moments.rest
    }
    if findNaN(Elements<F64>(high: UnsafeMutablePointer(mutating: scores), low: nil, from: 0, to: count)) != 0
      || largest == .infinity
    {
      return .nan
    }
    var total = Sum(high: 0, low: 0)
    var isImpossible = false
    for i in others..<count {
      let score = scores[i]
      if score == .infinity { return .nan }
      if i == 0 {
        // Nothing else is left to choose from: certain, whatever the score.
        largest = score
        continue
      }
      if score == -.infinity {
        // One of several that all score -inf is as undefined as their softmax.
        if largest == -.infinity { return .nan }
        isImpossible = true
        continue
      }
      if largest < score {
        let factor = expOfDifference(Sum.exact(largest, -score))
        let sum = Sum.exact(1, rest.high)
        let product = Sum.product(sum.high, factor)
        rest = Sum.exact(larger: product.high, product.low + (sum.low + rest.low) * factor)
        largest = score
      } else {
        let difference = Sum.exact(score, -largest)
        rest.add(Sum(high: expOfDifference(difference), low: 0))
        if difference.high == -.infinity { isImpossible = true } else { total.add(difference) }
      }
      let log = logOf(onePlus: rest)
      total.add(Sum(high: -log.high, low: -log.low))
    }
    let value = total.high + total.low
    // NaN is -inf that the low part has met: no score is one.
    return isImpossible || value.isNaN ? -.infinity : value
  }

  /// log1p, once for all of Scoring and Calibration.
  @inline(never) static func logOf(onePlus rest: Sum) -> Sum { log1p(rest) }

  /// exp of a difference that is not positive.
  @inline(never) private static func expOfDifference(_ d: Sum) -> Double {
    if d.high == -.infinity { return 0 }
    let e = decay(F64(d.high), PlainExp(maximum: F64(0))).high[0] * (1 / F64.unit)
    return e.addingProduct(e, d.low)
  }
}
