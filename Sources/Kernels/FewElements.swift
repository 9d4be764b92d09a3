// Rows of few elements, a vector or two and of losses four: a vector of rows at a time, one row in
// each lane.
//
// Two classes, ten digits, three colours along an axis in the middle: along such a row a vector is
// mostly empty, and what a row needs once costs more than its elements. So element i of 16 rows (8
// of float64) becomes one vector, and all that Softmax.swift does with a row is done in lanes
// (FewForms.swift): maxima, terms, the tree of the sum, divisors or logarithms, and the precise
// sum, which rows of few elements often want. The operations of each row and their order are those
// of Sum.swift, whose lane l holds elements l, l + 16 and so on; what an empty lane would add is
// exactly 0. Rows that the plain form cannot do go through the stages.
//
// One thread, AVX-512 (Zen 4), row by row before: 100000 × 2 float32 softmax 2.4 ms, now 0.7;
// log_softmax 2.8, 0.8; logsumexp 9.7, 1.4; 60000 × 10 bfloat16 softmax 4.7, 1.0; 8 × 3 × 224 × 224
// over axis 1 softmax 3.8, 1.9; logsumexp 25, 6. Of more than a vector (Xeon), ns a row: 21 float32
// softmax 30, now 22, cross-entropy 75, 33; 64 float32 cross-entropy 77, 51, but softmax 36, 55.

import CSupport

extension Kernels {
  /// Up to L.count rows, in scratch's `low`, which the stages need only for a bias: of a row of a
  /// bias on its way they take the place of `x`, which is not wanted any more by then.
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
    /// Of rows with a bias, what the rounding of x + bias lost, and as `flat`.
    @inline(__always) func low(_ i: Int) -> UnsafeMutablePointer<L.Scalar> {
      beyond(0).assumingMemoryBound(to: L.Scalar.self) + i &* L.count
    }
    @inline(__always) var flatLow: UnsafeMutablePointer<L.Scalar> {
      beyond(4096).assumingMemoryBound(to: L.Scalar.self)
    }
    /// Of rows with a temperature, that and its factors (ScaledExp).
    @inline(__always) var temperature: UnsafeMutablePointer<Double> {
      beyond(12288).assumingMemoryBound(to: Double.self)
    }
    @inline(__always) func factor(_ kind: Int) -> UnsafeMutablePointer<L.Scalar> {
      beyond(12288 &+ 128 &+ 64 &* kind).assumingMemoryBound(to: L.Scalar.self)
    }
    /// Of losses, what the rows ask of class i, 16 numbers apart (CrossEntropyFew.swift).
    @inline(__always) func asked(_ i: Int) -> UnsafeMutablePointer<Double> {
      beyond(0).assumingMemoryBound(to: Double.self) + 16 &* i
    }
    /// Where the rows' results go.
    @inline(__always) var places: UnsafeMutablePointer<UnsafeMutableRawPointer> {
      beyond(12288 &+ 512).assumingMemoryBound(to: UnsafeMutableRawPointer.self)
    }
    /// The second half: the first has four kinds and the leaves, of 64 elements at most.
    @inline(__always) private func beyond(_ bytes: Int) -> UnsafeMutableRawPointer {
      memory + (16384 &+ bytes)
    }

    /// What squares read beyond the rows (FewRows.swift).
    @inline(never) func clearBeyond() {
      for i in length..<span {
        L(0).store(at: result(i))
        L(0).store(at: flat + i &* L.count)
      }
    }

    /// The sum of element i of the rows, and of those that it met.
    @inline(__always) func leaf(_ i: Int) -> UnsafeMutablePointer<Double> {
      UnsafeMutableRawPointer(vector(3, 1)).assumingMemoryBound(to: Double.self) + 16 &* i
    }

    /// Room for numbers of each row, when the sum is known.
    @inline(__always) var numbers: UnsafeMutablePointer<Double> { leaf(0) }

    /// The logarithms of the rows' sums (CrossEntropyShort.swift), and which rows are special.
    @inline(__always) func put(_ relative: SumOf<W>, _ lse: W, _ isSpecial: L) {
      relative.high.store(at: numbers)
      lse.store(at: numbers + L.count)
      relative.low.store(at: numbers + 2 &* L.count)
      isSpecial.store(at: special)
    }

    /// NaN passed over.
    @inline(__always) var maximum: L {
      var maximum = L(-.infinity)
      for i in 0..<length { maximum = L.max(L(at: x(i)), maximum) }
      return maximum
    }

    /// Of those that have it the largest low part.
    @inline(__always) func lowOfMaximum(_ maximum: L) -> L {
      var largest = L(-.infinity)
      for i in 0..<length {
        let low = L.pick(L(at: x(i)), equalTo: maximum, L(at: self.low(i)), L(-.infinity))
        largest = L.max(low, largest)
      }
      return largest
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
}
