// Two vectors side by side, one operation on each: what makes consecutive instructions independent.
//
// An exponential is a chain of 13 operations of 4 cycles. Written one vector after the other, the
// chain of the next begins so far down the instruction stream that the scheduler's window (some 100
// entries) fills with operations that cannot start yet. Pair<Pair<F32>> interleaves four chains in
// the stream itself. It changes no result: the sum still takes the vectors one by one.

extension Kernels {
  struct Pair<L: Lanes>: Lanes {
    typealias Scalar = L.Scalar
    let a: L
    let b: L

    @inline(__always) init(_ a: L, _ b: L) {
      self.a = a
      self.b = b
    }

    static var count: Int { @inline(__always) get { 2 &* L.count } }

    @inline(__always) init(_ value: Scalar) { self.init(L(value), L(value)) }
    @inline(__always) init(at p: UnsafePointer<Scalar>) {
      self.init(L(at: p), L(at: p + L.count))
    }
    @inline(__always)
    init(at p: UnsafePointer<Scalar>, from: Int, to: Int, fill: Scalar) {
      self.init(
        L(at: p, from: Swift.min(from, L.count), to: Swift.min(to, L.count), fill: fill),
        L(
          at: p + L.count, from: Swift.max(from &- L.count, 0), to: Swift.max(to &- L.count, 0),
          fill: fill))
    }
    @inline(__always) init(
      bytes p: UnsafeRawPointer
    ) {
      self.init(L(bytes: p), L(bytes: p + L.count))
    }
    @inline(__always) func store(at p: UnsafeMutablePointer<Scalar>) {
      a.store(at: p)
      b.store(at: p + L.count)
    }
    @inline(__always) func store(at p: UnsafeMutablePointer<Scalar>, from: Int, to: Int) {
      a.store(at: p, from: Swift.min(from, L.count), to: Swift.min(to, L.count))
      b.store(
        at: p + L.count, from: Swift.max(from &- L.count, 0), to: Swift.max(to &- L.count, 0))
    }
    @inline(__always) func stream(at p: UnsafeMutablePointer<Scalar>) {
      a.stream(at: p)
      b.stream(at: p + L.count)
    }
    subscript(lane: Int) -> Scalar {
      @inline(__always) get { lane < L.count ? a[lane] : b[lane &- L.count] }
    }

    @inline(__always) static func + (x: Self, y: Self) -> Self { Self(x.a + y.a, x.b + y.b) }
    @inline(__always) static func - (x: Self, y: Self) -> Self { Self(x.a - y.a, x.b - y.b) }
    @inline(__always) static func * (x: Self, y: Self) -> Self { Self(x.a * y.a, x.b * y.b) }
    @inline(__always) func fma(_ y: Self, _ z: Self) -> Self {
      Self(a.fma(y.a, z.a), b.fma(y.b, z.b))
    }
    @inline(__always)
    func fma(_ y: Self, _ z: Self, unless x: Self, lessThan bound: Self) -> Self {
      Self(
        a.fma(y.a, z.a, unless: x.a, lessThan: bound.a),
        b.fma(y.b, z.b, unless: x.b, lessThan: bound.b))
    }
    @inline(__always) static func max(_ bound: Self, _ x: Self) -> Self {
      Self(L.max(bound.a, x.a), L.max(bound.b, x.b))
    }
    @inline(__always)
    static func pick(_ x: Self, lessThan y: Self, _ yes: Self, _ no: Self) -> Self {
      Self(
        L.pick(x.a, lessThan: y.a, yes.a, no.a), L.pick(x.b, lessThan: y.b, yes.b, no.b))
    }
    @inline(__always)
    static func pick(_ x: Self, equalTo y: Self, _ yes: Self, _ no: Self) -> Self {
      Self(L.pick(x.a, equalTo: y.a, yes.a, no.a), L.pick(x.b, equalTo: y.b, yes.b, no.b))
    }
    @inline(__always) func shiftedIntoExponent() -> Self {
      Self(a.shiftedIntoExponent(), b.shiftedIntoExponent())
    }
    @inline(__always) func scaled(byPowerOf n: Self, from d: Self) -> Self {
      Self(a.scaled(byPowerOf: n.a, from: d.a), b.scaled(byPowerOf: n.b, from: d.b))
    }
    @inline(__always) var eight: L.Eight { a.eight }
    @inline(__always) init(eight: L.Eight) { self.init(L(eight: eight), L(0)) }
    @inline(__always) var whole: Self { self }
    @inline(__always) var upperEight: L.Eight { a.upperEight }
    @inline(__always) init(
      lower: L.Eight, upper: L.Eight
    ) {
      self.init(L(lower: lower, upper: upper), L(0))
    }
    @inline(__always) static func total(
      eight high: L.Eight, low: L.Eight
    ) -> Sum {
      L.total(eight: high, low: low)
    }
    @inline(__always) static func loadEight(
      _ p: UnsafePointer<Double>
    ) -> L.Eight {
      L.loadEight(p)
    }
    @inline(__always) static func storeEight(
      _ v: L.Eight, _ p: UnsafeMutablePointer<Double>
    ) {
      L.storeEight(v, p)
    }
    /// Of each vector.
    @inline(__always) func turned(by n: Int) -> Self { Self(a.turned(by: n), b.turned(by: n)) }
    @inline(__always) func largest() -> Scalar { L.max(a, b).largest() }
    @inline(__always) func total(origin: Scalar, low: Self) -> Sum {
      var sum = a.total(origin: origin, low: low.a)
      sum.add(b.total(origin: origin, low: low.b))
      return sum
    }
    @inline(__always) func wholeAsUnits() -> Self { Self(a.wholeAsUnits(), b.wholeAsUnits()) }
    @inline(__always) func normalAsUnits() -> Self { Self(a.normalAsUnits(), b.normalAsUnits()) }
    @inline(__always) func withSign(of other: Self) -> Self {
      Self(a.withSign(of: other.a), b.withSign(of: other.b))
    }
    static var isSingle: Bool { @inline(__always) get { L.isSingle } }
    static var headroom: Scalar { @inline(__always) get { L.headroom } }
    static var fieldZero: Scalar { @inline(__always) get { L.fieldZero } }
    static var leastField: Scalar { @inline(__always) get { L.leastField } }
    static var leastFieldOfShare: Scalar { @inline(__always) get { L.leastFieldOfShare } }
    static var roundingShift: Scalar { @inline(__always) get { L.roundingShift } }
    static var wholeFrom: Scalar { @inline(__always) get { L.wholeFrom } }
    static var unitsInside: Scalar { @inline(__always) get { L.unitsInside } }
    static var unitsOutside: Scalar { @inline(__always) get { L.unitsOutside } }
    static var leastOrdinary: Scalar { @inline(__always) get { L.leastOrdinary } }
    static var plainLimit: Scalar { @inline(__always) get { L.plainLimit } }
    static var sumOrigin: Scalar { @inline(__always) get { L.sumOrigin } }
    static var unit: Scalar { @inline(__always) get { L.unit } }
    static var leastPower: Scalar { @inline(__always) get { L.leastPower } }
    static var powerLimit: Scalar { @inline(__always) get { L.powerLimit } }
    static var log2e: Scalar { @inline(__always) get { L.log2e } }
    static var ln2High: Scalar { @inline(__always) get { L.ln2High } }
    static var ln2Low: Scalar { @inline(__always) get { L.ln2Low } }
    static var expDegree: Int { @inline(__always) get { L.expDegree } }
    @inline(__always) static func expCoefficient(_ k: Int) -> Scalar { L.expCoefficient(k) }
  }
}
