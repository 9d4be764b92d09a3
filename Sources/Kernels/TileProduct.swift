// The matrix products of attention and of its gradient, one loop: one operand read where it lies,
// the other and the results in vectors.
//
//   scores  S[j][·] = sum over d of key[j][d] · Q[d][·]
//           rows are keys, steps go along d
//   values  O[e][·] = O[e][·] · f[·] + sum over j of value[j][e] · P[j][·]
//           rows are value columns, steps are keys
//   rows    R[j][·] = R[j][·] + sum over i of P[j][i] · X[i][·]
//           rows are keys, steps are queries (AttentionVjp.swift)
//
// `left` is a caller's matrix, read where it lies one number at a time and spread over a vector; Q,
// S, P and O are tiles of the workspace, `lanes` numbers a row. Each result is one chain of fused
// multiply-adds in the order of the steps, or, a score, the sum of such chains over 32 columns
// each, added in order: so neither the shape of the tile nor the instruction set shows in it. Order
// is part of the contract.
//
// The limit is the FMA units: 8 rows × 3 vectors make 24 chains, and 11 loads for 24 FMA. Sixteen
// registers (AVX2) hold 6 × 2 halves of a vector, 8 loads for 12. Additions of addresses run on the
// same ports as FMA: four steps at a time with fixed offsets leave 6 of them beside 96 FMA: in a
// loop of its own 4.3 FMA a nanosecond, where FMA without loads give 4.97; with one addition for
// each row, as any strides would need, 3.9 to 4.1. (The clock falls under the faster loop, so whole
// calls gain less.) Therefore the numbers of a row must be neighbours; KeyBlock.swift sees to it.

import CSupport

/// Where the left operand lies: bytes from one of its rows of memory to the next, `stride`; along a
/// row its numbers follow one another.
struct TileLeft {
  var base: UnsafeRawPointer
  var stride: Int
}

/// Which product, how its operands lie, and what becomes of the sums.
protocol TileGoal {
  associatedtype L: TileLanes
  /// Whether the rows of results are the left operand's rows in memory, the steps its columns; or
  /// the other way round.
  static var stepsAlongRows: Bool { get }
  func store(_ sum: L, at place: UnsafeMutablePointer<L.Scalar>, lane: Int)
  /// Numbers from one row of results to the next, and of the right operand, where a strip is
  /// `lanes` wide.
  func pitch(lanes: Int) -> Int
  static func rightPitch(lanes: Int) -> Int
  /// Steps of a chain, if a result is a sum of several; 0 if it is one chain.
  static var piece: Int { get }
  /// The largest sum of each lane so far, and where it goes with those of the strip.
  func largest(lane: Int) -> L
  func keep(largest: L, lane: Int)
}

extension TileGoal {
  @inline(__always) func pitch(lanes: Int) -> Int { lanes }
  @inline(__always) static func rightPitch(lanes: Int) -> Int { lanes }
  static var piece: Int { @inline(__always) get { 0 } }
  @inline(__always) func largest(lane: Int) -> L { L(0) }
  @inline(__always) func keep(largest: L, lane: Int) {}
}

extension Kernels {
  public static func tileLanes<L: TileLanes>(
    _: L.Type
  ) -> Int {
    I.hasWideTiles ? 3 &* L.count : L.count
  }

  /// Scores: the sums are stored, and the largest of each lane kept, NaN passed over.
  struct ScoreGoal<L: TileLanes>: TileGoal {
    let largest: UnsafeMutablePointer<L.Scalar>
    static var stepsAlongRows: Bool { @inline(__always) get { true } }
    static var piece: Int { @inline(__always) get { Int(SMXK_SCORE_PIECE) } }
    @inline(__always) func store(
      _ sum: L, at place: UnsafeMutablePointer<L.Scalar>, lane: Int
    ) {
      sum.store(at: place)
    }
    @inline(__always) func largest(lane: Int) -> L { L(at: largest + lane) }
    @inline(__always) func keep(largest most: L, lane: Int) { most.store(at: largest + lane) }
  }

  /// Values: the sums join what is stored, times a factor for each lane.
  struct ValueGoal<L: TileLanes>: TileGoal {
    let factor: UnsafePointer<L.Scalar>
    static var stepsAlongRows: Bool { @inline(__always) get { false } }
    @inline(__always) func store(_ sum: L, at place: UnsafeMutablePointer<L.Scalar>, lane: Int) {
      L(at: place).fma(L(at: factor + lane), sum).store(at: place)
    }
  }

  /// Gradients of keys and values: the sums join rows that stand elsewhere.
  struct RowGoal<L: TileLanes>: TileGoal {
    let pitch: Int
    static var stepsAlongRows: Bool { @inline(__always) get { true } }
    @inline(__always) func store(_ sum: L, at place: UnsafeMutablePointer<L.Scalar>, lane: Int) {
      (L(at: place) + sum).store(at: place)
    }
    @inline(__always) func pitch(lanes: Int) -> Int { pitch }
  }

  /// Gradients of hidden states (LinearLoss.swift): as values, the right operand being a block of
  /// tokens' whole rows.
  struct ColumnGoal<L: TileLanes>: TileGoal {
    static var stepsAlongRows: Bool { @inline(__always) get { false } }
    @inline(__always) func store(_ sum: L, at place: UnsafeMutablePointer<L.Scalar>, lane: Int) {
      (L(at: place) + sum).store(at: place)
    }
    @inline(__always) static func rightPitch(lanes: Int) -> Int { Int(SMXK_QUERY_BLOCK) }
  }

  /// Memory that will be needed next, asked for between strips a little at a time, in four places
  /// at once: the processor's own prefetching, which stays within a page, runs ahead in each.
  struct Ahead {
    private var row: UnsafeRawPointer
    private let stride: Int
    private let bytes: Int
    private let quarter: Int
    private let isForWriting: Bool
    private var column = 0
    private var lines: Int
    private let perStrip: Int

    /// `rows` rows of so many bytes, `stride` bytes apart.
    @inline(__always)
    init(
      _ start: UnsafeRawPointer, rows: Int, stride: Int, bytes: Int, strips: Int,
      isForWriting: Bool = false
    ) {
      let rowsOfQuarter = (rows &+ 3) / 4
      row = start
      self.stride = stride
      self.bytes = bytes
      quarter = rowsOfQuarter &* stride
      self.isForWriting = isForWriting
      lines = rowsOfQuarter &* ((Swift.max(bytes, 0) &+ 63) / 64)
      perStrip = lines / Swift.max(strips, 1) &+ 1
    }

    /// One stretch of memory.
    @inline(__always) init(_ start: UnsafeRawPointer, bytes: Int, strips: Int) {
      self.init(start, rows: 4, stride: bytes / 4, bytes: bytes / 4, strips: strips)
    }

    /// Nothing.
    @inline(__always) init() { self.init(UnsafeRawPointer(bitPattern: 64)!, bytes: 0, strips: 1) }

    @inline(__always) mutating func fetch() {
      let count = Swift.min(perStrip, lines)
      for _ in 0..<count {
        for part in 0..<4 {
          let line = row + (part &* quarter &+ column)
          if isForWriting { I.prefetchWrite(line) } else { I.prefetchAhead(line) }
        }
        column = column &+ 64
        if column >= bytes {
          column = 0
          row += stride
        }
      }
      lines = lines &- count
    }
  }

  /// `rows` rows of results.
  @inline(__always)
  static func product<G: TileGoal>(
    _ goal: G, _ left: TileLeft, rows: Int, steps: Int, _ right: UnsafePointer<G.L.Scalar>,
    _ results: UnsafeMutablePointer<G.L.Scalar>, lanes: Int
  ) {
    var nothing = Ahead()
    product(goal, left, rows: rows, steps: steps, right, results, lanes: lanes, ahead: &nothing)
  }

  @inline(__always)
  static func product<G: TileGoal>(
    _ goal: G, _ left: TileLeft, rows: Int, steps: Int, _ right: UnsafePointer<G.L.Scalar>,
    _ results: UnsafeMutablePointer<G.L.Scalar>, lanes: Int, ahead: inout Ahead
  ) {
    if I.hasWideTiles && lanes == 3 &* G.L.count {
      panel(goal, Vectors<3>.self, of: Vectors<3>.self, left, rows, steps, right, results, &ahead)
    } else if I.hasWideTiles && lanes == 2 &* G.L.count {
      panel(goal, Vectors<2>.self, of: Vectors<2>.self, left, rows, steps, right, results, &ahead)
    } else {
      panel(goal, Vectors<1>.self, of: Vectors<1>.self, left, rows, steps, right, results, &ahead)
    }
  }

  /// A number of vectors, as a type.
  typealias Vectors<let count: Int> = InlineArray<count, Void>

  /// The product for `width` vectors of a tile's lanes, which is `tile` vectors wide.
  @inline(__always)
  static func panel<G: TileGoal, let width: Int, let tile: Int>(
    _ goal: G, _: Vectors<width>.Type, of _: Vectors<tile>.Type, _ left: TileLeft, _ rows: Int,
    _ steps: Int,
    _ right: UnsafePointer<G.L.Scalar>, _ results: UnsafeMutablePointer<G.L.Scalar>,
    _ ahead: inout Ahead
  ) {
    var left = left
    var results = results
    var rest = rows
    @inline(__always) func advance(_ count: Int) {
      left.base += count &* (G.stepsAlongRows ? left.stride : MemoryLayout<G.L.Scalar>.stride)
      results += count &* goal.pitch(lanes: tile &* G.L.count)
      rest = rest &- count
    }
    if I.hasWideTiles {
      // Of one vector, eight chains are just enough for two units with a latency of four cycles.
      while width == 1 && !G.stepsAlongRows && rest >= 16 {
        ahead.fetch()
        strip(
          goal, rows: Vectors<16>.self, Vectors<width>.self, of: Vectors<tile>.self, left, steps,
          right, results)
        advance(16)
      }
      while rest >= 8 {
        ahead.fetch()
        strip(
          goal, rows: Vectors<8>.self, Vectors<width>.self, of: Vectors<tile>.self, left, steps,
          right, results)
        advance(8)
      }
    } else if I.hasFastPaths {
      while rest >= 6 {
        ahead.fetch()
        strip(
          goal, rows: Vectors<6>.self, Vectors<width>.self, of: Vectors<tile>.self, left, steps,
          right, results)
        advance(6)
      }
    }
    if I.hasFastPaths {
      while rest >= 4 {
        strip(
          goal, rows: Vectors<4>.self, Vectors<width>.self, of: Vectors<tile>.self, left, steps,
          right, results)
        advance(4)
      }
    }
    while rest >= 1 {
      strip(
        goal, rows: Vectors<1>.self, Vectors<width>.self, of: Vectors<tile>.self, left, steps,
        right, results)
      advance(1)
    }
  }

  @inline(never)
  private static func strip<G: TileGoal, let rows: Int, let vectors: Int, let tile: Int>(
    _ goal: G, rows _: Vectors<rows>.Type, _: Vectors<vectors>.Type, of _: Vectors<tile>.Type,
    _ left: TileLeft, _ steps: Int,
    _ right: UnsafePointer<G.L.Scalar>, _ results: UnsafeMutablePointer<G.L.Scalar>
  ) {
    let lanes = tile &* G.L.count
    let size = MemoryLayout<G.L.Scalar>.stride
    let stride = left.stride
    var sums = InlineArray<rows, InlineArray<vectors, G.L>>(
      repeating: InlineArray(repeating: G.L(0)))
    // Of two bases, and of 1 and 3 strides, all addresses can be made.
    var lower = left.base
    var upper = left.base + 4 &* stride
    let three = 3 &* stride
    var b = right
    @inline(__always) func number(_ step: Int, _ row: Int) -> G.L {
      let major = G.stepsAlongRows ? row : step
      let minor = G.stepsAlongRows ? step : row
      let base = major < 4 ? lower : upper
      let offset = major & 3 == 3 ? three : (major & 3) &* stride
      return G.L((base + (offset &+ minor &* size)).loadUnaligned(as: G.L.Scalar.self))
    }
    @inline(__always) func take(_ step: Int) {
      let place = b + step &* G.rightPitch(lanes: lanes)
      let x = InlineArray<vectors, G.L> { G.L(at: place + $0 &* G.L.count) }
      for r in 0..<rows {
        let y = number(step, r)
        for v in 0..<vectors { sums[r][v] = y.fma(x[v], sums[r][v]) }
      }
    }
    @inline(__always) func move(_ count: Int) {
      let moved = count &* (G.stepsAlongRows ? size : stride)
      lower += moved
      upper += moved
      b += count &* G.rightPitch(lanes: lanes)
    }
    @inline(__always) func walk(_ count: Int) {
      var rest = count
      // Written out: a loop over so many FMA the compiler leaves as it is, with additions of
      // addresses in each step. Of values, four steps would have their vectors loaded ahead of time
      // and sums put out on the stack for it.
      while G.stepsAlongRows && rest >= 4 {
        take(0)
        take(1)
        take(2)
        take(3)
        move(4)
        rest = rest &- 4
      }
      while !G.stepsAlongRows && rest >= 2 {
        take(0)
        take(1)
        move(2)
        rest = rest &- 2
      }
      while rest >= 1 {
        take(0)
        move(1)
        rest = rest &- 1
      }
    }
    @inline(__always) func place(_ row: Int, _ vector: Int) -> UnsafeMutablePointer<G.L.Scalar> {
      results + (row &* goal.pitch(lanes: lanes) &+ vector &* G.L.count)
    }
    @inline(__always) func addStored() {
      for r in 0..<rows {
        for v in 0..<vectors { sums[r][v] = G.L(at: place(r, v)) + sums[r][v] }
      }
    }
    if G.piece == 0 {
      walk(steps)
    } else {
      // The pieces before the last add up where the results will stand.
      var rest = steps
      while true {
        walk(Swift.min(rest, G.piece))
        if rest < steps { addStored() }
        rest = rest &- G.piece
        if rest <= 0 { break }
        for r in 0..<rows {
          for v in 0..<vectors { sums[r][v].store(at: place(r, v)) }
        }
        sums = InlineArray(repeating: InlineArray(repeating: G.L(0)))
      }
    }
    for v in 0..<vectors {
      let lane = v &* G.L.count
      var largest = goal.largest(lane: lane)
      for r in 0..<rows {
        largest = G.L.max(sums[r][v], largest)
        goal.store(sums[r][v], at: place(r, v), lane: lane)
      }
      goal.keep(largest: largest, lane: lane)
    }
  }
}
