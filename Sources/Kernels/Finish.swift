// The last stage over one chunk: results from terms that wait, or from scores.

import CSupport

extension Kernels {
  /// Results of a chunk of `length` elements to `out`: visible ones from their terms or scores, the
  /// others 0 or -inf.
  @inline(never)
  static func finish<L: Lanes>(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>,
    _ out: UnsafeMutablePointer<L.Scalar>, _ length: Int, hasTerms: Bool
  ) {
    let form = row.pointee.form
    let from = elements.from
    let to = elements.to
    if form == SMXK_CONSTANT {
      let value = row.pointee.constant
      fill(L.self, out, 0, length, value.isNaN ? quietNaN(L.self) : L.Scalar(value))
      return
    }
    let isSoftmax = job.pointee.operation == SMXK_SOFTMAX
    let sum = Sum(high: row.pointee.sum_high, low: row.pointee.sum_low)
    let top = top(L.self, row)
    let divisor = Divisor(sum, top, element: L(L.Scalar(row.pointee.maximum)))
    let hidden: L.Scalar = isSoftmax ? 0 : -.infinity
    let maximum = L(L.Scalar(row.pointee.maximum))
    let logSum = L(L.Scalar(row.pointee.log_sum))
    let numbers = form == SMXK_BIASED ? divisor.numbersForMarks(top) : divisor.numbers
    if isSoftmax && hasTerms && looksFar(out + from, to &- from, divisor) {
      divideFar(Own<L>.self, out + from, of: nil, out + from, to &- from, numbers)
    } else if isSoftmax && !hasTerms && termsLookFar(row, elements, divisor) {
      finishFar(row, elements, out, numbers)
    } else if isSoftmax && hasTerms && form == SMXK_BIASED {
      divideMarked(out + from, to &- from, top, divisor)
    } else if isSoftmax && hasTerms {
      divide(
        Own<L>.self, No.self, out + from, of: nil, out + from, to &- from, divisor, streams: false)
    } else if !isSoftmax && form == SMXK_BIASED {
      subtractBiased(row, elements, out)
    } else if I.hasFastPaths && !isSoftmax && form == SMXK_PLAIN {
      subtract(
        Own<L>.self, No.self, elements.high + from, out + from, to &- from, maximum: maximum,
        logSum: logSum, streams: false)
    } else if I.hasFastPaths && !isSoftmax && form == SMXK_SCALED && elements.low == nil {
      let scaled = scaledExp(L.self, row)
      for (i, first, last) in vectors(L.self, from, to) {
        let d = scaled.difference(elements.high(at: i, first, last))
        store(scaled.logProbability(d, logSum: logSum), out + i, first, last)
      }
    } else {
      let plain = plainExp(L.self, row)
      let scaled = scaledExp(L.self, row)
      let maximumLow = L(L.Scalar(row.pointee.maximum_low))
      for (i, first, last) in vectors(L.self, from, to) {
        let x = elements.high(at: i, first, last)
        let low = elements.low(at: i, first, last)
        if !isSoftmax {
          store(logProbability(form, scaled, x, low, logSum, maximum), out + i, first, last)
          continue
        }
        let e = term(form, plain, scaled, x, low).rounded()
        switch form {
        case SMXK_PLAIN: store(divisor.quotientOrTop(e, of: x), out + i, first, last)
        case SMXK_BIASED:
          let other = divisor.quotient(e)
          store(
            L.pick(low, equalTo: maximumLow, divisor.quotientOrTop(e, of: x), other), out + i,
            first, last)
        default: store(divisor.quotientOrTop(e), out + i, first, last)
        }
      }
    }
    fill(L.self, out, 0, from, hidden)
    fill(L.self, out, to, length, hidden)
  }

  @inline(__always)
  static func logProbability<L: Lanes>(
    _ form: smxk_form, _ scaled: ScaledExp<L>, _ x: L, _ low: L, _ logSum: L, _ maximum: L
  ) -> L {
    if form == SMXK_PLAIN { return (x - maximum) - logSum }
    if form == SMXK_SCALED {
      return scaled.logProbability(scaled.difference(x, low), logSum: logSum)
    }
    return L.pick(unit(form, scaled, x, low), equalTo: L(0), L(-L.Scalar.infinity), L(0) - logSum)
  }
}
