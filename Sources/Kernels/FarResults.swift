// Results too small to be normal numbers, with the bits that the processor would give them, from
// normal numbers only.
//
// Where logits lie far apart, a good part of a row's probabilities lies between the smallest normal
// number and the smallest of all. Many CPUs take a detour of 150 cycles for each product that comes
// out there, or whose lower part does: 256 × 8000 float32 with a spread of 20, one thread, 12 ms
// beside 0.8. So where a few of a row's terms, looked at before, show that there are such, the row
// is divided by this file's rules. Which rows are, is never seen in a result.
//
//     result = e·high + e·low,   each rounded once, to a multiple of u = 2^-149 (2^-1074) at least
//
// In units of u all of this is far from any limit, and rounding to a whole number is adding 2^23
// (2^52), whose last bit is 1. The bits of such a sum, less those of 2^23, are the bits of the
// subnormal number: k·u is k.

import CSupport

extension Kernels {
  /// e·high + e·low for e >= 0, rounded as `Divisor.quotient` does; |low| <= 2^-24 (2^-53) |high|.
  /// Without a low part e·high, whatever its sign.
  struct FarProduct<L: Lanes> {
    let high: L
    let low: L?
    /// In units of u; beyond their range nothing is small.
    let scaledHigh: L
    let scaledLow: L

    @inline(__always) init(high: L, low: L? = nil) {
      self.high = high
      self.low = low
      let magnitude = L.max(high, L(0) - high)
      scaledHigh = magnitude * L(L.unitsInside) * L(L.unitsOutside)
      scaledLow = (low ?? L(0)) * L(L.unitsInside) * L(L.unitsOutside)
    }

    /// 1 where e's result is one for this file, but not 0 anyway.
    @inline(__always) func marks(_ e: L) -> L {
      let isSmall = L.pick(e * scaledHigh, lessThan: L(L.leastOrdinary), L(1), L(0))
      return L.pick(L(0), lessThan: e, isSmall, L(0))
    }

    @inline(__always) func callAsFunction(_ e: L) -> L {
      let units = e * scaledHigh
      let lowerUnits = e * L.max(scaledLow, L(0) - scaledLow)
      // Where the lower part is no normal number, which has no end where it is 0.
      @inline(__always) func ifSmall(_ yes: L, _ no: L) -> L {
        let yesOrNo = low == nil ? yes : L.pick(lowerUnits, lessThan: L(L.wholeFrom), yes, no)
        return L.pick(units, lessThan: L(L.unitsInside), yesOrNo, no)
      }
      // Each 0 where the other counts, which the compiler would see and leave out.
      let large = ifSmall(L(0), e).whole
      let small = ifSmall(e, L(0)).whole
      var lower = L(0)
      if low != nil {
        // 2^23 with the sign of the lower part, so that their sum stays where its last bit is 1.
        let grid = L.pick(scaledLow, lessThan: L(0), L(-L.wholeFrom), L(L.wholeFrom))
        lower = small.fma(scaledLow, grid) - grid
      }
      let rounded = small.fma(scaledHigh, lower)
      let whole = small.fma(scaledHigh, lower + L(L.wholeFrom))
      let magnitude = L.pick(
        rounded, lessThan: L(L.wholeFrom), whole.wholeAsUnits(), rounded.normalAsUnits())
      let ordinary = low.map { large.fma(high, large * $0) } ?? large * high
      return ifSmall(magnitude.withSign(of: high), ordinary)
    }
  }
}

// -- looking -----------------------------------------------------------------------------------

extension Kernels {
  /// Whether a row's results want `FarProduct`, as one vector of its terms in 32 shows, counted
  /// from one that is another for each `place`.
  @inline(__always)
  static func looksFar<L: Lanes>(
    _ terms: UnsafePointer<L.Scalar>, _ count: Int, _ divisor: Divisor<L>, place: Int = 0
  ) -> Bool {
    let vectors = count / L.count
    if !I.hasFastPaths || vectors == 0 { return false }
    let product = FarProduct(high: divisor.high)
    var found = L(0)
    // A number below that of vectors: the golden ratio's digits times `place`, as a fraction of it.
    let fraction = place &* 0x9e37_79b9 & 0xffff_ffff
    var i = (fraction &* Swift.min(vectors, 32)) &>> 32
    while i < vectors {
      found = L.max(found, product.marks(L(at: terms + i &* L.count)))
      i = i &+ 32
    }
    return found.largest() > 0
  }

  /// Rows one after the other are alike, or it does not matter: one in eight is looked at, of long
  /// ones in four, where that takes 3 % of a row of 4096. What was seen counts for a while.
  struct FarWatch {
    /// The row to look at next.
    var next = 0
    private var left = 0

    @inline(__always) var isFar: Bool { left > 0 }

    @inline(__always) mutating func look<L: Lanes>(
      _ terms: UnsafePointer<L.Scalar>, _ count: Int, _ divisor: Divisor<L>, row: Int, rows: Int
    ) {
      left = looksFar(terms, count, divisor, place: row &>> 3) ? 8 : Swift.max(left &- 1, 0)
      next = row &+ rows
    }
  }

  /// Whether terms that were not kept look so, one vector in 64.
  @inline(never)
  static func termsLookFar<L: Lanes>(
    _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>, _ divisor: Divisor<L>
  ) -> Bool {
    if !I.hasFastPaths { return false }
    var room = InlineArray<16, Double>(repeating: 0)
    return withUnsafeMutablePointer(to: &room) {
      let terms = UnsafeMutableRawPointer($0).assumingMemoryBound(to: L.Scalar.self)
      var i = elements.from
      while i &+ L.count <= elements.to {
        _ = sumTerms(row, elements.part(i, L.count), terms)
        if looksFar(terms, L.count, divisor) { return true }
        i = i &+ 64 &* L.count
      }
      return false
    }
  }

  /// Whether rows side by side look so, one vector of rows in four, one element in sixteen.
  @inline(__always)
  static func columnsLookFar<L: Lanes>(_ block: ColumnBlock<L>) -> Bool {
    var found = L(0)
    var row = block.begin > 0 ? L.count : 0
    while row &+ L.count <= block.end {
      let product = FarProduct(high: L(at: block.own(0) + row))
      var i = 0
      while i < block.length {
        let e = block.load(block.out + i &* block.outStride, row, 0..<L.count)
        found = L.max(found, product.marks(e))
        i = i &+ 16
      }
      row = row &+ 4 &* L.count
    }
    return found.largest() > 0
  }

  /// Whether one vector in `every` of a contiguous stretch has an element between two numbers.
  @inline(__always)
  static func hasBetween<F: Format>(
    _: F.Type, _ p: UnsafeRawPointer, _ count: Int, _ lowest: F.L.Scalar, _ highest: F.L.Scalar,
    every: Int
  ) -> Bool {
    typealias L = F.L
    var found = L(0)
    var i = 0
    while i &+ L.count <= count {
      let x = F.load(p, i)
      let isBelow = L.pick(x, lessThan: L(highest), L(1), L(0))
      found = L.max(found, L.pick(L(lowest), lessThan: x, isBelow, L(0)))
      i = i &+ every &* L.count
    }
    return found.largest() > 0
  }

  /// Whether products of exp(x) and a factor look so, one vector in 16: by x, whose term at `cut`
  /// has the exponent field `least`.
  @inline(__always)
  static func sharesLookFar<F: Format>(
    _: F.Type, _ x: UnsafeRawPointer, _ count: Int, cut: F.L.Scalar, least: F.L.Scalar,
    _ factor: F.L.Scalar
  ) -> Bool {
    typealias L = F.L
    if !I.hasFastPaths { return false }
    // Exponents of 2: of the factor, of a term at `cut`, of a result that is half the smallest
    // number, and to that of the smallest normal one.
    let ofFactor = L.Scalar(Double(Int(Double(factor).bitPattern &>> 52 & 2047) &- 1023))
    let ofCut = least - (L.fieldZero - L.headroom)
    let smallest = L.Scalar(L.isSingle ? -150 : -1075)
    let lowest = cut + (smallest - ofFactor - ofCut) * L.ln2High
    return hasBetween(
      F.self, x, count, lowest, lowest + L.Scalar(L.isSingle ? 25 : 54) * L.ln2High, every: 16)
  }
}

// -- results -----------------------------------------------------------------------------------

extension Kernels {
  /// The numbers of a Divisor: scalars, which a call passes in registers.
  struct DivisorNumbers<Scalar> {
    let high: Scalar
    let low: Scalar
    let element: Scalar
    let top: Scalar
    let topShare: Scalar
  }

  /// out = term / sum as `divide` has it, or as `divideMarked`.
  @inline(never)
  static func divideFar<F: Format>(
    _: F.Type, _ terms: UnsafePointer<F.L.Scalar>, of x: UnsafeRawPointer?,
    _ out: UnsafeMutableRawPointer, _ count: Int, _ divisor: DivisorNumbers<F.L.Scalar>
  ) {
    typealias L = F.L
    let product = FarProduct(high: L(divisor.high), low: L(divisor.low))
    for (i, _, last) in vectors(L.self, 0, count) {
      let e: L = load(terms + i, 0, last, fill: 0)
      var quotient = product(e)
      if let x {
        let v = last == L.count ? F.load(x, i) : F.load(x, i, 0, last, fill: 0)
        quotient = L.pick(v, equalTo: L(divisor.element), L(divisor.topShare), quotient)
      } else {
        quotient = L.pick(e, equalTo: L(divisor.top), L(divisor.topShare), quotient)
        quotient = L.pick(e, lessThan: L(0), L(divisor.topShare), quotient)
      }
      if last == L.count { F.store(quotient, out, i) } else { F.store(quotient, out, i, 0, last) }
    }
  }

  /// out = exp(x) / sum as `divideAgain` has it.
  @inline(never)
  static func divideFarAgain<F: Format>(
    _: F.Type, _ x: UnsafeRawPointer, _ out: UnsafeMutableRawPointer, _ count: Int,
    shift: F.L.Scalar, cut: F.L.Scalar, _ divisor: DivisorNumbers<F.L.Scalar>
  ) {
    typealias L = F.L
    let exp = PlainExp<L>(shift: L(shift), cut: L(cut))
    let product = FarProduct(high: L(divisor.high), low: L(divisor.low))
    for (i, _, last) in vectors(L.self, 0, count) {
      let isWhole = last == L.count
      let v = isWhole ? F.load(x, i) : F.load(x, i, 0, last, fill: 0)
      let quotient = product(exp(v).rounded())
      let result = L.pick(v, equalTo: L(divisor.element), L(divisor.topShare), quotient)
      if isWhole { F.store(result, out, i) } else { F.store(result, out, i, 0, last) }
    }
  }

  /// Results of elements whose terms were not kept to `out`, where they may lie themselves.
  @inline(never)
  static func finishFar<L: Lanes>(
    _ row: UnsafePointer<smxk_row>, _ elements: Elements<L>, _ out: UnsafeMutablePointer<L.Scalar>,
    _ divisor: DivisorNumbers<L.Scalar>
  ) {
    var room = InlineArray<256, Double>(repeating: 0)
    withUnsafeMutablePointer(to: &room) {
      let terms = UnsafeMutableRawPointer($0).assumingMemoryBound(to: L.Scalar.self)
      let isPlain = row.pointee.form == SMXK_PLAIN
      var i = elements.from
      while i < elements.to {
        let count = Swift.min(256, elements.to &- i)
        _ = sumTerms(row, elements.part(i, count), terms)
        divideFar(
          Own<L>.self, terms, of: isPlain ? UnsafeRawPointer(elements.high + i) : nil, out + i,
          count, divisor)
        i = i &+ count
      }
    }
  }

  /// out = f · p as `writeShares` has it.
  @inline(never)
  static func writeFarShares<F: Format>(
    _: F.Type, _ x: UnsafeRawPointer, _ out: UnsafeMutableRawPointer, _ count: Int,
    _ share: ShareNumbers<F.L.Scalar>
  ) {
    typealias L = F.L
    let exp = PlainExp<L>(shift: L(share.shift), cut: L(share.cut))
    let product = FarProduct(high: L(share.factor))
    for (i, _, last) in vectors(L.self, 0, count) {
      let isWhole = last == L.count
      let v = product(exp(isWhole ? F.load(x, i) : F.load(x, i, 0, last, fill: 0)).rounded())
      if isWhole { F.store(v, out, i) } else { F.store(v, out, i, 0, last) }
    }
  }

  /// out = term / sum as `divideNearColumns` has it.
  @inline(never)
  static func divideFarColumns<L: Lanes>(_ block: ColumnBlock<L>) {
    var out = block.out
    for _ in 0..<block.length {
      block.eachVector { row, lanes in
        let product = FarProduct(high: L(at: block.own(0) + row), low: L(at: block.own(1) + row))
        let e = block.load(out, row, lanes)
        block.store(
          L.pick(e, lessThan: L(0), L(at: block.own(2) + row), product(e)), out, row, lanes)
      }
      out += block.outStride
    }
  }
}
