// The passes over a contiguous stretch of one row: maximum, terms and their sum, results.
//
// A stretch lies within one chunk, `p` points to the chunk's first element, and only the elements
// from..<to take part. Lanes follow the element's place in the row, so that a row's first and last
// vectors may be partial; lanes outside read as -inf, whose terms are exactly zero.
//
// Limits, AVX-512 with two vector ports, 16 float32: maximum 1 operation (two loads a cycle bind
// first), terms and sum 18, results 2: 10.5 cycles, of which the compensated sum is 2.

extension Kernels {
  /// Calls `body` at each whole vector in from..<to and `edge` with the lanes of a partial one.
  @inline(__always)
  static func sweep<L: Lanes>(
    _: L.Type, _ from: Int, _ to: Int, edge: (_ at: Int, _ from: Int, _ to: Int) -> Void,
    body: (_ at: Int) -> Void
  ) {
    var i = from & ~(L.count &- 1)
    while i < to {
      if i >= from && i &+ L.count <= to {
        body(i)
      } else {
        edge(i, Swift.max(from &- i, 0), Swift.min(to &- i, L.count))
      }
      i = i &+ L.count
      while i &+ L.count <= to {
        body(i)
        i = i &+ L.count
      }
    }
  }

  /// Calls `body` at each vector in from..<to with the lanes that take part. One body for whole and
  /// partial vectors: for the forms whose code is large.
  @inline(__always)
  static func visit<L: Lanes>(
    _: L.Type, _ from: Int, _ to: Int, _ body: (_ at: Int, _ first: Int, _ last: Int) -> Void
  ) {
    var i = from & ~(L.count &- 1)
    while i < to {
      body(i, Swift.max(from &- i, 0), Swift.min(to &- i, L.count))
      i = i &+ L.count
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

  /// The largest element, NaN passed over; -inf for none.
  @inline(__always)
  static func maximum<L: Lanes>(
    _: L.Type, _ p: UnsafePointer<L.Scalar>, _ from: Int, _ to: Int
  ) -> L.Scalar {
    let lowest = -L.Scalar.infinity
    // Four accumulators: one maximum each cycle and port, against a latency of four.
    var a = L(lowest)
    var b = a
    var c = a
    var d = a
    var i = from
    while i &+ 4 &* L.count <= to {
      a = L.max(L(at: p + i), a)
      b = L.max(L(at: p + (i &+ L.count)), b)
      c = L.max(L(at: p + (i &+ 2 &* L.count)), c)
      d = L.max(L(at: p + (i &+ 3 &* L.count)), d)
      i = i &+ 4 &* L.count
    }
    while i &+ L.count <= to {
      a = L.max(L(at: p + i), a)
      i = i &+ L.count
    }
    if i < to { b = L.max(L(at: p + i, from: 0, to: to &- i, fill: lowest), b) }
    return L.max(L.max(a, b), L.max(c, d)).largest()
  }

  /// The next row, as byte distances from this one's x. Asked for while this row's exponentials keep the
  /// arithmetic busy: the hardware's own prefetching stops at the end of a page, a row of 1024.
  /// 512 × 1024, float32: 0.43 ns an element without, measured.
  struct Ahead {
    let x: Int
    let out: Int

    @inline(__always) func prefetch(_ p: UnsafeRawPointer) {
      if x != 0 { I.prefetchRead(p + x) }
      if out != 0 { I.prefetchWrite(p + out) }
    }
  }

  /// The sum of exp over the elements; each term is kept at `terms`, which may be p, unless that is nil.
  ///
  /// Four vectors at a time (Pair.swift).
  @inline(__always)
  static func sumPlain<L: Lanes>(
    _ p: UnsafePointer<L.Scalar>, _ from: Int, _ to: Int, _ exp: PlainExp<L>,
    keeping terms: UnsafeMutablePointer<L.Scalar>?, ahead: Ahead
  ) -> Sum {
    var sum = Accumulator<L>()
    let wide = exp.widened()
    var i = from & ~(L.count &- 1)
    if i < from {
      let last = Swift.min(to &- i, L.count)
      addPart(p, i, from &- i, last, exp, terms, &sum)
      i = i &+ L.count
    }
    while I.interleaves && i &+ 4 &* L.count <= to {
      for vector in 0..<4 { ahead.prefetch(p + (i &+ vector &* L.count)) }
      let four = wide(Pair<Pair<L>>(at: p + i))
      let e = four.rounded()
      if let terms { e.store(at: terms + i) }
      sum.add(four.part { $0.a.a }, rounded: e.a.a)
      sum.add(four.part { $0.a.b }, rounded: e.a.b)
      sum.add(four.part { $0.b.a }, rounded: e.b.a)
      sum.add(four.part { $0.b.b }, rounded: e.b.b)
      i = i &+ 4 &* L.count
    }
    while i &+ L.count <= to {
      ahead.prefetch(p + i)
      let term = exp(L(at: p + i))
      let e = term.rounded()
      if let terms { e.store(at: terms + i) }
      sum.add(term, rounded: e)
      i = i &+ L.count
    }
    if i < to { addPart(p, i, 0, to &- i, exp, terms, &sum) }
    return sum.total()
  }

  /// `sumPlain` of the lanes first..<last of the vector at i.
  @inline(__always)
  static func addPart<L: Lanes>(
    _ p: UnsafePointer<L.Scalar>, _ i: Int, _ first: Int, _ last: Int, _ exp: PlainExp<L>,
    _ terms: UnsafeMutablePointer<L.Scalar>?, _ sum: inout Accumulator<L>
  ) {
    let term = exp(L(at: p + i, from: first, to: last, fill: -L.Scalar.infinity))
    let e = term.rounded()
    if let terms { e.store(at: terms + i, from: first, to: last) }
    sum.add(term, rounded: e)
  }

  /// out = term / sum. Correct to 0.5 ulp beside the term's own error.
  @inline(__always)
  static func divide<L: Lanes>(
    _ terms: UnsafePointer<L.Scalar>, _ out: UnsafeMutablePointer<L.Scalar>, _ from: Int,
    _ to: Int, _ divisor: Divisor<L>
  ) {
    if divisor.showsTop {
      visit(L.self, from, to) { i, first, last in
        store(divisor.quotientOrTop(load(terms + i, first, last, fill: 0)), out + i, first, last)
      }
      return
    }
    sweep(L.self, from, to) { i, first, last in
      let e = L(at: terms + i, from: first, to: last, fill: 0)
      divisor.quotient(e).store(at: out + i, from: first, to: last)
    } body: { i in
      divisor.quotient(L(at: terms + i)).store(at: out + i)
    }
  }

  /// out = (x - maximum) - logSum.
  @inline(__always)
  static func subtract<L: Lanes>(
    _ p: UnsafePointer<L.Scalar>, _ out: UnsafeMutablePointer<L.Scalar>, _ from: Int, _ to: Int,
    maximum: L, logSum: L
  ) {
    sweep(L.self, from, to) { i, first, last in
      let x = L(at: p + i, from: first, to: last, fill: 0)
      ((x - maximum) - logSum).store(at: out + i, from: first, to: last)
    } body: { i in
      ((L(at: p + i) - maximum) - logSum).store(at: out + i)
    }
  }

  @inline(__always)
  static func fill<L: Lanes>(
    _: L.Type, _ out: UnsafeMutablePointer<L.Scalar>, _ from: Int, _ to: Int, _ value: L.Scalar
  ) {
    visit(L.self, from, to) { i, first, last in store(L(value), out + i, first, last) }
  }
}
