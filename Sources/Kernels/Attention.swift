// Attention: tiles of queries against blocks of keys (docs/attention.md).
//
//     for each block of 64 keys
//       S = K·Qᵀ                        scores, lanes along the queries            TileProduct.swift
//       S = softcap, bias, masks        only where there are any                   AttentionScores.swift
//       N = max(N, floor(max S / ln2))  the row's power of two                     AttentionWeights.swift
//       P = 2^(S / ln2 - N)             sum = sum · 2^(N before - N) + sum of P
//       O = O · 2^(N before - N) + Vᵀ·P                                            TileProduct.swift
//     out = O / sum, lse = N·ln2 + log(sum)                                        AttentionResults.swift
//
// N is a whole number, so that moving it is exact; it moves at fixed keys only. Spans of 1024 keys begin anew and
// are merged in order. Everything that a row's bits depend on is thus fixed by its own keys: not by the queries that
// share its tile, nor by who computes it. Order is part of the contract.

import CSupport

extension Kernels {
  /// The workspace of one thread, and what stands for the whole task.
  struct Bench<L: TileLanes> {
    let job: UnsafePointer<smxk_attention>
    let base: UnsafeMutableRawPointer
    let batch: Int
    let group: Int

    @inline(__always) var j: smxk_attention { job.pointee }

    @inline(__always) func numbers(_ offset: Int64) -> UnsafeMutablePointer<L.Scalar> {
      (base + Int(offset)).assumingMemoryBound(to: L.Scalar.self)
    }
    var scores: UnsafeMutablePointer<L.Scalar> { @inline(__always) get { numbers(job.pointee.rooms.scores) } }

    /// The key head that the group's queries share.
    var keyHead: Int {
      @inline(__always) get {
        job.pointee.is_flat != 0 ? group : group / Int(job.pointee.heads / job.pointee.key_heads)
      }
    }

    @inline(__always) func tile(_ number: Int) -> Tile<L> {
      Tile(bench: self, base: base + Int(job.pointee.rooms.tiles) + number &* Int(job.pointee.rooms.tile_bytes))
    }
  }

  /// One tile's part of the workspace.
  struct Tile<L: TileLanes> {
    let bench: Bench<L>
    let base: UnsafeMutableRawPointer

    var header: UnsafeMutablePointer<smxk_tile> { @inline(__always) get { base.assumingMemoryBound(to: smxk_tile.self) } }
    var lanes: Int { @inline(__always) get { Int(header.pointee.lanes) } }
    @inline(__always) private func numbers(_ offset: Int64) -> UnsafeMutablePointer<L.Scalar> {
      (base + Int(offset)).assumingMemoryBound(to: L.Scalar.self)
    }
    var query: UnsafeMutablePointer<L.Scalar> { @inline(__always) get { numbers(bench.job.pointee.rooms.query) } }
    var sums: UnsafeMutablePointer<L.Scalar> { @inline(__always) get { numbers(bench.job.pointee.rooms.sums) } }
    /// The sums of few queries: (queries, value size).
    var few: UnsafeMutablePointer<Float> {
      @inline(__always) get { (base + Int(bench.job.pointee.rooms.few)).assumingMemoryBound(to: Float.self) }
    }
    var totals: UnsafeMutablePointer<L.Scalar> { @inline(__always) get { numbers(bench.job.pointee.rooms.totals) } }
    /// A row of SMXK_EXPONENT and so on.
    @inline(__always) func state(_ row: Int) -> UnsafeMutablePointer<L.Scalar> {
      numbers(bench.job.pointee.rooms.state) + row &* lanes
    }
    /// A row of SMXK_PLACE and so on.
    @inline(__always) func places(_ row: Int) -> UnsafeMutablePointer<Int64> {
      (base + Int(bench.job.pointee.rooms.lanes)).assumingMemoryBound(to: Int64.self) + row &* lanes
    }
  }

  /// A task: some tiles of one group of queries, against all keys that they see.
  public static func attention<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_attention>, _ task: Int, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let tilesPerTask = Int(job.pointee.tiles_per_task)
    let tileCount = Int(job.pointee.tile_count)
    let tasksPerGroup = (tileCount &+ tilesPerTask &- 1) / tilesPerTask
    let number = task / tasksPerGroup
    // The last queries of a group first: causal, they have the most keys, and the small tasks fill in at the end.
    let firstTile = (tasksPerGroup &- 1 &- task % tasksPerGroup) &* tilesPerTask
    let groups = Int(job.pointee.groups)
    let bench = Bench<L>(
      job: job,
      base: job.pointee.workspace.map {
        UnsafeMutableRawPointer($0) + Int(scratch.pointee.worker) &* Int(job.pointee.rooms.bytes)
      } ?? UnsafeMutableRawPointer(smxk_high_of(scratch)),
      batch: number / groups, group: number % groups)
    let tiles = Swift.min(tilesPerTask, tileCount &- firstTile)
    var lower = Int(job.pointee.keys)
    var upper = 0
    for t in 0..<tiles {
      let tile = bench.tile(t)
      begin(tile, firstRow: (firstTile &+ t) &* Int(job.pointee.tile_lanes))
      lower = Swift.min(lower, Int(tile.header.pointee.lower))
      upper = Swift.max(upper, Int(tile.header.pointee.upper))
    }
    let block = Int(SMXK_KEY_BLOCK)
    var hasTotals = false
    var from = lower / block &* block
    while from < upper {
      if from % Int(SMXK_KEY_SPAN) == 0 && from > lower {
        for t in 0..<tiles {
          gather(bench.tile(t))
          merge(bench.tile(t), isFirst: !hasTotals)
        }
        hasTotals = true
      }
      visit(bench, tiles, from: Swift.max(from, lower), to: Swift.min(from &+ block, upper))
      from = from &+ block
    }
    for t in 0..<tiles {
      let tile = bench.tile(t)
      gather(tile)
      if hasTotals { merge(tile, isFirst: false) }
      finish(tile, hasTotals: hasTotals)
    }
  }

  /// The keys from..<to, all of one block, against each tile that sees any of them.
  @inline(__always)
  static func visit<L: TileLanes>(_ bench: Bench<L>, _ tiles: Int, from: Int, to: Int) {
    let only = bench.tile(0)
    let block = KeyBlock(
      bench, from: from, to: to,
      isFew: tiles == 1 && isFew(only) && to &- from >= L.count && isWhole(only, from, to))
    for t in 0..<tiles {
      let tile = bench.tile(t)
      let first = Swift.max(from, Int(tile.header.pointee.lower))
      let last = Swift.min(to, Int(tile.header.pointee.upper))
      if first < last && seesAny(tile, first, last) { absorb(tile, block, first, last) }
    }
  }

  /// Whether every query of the tile sees all keys first..<last, segments and arrays aside.
  @inline(__always)
  static func isWhole<L: TileLanes>(_ tile: Tile<L>, _ first: Int, _ last: Int) -> Bool {
    Int(tile.header.pointee.all_from) <= first && last <= Int(tile.header.pointee.all_to)
  }

  /// The keys first..<last into the tile's sums.
  @inline(never)
  static func absorb<L: TileLanes>(_ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int) {
    let bench = tile.bench
    if I.hasWideTiles && L.isSingle {
      if block.isFew && tile.header.pointee.has_base == 0 && absorbFew(tile, block, first, last) { return }
      gather(tile)
    }
    let shows = computeScores(tile, block, first, last)
    if tile.header.pointee.has_base != 0 || isLarge(L.self, tile.state(SMXK_LARGEST), tile.lanes) {
      rebase(tile, last &- first)
    }
    weigh(tile, last &- first)
    if let shows {
      addShown(tile, block, first, last, shows)
    } else {
      // O is (value size, lanes), P is (keys, lanes).
      product(
        ValueGoal<L>(factor: tile.state(SMXK_FACTOR)), block.values(from: first),
        rows: Int(bench.job.pointee.value_size), steps: last &- first, bench.scores, tile.sums, lanes: tile.lanes)
    }
  }
}
