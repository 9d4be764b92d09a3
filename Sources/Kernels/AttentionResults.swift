// A tile's end: its sums become results, rows again; the logarithms; the weights where they are
// wanted.

import CSupport

extension Kernels {
  /// 1 / sum as results need it.
  struct Closing<L: TileLanes> {
    /// What the sum is multiplied by before the division: a sink may have moved the exponent.
    let factor: L
    let sum: L
    let exponent: L
    let base: L
    /// 0 in the lanes that see no key.
    private let sees: L
    private let inverse: L

    /// With the sink, if there is one, among the sum's terms.
    @inline(__always) init(sum: L, exponent before: L, base baseBefore: L, sink: L?, sees: L) {
      if let given = sink {
        let none = L(-L.Scalar.greatestFiniteMagnitude)
        // Scores of -inf alone, or none, give 0 with a sink too, whatever their values.
        self.sees = L.pick(before, equalTo: none, L.pick(sum, equalTo: L(0), L(0), sees), sees)
        let most = L(L.scoreLimit)
        let sink = L.pick(
          given - given, equalTo: L(0), L.max(L(0) - most, L(0) - L.max(L(0) - given, L(0) - most)),
          given)
        // As in `rebase`: a large sink far above all scores, or where there are none, is the base
        // itself.
        let limit = L.pick(baseBefore, equalTo: L(0), L(L.baseLimit), L(L.Scalar(baseReach)))
        let above = sink - baseBefore
        let distance = L.pick(before, equalTo: none, L.max(L(0) - above, above), above)
        let isOld = L.pick(
          distance, lessThan: limit, L(1), L.pick(distance, lessThan: L(.infinity), L(0), L(1)))
        base = L.pick(isOld, equalTo: L(1), baseBefore, Kernels.base(for: sink))
        let own = L.pick(isOld, equalTo: L(1), before, moved(before, from: baseBefore, to: base))
        let score = sink - base
        exponent = L.max((score * L(L.log2e)).floor(), own)
        factor = (own - exponent).weight()
        self.sum = sum.fma(factor, score.fma(L(L.log2e), L(0) - exponent).weight())
      } else {
        self.sees = sees
        base = baseBefore
        exponent = before
        factor = L(1)
        self.sum = sum
      }
      inverse = L(1) / self.sum
    }

    /// What is divided by, 0 where the result is 0 whatever stands there; and 1 / sum.
    var divisor: (sum: L, inverse: L) {
      @inline(__always) get { (L.pick(sees, equalTo: L(0), L(0), sum), inverse) }
    }
  }

  /// The divisors of a vector of lanes, in memory.
  struct RowDivisors<L: TileLanes> {
    let sums: UnsafeMutablePointer<L.Scalar>
    let inverses: UnsafeMutablePointer<L.Scalar>

    @inline(__always)
    init(
      sums: UnsafeMutablePointer<L.Scalar>, inverses: UnsafeMutablePointer<L.Scalar>,
      _ closing: Closing<L>
    ) {
      (self.sums, self.inverses) = (sums, inverses)
      closing.divisor.sum.store(at: sums)
      closing.divisor.inverse.store(at: inverses)
    }
  }

  /// value / sum, the quotient corrected once; NaN as the quiet one.
  @inline(__always)
  static func quotient<L: TileLanes>(_ value: L, _ sum: L, _ inverse: L) -> L {
    let first = value * inverse
    let rest = (L(0) - first).fma(sum, value)
    let corrected = L.pick(rest - rest, equalTo: L(0), rest.fma(inverse, first), first)
    // Adding 0 makes one zero of both.
    let result = corrected + L(0)
    return L.pick(result, equalTo: result, result, L(.nan))
  }

  /// The lines that the rows of lanes lane..<lane + count go to, asked for beside the values of the
  /// last keys: a store that has to wait for its line holds up all that follow.
  @inline(never)
  static func askForResults<L: TileLanes>(
    _ tile: Tile<L>, _ lane: Int, _ count: Int, strips: Int
  ) -> Ahead {
    let job = tile.bench.job
    let view = job.pointee.out
    let last = Swift.min(lane &+ count, Int(tile.header.pointee.count)) &- 1
    // A row's numbers side by side, and the rows evenly spaced.
    guard view.data != nil && lane <= last && view.column > 0 && view.column <= 8,
      tile.places(SMXK_HEAD)[lane] == tile.places(SMXK_HEAD)[last], job.pointee.spans == 1
    else { return Ahead() }
    return Ahead(
      address(view, tile.bench.batch, tile, lane), rows: last &- lane &+ 1, stride: Int(view.row),
      bytes: Int(job.pointee.value_size) &* Int(view.column), strips: strips, isForWriting: true)
  }

  @inline(never)
  static func finish<L: TileLanes>(_ tile: Tile<L>, hasTotals: Bool) {
    let job = tile.bench.job
    let lanes = tile.lanes
    let sums = hasTotals ? tile.totals : tile.sums
    let size = Int(job.pointee.value_size)
    var lane = 0
    while lane < lanes {
      let closing = closing(tile, lane, hasTotals: hasTotals)
      for column in 0..<(job.pointee.sinks.data == nil ? 0 : size) {
        let place = sums + (column &* lanes &+ lane)
        (L(at: place) * closing.factor).store(at: place)
      }
      // Divided as they are turned: a row has one divisor then.
      let divisors = RowDivisors<L>(
        sums: tile.state(SMXK_LARGEST), inverses: tile.state(SMXK_FACTOR), closing)
      writeTurned(tile, job.pointee.out, sums, lane, first: 0, count: size, over: divisors)
      if job.pointee.lse.data != nil { writeLogarithms(tile, closing, lane) }
      lane = lane &+ L.count
    }
    if job.pointee.weights.data != nil { writeWeights(tile, hasTotals: hasTotals) }
  }

  /// The sum of a vector of lanes; 0 for those that see no key.
  @inline(__always)
  private static func closing<L: TileLanes>(
    _ tile: Tile<L>, _ lane: Int, hasTotals: Bool
  ) -> Closing<L> {
    let job = tile.bench.job
    let sum = tile.state(hasTotals ? SMXK_TOTAL_WEIGHT : SMXK_WEIGHT) + lane
    let exponent = tile.state(hasTotals ? SMXK_TOTAL_EXPONENT : SMXK_EXPONENT) + lane
    let base = tile.state(hasTotals ? SMXK_TOTAL_BASE : SMXK_BASE) + lane
    let sinks = tile.state(SMXK_LARGEST) + lane
    let sees = tile.state(SMXK_FROM) + lane
    for l in 0..<L.count {
      let isEmpty = tile.places(SMXK_FIRST)[lane &+ l] >= tile.places(SMXK_LAST)[lane &+ l]
      sees[l] = isEmpty ? 0 : 1
      if isEmpty {
        sum[l] = 0
        exponent[l] = -L.Scalar.greatestFiniteMagnitude
        base[l] = 0
      }
      if let p = job.pointee.sinks.data {
        let head = Int(tile.places(SMXK_HEAD)[lane &+ l])
        sinks[l] = UnsafeRawPointer(p + head &* Int(job.pointee.sinks.head)).loadUnaligned(
          as: L.Scalar.self)
      }
    }
    return Closing(
      sum: L(at: sum), exponent: L(at: exponent), base: L(at: base),
      sink: job.pointee.sinks.data == nil ? nil : L(at: sinks),
      sees: L(at: sees))
  }

  /// Rows first..<first + count of a matrix of the tile, one vector of lanes, as columns of each
  /// lane's row; with divisors, as their quotients.
  @inline(never)
  static func writeTurned<L: TileLanes>(
    _ tile: Tile<L>, _ view: smxk_view, _ matrix: UnsafePointer<L.Scalar>, _ lane: Int, first: Int,
    count: Int, over divisors: RowDivisors<L>? = nil
  ) {
    let bench = tile.bench
    let rows = bench.numbers(bench.job.pointee.rooms.turn)
    let used = Swift.min(L.count, Int(tile.header.pointee.count) &- lane)
    let even = evenRows(tile, view, lane)
    var column = 0
    while column < count {
      let isDirect = even != nil && column &+ L.count <= count
      let to = isDirect ? even!.start + (first &+ column) : rows
      let stride = isDirect ? even!.stride : L.count
      let square = matrix + (column &* tile.lanes &+ lane)
      if let divisors {
        divideTurned(L.self, square, tile.lanes, to, stride, divisors.sums, divisors.inverses)
      } else {
        transpose(L.self, square, tile.lanes, to, stride)
      }
      let columns = Swift.min(L.count, count &- column)
      for l in 0..<(isDirect ? 0 : used) {
        let p = address(view, bench.batch, tile, lane &+ l) + (first &+ column) &* Int(view.column)
        write(L.self, bench.job.pointee.dtype, p, Int(view.column), rows + l &* L.count, columns)
      }
      column = column &+ L.count
    }
  }

  /// A square of sums, turned, as the quotients of each row; 0 where its divisor is.
  @inline(never)
  private static func divideTurned<L: TileLanes>(
    _: L.Type, _ from: UnsafePointer<L.Scalar>, _ fromRow: Int,
    _ to: UnsafeMutablePointer<L.Scalar>, _ toRow: Int, _ sums: UnsafePointer<L.Scalar>,
    _ inverses: UnsafePointer<L.Scalar>
  ) {
    @inline(__always) func take(_ l: Int, _ numbers: L) {
      let result = sums[l] == 0 ? L(0) : quotient(numbers, L(sums[l]), L(inverses[l]))
      result.store(at: to + l &* toRow)
    }
    if I.hasFastPaths {
      turn(L.self, { UnsafeRawPointer(from + $0 &* fromRow) }, take)
    } else {
      // Once in the code, where fma is a call.
      transpose(L.self, from, fromRow, to, toRow)
      for l in 0..<L.count { take(l, L(at: to + l &* toRow)) }
    }
  }

  /// base + N·ln2 + log(sum) of each lane, in float64 and rounded once.
  @inline(never)
  private static func writeLogarithms<L: TileLanes>(
    _ tile: Tile<L>, _ closing: Closing<L>, _ lane: Int
  ) {
    let used = Swift.min(L.count, Int(tile.header.pointee.count) &- lane)
    for l in 0..<used {
      let sum = Double(closing.sum[l])
      let exponent = Double(closing.exponent[l])
      var value = -Double.infinity
      if sum > 0 && sum < .infinity {
        if L.isSingle {
          value = exponent.fma(0x1.62e42fefa39efp-1, logOfSingle(sum))
        } else {
          let scale = sum.binaryScale()
          let log = logOfFraction(
            fraction(SumOf<Double>(high: sum, low: 0), scale.factor), exponent: scale.k + exponent)
          value = log.high + log.low
        }
        value += Double(closing.base[l])
      } else if sum != 0 {
        value = .nan
      }
      let p = address(tile.bench.job.pointee.lse, tile.bench.batch, tile, lane &+ l)
      p.storeBytes(of: L.Scalar(value), as: L.Scalar.self)
    }
  }

  /// The weights of the tile's rows, from scores computed once more, with the exponents that they
  /// ended with.
  @inline(never)
  private static func writeWeights<L: TileLanes>(_ tile: Tile<L>, hasTotals: Bool) {
    let bench = tile.bench
    let job = bench.job
    let keys = bench.keys
    let block = Int(SMXK_KEY_BLOCK)
    let lower = Int(tile.header.pointee.lower)
    let upper = Int(tile.header.pointee.upper)
    var from = 0
    while from < keys {
      let to = Swift.min(from &+ block, keys)
      let first = Swift.max(from, lower)
      let last = Swift.min(to, upper)
      let isSeen = first < last && seesAny(tile, first, last)
      if isSeen {
        _ = computeScores(tile, KeyBlock(bench, from: first, to: last, isFew: false), first, last)
      }
      var lane = 0
      while lane < tile.lanes {
        let closing = closing(tile, lane, hasTotals: hasTotals)
        if isSeen { closeWeights(tile, closing, lane, last &- first) }
        writeZeros(tile, lane, from, isSeen ? first : to)
        if isSeen {
          writeTurned(
            tile, job.pointee.weights, bench.scores, lane, first: first, count: last &- first)
          writeZeros(tile, lane, last, to)
        }
        lane = lane &+ L.count
      }
      from = to
    }
  }

  @inline(__always)
  private static func closeWeights<L: TileLanes>(
    _ tile: Tile<L>, _ closing: Closing<L>, _ lane: Int, _ count: Int
  ) {
    let exponent = L(0) - closing.exponent
    let (sum, inverse) = closing.divisor
    for key in 0..<count {
      let p = tile.bench.scores + (key &* tile.lanes &+ lane)
      let score = L(at: p)
      let weight = quotient((score - closing.base).fma(L(L.log2e), exponent).exp2(), sum, inverse)
      // Of a hidden key also where the row is NaN.
      let shown = L.pick(sum, equalTo: L(0), L(0), weight)
      L.pick(score, equalTo: L(-.infinity), L(0), shown).store(at: p)
    }
  }

  @inline(__always)
  private static func writeZeros<L: TileLanes>(
    _ tile: Tile<L>, _ lane: Int, _ from: Int, _ to: Int
  ) {
    let bench = tile.bench
    let view = bench.job.pointee.weights
    let used = Swift.min(L.count, Int(tile.header.pointee.count) &- lane)
    for l in 0..<used {
      for key in from..<Swift.max(from, to) {
        writeScalar(
          bench.job.pointee.dtype,
          (address(view, bench.batch, tile, lane &+ l) + key &* Int(view.column))
            .assumingMemoryBound(to: CChar.self), 0)
      }
    }
  }
}
