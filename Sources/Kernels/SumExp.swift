// The sum of a chunk's exponentials in the fewest operations, for losses: what a row costs beyond
// reading it.
//
// Each chunk stands alone: its maximum, N = round(maximum / ln2), and the sum of 2^headroom ·
// exp(x) / 2^N. Chunks meet by powers of two, which are exact (CrossEntropy.swift), so a chunk is
// worked on while it is in the first-level cache, and a row comes from memory once. What differs
// from the passes of softmax:
//   - float32 leaves out n·ln2Low. All terms of a row then belong to x·(1 + 2^-28.4), and relative
//     to the maximum a term is off by 2^-29 · log2 of it: |x - max| · 0.046 units of 2^-24. A term
//     that matters (the rows where others matter take another way) is not far off.
//   - a term is added as rounded, by Fast2Sum from a large origin (Sum.swift): the maximum's term
//     can then be taken off exactly. Terms carry at most 1.31 · 2^-24, as ever, the sum nothing.
//   - where the exponent can be given to an instruction (scalesByPowers), 2^(headroom - N) goes
//     into the polynomial's coefficients and 2^n comes at the end, without a cut: 10 operations
//     instead of 12. What is too far below becomes 0 by itself. -inf becomes NaN, and so do numbers
//     beyond 2^45; then the sum is no number, and the chunk is summed again with the cut. Both
//     forms give the same bits: they differ by exact powers of two.
// Of AVX-512, for each vector: maximum 1, exponential 10, sum 4. With two ports 7.5 cycles for 64
// bytes.

import CSupport

extension Kernels {
  /// 2^headroom · exp(x) / 2^N, N = round(maximum / ln2), |maximum| < L.plainLimit.
  struct SumExp<L: Lanes> {
    let shift: L
    let cut: L
    /// 2^(headroom - N), if |maximum| < L.powerLimit.
    let power: L

    @inline(__always) init(shift: L, cut: L, power: L) {
      self.shift = shift
      self.cut = cut
      self.power = power
    }

    @inline(__always) init(maximum: L) {
      let plain = PlainExp<L>(maximum: maximum)
      let n = Kernels.exponent(maximum)
      shift = plain.shift
      cut = plain.cut
      power = L(L.Scalar(powerOfTwo(Int(Double(L.headroom)) &- Int(Double(n[0])))))
    }

    @inline(__always) func widened() -> SumExp<Pair<Pair<L>>> {
      func four(_ x: L) -> Pair<Pair<L>> { Pair(Pair(x, x), Pair(x, x)) }
      return SumExp<Pair<Pair<L>>>(shift: four(shift), cut: four(cut), power: four(power))
    }

    @inline(__always) func rest(_ n: L, _ x: L) -> L {
      let first = n.fma(L(-L.ln2High), x)
      return L.isSingle ? first : n.fma(L(-L.ln2Low), first)
    }
    /// The same, 0 where x is cut.
    @inline(__always) private func restUnlessCut(_ n: L, _ x: L) -> L {
      if L.isSingle { return n.fma(L(-L.ln2High), x, unless: x, lessThan: cut) }
      return n.fma(L(-L.ln2Low), n.fma(L(-L.ln2High), x), unless: x, lessThan: cut)
    }

    @inline(__always) func callAsFunction<ByPower: Choice>(_: ByPower.Type, _ x: L) -> L {
      exponential(ByPower.self, reduced(ByPower.self, x))
    }

    /// The first half of it; by power, `exponent` is n itself.
    @inline(__always) func reduced<ByPower: Choice>(_: ByPower.Type, _ x: L) -> Reduced<L> {
      if ByPower.isTrue {
        let n = Kernels.exponent(x)
        return Reduced(rest: rest(n, x), exponent: n)
      }
      let t = x.fma(L(L.log2e), shift, unless: x, lessThan: cut)
      return Reduced(rest: restUnlessCut(t - shift, x), exponent: t)
    }

    /// The second.
    @inline(__always)
    func exponential<ByPower: Choice>(_: ByPower.Type, _ reduced: Reduced<L>) -> L {
      ByPower.isTrue ? byPower(reduced.rest, reduced.exponent) : reduced.exponential().rounded()
    }

    @inline(__always) private func byPower(_ r: L, _ n: L) -> L {
      var p = L(L.expCoefficient(L.expDegree)) * power
      var k = L.expDegree &- 1
      while k >= 2 {
        p = p.fma(r, L(L.expCoefficient(k)) * power)
        k = k &- 1
      }
      return p.fma(r, power).fma(r, power).scaled(byPowerOf: n, from: n)
    }
  }

  /// round(x / ln2).
  @inline(__always) static func exponent<L: Lanes>(_ x: L) -> L {
    x.fma(L(L.log2e), L(L.roundingShift)) - L(L.roundingShift)
  }

  /// What a chunk has come to.
  struct ChunkSum {
    /// NaN passed over; -inf for none.
    var maximum: Double
    /// Sum of 2^headroom · exp(x) / 2^N; NaN where an element is, and 0 where |maximum| is beyond
    /// L.plainLimit.
    var sum: Sum
  }

  /// The chunk of `length` elements at p, and the one that will be next, of `next` elements,
  /// `distance` bytes behind it. The chunk's maximum may be known from the one before, else it is
  /// NaN; afterwards it is that of the next chunk.
  @inline(never)
  static func sumChunk<F: Format>(
    _: F.Type, _ p: UnsafeRawPointer, _ length: Int, _ known: inout F.L.Scalar, next: Int,
    distance: Int
  ) -> ChunkSum {
    typealias L = F.L
    let maximum = known.isNaN ? maximum(F.self, p, 0, length) : known
    known = .nan
    guard maximum.magnitude < L.plainLimit else {
      return ChunkSum(
        maximum: Double(maximum), sum: Sum(high: hasNaN(F.self, p, length) ? .nan : 0, low: 0))
    }
    let exp = SumExp<L>(maximum: L(maximum))
    if I.scalesByPowers && maximum.magnitude < L.powerLimit
      && !looksFar(F.self, p, length, below: maximum)
    {
      let sum = sum(F.self, Yes.self, exp, p, length, &known, next: next, distance: distance)
      if sum.high - sum.high == 0 { return ChunkSum(maximum: Double(maximum), sum: sum) }
    }
    return ChunkSum(
      maximum: Double(maximum),
      sum: sum(F.self, No.self, exp, p, length, &known, next: next, distance: distance))
  }

  /// Whether one vector in 32 has a term that would be a subnormal number by power: the way there
  /// takes its time (FarResults.swift), and the other form cuts such terms off.
  @inline(__always)
  static func looksFar<F: Format>(
    _: F.Type, _ p: UnsafeRawPointer, _ length: Int, below maximum: F.L.Scalar
  ) -> Bool {
    typealias L = F.L
    // Exponents of 2 below the maximum's, a little beyond both ends.
    return hasBetween(
      F.self, p, length, maximum - L.leastPower * L.ln2High,
      maximum - (L.fieldZero - 4) * L.ln2High, every: 32)
  }

  /// The sum, and the next chunk's maximum on the way: looked for before that chunk's turn, it
  /// would wait for memory with nothing else to do. The lines of the chunk after that are asked for
  /// (2048 × 32000, side by side with a build that takes one chunk at a time: 7 % less time on one
  /// thread, 2 to 3 % on two).
  @inline(__always)
  static func sum<F: Format, ByPower: Choice>(
    _: F.Type, _: ByPower.Type, _ exp: SumExp<F.L>, _ p: UnsafeRawPointer, _ length: Int,
    _ nextMaximum: inout F.L.Scalar,
    next: Int, distance: Int
  ) -> Sum {
    typealias L = F.L
    let wide = exp.widened()
    // Behind the end: as far down as `byPower` has a number for, and 0 either way.
    let lowest = ByPower.isTrue ? L.Scalar(-4096) : -L.Scalar.infinity
    // Order is part of the contract: lane l takes elements l, l + L.count, …
    var sum = Accumulator<L>()
    let following = p + distance
    let ahead = following + distance
    let quarter = length &* F.size / 4
    var highest = Pair(Pair(L(-.infinity), L(-.infinity)), Pair(L(-.infinity), L(-.infinity)))
    @inline(__always) func four(_ p: UnsafeRawPointer, _ i: Int) -> Pair<Pair<L>> {
      Pair(
        Pair(F.load(p, i), F.load(p, i &+ L.count)),
        Pair(F.load(p, i &+ 2 &* L.count), F.load(p, i &+ 3 &* L.count)))
    }
    var i = 0
    @inline(__always) func add(_ reduced: Reduced<Pair<Pair<L>>>) {
      // A line of each quarter: the processor's own prefetching runs ahead in each of them.
      let line = i &* F.size / 4
      for part in 0..<4 where F.size &* L.count == 64 || part & 2 == line >> 4 & 2 {
        I.prefetchRead(ahead + (part &* quarter &+ line & ~63))
      }
      if i &+ 4 &* L.count <= next { highest = Pair<Pair<L>>.max(four(following, i), highest) }
      let e = wide.exponential(ByPower.self, reduced)
      sum.add(e.a.a)
      sum.add(e.a.b)
      sum.add(e.b.a)
      sum.add(e.b.b)
      i = i &+ 4 &* L.count
    }
    // As in `sumPlain`.
    if I.interleaves && i &+ 4 &* L.count <= length {
      var waiting = wide.reduced(ByPower.self, four(p, i))
      while i &+ 8 &* L.count <= length {
        let next = wide.reduced(ByPower.self, four(p, i &+ 4 &* L.count))
        add(waiting)
        waiting = next
      }
      add(waiting)
    }
    if next > 0 {
      nextMaximum = highest.largest()
      let seen = Swift.min(i, next / (4 &* L.count) &* (4 &* L.count))
      if seen < next {
        nextMaximum = Swift.max(
          nextMaximum, maximum(F.self, following + seen &* F.size, 0, next &- seen))
      }
    }
    // One body for whole and partial vectors: its code is large.
    while i < length {
      let x = i &+ L.count <= length ? F.load(p, i) : F.load(p, i, 0, length &- i, fill: lowest)
      sum.add(exp(ByPower.self, x))
      i = i &+ L.count
    }
    return sum.total()
  }

  @inline(never)
  static func hasNaN<F: Format>(_: F.Type, _ p: UnsafeRawPointer, _ length: Int) -> Bool {
    typealias L = F.L
    var found = L(0)
    for (i, _, last) in vectors(L.self, 0, length) {
      let x = last == L.count ? F.load(p, i) : F.load(p, i, 0, last, fill: 0)
      found = L.pick(x, equalTo: x, found, L(1))
    }
    return found.largest() > 0
  }

  /// exp(y) for any y, to 1 unit in the last place.
  @inline(never)
  public static func exponential(_ y: Double) -> Double {
    if y != y { return .nan }
    // exp(710) overflows, exp(-746) is 0.
    let x = F64(Swift.min(Swift.max(y, -746), 710))
    let n = exponent(x)
    let r = n.fma(F64(-F64.ln2Low), n.fma(F64(-F64.ln2High), x))
    let value = r.expTail().fma(r, F64(1)).fma(r, F64(1))[0]
    let half = Int(n[0]) / 2
    return value * powerOfTwo(half) * powerOfTwo(Int(n[0]) &- half)
  }

  /// The same of eight numbers, none above 0.
  @inline(__always) static func exponential(_ y: F64) -> F64 {
    I.hasFastPaths ? exponentialInline(y) : exponentialApart(y)
  }
  /// Out of line where fma is a call anyway.
  @inline(never) private static func exponentialApart(_ y: F64) -> F64 { exponentialInline(y) }
  @inline(__always) private static func exponentialInline(_ y: F64) -> F64 {
    PlainExp<F64>(maximum: F64(0))(y).rounded() * F64(1 / F64.unit)
  }

  /// whole · exp(-log) / term, the two as pairs whose lower parts would show: half an ulp of a
  /// logarithm of 8 is 4 of the result.
  @inline(__always)
  static func share<W: Wide>(
    of whole: W, _ exponential: W, log: SumOf<W>, term: SumOf<W>
  ) -> W {
    let e = (W(0) - exponential).fma(log.low + term.low / term.high, exponential)
    return whole * e / term.high
  }

  /// exp(y) - 1 for y <= 0, without cancellation.
  @inline(__always) static func exponentialLess1(_ y: Double) -> Double {
    if !(y > -0.34) { return exponential(y) - 1 }
    return (y * y).fma(F64(y).expTail()[0], y)
  }

  @inline(__always) static func exponentialLess1(_ y: F64) -> F64 {
    F64.pick(F64(-0.34), lessThan: y, (y * y).fma(y.expTail(), y), exponential(y) - F64(1))
  }
}
