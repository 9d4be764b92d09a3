// The passes over a contiguous stretch of one row: maximum, terms and their sum, results.
//
// A stretch lies within one chunk, `p` points to the chunk's first element, and only the elements
// from..<to take part. Lanes follow the element's place in the row, so that a row's first and last
// vectors may be partial; lanes outside read as -inf, whose terms are exactly zero.
//
// Limits, AVX-512 with two vector ports, 16 float32: maximum 1 operation (two loads a cycle bind
// first), terms and sum 18, results 2: 10.5 cycles, of which the compensated sum is 2.

/// A question that a pass is compiled without: its answer is a type.
protocol Choice {
  static var isTrue: Bool { get }
}
enum Yes: Choice {
  static var isTrue: Bool { @inline(__always) get { true } }
}
enum No: Choice {
  static var isTrue: Bool { @inline(__always) get { false } }
}

extension Kernels {
  /// The vectors in from..<to with the lanes that take part: one body for whole and partial ones,
  /// for the forms whose code is large. A sequence and not a call for each: where the compiler
  /// leaves a closure alone, what it has of vectors passes through the stack.
  @inline(__always) static func vectors<L: Lanes>(_: L.Type, _ from: Int, _ to: Int) -> Places {
    Places(at: from & ~(L.count &- 1), from: from, to: to, count: L.count)
  }

  struct Places: Sequence, IteratorProtocol {
    var at: Int
    let from: Int
    let to: Int
    let count: Int

    @inline(__always) func makeIterator() -> Places { self }
    @inline(__always) mutating func next() -> (at: Int, first: Int, last: Int)? {
      if at >= to { return nil }
      defer { at = at &+ count }
      return (at, Swift.max(from &- at, 0), Swift.min(to &- at, count))
    }
  }

  /// Lanes first..<last of the vector at p, `fill` in the others.
  @inline(__always)
  static func load<L: Lanes>(
    _ p: UnsafePointer<L.Scalar>, _ first: Int, _ last: Int, fill: L.Scalar
  ) -> L {
    last &- first == L.count ? L(at: p) : L(at: p, from: first, to: last, fill: fill)
  }

  @inline(__always)
  static func store<L: Lanes>(
    _ v: L, _ p: UnsafeMutablePointer<L.Scalar>, _ first: Int, _ last: Int
  ) {
    if last &- first == L.count { v.store(at: p) } else { v.store(at: p, from: first, to: last) }
  }

  /// Elements of p up to the next whole vector of memory.
  @inline(__always) static func toBoundary<F: Format>(_: F.Type, _ p: UnsafeRawPointer) -> Int {
    let vector = F.L.count &* F.size
    return ((0 &- Int(bitPattern: p)) & (vector &- 1)) / F.size
  }

  /// The largest element, NaN passed over; -inf for none.
  @inline(__always)
  static func maximum<F: Format>(
    _: F.Type, _ p: UnsafeRawPointer, _ from: Int, _ to: Int
  ) -> F.L.Scalar {
    typealias L = F.L
    let lowest = -L.Scalar.infinity
    // Four accumulators: one maximum each cycle and port, against a latency of four.
    var a = L(lowest)
    var b = a
    var c = a
    var d = a
    var i = from
    while i &+ 4 &* L.count <= to {
      a = L.max(F.load(p, i), a)
      b = L.max(F.load(p, i &+ L.count), b)
      c = L.max(F.load(p, i &+ 2 &* L.count), c)
      d = L.max(F.load(p, i &+ 3 &* L.count), d)
      i = i &+ 4 &* L.count
    }
    while i &+ L.count <= to {
      a = L.max(F.load(p, i), a)
      i = i &+ L.count
    }
    if i < to { b = L.max(F.load(p, i, 0, to &- i, fill: lowest), b) }
    return L.max(L.max(a, b), L.max(c, d)).largest()
  }

  /// What `sumPlain` returns: the sum, and the largest element of the row beside.
  struct Swept<Scalar> {
    let sum: Sum
    let highest: Scalar
  }

  /// Memory that a pass meets on its way: element i of it together with element i of the row.
  struct Beside {
    /// A later row, whose maximum is found if Measures.
    let row: UnsafeRawPointer
    /// A still later one, whose lines are asked for if Asks.
    let ahead: UnsafeRawPointer
    /// Lines that are asked for: the hardware's own prefetching stops at the end of a page.
    let lines: UnsafeRawPointer
  }

  /// The sum of exp over the elements from..<to of the chunk at p; each term is kept at `terms`,
  /// which may be p, if Keeps. Four vectors at a time (Pair.swift).
  ///
  /// Arithmetic is the limit here and loads are free, so if Measures the maximum of another row is
  /// found on the way.
  ///
  /// Numbers of the row come and go as scalars, in registers. Vectors would pass through the
  /// caller's stack, and where that puts one across two lines of the cache the load waits until the
  /// store has left the core.
  @inline(never)
  static func sumPlain<F: Format, Keeps: Choice, Measures: Choice, Asks: Choice>(
    _: F.Type, _: Keeps.Type, _: Measures.Type, _: Asks.Type, _ p: UnsafeRawPointer, _ from: Int,
    _ to: Int,
    shift: F.L.Scalar, cut: F.L.Scalar, _ terms: UnsafeMutablePointer<F.L.Scalar>,
    _ beside: Beside
  ) -> Swept<F.L.Scalar> {
    typealias L = F.L
    let exp = PlainExp<L>(shift: L(shift), cut: L(cut))
    var sum = Accumulator<L>()
    let lowest = -L.Scalar.infinity
    var highest = L(lowest)
    let wide = exp.widened()
    // A row that begins inside a line of memory is taken from that line's start, with the lanes
    // turned by as much: each lane still adds the same elements in the same order, and no vector
    // lies across two lines.
    let turn =
      I.interleaves && from == 0 && to >= 16 &* L.count && F.size &* L.count == 64
      ? (L.count &- toBoundary(F.self, p)) & (L.count &- 1) : 0
    let p = p - turn &* F.size
    let terms = terms - turn
    let turned = turn &* F.size
    let beside = Beside(
      row: beside.row - turned, ahead: beside.ahead - turned, lines: beside.lines - turned)
    let from = from &+ turn
    let to = to &+ turn
    var i = from & ~(L.count &- 1)
    if i < from {
      let last = Swift.min(to &- i, L.count)
      addPart(F.self, Keeps.self, p, i, from &- i, last, exp, terms, &sum)
      if Measures.isTrue {
        highest = L.max(F.load(beside.row, i, from &- i, last, fill: lowest), highest)
      }
      i = i &+ L.count
    }
    let quarter = to &* F.size / 4
    @inline(__always) func reduce(_ i: Int) -> Reduced<Pair<Pair<L>>> {
      let j = i &+ 2 &* L.count
      return wide.reduced(
        Pair(
          Pair(F.load(p, i), F.load(p, i &+ L.count)), Pair(F.load(p, j), F.load(p, j &+ L.count))))
    }
    @inline(__always) func add(_ reduced: Reduced<Pair<Pair<L>>>) {
      let four = reduced.exponential()
      let e = four.rounded()
      if Keeps.isTrue { e.store(at: terms + i) }
      for vector in 0..<4 {
        let at = i &+ vector &* L.count
        // Two narrow vectors share a line.
        if F.size &* L.count == 64 || vector & 1 == 0 {
          I.prefetchWrite(beside.lines + at &* F.size)
        }
        if Measures.isTrue { highest = L.max(F.load(beside.row, at), highest) }
        // One line in each quarter of the stretch: the processor's own prefetching runs ahead in
        // all of them.
        if Asks.isTrue { I.prefetchRead(beside.ahead + (vector &* quarter &+ i &* F.size / 4)) }
      }
      sum.add(four.part { $0.a.a }, rounded: e.a.a)
      sum.add(four.part { $0.a.b }, rounded: e.a.b)
      sum.add(four.part { $0.b.a }, rounded: e.b.a)
      sum.add(four.part { $0.b.b }, rounded: e.b.b)
      i = i &+ 4 &* L.count
    }
    // Four vectors are reduced while the exponentials and sums of the four before are found: of one
    // block alone, whose operations wait for one another, the queue of those that cannot start yet
    // is full before the next block comes (Xeon, one thread: 64 × 1024 4 % less time, 32 × 4096
    // 7 %, of bfloat16 6 %; six or eight vectors at a time, or sums one block late, gain less).
    if I.interleaves && i &+ 4 &* L.count <= to {
      var waiting = reduce(i)
      while i &+ 8 &* L.count <= to {
        let next = reduce(i &+ 4 &* L.count)
        add(waiting)
        waiting = next
      }
      add(waiting)
    }
    while i &+ L.count <= to {
      let term = exp(F.load(p, i))
      let e = term.rounded()
      if Keeps.isTrue { e.store(at: terms + i) }
      I.prefetchWrite(beside.lines + i &* F.size)
      if Measures.isTrue { highest = L.max(F.load(beside.row, i), highest) }
      sum.add(term, rounded: e)
      i = i &+ L.count
    }
    if i < to {
      addPart(F.self, Keeps.self, p, i, 0, to &- i, exp, terms, &sum)
      if Measures.isTrue {
        highest = L.max(F.load(beside.row, i, 0, to &- i, fill: lowest), highest)
      }
    }
    if turn != 0 { sum.turn(by: turn) }
    return Swept(sum: sum.total(), highest: Measures.isTrue ? highest.largest() : lowest)
  }

  /// `sumPlain` of the lanes first..<last of the vector at i.
  @inline(__always)
  static func addPart<F: Format, Keeps: Choice>(
    _: F.Type, _: Keeps.Type, _ p: UnsafeRawPointer, _ i: Int, _ first: Int, _ last: Int,
    _ exp: PlainExp<F.L>, _ terms: UnsafeMutablePointer<F.L.Scalar>, _ sum: inout Accumulator<F.L>
  ) {
    let term = exp(F.load(p, i, first, last, fill: -F.L.Scalar.infinity))
    let e = term.rounded()
    if Keeps.isTrue { e.store(at: terms + i, from: first, to: last) }
    sum.add(term, rounded: e)
  }

  @inline(__always) static func isOwn<F: Format>(
    _: F.Type
  ) -> Bool {
    F.size == MemoryLayout<F.L.Scalar>.stride
  }

  /// A whole vector, aligned if `streams`: past the caches (Run.swift).
  @inline(__always)
  static func put<F: Format>(
    _: F.Type, _ v: F.L, _ out: UnsafeMutableRawPointer, _ i: Int, streams: Bool
  ) {
    if isOwn(F.self) && streams { F.stream(v, out, i) } else { F.store(v, out, i) }
  }

  /// out[i] = value(i) for `count` elements, whole vectors of out where they are aligned: a store
  /// across two lines costs more than a load. A row that has left the first-level cache since its
  /// last pass (IsLong) is asked for 64 lines ahead: 128 × 32768 softmax, 0.51 ns an element
  /// without, 0.45 with.
  @inline(__always)
  static func write<F: Format, IsLong: Choice>(
    _: F.Type, _: IsLong.Type, _ out: UnsafeMutableRawPointer, _ count: Int, streams: Bool,
    whole: (_ i: Int) -> F.L,
    part: (_ i: Int, _ lanes: Int) -> F.L
  ) {
    let lanes = F.L.count
    let ahead = count &* F.size > 32768 ? 4096 : 0
    var i = 0
    if count >= 4 &* lanes {
      i = toBoundary(F.self, out)
      if i > 0 { F.store(part(0, i), out, 0, 0, i) }
    }
    while isOwn(F.self) && streams && i &+ lanes <= count {
      F.stream(whole(i), out, i)
      i = i &+ lanes
    }
    while i &+ lanes <= count {
      if IsLong.isTrue { I.prefetchWrite(out + (i &* F.size &+ ahead)) }
      F.store(whole(i), out, i)
      i = i &+ lanes
    }
    if i < count { F.store(part(i, count &- i), out, i, 0, count &- i) }
  }

  /// out = term / sum. Correct to 0.5 ulp beside the term's own error. Without x, terms must tell
  /// the element.
  @inline(__always)
  static func divide<F: Format, IsLong: Choice>(
    _: F.Type, _: IsLong.Type, _ terms: UnsafePointer<F.L.Scalar>, of x: UnsafeRawPointer?,
    _ out: UnsafeMutableRawPointer, _ count: Int, _ divisor: Divisor<F.L>, streams: Bool
  ) {
    typealias L = F.L
    if I.hasFastPaths && !divisor.showsTop {
      write(F.self, IsLong.self, out, count, streams: streams) { i in
        divisor.quotient(L(at: terms + i))
      } part: { i, lanes in
        divisor.quotient(L(at: terms + i, from: 0, to: lanes, fill: 0))
      }
    } else if let x {
      write(F.self, IsLong.self, out, count, streams: streams) { i in
        divisor.quotientOrTop(L(at: terms + i), of: F.load(x, i))
      } part: { i, lanes in
        divisor.quotientOrTop(
          L(at: terms + i, from: 0, to: lanes, fill: 0), of: F.load(x, i, 0, lanes, fill: 0))
      }
    } else {
      write(F.self, IsLong.self, out, count, streams: streams) { i in
        divisor.quotientOrTop(L(at: terms + i))
      } part: { i, lanes in
        divisor.quotientOrTop(L(at: terms + i, from: 0, to: lanes, fill: 0))
      }
    }
  }

  /// out = exp(x) / sum, which may be in place: of terms that were not kept.
  @inline(__always)
  static func divideAgain<F: Format>(
    _: F.Type, _ x: UnsafeRawPointer, _ out: UnsafeMutableRawPointer, _ count: Int,
    _ exp: PlainExp<F.L>,
    _ divisor: Divisor<F.L>
  ) {
    typealias L = F.L
    let wide = exp.widened()
    var i = 0
    while I.interleaves && i &+ 4 &* L.count <= count {
      let j = i &+ L.count
      let k = j &+ L.count
      let l = k &+ L.count
      let four = Pair(Pair(F.load(x, i), F.load(x, j)), Pair(F.load(x, k), F.load(x, l)))
      let e = wide(four).rounded()
      F.store(divisor.quotientOrTop(e.a.a, of: four.a.a), out, i)
      F.store(divisor.quotientOrTop(e.a.b, of: four.a.b), out, j)
      F.store(divisor.quotientOrTop(e.b.a, of: four.b.a), out, k)
      F.store(divisor.quotientOrTop(e.b.b, of: four.b.b), out, l)
      i = l &+ L.count
    }
    while i < count {
      let lanes = Swift.min(L.count, count &- i)
      let part = lanes == L.count ? F.load(x, i) : F.load(x, i, 0, lanes, fill: -L.Scalar.infinity)
      let quotient = divisor.quotientOrTop(exp(part).rounded(), of: part)
      if lanes == L.count { F.store(quotient, out, i) } else { F.store(quotient, out, i, 0, lanes) }
      i = i &+ L.count
    }
  }

  /// out = (x - maximum) - logSum.
  @inline(__always)
  static func subtract<F: Format, IsLong: Choice>(
    _: F.Type, _: IsLong.Type, _ x: UnsafeRawPointer, _ out: UnsafeMutableRawPointer, _ count: Int,
    maximum: F.L,
    logSum: F.L, streams: Bool
  ) {
    write(F.self, IsLong.self, out, count, streams: streams) { i in
      (F.load(x, i) - maximum) - logSum
    } part: { i, lanes in
      (F.load(x, i, 0, lanes, fill: 0) - maximum) - logSum
    }
  }

  @inline(__always)
  static func fill<L: Lanes>(
    _: L.Type, _ out: UnsafeMutablePointer<L.Scalar>, _ from: Int, _ to: Int, _ value: L.Scalar
  ) {
    for (i, first, last) in vectors(L.self, from, to) { store(L(value), out + i, first, last) }
  }
}
