// What becomes of rows in lanes (FewElements.swift): terms, sums and results, in the form that all
// of them have (kernels.h, smxk_form): plain, with a bias as pairs of numbers, or with
// temperatures.

import CSupport

extension Kernels {
  /// The rows' terms. Only what the form needs is ever computed.
  struct FewTerms<L: Lanes, IsScaled: Choice, HasLow: Choice> {
    let few: FewElements<L>
    let maximum: L
    let maximumLow: L
    let plain: PlainExp<L>
    let scaled: ScaledExp<L>

    @inline(__always) init(_ few: FewElements<L>) {
      self.few = few
      maximum = few.maximum
      maximumLow = HasLow.isTrue ? few.lowOfMaximum(maximum) : L(0)
      plain = PlainExp<L>(maximum: maximum)
      scaled = scaledExp(IsScaled.self, few, maximum, raise: L(0))
    }

    @inline(__always) func x(_ i: Int) -> L { L(at: few.x(i)) }
    @inline(__always) func low(_ i: Int) -> L { L(at: few.low(i)) }

    @inline(__always) func callAsFunction(_ i: Int) -> Exponential<L> {
      IsScaled.isTrue ? scaled(x(i)) : plain(x(i), HasLow.isTrue ? low(i) : nil)
    }

    @inline(__always) var top: Top<L> {
      IsScaled.isTrue
        ? Top<L>() : Top<L>(plain: maximum, low: HasLow.isTrue ? maximumLow : nil)
    }

    /// Not zero where a row's maximum is out of the form's reach.
    @inline(__always) var isLarge: L {
      IsScaled.isTrue
        ? L.pick(maximum - maximum, equalTo: L(0), L(0), L(1))
        : special(maximum: maximum, sum: L(0))
    }

    /// Of element i, whose term is e.
    @inline(__always) func share(_ i: Int, _ e: L, _ quotient: L, _ numbers: Divisors<L>) -> L {
      if IsScaled.isTrue { return L.pick(e, equalTo: numbers.top, numbers.share, quotient) }
      let isTop =
        HasLow.isTrue
        ? L.pick(low(i), equalTo: maximumLow, numbers.ofMaximum, quotient) : numbers.ofMaximum
      return L.pick(x(i), equalTo: maximum, isTop, quotient)
    }

    @inline(__always) func logProbability(_ i: Int, _ logSum: L) -> L {
      if IsScaled.isTrue {
        return scaled.logProbability(scaled.difference(x(i)), logSum: logSum)
      }
      if !HasLow.isTrue { return (x(i) - maximum) - logSum }
      let closed = L(-L.Scalar.infinity)
      let d = exactSum(x(i), L(0) - maximum)
      let value = d.high + ((d.low + (low(i) - maximumLow)) - logSum)
      return L.pick(x(i), equalTo: closed, closed, value)
    }
  }

  /// What `operation` makes of the rows, to `result`, one vector of it for logsumexp. True where
  /// all are done.
  @inline(never)
  static func finishFew<L: Lanes, IsScaled: Choice, HasLow: Choice>(
    _: IsScaled.Type, _: HasLow.Type, _ few: FewElements<L>, _ operation: smxk_operation
  ) -> Bool {
    typealias W = Widened<L>
    let terms = FewTerms<L, IsScaled, HasLow>(few)
    for lane in 0..<few.lanes {
      // Order is part of the contract: as in a chunk.
      var sum = Accumulator<L>()
      var i = lane
      while i < few.length {
        let term = terms(i)
        let e = term.rounded()
        e.store(at: few.result(i))
        sum.add(term, rounded: e)
        i = i &+ L.count
      }
      few.enter(sum, lane)
    }
    let sum = few.sum()
    var isSpecial: L
    if operation == SMXK_SOFTMAX {
      let numbers = Divisors<L>(terms.top, sum, isLarge: terms.isLarge, { W($0) }) { $0.lanes }
      isSpecial = numbers.isSpecial
      let product = FarProduct(high: numbers.high, low: numbers.low)
      let isFar = I.hasFastPaths && product.marks(L(at: few.result(0))).largest() > 0
      for i in 0..<few.length {
        let e = L(at: few.result(i))
        let quotient = isFar ? product(e) : e.fma(numbers.high, e * numbers.low)
        terms.share(i, e, quotient, numbers).store(at: few.result(i))
      }
    } else {
      let total = sum.high.lanes
      isSpecial = L.pick(total, equalTo: total, terms.isLarge, L(1))
      isSpecial = finishLogarithms(terms, operation, sum, isSpecial)
    }
    isSpecial.store(at: few.special)
    return !(isSpecial.largest() > 0)
  }

  /// Returns which rows are special then.
  @inline(__always)
  static func finishLogarithms<L: Lanes, IsScaled: Choice, HasLow: Choice>(
    _ terms: FewTerms<L, IsScaled, HasLow>, _ operation: smxk_operation, _ sum: SumOf<Widened<L>>,
    _ isSpecial: L
  ) -> L {
    let few = terms.few
    let log = logarithms(terms, operation, sum, isSpecial)
    if operation == SMXK_LOGSUMEXP {
      log.absolute.lanes.store(at: few.result(0))
    } else {
      let logSum = log.relative.high.lanes
      for i in 0..<few.length { terms.logProbability(i, logSum).store(at: few.result(i)) }
    }
    return log.isSpecial
  }

  /// The logarithms of the rows' sums, relative to their maxima and not, and which rows are special
  /// then.
  @inline(__always)
  static func logarithms<L: Lanes, IsScaled: Choice, HasLow: Choice>(
    _ terms: FewTerms<L, IsScaled, HasLow>, _ operation: smxk_operation, _ sum: SumOf<Widened<L>>,
    _ isSpecial: L
  ) -> (relative: SumOf<Widened<L>>, absolute: Widened<L>, isSpecial: L) {
    typealias W = Widened<L>
    let few = terms.few
    let ofMaximum = SumOf(high: W(terms.maximum), low: W(terms.maximumLow))
    let log = LogSum<W>(operation, sum, terms.top.wide { W($0) }, maximum: ofMaximum)
    var relative = log.relative
    var absolute = log.absolute
    var isSpecial = isSpecial
    let isRough = L.pick(isSpecial, equalTo: L(0), log.isRough.lanes, L(0))
    if HasLow.isTrue {
      isSpecial = isSpecial + isRough
    } else if isRough.largest() > 0 {
      let precise = preciseLogarithms(IsScaled.self, few, terms.maximum)
      let other = LogSum<W>.absolute(ofMaximum, precise)
      relative.high = W.pick(W(isRough), equalTo: W(0), relative.high, precise.high)
      relative.low = W.pick(W(isRough), equalTo: W(0), relative.low, precise.low)
      absolute = W.pick(W(isRough), equalTo: W(0), absolute, other)
    }
    return (relative, absolute, isSpecial)
  }

  /// The logarithms relative to the maximum, from the sum of the others: SMXK_SECOND_MAXIMUM and
  /// SMXK_PRECISE_SUM of Softmax.swift. Anything in lanes of rows that are special.
  @inline(never)
  static func preciseLogarithms<L: Lanes, IsScaled: Choice>(
    _: IsScaled.Type, _ few: FewElements<L>, _ maximum: L
  ) -> SumOf<Widened<L>> {
    typealias W = Widened<L>
    var second = L(-.infinity)
    var ties = L(-1)
    for i in 0..<few.length {
      let x = L(at: few.x(i))
      second = L.max(second, L.pick(x, equalTo: maximum, L(-.infinity), x))
      ties = ties + L.pick(x, equalTo: maximum, L(1), L(0))
    }
    let distance = W(second) * W(0.25) - W(maximum) * W(0.25)
    let temperature = IsScaled.isTrue ? W(at: few.temperature) : W(1)
    let all = Self.raise(second: distance, temperature: temperature)
    // Beyond, nothing but the ties is left.
    let isShown = W.pick(W(Double(L.fieldZero)), lessThan: all, W(0), W(1))
    let raise = W.pick(isShown, equalTo: W(0), W(0), all).lanes
    // raise / 2, rounded down: raise is whole, so a quarter less is nearest to that.
    let half = (raise * L(0.5) - L(0.25) + L(L.roundingShift)) - L(L.roundingShift)
    let exp = scaledExp(IsScaled.self, few, maximum, raise: raise)
    for lane in 0..<few.lanes {
      var sum = Accumulator<L>()
      var i = lane
      while i < few.length {
        addPrecisely(exp, L(at: few.x(i)), L(0), &sum)
        i = i &+ L.count
      }
      few.enter(sum, lane)
    }
    return preciseLog(
      L.self, few.sum(), ties: W(ties), isShown * W(powerOfTwo(minus: half)),
      W(powerOfTwo(minus: raise - half)))
  }

  /// At temperature 1, or at that of each row.
  @inline(__always)
  static func scaledExp<L: Lanes, IsScaled: Choice>(
    _: IsScaled.Type, _ few: FewElements<L>, _ maximum: L, raise: L,
    least: L.Scalar = L.leastField
  ) -> ScaledExp<L> {
    @inline(__always) func factor(_ kind: Int, atOne: L.Scalar) -> L {
      IsScaled.isTrue ? L(at: few.factor(kind)) : L(atOne)
    }
    return ScaledExp<L>(
      maximum: maximum, before: factor(0, atOne: 1), after: factor(1, atOne: 1),
      inverseHigh: factor(2, atOne: 1), inverseLow: factor(3, atOne: 0), raise: raise,
      least: least)
  }

  /// 2^-k, k a whole number whose power is normal.
  @inline(__always) static func powerOfTwo<L: Lanes>(minus k: L) -> L {
    (L(L.roundingShift) + (L(L.fieldZero - L.headroom) - k)).shiftedIntoExponent()
  }
}
