// The log-probability of a ranking under the Plackett–Luce model: the product, over the places, of
// the softmax of what is not ranked yet.
//
// From the back the scores that a place chooses from only grow in number, so their sum of
// exponentials runs along: as (1 + rest)·exp(largest), so that log1p(rest) has all its digits where
// one score dominates. Everything that is added has one sign; nothing cancels.
//
// What runs along is a few additions a place. Exponentials and logarithms, most of the work, are
// taken for eight places side by side (1024 places, one thread: 23 ns a place, one by one 65; a
// part of it is the ABI's).

import CSupport

extension Kernels {
  /// Places under way together.
  private static var placesAtOnce: Int { @inline(__always) get { 64 } }

  /// What has been found of the places so far.
  struct Ranked {
    /// The largest score, and the sum of the others relative to it.
    var largest: Double
    var rest = Sum(high: 0, low: 0)
    /// The logarithm of the probability: the sum and what its additions have lost.
    var total = Sum(high: 0, low: 0)
    var isImpossible = false

    @inline(__always) mutating func add(_ term: Sum) {
      let sum = Sum.exact(total.high, term.high)
      total = Sum(high: sum.high, low: total.low + (sum.low + term.low))
    }
  }

  /// The log-probability of a ranking of `count` scores. They come as the places are undone: first
  /// those that are not ranked, then the `ranked` others, last place first.
  public static func plackettLuce(
    _ scores: UnsafePointer<Double>, _ count: Int, ranked: Int
  ) -> Double {
    let others = count &- ranked
    var state = Ranked(largest: maximum(Own<F64>.self, scores, 0, others))
    if others > 0 && state.largest.isFinite {
      var moments = Moments()
      moments.add(scores, others, Weighting(largest: state.largest, inverse: 1))
      state.rest = moments.rest
    }
    let all = Elements<F64>(
      high: UnsafeMutablePointer(mutating: scores), low: nil, from: 0, to: count)
    if findNaN(all) != 0 || state.largest == .infinity { return .nan }
    var i = others
    if i == 0 && count > 0 {
      // Nothing else is left to choose from: certain, whatever the score.
      if scores[0] == .infinity { return .nan }
      state.largest = scores[0]
      i = 1
    }
    while i < count {
      if scores[i] == .infinity { return .nan }
      if scores[i] == -.infinity {
        // One of several that all score -inf is as undefined as their softmax.
        if state.largest == -.infinity { return .nan }
        state.isImpossible = true
        i = i &+ 1
      } else {
        // As many as are finite.
        var end = i
        let limit = Swift.min(count, i &+ placesAtOnce)
        while end < limit && scores[end].isFinite { end = end &+ 1 }
        place(scores + i, end &- i, &state)
        i = end
      }
    }
    let value = state.total.high + state.total.low
    // NaN is -inf that the low part has met: no score is one.
    return state.isImpossible || value.isNaN ? -.infinity : value
  }

  /// Up to 64 finite scores in their order.
  @inline(never)
  private static func place(_ scores: UnsafePointer<Double>, _ count: Int, _ state: inout Ranked) {
    // Behind the last place anything will do.
    var room = InlineArray<256, Double>(repeating: 0)
    withUnsafeMutablePointer(to: &room) { room in
      let high = UnsafeMutableRawPointer(room).assumingMemoryBound(to: Double.self)
      let low = high + placesAtOnce
      let above = low + placesAtOnce
      let exponential = above + placesAtOnce
      // Each score's distance to the largest so far, negative, and whether it is the new one.
      var largest = state.largest
      for i in 0..<count {
        let isLarger = largest < scores[i]
        let difference = isLarger ? Sum.exact(largest, -scores[i]) : Sum.exact(scores[i], -largest)
        high[i] = difference.high
        low[i] = difference.low
        above[i] = isLarger ? 1 : 0
        if isLarger { largest = scores[i] }
      }
      for (i, _, _) in vectors(F64.self, 0, count) {
        expOfDifference(F64(at: high + i), F64(at: low + i)).store(at: exponential + i)
      }
      for i in 0..<count {
        let e = exponential[i]
        if above[i] != 0 {
          let sum = Sum.exact(1, state.rest.high)
          let product = Sum.product(sum.high, e)
          state.rest = Sum.exact(larger: product.high, product.low + (sum.low + state.rest.low) * e)
        } else {
          state.rest.add(Sum(high: e, low: 0))
          if high[i] == -.infinity {
            state.isImpossible = true
          } else {
            state.add(Sum(high: high[i], low: low[i]))
          }
        }
        high[i] = state.rest.high
        low[i] = state.rest.low
      }
      state.largest = largest
      for (i, _, _) in vectors(F64.self, 0, count) {
        let log = log1p(SumOf<F64>(high: F64(at: high + i), low: F64(at: low + i)))
        log.high.store(at: high + i)
        log.low.store(at: low + i)
      }
      for i in 0..<count { state.add(Sum(high: -high[i], low: -low[i])) }
    }
  }

  /// exp of differences that are not positive.
  @inline(__always) private static func expOfDifference(_ high: F64, _ low: F64) -> F64 {
    let e = decay(high, PlainExp(maximum: F64(0))).high * F64(1 / F64.unit)
    return F64.pick(high, equalTo: F64(-.infinity), F64(0), e.fma(low, e))
  }

  /// log1p, once for Calibration.
  @inline(never) static func logOf(onePlus rest: Sum) -> Sum { log1p(rest) }
}
