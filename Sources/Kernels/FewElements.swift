// Rows of few elements, a vector or two and of losses four: a vector of rows at a time, one row in
// each lane.
//
// Two classes, ten digits, three colours along an axis in the middle: along such a row a vector is
// mostly empty, and what a row needs once costs more than its elements. So element i of 16 rows (8
// of float64) becomes one vector, and all that Softmax.swift does with a row is done in lanes:
// maxima, terms, the tree of the sum, divisors or logarithms, and the precise sum, which rows of
// few elements often want. The operations of each row and their order are those of Sum.swift, whose
// lane l holds elements l, l + 16 and so on; what an empty lane would add is exactly 0. Rows that
// the plain form cannot do go through the stages.
//
// One thread, AVX-512 (Zen 4), row by row before: 100000 × 2 float32 softmax 2.4 ms, now 0.7;
// log_softmax 2.8, 0.8; logsumexp 9.7, 1.4; 60000 × 10 bfloat16 softmax 4.7, 1.0; 8 × 3 × 224 × 224
// over axis 1 softmax 3.8, 1.9; logsumexp 25, 6. Of more than a vector (Xeon), ns a row: 21 float32
// softmax 30, now 22, cross-entropy 75, 33; 64 float32 cross-entropy 77, 51, but softmax 36, 55.

import CSupport

extension Kernels {
  /// Up to L.count rows, in scratch's `low`, which the stages need only for a bias.
  struct FewElements<L: Lanes> {
    typealias W = Widened<L>

    let memory: UnsafeMutableRawPointer
    /// Elements of a row.
    let length: Int
    /// In whole squares.
    let span: Int

    @inline(__always) init(length: Int, _ scratch: UnsafeMutablePointer<smxk_scratch>) {
      memory = smxk_low_of(scratch)
      self.length = length
      span = (length &+ L.count &- 1) / L.count &* L.count
    }

    /// The longest row of a loss, which has more to gain. Squares want their shuffles
    /// (FewRows.swift).
    static var most: Int { @inline(__always) get { I.hasWideTiles ? 4 &* L.count : L.count } }
    /// The longest row otherwise.
    @inline(__always) static func most(_ operation: smxk_operation) -> Int {
      let most = operation == SMXK_LOGSUMEXP ? 3 &* L.count : 2 &* L.count &- 1
      return I.hasWideTiles ? most : L.count
    }

    /// Lanes of the order of the sum that have an element.
    @inline(__always) var lanes: Int { Swift.min(length, L.count) }

    @inline(__always) private func vector(_ kind: Int, _ i: Int) -> UnsafeMutablePointer<L.Scalar> {
      memory.assumingMemoryBound(to: L.Scalar.self) + (kind &* span &+ i) &* L.count
    }
    /// Element i of the rows, and what becomes of it: term, then result.
    @inline(__always) func x(_ i: Int) -> UnsafeMutablePointer<L.Scalar> { vector(0, i) }
    @inline(__always) func result(_ i: Int) -> UnsafeMutablePointer<L.Scalar> { vector(1, i) }
    /// Row after row, as the caller's memory has them.
    @inline(__always) var flat: UnsafeMutablePointer<L.Scalar> { vector(2, 0) }
    /// Not zero where a row must go through the stages.
    @inline(__always) var special: UnsafeMutablePointer<L.Scalar> { vector(3, 0) }
    /// What squares read beyond the rows (FewRows.swift).
    @inline(never) func clearBeyond() {
      for i in length..<span {
        L(0).store(at: result(i))
        L(0).store(at: flat + i &* L.count)
      }
    }

    /// The sum of element i of the rows, and of those that it met.
    @inline(__always) private func leaf(_ i: Int) -> UnsafeMutablePointer<Double> {
      UnsafeMutableRawPointer(vector(3, 1)).assumingMemoryBound(to: Double.self) + 16 &* i
    }

    /// Room for numbers of each row, when the sum is known.
    @inline(__always) var numbers: UnsafeMutablePointer<Double> { leaf(0) }

    /// NaN passed over.
    @inline(__always) var maximum: L {
      var maximum = L(-.infinity)
      for i in 0..<length { maximum = L.max(L(at: x(i)), maximum) }
      return maximum
    }

    @inline(__always) private func take(_ i: Int) -> SumOf<W> {
      SumOf(high: W(at: leaf(i)), low: L.isSingle ? W(0) : W(at: leaf(i) + 8))
    }
    @inline(__always) private func put(_ sum: SumOf<W>, _ i: Int) {
      sum.high.store(at: leaf(i))
      if !L.isSingle { sum.low.store(at: leaf(i) + 8) }
    }

    /// Lane i of the sums of all rows.
    @inline(__always) func enter(
      _ lane: Accumulator<L>, _ i: Int
    ) {
      put(laneSum(lane.high, lane.low) { W($0) }, i)
    }

    /// The sums of all rows, whose lanes have been entered. (Given as a closure the lanes would
    /// pass through the stack.)
    @inline(__always) func sum() -> SumOf<W> {
      // Order is part of the contract: as Lanes.total.
      var distance = L.count / 2
      while distance > 0 {
        for i in 0..<Swift.max(0, Swift.min(distance, lanes &- distance)) {
          put(meet(take(i), take(i &+ distance), L.self), i)
        }
        distance = distance / 2
      }
      let sum = take(0)
      return L.isSingle ? sum : SumOf.exact(larger: sum.high, sum.low)
    }
  }

  /// What `operation` makes of the rows, to `result`, one vector of it for logsumexp. True where
  /// all are done.
  @inline(never)
  static func finishFew<L: Lanes>(_ few: FewElements<L>, _ operation: smxk_operation) -> Bool {
    typealias W = Widened<L>
    let maximum = few.maximum
    let exp = PlainExp<L>(maximum: maximum)
    for lane in 0..<few.lanes {
      // Order is part of the contract: as in a chunk.
      var sum = Accumulator<L>()
      var i = lane
      while i < few.length {
        let term = exp(L(at: few.x(i)))
        let e = term.rounded()
        e.store(at: few.result(i))
        sum.add(term, rounded: e)
        i = i &+ L.count
      }
      few.enter(sum, lane)
    }
    let sum = few.sum()
    let isSpecial: L
    if operation == SMXK_SOFTMAX {
      let numbers = Divisors<L>(maximum: maximum, sum, { W($0) }) { $0.lanes }
      isSpecial = numbers.isSpecial
      let product = FarProduct(high: numbers.high, low: numbers.low)
      let isFar = I.hasFastPaths && product.marks(L(at: few.result(0))).largest() > 0
      for i in 0..<few.length {
        let e = L(at: few.result(i))
        let quotient = isFar ? product(e) : e.fma(numbers.high, e * numbers.low)
        L.pick(L(at: few.x(i)), equalTo: maximum, numbers.ofMaximum, quotient).store(
          at: few.result(i))
      }
    } else {
      isSpecial = special(maximum: maximum, sum: sum.high.lanes)
      finishLogarithms(few, operation, maximum, sum, isSpecial)
    }
    isSpecial.store(at: few.special)
    return !(isSpecial.largest() > 0)
  }

  @inline(__always)
  static func finishLogarithms<L: Lanes>(
    _ few: FewElements<L>, _ operation: smxk_operation, _ maximum: L, _ sum: SumOf<Widened<L>>,
    _ isSpecial: L
  ) {
    typealias W = Widened<L>
    let ofMaximum = SumOf(high: W(maximum), low: W(0))
    let log = LogSum<W>(operation, sum, Top<L>(plain: maximum).wide { W($0) }, maximum: ofMaximum)
    var relative = log.relative
    var absolute = log.absolute
    let isRough = L.pick(isSpecial, equalTo: L(0), log.isRough.lanes, L(0))
    if isRough.largest() > 0 {
      let precise = preciseLogarithms(few, maximum)
      let other = LogSum<W>.absolute(ofMaximum, precise)
      relative.high = W.pick(W(isRough), equalTo: W(0), relative.high, precise.high)
      absolute = W.pick(W(isRough), equalTo: W(0), absolute, other)
    }
    if operation == SMXK_LOGSUMEXP {
      absolute.lanes.store(at: few.result(0))
    } else {
      let logSum = relative.high.lanes
      for i in 0..<few.length { ((L(at: few.x(i)) - maximum) - logSum).store(at: few.result(i)) }
    }
  }

  /// The logarithms relative to the maximum, from the sum of the others: SMXK_SECOND_MAXIMUM and
  /// SMXK_PRECISE_SUM of Softmax.swift. Anything in lanes of rows that are special.
  @inline(never)
  static func preciseLogarithms<L: Lanes>(
    _ few: FewElements<L>, _ maximum: L
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
    let all = Self.raise(second: distance, temperature: W(1))
    // Beyond, nothing but the ties is left.
    let isShown = W.pick(W(Double(L.fieldZero)), lessThan: all, W(0), W(1))
    let raise = W.pick(isShown, equalTo: W(0), W(0), all).lanes
    // raise / 2, rounded down: raise is whole, so a quarter less is nearest to that.
    let half = (raise * L(0.5) - L(0.25) + L(L.roundingShift)) - L(L.roundingShift)
    let exp = ScaledExp<L>(maximum: maximum, raise: raise)
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

  /// 2^-k, k a whole number whose power is normal.
  @inline(__always) static func powerOfTwo<L: Lanes>(minus k: L) -> L {
    (L(L.roundingShift) + (L(L.fieldZero - L.headroom) - k)).shiftedIntoExponent()
  }
}
