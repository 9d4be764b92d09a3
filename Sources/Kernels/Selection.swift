// The scans of sampling: elements above a threshold, and a row with only those left.
//
// Where the threshold is the k-th largest element so far, nearly every vector has nothing to offer:
// a load, a comparison and a quarter of a branch for 16 float32. The row comes from memory at a
// lower rate than that.

import CSupport

/// Vectors whose rows can be sampled from.
public protocol SamplingLanes: TileLanes {
  /// A bit for each lane that is not <= bound, a NaN among them.
  static func above(_ v: Self, _ bound: Self) -> UInt32
  /// The eight numbers at p as float64.
  static func wideEight(at p: UnsafePointer<Scalar>) -> SIMD8<Double>
  /// Eight float64, rounded, in the first lanes.
  init(narrowing eight: SIMD8<Double>)
}

extension Kernels.F32: SamplingLanes {
  @inline(__always) public static func above(
    _ v: Self, _ bound: Self
  ) -> UInt32 {
    I.above(v.v, bound.v)
  }
  @inline(__always) public static func wideEight(at p: UnsafePointer<Float>) -> SIMD8<Double> {
    I.widen(UnsafeRawPointer(p).loadUnaligned(as: SIMD8<Float>.self))
  }
  @inline(__always) public init(
    narrowing eight: SIMD8<Double>
  ) {
    self.init(eight: Kernels.F64(v: eight))
  }
}

extension Kernels.F64: SamplingLanes {
  @inline(__always) public static func above(
    _ v: Self, _ bound: Self
  ) -> UInt32 {
    I.above(v.v, bound.v)
  }
  @inline(__always) public static func wideEight(at p: UnsafePointer<Double>) -> SIMD8<Double> {
    UnsafeRawPointer(p).loadUnaligned(as: SIMD8<Double>.self)
  }
  @inline(__always) public init(narrowing eight: SIMD8<Double>) { self.init(v: eight) }
}

extension Kernels {
  /// The elements from ..< to of the row, at most a block of them, as the lanes compute them: where
  /// they lie, or gathered.
  @inline(__always)
  static func numbers<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, from: Int, to: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> UnsafeMutablePointer<L.Scalar> {
    let row = UnsafePointer(row(of: scratch))
    if isDirect(job) {
      return UnsafeMutableRawPointer(mutating: row.pointee.x!).assumingMemoryBound(
        to: L.Scalar.self) + from
    }
    let room = UnsafeMutableRawPointer(smxk_high_of(scratch))
    let high = room.assumingMemoryBound(to: L.Scalar.self)
    let low = (room + Int(SMXK_NUMBERS_BYTES)).assumingMemoryBound(to: L.Scalar.self)
    let elements = Elements<L>(high: high, low: low, from: 0, to: to &- from)
    _ = gather(L.self, job, row, elements, from, scratch)
    return high
  }

  /// The k largest of a row of a block at most, to the list, by a search each: for a few of them
  /// that is less than any list takes. 0 where a number is not below +inf.
  @inline(never)
  public static func largest<L: SamplingLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ k: Int, _ s: UnsafeMutablePointer<smxk_selection>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Int32 {
    let count = Int(job.pointee.cols)
    let p = numbers(L.self, job, from: 0, to: count, scratch)
    let closed = L(-.infinity)
    let lanes = UInt32(1) << UInt32(L.count) &- 1
    @inline(__always) func elements(_ i: Int, _ last: Int) -> L {
      load(p + i, 0, last, fill: -.infinity)
    }
    var largest = closed
    var invalid: UInt32 = 0
    for (i, _, last) in vectors(L.self, 0, count) {
      let x = elements(i, last)
      invalid |= L.above(x, L(.greatestFiniteMagnitude))
      largest = L.max(x, largest)
    }
    if invalid != 0 { return 0 }
    while true {
      let value = largest.largest()
      if value == -.infinity { break }
      let bound = L(value)
      largest = closed
      for (i, _, last) in vectors(L.self, 0, count) {
        let x = elements(i, last)
        let others = L.above(x, bound) | L.above(bound, x)
        take(L.self, others ^ lanes, p, i, s, 0)
        largest = L.max(L.pick(x, lessThan: bound, x, closed), largest)
      }
      if s.pointee.count >= Int64(k) { break }
    }
    return 1
  }

  /// A number that at least k elements of the row reach: of its first elements the k-th largest
  /// among the maxima of 64 groups. -inf for a larger k.
  ///
  /// What reaches it is little more than k elements of a row of a few thousand. A list of any
  /// elements, 300 long, from which the largest are selected first took half of the time of top_k
  /// of such rows.
  @inline(never)
  public static func bound<L: SamplingLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ k: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Double {
    let groups = 64
    let length = Swift.min(
      Int(job.pointee.cols), isDirect(job) ? 4 &* Int(SMXK_BLOCK) : Int(SMXK_BLOCK))
    if k > groups || length < groups { return -.infinity }
    let p = numbers(L.self, job, from: 0, to: length, scratch)
    let maxima = (UnsafeMutableRawPointer(smxk_high_of(scratch)) + Int(SMXK_NUMBERS_BYTES))
      .assumingMemoryBound(to: L.Scalar.self)
    // Four vectors of groups; of float64 as many again, of the row's second half.
    let step = 4 &* L.count
    var group = 0
    while group < groups {
      let end = L.isSingle ? length : group == 0 ? length / 2 : length
      var i = L.isSingle ? 0 : group == 0 ? 0 : length / 2
      var a = L(-.infinity)
      var (b, c, d) = (a, a, a)
      while i &+ step <= end {
        a = L.max(L(at: p + i), a)
        b = L.max(L(at: p + (i &+ L.count)), b)
        c = L.max(L(at: p + (i &+ 2 &* L.count)), c)
        d = L.max(L(at: p + (i &+ 3 &* L.count)), d)
        i = i &+ step
      }
      a.store(at: maxima + group)
      b.store(at: maxima + (group &+ L.count))
      c.store(at: maxima + (group &+ 2 &* L.count))
      d.store(at: maxima + (group &+ 3 &* L.count))
      group = group &+ step
    }
    // The smallest of them that has less than k above it.
    var smallest = L(.infinity)
    for (own, _, _) in vectors(L.self, 0, groups) {
      let candidates = L(at: maxima + own)
      var above = L(0)
      for i in 0..<groups {
        above = above + L.pick(candidates, lessThan: L(maxima[i]), L(1), L(0))
      }
      let isCandidate = L.pick(candidates, lessThan: smallest, candidates, smallest)
      smallest = L.pick(above, lessThan: L(L.Scalar(Double(k))), isCandidate, smallest)
    }
    return -Double((L(0) - smallest).largest())
  }

  /// How many of a few finite numbers come before each, in the order of the filters: those above
  /// it, and of equal ones those in front of it.
  ///
  /// No branch depends on a number: 32 in any order take 50 ns, of which a heap mispredicts half of
  /// its steps and takes ten times as long.
  @inline(never)
  public static func rank(
    _ values: UnsafePointer<Double>, _ count: Int, _ ranks: UnsafeMutablePointer<Double>
  ) {
    let lane = F64(v: SIMD8(0, 1, 2, 3, 4, 5, 6, 7))
    for (start, _, last) in vectors(F64.self, 0, count) {
      let own: F64 = load(values + start, 0, last, fill: 0)
      var before = F64(0)
      for i in 0..<start {
        before = before + F64.pick(F64(values[i]), lessThan: own, F64(0), F64(1))
      }
      for i in start..<start &+ last {
        let isInFront = F64.pick(F64(Double(i &- start)), lessThan: lane, F64(1), F64(0))
        let ofEqual = F64.pick(own, equalTo: F64(values[i]), isInFront, F64(0))
        before = before + F64.pick(own, lessThan: F64(values[i]), F64(1), ofEqual)
      }
      for i in start &+ last..<count {
        before = before + F64.pick(own, lessThan: F64(values[i]), F64(1), F64(0))
      }
      before.store(at: ranks + start)
    }
  }

  @inline(never)
  public static func select<L: SamplingLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ s: UnsafeMutablePointer<smxk_selection>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    while s.pointee.at < s.pointee.to && !isFull(s) {
      let from = Int(s.pointee.at)
      let to =
        isDirect(job) ? Int(s.pointee.to) : Swift.min(from &+ Int(SMXK_BLOCK), Int(s.pointee.to))
      let p = numbers(L.self, job, from: from, to: to, scratch)
      s.pointee.at = Int64(from &+ selectStretch(L.self, p, to &- from, s, first: from))
    }
  }

  @inline(__always) static func isFull(_ s: UnsafePointer<smxk_selection>) -> Bool {
    s.pointee.capacity &- s.pointee.count < Int64(SMXK_SELECTED_AT_ONCE)
  }

  /// Takes what is above the threshold among `count` numbers at p; returns how far it came.
  @inline(__always)
  static func selectStretch<L: SamplingLanes>(
    _: L.Type, _ p: UnsafePointer<L.Scalar>, _ count: Int,
    _ s: UnsafeMutablePointer<smxk_selection>, first: Int
  ) -> Int {
    let bound = L(L.Scalar(s.pointee.threshold))
    var i = 0
    while i &+ 4 &* L.count <= count {
      let a = L.above(L(at: p + i), bound)
      let b = L.above(L(at: p + (i &+ L.count)), bound)
      let c = L.above(L(at: p + (i &+ 2 &* L.count)), bound)
      let d = L.above(L(at: p + (i &+ 3 &* L.count)), bound)
      // Past the end of a page the hardware does not look ahead.
      for line in 0..<4 { I.prefetchRead(UnsafeRawPointer(p + i) + (4096 &+ 64 &* line)) }
      if (a | b) | (c | d) != 0 {
        take(L.self, a, p, i, s, first)
        take(L.self, b, p, i &+ L.count, s, first)
        take(L.self, c, p, i &+ 2 &* L.count, s, first)
        take(L.self, d, p, i &+ 3 &* L.count, s, first)
        if isFull(s) { return i &+ 4 &* L.count }
      }
      i = i &+ 4 &* L.count
    }
    while i < count && !isFull(s) {
      let lanes = Swift.min(L.count, count &- i)
      let v: L = load(p + i, 0, lanes, fill: -L.Scalar.infinity)
      take(L.self, L.above(v, bound), p, i, s, first)
      i = i &+ lanes
    }
    return i
  }

  /// Appends the elements at i whose bits are set, in their order.
  @inline(__always)
  static func take<L: Lanes>(
    _: L.Type, _ bits: UInt32, _ p: UnsafePointer<L.Scalar>, _ i: Int,
    _ s: UnsafeMutablePointer<smxk_selection>,
    _ first: Int
  ) {
    var bits = bits
    var count = Int(s.pointee.count)
    while bits != 0 {
      let at = i &+ bits.trailingZeroBitCount
      s.pointee.values[count] = Double(p[at])
      s.pointee.places[count] = Int64(first &+ at)
      count = count &+ 1
      bits = bits & (bits &- 1)
    }
    s.pointee.count = Int64(count)
  }

  /// Writes a block of the row to its out: what is above the threshold as it is, a NaN too,
  /// `hidden` for the rest.
  @inline(never)
  public static func keep<L: SamplingLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ block: UnsafePointer<smxk_block>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let from = Int(block.pointee.from)
    let count = Int(block.pointee.to) &- from
    let p = numbers(L.self, job, from: from, to: from &+ count, scratch)
    let results = UnsafeMutableRawPointer(smxk_high_of(scratch)).assumingMemoryBound(
      to: L.Scalar.self)
    let bound = L(L.Scalar(block.pointee.threshold))
    let hidden = L(L.Scalar(block.pointee.hidden))
    for (i, first, last) in vectors(L.self, 0, count) {
      let x: L = load(p + i, first, last, fill: 0)
      let kept = L.pick(bound, lessThan: x, x, hidden)
      store(L.pick(x, equalTo: x, kept, L(quietNaN(L.self))), results + i, first, last)
    }
    scatter(L.self, job, row(of: scratch), results, from, count)
  }
}
