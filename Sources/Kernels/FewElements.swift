// Rows of no more elements than a vector has lanes: a vector of rows at a time, one row in each lane.
//
// Two classes, ten digits, three colours along an axis in the middle: along such a row a vector is mostly empty, and
// what a row needs once costs more than its elements. So element i of 16 rows (8 of float64) becomes one vector,
// and all that Softmax.swift does with a row is done in lanes: maxima, terms, the tree of the sum, divisors or
// logarithms, and the precise sum, which rows of few elements often want. The operations of each row and their order
// are those of Sum.swift, whose lane l here holds element l alone; what an empty lane would add is exactly 0.
// Rows that the plain form cannot do go through the stages.
//
// One thread, AVX-512 (Zen 4), row by row before: 100000 × 2 float32 softmax 2.4 ms, now 0.7; log_softmax 2.8, 0.8; logsumexp
// 9.7, 1.4; 60000 × 10 bfloat16 softmax 4.7, 1.0; 8 × 3 × 224 × 224 over axis 1 softmax 3.8, 1.9; logsumexp 25, 6.

import CSupport

extension Kernels {
  /// Up to L.count rows, in scratch's `low`, which the stages need only for a bias.
  struct FewElements<L: Lanes> {
    typealias W = Widened<L>

    let memory: UnsafeMutableRawPointer
    /// Elements of a row.
    let length: Int

    @inline(__always) init(length: Int, _ scratch: UnsafeMutablePointer<smxk_scratch>) {
      memory = smxk_low_of(scratch)
      self.length = length
    }

    @inline(__always) private func vector(_ kind: Int, _ i: Int) -> UnsafeMutablePointer<L.Scalar> {
      memory.assumingMemoryBound(to: L.Scalar.self) + (kind &* L.count &+ i) &* L.count
    }
    /// Element i of the rows, and what becomes of it: term, then result.
    @inline(__always) func x(_ i: Int) -> UnsafeMutablePointer<L.Scalar> { vector(0, i) }
    @inline(__always) func result(_ i: Int) -> UnsafeMutablePointer<L.Scalar> { vector(1, i) }
    /// Row after row, as the caller's memory has them.
    @inline(__always) var flat: UnsafeMutablePointer<L.Scalar> { vector(2, 0) }
    /// Not zero where a row must go through the stages.
    @inline(__always) var special: UnsafeMutablePointer<L.Scalar> { vector(3, 0) }
    /// The sum of element i of the rows, and of those that it met.
    @inline(__always) private func leaf(_ i: Int) -> UnsafeMutablePointer<Double> {
      UnsafeMutableRawPointer(vector(4, 0)).assumingMemoryBound(to: Double.self) + 16 &* i
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
    @inline(__always) func enter(_ lane: Accumulator<L>, _ i: Int) { put(laneSum(lane.high, lane.low) { W($0) }, i) }

    /// The sums of all rows, whose lanes have been entered. (Given as a closure the lanes would pass through the stack.)
    @inline(__always) func sum() -> SumOf<W> {
      // Order is part of the contract: as Lanes.total.
      var distance = L.count / 2
      while distance > 0 {
        for i in 0..<Swift.max(0, Swift.min(distance, length &- distance)) {
          put(meet(take(i), take(i &+ distance), L.self), i)
        }
        distance = distance / 2
      }
      let sum = take(0)
      return L.isSingle ? sum : SumOf.exact(larger: sum.high, sum.low)
    }
  }

  /// What `operation` makes of the rows, to `result`, one vector of it for logsumexp. True where all are done.
  @inline(never)
  static func finishFew<L: Lanes>(_ few: FewElements<L>, _ operation: smxk_operation) -> Bool {
    typealias W = Widened<L>
    let maximum = few.maximum
    let exp = PlainExp<L>(maximum: maximum)
    for i in 0..<few.length {
      let term = exp(L(at: few.x(i)))
      let e = term.rounded()
      e.store(at: few.result(i))
      var lane = Accumulator<L>()
      lane.add(term, rounded: e)
      few.enter(lane, i)
    }
    let sum = few.sum()
    let isSpecial: L
    if operation == SMXK_SOFTMAX {
      let numbers = Divisors<L>(maximum: maximum, sum, { W($0) }) { $0.lanes }
      isSpecial = numbers.isSpecial
      for i in 0..<few.length {
        let e = L(at: few.result(i))
        let quotient = e.fma(numbers.high, e * numbers.low)
        L.pick(L(at: few.x(i)), equalTo: maximum, numbers.ofMaximum, quotient).store(at: few.result(i))
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
    _ few: FewElements<L>, _ operation: smxk_operation, _ maximum: L, _ sum: SumOf<Widened<L>>, _ isSpecial: L
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

  /// The logarithms relative to the maximum, from the sum of the others: SMXK_SECOND_MAXIMUM and SMXK_PRECISE_SUM of
  /// Softmax.swift. Anything in lanes of rows that are special.
  @inline(never)
  static func preciseLogarithms<L: Lanes>(_ few: FewElements<L>, _ maximum: L) -> SumOf<Widened<L>> {
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
    for i in 0..<few.length {
      var lane = Accumulator<L>()
      addPrecisely(exp, L(at: few.x(i)), L(0), &lane)
      few.enter(lane, i)
    }
    return preciseLog(
      L.self, few.sum(), ties: W(ties), isShown * W(powerOfTwo(minus: half)), W(powerOfTwo(minus: raise - half)))
  }

  /// 2^-k, k a whole number whose power is normal.
  @inline(__always) static func powerOfTwo<L: Lanes>(minus k: L) -> L {
    (L(L.roundingShift) + (L(L.fieldZero - L.headroom) - k)).shiftedIntoExponent()
  }

  // -- rows and columns ------------------------------------------------------------------------------

  /// Whether the rows of a job are plain, follow one another in memory and are short enough.
  @inline(__always)
  static func hasFewElements<L: Lanes>(_: L.Type, _ job: UnsafePointer<smxk_job>) -> Bool {
    let cols = Int(job.pointee.cols)
    let isPlain = job.pointee.direct == SMXK_DIRECT_PLAIN || (L.isSingle && job.pointee.direct == SMXK_DIRECT_NARROW)
    return I.hasFastPaths && isPlain && cols >= 1 && cols <= L.count && job.pointee.outer_count == 1
      && Int(job.pointee.outer!.pointee.x) == cols &* itemSize(job)
  }

  @inline(__always) static func itemSize(_ job: UnsafePointer<smxk_job>) -> Int {
    Int(job.pointee.dtype) == SMX_FLOAT64 ? 8 : Int(job.pointee.dtype) == SMX_FLOAT32 ? 4 : 2
  }

  /// Whether the results of such rows lie side by side, too.
  @inline(__always) static func hasFewResults(_ job: UnsafePointer<smxk_job>) -> Bool {
    let results = job.pointee.operation == SMXK_LOGSUMEXP ? 1 : Int(job.pointee.cols)
    return Int(job.pointee.outer!.pointee.out) == results &* itemSize(job)
  }

  /// Rows first ..< first + count of such a job.
  @inline(never)
  static func fewRows<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let cols = Int(job.pointee.cols)
    let results = job.pointee.operation == SMXK_LOGSUMEXP ? 1 : cols
    let few = FewElements<L>(length: cols, scratch)
    let size = itemSize(job)
    var row = first
    while row < first &+ count {
      let rows = Swift.min(L.count, first &+ count &- row)
      let out = job.pointee.out! + row &* results &* size
      turn(job, row, rows, of: first &+ count, to: few)
      if finishFew(few, job.pointee.operation) {
        putRows(few, job, rows, results, out)
      } else {
        for r in 0..<rows {
          if few.special[r] != 0 {
            rowInStages(L.self, job, row &+ r, scratch)
          } else {
            putRow(few, job, r, results, out + r &* results &* size)
          }
        }
      }
      row = row &+ rows
    }
  }

  /// Results of `rows` rows that follow one another in memory.
  @inline(__always)
  static func putRows<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_job>, _ rows: Int, _ results: Int, _ out: UnsafeMutableRawPointer
  ) {
    let isOwn = itemSize(job) == MemoryLayout<L.Scalar>.stride
    let q = isOwn ? out.assumingMemoryBound(to: L.Scalar.self) : few.flat
    if turnsSquares(L.self, results) && rows == L.count {
      // What a row's vector has beyond its end belongs to the next row, which is stored later.
      turnSquare(L.self, few.result(0), L.count, few.flat, results)
      if isOwn { for (i, _, last) in vectors(L.self, 0, rows &* results) { store(L(at: few.flat + i), q + i, 0, last) } }
    } else {
      for i in 0..<results { for r in 0..<rows { q[r &* results &+ i] = few.result(i)[r] } }
    }
    if !isOwn { narrow(L.self, job, few.flat, rows &* results, to: out) }
  }

  /// Those of the row in lane r.
  @inline(__always)
  static func putRow<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_job>, _ r: Int, _ results: Int, _ out: UnsafeMutableRawPointer
  ) {
    let place = out.assumingMemoryBound(to: CChar.self)
    for i in 0..<results { writeScalar(job.pointee.dtype, place + i &* itemSize(job), Double(few.result(i)[r])) }
  }

  /// Whether squares of a vector's size are worth their shuffles, of AVX-512: 4096 × 16 float32 of softmax 13 to 26 % less time
  /// than number by number, × 10 17 to 30 %.
  @inline(__always) static func turnsSquares<L: Lanes>(_: L.Type, _ cols: Int) -> Bool {
    I.hasWideTiles && cols > L.count / 4
  }

  /// Rows row ..< row + rows of those up to `end`, to `x`; 0 in lanes without one.
  @inline(__always)
  static func turn<L: Lanes>(
    _ job: UnsafePointer<smxk_job>, _ row: Int, _ rows: Int, of end: Int, to few: FewElements<L>
  ) {
    let cols = few.length
    let size = itemSize(job)
    let isOwn = size == MemoryLayout<L.Scalar>.stride
    let x = job.pointee.x! + row &* cols &* size
    if !isOwn { widen(L.self, job, x, rows &* cols, to: few.flat) }
    let p = isOwn ? x.assumingMemoryBound(to: L.Scalar.self) : UnsafePointer(few.flat)
    // A square reads a vector from each row's first element on.
    if turnsSquares(L.self, cols) && rows == L.count && (!isOwn || (end &- row &- rows) &* cols >= L.count) {
      turnSquare(L.self, p, cols, few.x(0), L.count)
      return
    }
    for i in 0..<cols {
      if rows < L.count { L(0).store(at: few.x(i)) }
      for r in 0..<rows { few.x(i)[r] = p[r &* cols &+ i] }
    }
  }

  /// `transpose` of a square, which either type has.
  @inline(__always)
  static func turnSquare<L: Lanes>(
    _: L.Type, _ from: UnsafePointer<L.Scalar>, _ fromRow: Int, _ to: UnsafeMutablePointer<L.Scalar>, _ toRow: Int
  ) {
    let (p, q) = (UnsafeRawPointer(from), UnsafeMutableRawPointer(to))
    if L.isSingle {
      transpose(
        F32.self, p.assumingMemoryBound(to: Float.self), fromRow, q.assumingMemoryBound(to: Float.self), toRow, times: 1)
    } else {
      transpose(
        F64.self, p.assumingMemoryBound(to: Double.self), fromRow, q.assumingMemoryBound(to: Double.self), toRow, times: 1)
    }
  }

  /// `count` numbers of the job's narrow type, and back.
  @inline(__always)
  static func widen<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ x: UnsafeRawPointer, _ count: Int, to flat: UnsafeMutablePointer<L.Scalar>
  ) {
    func each<F: Format>(_: F.Type) {
      for (i, _, last) in vectors(F.L.self, 0, count) {
        let v = last == F.L.count ? F.load(x, i) : F.load(x, i, 0, last, fill: 0)
        v.store(at: UnsafeMutableRawPointer(flat).assumingMemoryBound(to: F.L.Scalar.self) + i)
      }
    }
    if Int(job.pointee.dtype) == SMX_FLOAT16 { each(Narrow<Float16>.self) } else { each(Narrow<BFloat16>.self) }
  }
  @inline(__always)
  static func narrow<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ flat: UnsafePointer<L.Scalar>, _ count: Int, to out: UnsafeMutableRawPointer
  ) {
    func each<F: Format>(_: F.Type) {
      for (i, _, last) in vectors(F.L.self, 0, count) {
        let v = F.L(at: UnsafeRawPointer(flat).assumingMemoryBound(to: F.L.Scalar.self) + i)
        if last == F.L.count { F.store(v, out, i) } else { F.store(v, out, i, 0, last) }
      }
    }
    if Int(job.pointee.dtype) == SMX_FLOAT16 { each(Narrow<Float16>.self) } else { each(Narrow<BFloat16>.self) }
  }

  /// Rows first ..< first + count of a job whose rows lie side by side.
  @inline(never)
  static func fewColumns<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let cols = Int(job.pointee.cols)
    let results = job.pointee.operation == SMXK_LOGSUMEXP ? 1 : cols
    let few = FewElements<L>(length: cols, scratch)
    let adjacent = Int(job.pointee.outer![Int(job.pointee.outer_count) &- 1].count)
    let inner = job.pointee.inner![0]
    let place = Self.row(of: scratch)
    var row = first
    // Rows left of those side by side.
    var rest = 0
    var x = UnsafeRawPointer(job.pointee.x!)
    var out = UnsafeMutableRawPointer(job.pointee.out!)
    while row < first &+ count {
      if rest == 0 {
        locate(job, place, row)
        rest = Swift.min(adjacent &- row % adjacent, first &+ count &- row)
        x = UnsafeRawPointer(place.pointee.x!)
        out = UnsafeMutableRawPointer(place.pointee.out!)
      }
      let rows = Swift.min(L.count, rest)
      for i in 0..<cols {
        let p = (x + i &* Int(inner.x)).assumingMemoryBound(to: L.Scalar.self)
        (load(p, 0, rows, fill: 0) as L).store(at: few.x(i))
      }
      let isDone = finishFew(few, job.pointee.operation)
      for r in 0..<(isDone ? 0 : rows) where few.special[r] != 0 { rowInStages(L.self, job, row &+ r, scratch) }
      for i in 0..<results {
        let p = (out + i &* Int(inner.out)).assumingMemoryBound(to: L.Scalar.self)
        if isDone {
          store(L(at: few.result(i)), p, 0, rows)
        } else {
          for r in 0..<rows where few.special[r] == 0 { p[r] = few.result(i)[r] }
        }
      }
      row = row &+ rows
      rest = rest &- rows
      x += rows &* MemoryLayout<L.Scalar>.stride
      out += rows &* MemoryLayout<L.Scalar>.stride
    }
  }
}
