// What a row needs once, for eight rows side by side: a lane a row.
//
// The exponential's constants follow from the maximum; reciprocal, top share or logarithm from the
// sum. On one row these are some two hundred scalar operations in a chain of more than a hundred
// cycles, as long as the vector work on a hundred elements. The operations and their order are
// those of one row (Wide.swift), so the results are.

extension Kernels {
  /// Numbers of eight rows, in scratch.
  struct EightRows<L: Lanes> {
    let memory: UnsafeMutableRawPointer

    /// Bytes: eight kinds of sixteen numbers, then the sums; a whole number of lines of memory.
    static var size: Int { @inline(__always) get { sumsOffset &+ 128 } }
    static var sumsOffset: Int {
      @inline(__always) get { 8 &* 16 &* MemoryLayout<L.Scalar>.stride }
    }

    @inline(__always) func numbers(_ kind: Int) -> UnsafeMutablePointer<L.Scalar> {
      // Sixteen places, so that a vector of either type can be loaded.
      memory.assumingMemoryBound(to: L.Scalar.self) + 16 &* kind
    }
    @inline(__always) var maximum: UnsafeMutablePointer<L.Scalar> { numbers(0) }
    @inline(__always) var shift: UnsafeMutablePointer<L.Scalar> { numbers(1) }
    @inline(__always) var cut: UnsafeMutablePointer<L.Scalar> { numbers(2) }
    /// The divisor, after `findDivisors`; `top` is NaN where the share is not shown.
    @inline(__always) var high: UnsafeMutablePointer<L.Scalar> { numbers(3) }
    @inline(__always) var low: UnsafeMutablePointer<L.Scalar> { numbers(4) }
    @inline(__always) var top: UnsafeMutablePointer<L.Scalar> { numbers(5) }
    @inline(__always) var share: UnsafeMutablePointer<L.Scalar> { numbers(6) }
    /// log of the sum relative to the maximum, and itself, after `findLogarithms`.
    @inline(__always) var relativeLog: UnsafeMutablePointer<L.Scalar> { numbers(3) }
    @inline(__always) var absoluteLog: UnsafeMutablePointer<L.Scalar> { numbers(4) }
    /// Not zero where the row must go through Softmax.swift.
    @inline(__always) var isSpecial: UnsafeMutablePointer<L.Scalar> { numbers(7) }
    /// Eight high parts, eight low parts.
    @inline(__always) var sums: UnsafeMutablePointer<Double> {
      (memory + Self.sumsOffset).assumingMemoryBound(to: Double.self)
    }

    /// Before the first rows: lanes without one are computed with too, and subnormal numbers, if
    /// the memory held such, would take their time (softmax of 32 × 1024: 0.56 ns an element
    /// instead of 0.31).
    @inline(__always) func clear() {
      L(0).store(at: maximum)
      L(0).store(at: maximum + (16 &- L.count))
      for row in 0..<8 { setSum(row, Sum(high: Double(L.unit), low: 0)) }
    }

    /// What the exponentials of a row need follows from its maximum. Each row on its own: a vector
    /// loaded from what was just stored in pieces would wait until those stores are done.
    @inline(__always) func setMaximum(_ row: Int, _ value: L.Scalar) {
      let exp = PlainExp<L>(maximum: L(value))
      maximum[row] = value
      shift[row] = exp.shift[0]
      cut[row] = exp.cut[0]
    }

    @inline(__always) func exp(_ row: Int) -> PlainExp<L> {
      PlainExp<L>(shift: L(shift[row]), cut: L(cut[row]))
    }

    @inline(__always) func setSum(_ row: Int, _ sum: Sum) {
      sums[row] = sum.high
      sums[8 &+ row] = sum.low
    }
    @inline(__always) var sum: SumOf<L.Eight> {
      SumOf(high: L.loadEight(sums), low: L.loadEight(sums + 8))
    }

    @inline(__always) func findDivisors() {
      let found = Divisors<L>(maximum: L(at: maximum), sum)
      found.high.store(at: high)
      found.low.store(at: low)
      found.top.store(at: top)
      found.share.store(at: share)
      found.isSpecial.store(at: isSpecial)
    }

    @inline(__always) func findLogarithms(_ operation: Int) {
      let found = Logarithms<L>(operation, maximum: L(at: maximum), sum)
      found.relative.store(at: relativeLog)
      found.absolute.store(at: absoluteLog)
      found.isSpecial.store(at: isSpecial)
    }

    @inline(__always) func divisor(_ row: Int) -> Divisor<L> {
      let showsTop = !top[row].isNaN
      return Divisor(
        high: L(high[row]), low: L(low[row]), element: L(showsTop ? maximum[row] : .nan),
        top: L(top[row]),
        topShare: L(share[row]), showsTop: showsTop)
    }
  }
}

extension Kernels {
  /// Not zero for rows that the plain form cannot do: those of large maxima, and of sums that are
  /// NaN.
  @inline(__always) static func special<L: Lanes>(maximum m: L, sum: L) -> L {
    let magnitude = L.pick(m, lessThan: L(0), L(0) - m, m)
    let isLarge = L.pick(magnitude, lessThan: L(L.plainLimit), L(0), L(1))
    return L.pick(sum, equalTo: sum, isLarge, L(1))
  }

  /// The divisors of rows, a lane each (Divisor); `top` is NaN where the share is not shown.
  struct Divisors<L: Lanes> {
    let high: L
    let low: L
    let top: L
    let share: L
    let isSpecial: L

    /// What elements equal to the maximum get: its share where that is shown, else the quotient.
    let ofMaximum: L

    /// Of eight rows, in the first eight lanes.
    @inline(__always) init(maximum: L, _ sum: SumOf<L.Eight>) {
      self.init(maximum: maximum, sum, { $0.eight }) { L(eight: $0) }
    }

    @inline(__always)
    init<W: Wide>(maximum: L, _ sum: SumOf<W>, _ wide: (L) -> W, _ narrow: (W) -> L) {
      self.init(
        Top<L>(plain: maximum), sum, isLarge: special(maximum: maximum, sum: L(0)), wide, narrow)
    }

    /// Of rows in any form; `isLarge` is not zero where a row's maximum is out of its reach.
    @inline(__always)
    init<W: Wide>(
      _ top: Top<L>, _ sum: SumOf<W>, isLarge: L, _ wide: (L) -> W, _ narrow: (W) -> L
    ) {
      let numbers = Inverse<L, W>(sum, top.wide(wide))
      high = narrow(numbers.inverse.high)
      low = narrow((numbers.inverse.high - wide(high)) + numbers.inverse.low)
      share = narrow(numbers.share)
      let shown = L.pick(share, lessThan: L(L.Scalar(leastShareShown)), L(.nan), top.rounded)
      // Nor where the quotient is that share already, in every other row.
      let quotient = top.rounded.fma(high, top.rounded * low)
      self.top = L.pick(quotient, equalTo: share, L(.nan), shown)
      ofMaximum = L.pick(self.top, equalTo: self.top, share, quotient)
      let total = narrow(sum.high)
      isSpecial = L.pick(total, equalTo: total, isLarge, L(1))
    }
  }

  /// The logarithms of eight rows' sums, in the first eight lanes (LogSum).
  struct Logarithms<L: Lanes> {
    let relative: L
    let absolute: L
    let isSpecial: L

    @inline(__always) init(_ operation: Int, maximum: L, _ sum: SumOf<L.Eight>) {
      let log = LogSum<L.Eight>(
        operation, sum, Top<L>(plain: maximum).eight,
        maximum: SumOf(high: maximum.eight, low: L.Eight(0)))
      relative = L(eight: log.relative.high)
      absolute = L(eight: log.absolute)
      let rough = L(eight: log.isRough)
      isSpecial = L.pick(
        rough, equalTo: L(0), special(maximum: maximum, sum: L(eight: sum.high)), L(1))
    }
  }
}
