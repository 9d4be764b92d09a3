// A block of keys that a causal mask, a window or lengths cut through: each vector of a tile's
// lanes takes the keys that its own queries see, and no others.
//
//     keys            0       16      32      48      64
//     lanes  0…15     ███████◣                              a causal block of 64 keys, 48 queries
//     lanes 16…31     ████████████████◣                     that begin with the block
//     lanes 32…47     ████████████████████████◣
//
// Scores are computed three, two or one vectors wide, as the keys ask for; values a vector at a
// time, sixteen columns; and only the keys along the slope are masked. What is left out would have
// added exact zeros, so the bits are those of a whole block's operations. What it gains:
// docs/attention.md.

import CSupport

extension Kernels {
  /// What a vector of lanes sees of a block, counted from its first key: all of its queries see
  /// allFrom..<allTo, none a key outside from..<to.
  struct Sight {
    let from: Int
    let to: Int
    let allFrom: Int
    let allTo: Int
  }

  /// The keys first..<last into the tile's sums; false, and nothing done, where something else than
  /// a structure changes scores, or a score or a hidden value is none that this can do with.
  @inline(never)
  static func absorbEdge<L: TileLanes>(
    _ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int
  ) -> Bool {
    let bench = tile.bench
    let job = bench.job
    let lanes = tile.lanes
    guard lanes == 3 &* L.count, tile.header.pointee.has_base == 0, job.pointee.vector.data == nil,
      tile.header.pointee.has_masked == 0, tile.header.pointee.has_others == 0,
      job.pointee.bias.data == nil,
      job.pointee.slopes.data == nil, job.pointee.softcap == 0,
      hasFiniteHidden(tile, block, first, last)
    else { return false }
    // Whole strips of keys, where the block has some in front.
    let first = Swift.max(block.from, last &- roundedUp(last &- first))
    let sights = InlineArray<3, Sight> { sight(tile, $0 &* L.count, first, last) }
    computeEdge(tile, block.keys(from: first), last &- first, sights)
    if isLarge(L.self, tile.state(SMXK_LARGEST), lanes) { return false }
    for v in 0..<3 { hide(tile, v &* L.count, sights[v]) }
    if isLarge(L.self, tile.state(SMXK_LARGEST), lanes) { return false }
    for v in 0..<3 where sights[v].from < sights[v].to {
      let lane = v &* L.count
      let from = sights[v].from
      weigh(tile, lane, from: from, to: sights[v].to)
      let columns = Int(job.pointee.value_size)
      var ahead =
        last == Int(tile.header.pointee.upper)
        ? askForResults(tile, lane, L.count, strips: columns / 16) : Ahead()
      panel(
        ValueGoal<L>(factor: tile.state(SMXK_FACTOR) + lane), Vectors<1>.self, of: Vectors<3>.self,
        block.values(from: first &+ from), columns, sights[v].to &- from,
        bench.scores + (from &* lanes &+ lane), tile.sums + lane, &ahead)
    }
    return true
  }

  /// Strips of the product have eight rows.
  @inline(__always) private static func roundedUp(_ keys: Int) -> Int { (keys &+ 7) & ~7 }

  /// Whether the values of all keys that some query does not see are finite: of those a product
  /// with 0 is formed.
  @inline(__always)
  private static func hasFiniteHidden<L: TileLanes>(
    _ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int
  ) -> Bool {
    let columns = Int(tile.bench.job.pointee.value_size)
    let lower = Swift.min(last, Swift.max(first, Int(tile.header.pointee.all_from)))
    let upper = Swift.max(lower, Swift.min(last, Int(tile.header.pointee.all_to)))
    return block.hasFiniteValues(first, lower, columns: columns)
      && block.hasFiniteValues(upper, last, columns: columns)
  }

  /// Also each lane's first key and last, as numbers counted from key `first`.
  @inline(never)
  private static func sight<L: TileLanes>(
    _ tile: Tile<L>, _ lane: Int, _ first: Int, _ last: Int
  ) -> Sight {
    typealias Eight = SIMD8<Int64>
    let none = Eight(repeating: 0)
    let count = Eight(repeating: Int64(last &- first))
    var (from, to, allFrom, allTo) = (count, none, none, count)
    // Eight at a time: one after the other they took 1.6 % of a window's time.
    var l = lane
    while l < lane &+ L.count {
      func near(_ row: Int) -> Eight {
        let places = UnsafeRawPointer(tile.places(row) + l).loadUnaligned(as: Eight.self)
        return pointwiseMax(none, pointwiseMin(places &- Int64(first), count))
      }
      func keep(_ places: Eight, _ row: Int) {
        for i in 0..<8 { tile.state(row)[l &+ i] = L.Scalar(places[i]) }
      }
      let own = near(SMXK_FIRST)
      let end = pointwiseMax(own, near(SMXK_LAST))
      keep(own, SMXK_FROM)
      keep(end, SMXK_TO)
      let sees = own .< end
      from = pointwiseMin(from, own.replacing(with: count, where: .!sees))
      to = pointwiseMax(to, end.replacing(with: none, where: .!sees))
      allFrom = pointwiseMax(allFrom, own)
      allTo = pointwiseMin(allTo, end)
      l = l &+ 8
    }
    let start = Int(allFrom.max())
    return Sight(
      from: Int(from.min()), to: Int(to.max()), allFrom: start,
      allTo: Swift.max(start, Int(allTo.min())))
  }

  /// Scores of the keys that any lane of a vector sees, in strips, and the largest of each lane.
  @inline(never)
  private static func computeEdge<L: TileLanes>(
    _ tile: Tile<L>, _ keys: TileLeft, _ count: Int, _ sights: InlineArray<3, Sight>
  ) {
    let steps = Int(tile.bench.job.pointee.head_size)
    fill(L.self, tile.state(SMXK_LARGEST), -.infinity, tile.lanes)
    var nothing = Ahead()
    var key = 0
    while key < count {
      // The vectors a..<b see this key and all up to the next.
      var (a, b, next) = (3, 0, count)
      for v in 0..<3 where sights[v].from < sights[v].to {
        let from = sights[v].from & ~7
        let to = Swift.min(count, roundedUp(sights[v].to))
        if from <= key && key < to {
          a = Swift.min(a, v)
          b = v &+ 1
        }
        if key < from { next = Swift.min(next, from) }
        if key < to { next = Swift.min(next, to) }
      }
      let left = TileLeft(base: keys.base + key &* keys.stride, stride: keys.stride)
      let lane = a &* L.count
      let results = tile.bench.scores + (key &* tile.lanes &+ lane)
      @inline(__always) func compute<let width: Int>(_: Vectors<width>.Type) {
        panel(
          ScoreGoal<L>(largest: tile.state(SMXK_LARGEST) + lane), Vectors<width>.self,
          of: Vectors<3>.self, left, next &- key,
          steps, tile.query + lane, results, &nothing)
      }
      switch b &- a {
      case 3: compute(Vectors<3>.self)
      case 2: compute(Vectors<2>.self)
      case 1: compute(Vectors<1>.self)
      default: break
      }
      key = next
    }
  }

  /// Makes the scores that a vector's lanes do not see -inf, and finds the largest of those that
  /// they do.
  @inline(never)
  private static func hide<L: TileLanes>(_ tile: Tile<L>, _ lane: Int, _ sight: Sight) {
    let from = L(at: tile.state(SMXK_FROM) + lane)
    let to = L(at: tile.state(SMXK_TO) + lane)
    let closed = L(-L.Scalar.infinity)
    var largest = closed
    var p = tile.bench.scores + (sight.from &* tile.lanes &+ lane)
    var key = sight.from
    @inline(__always) func visit(to end: Int, _ change: (L) -> L) {
      while key < end {
        largest = L.max(change(L(at: p)), largest)
        p += tile.lanes
        key = key &+ 1
      }
    }
    @inline(__always) func hidden(_ score: L) -> L {
      let number = L(L.Scalar(key))
      let seen = L.pick(number, lessThan: from, closed, L.pick(number, lessThan: to, score, closed))
      seen.store(at: p)
      return seen
    }
    visit(to: Swift.min(sight.allFrom, sight.to), hidden)
    visit(to: Swift.min(sight.allTo, sight.to)) { $0 }
    visit(to: sight.to, hidden)
    largest.store(at: tile.state(SMXK_LARGEST) + lane)
  }
}
