// Attention: tiles of queries against blocks of keys (docs/attention.md).
//
//     for each block of 64 keys
//       S = K·Qᵀ                        scores, lanes along the queries    TileProduct.swift
//       S = softcap, bias, masks        only where there are any           AttentionScores.swift
//       N = max(N, floor(max S / ln2))  the row's power of two             AttentionWeights.swift
//       P = 2^(S / ln2 - N)             sum = sum · 2^(N before - N) + sum of P
//       O = O · 2^(N before - N) + Vᵀ·P                                    TileProduct.swift
//     out = O / sum, lse = N·ln2 + log(sum)                                AttentionResults.swift
//
// N is a whole number, so that moving it is exact; it moves at fixed keys only. Spans of 1024 keys
// begin anew and are merged in order. Everything that a row's bits depend on is thus fixed by its
// own keys: not by the queries that share its tile, nor by who computes it. Order is part of the
// contract.

import CSupport

extension Kernels {
  /// The workspace of one thread, and what stands for the whole task.
  struct Bench<L: TileLanes> {
    let job: UnsafePointer<smxk_attention>
    let base: UnsafeMutableRawPointer
    let batch: Int
    let group: Int
    /// The entry's lengths, and where its rows begin if entries are packed.
    let queries: Int
    let keys: Int
    let firstQuery: Int
    let firstKey: Int

    @inline(__always)
    init(
      job: UnsafePointer<smxk_attention>, base: UnsafeMutableRawPointer, batch: Int, group: Int
    ) {
      self.job = job
      self.base = base
      self.batch = batch
      self.group = group
      if job.pointee.query_starts.data != nil {
        firstQuery = Kernels.start(job.pointee.query_starts, job.pointee.query_starts_dtype, batch)
        queries =
          Kernels.start(job.pointee.query_starts, job.pointee.query_starts_dtype, batch &+ 1)
          &- firstQuery
        firstKey = Kernels.start(job.pointee.key_starts, job.pointee.key_starts_dtype, batch)
        keys =
          Kernels.start(job.pointee.key_starts, job.pointee.key_starts_dtype, batch &+ 1)
          &- firstKey
      } else {
        firstQuery = 0
        queries = Int(job.pointee.queries)
        firstKey = 0
        keys = Int(job.pointee.keys)
      }
    }

    /// Rows of the group.
    var rows: Int {
      @inline(__always) get {
        job.pointee.is_flat != 0
          ? Int(job.pointee.heads / job.pointee.key_heads) &* queries : queries
      }
    }

    @inline(__always) func numbers(_ offset: Int64) -> UnsafeMutablePointer<L.Scalar> {
      (base + Int(offset)).assumingMemoryBound(to: L.Scalar.self)
    }
    var scores: UnsafeMutablePointer<L.Scalar> {
      @inline(__always) get { numbers(job.pointee.rooms.scores) }
    }

    /// The key head that the group's queries share.
    var keyHead: Int {
      @inline(__always) get {
        job.pointee.is_flat != 0 ? group : group / Int(job.pointee.heads / job.pointee.key_heads)
      }
    }

    @inline(__always) func tile(_ number: Int) -> Tile<L> {
      Tile(
        bench: self,
        base: base + Int(job.pointee.rooms.tiles) + number &* Int(job.pointee.rooms.tile_bytes))
    }
  }

  /// One tile's part of the workspace.
  struct Tile<L: TileLanes> {
    let bench: Bench<L>
    let base: UnsafeMutableRawPointer

    var header: UnsafeMutablePointer<smxk_tile> {
      @inline(__always) get { base.assumingMemoryBound(to: smxk_tile.self) }
    }
    var lanes: Int { @inline(__always) get { Int(header.pointee.lanes) } }
    @inline(__always) private func numbers(_ offset: Int64) -> UnsafeMutablePointer<L.Scalar> {
      (base + Int(offset)).assumingMemoryBound(to: L.Scalar.self)
    }
    var query: UnsafeMutablePointer<L.Scalar> {
      @inline(__always) get { numbers(bench.job.pointee.rooms.query) }
    }
    var sums: UnsafeMutablePointer<L.Scalar> {
      @inline(__always) get { numbers(bench.job.pointee.rooms.sums) }
    }
    /// The sums of few queries: (queries, value size).
    var few: UnsafeMutablePointer<Float> {
      @inline(__always) get {
        (base + Int(bench.job.pointee.rooms.few)).assumingMemoryBound(to: Float.self)
      }
    }
    var totals: UnsafeMutablePointer<L.Scalar> {
      @inline(__always) get { numbers(bench.job.pointee.rooms.totals) }
    }
    /// A row of SMXK_EXPONENT and so on.
    @inline(__always) func state(_ row: Int) -> UnsafeMutablePointer<L.Scalar> {
      numbers(bench.job.pointee.rooms.state) + row &* lanes
    }
    /// A row of SMXK_PLACE and so on.
    @inline(__always) func places(_ row: Int) -> UnsafeMutablePointer<Int64> {
      (base + Int(bench.job.pointee.rooms.lanes)).assumingMemoryBound(to: Int64.self) + row &* lanes
    }
  }

  /// Where a packed entry begins.
  @inline(never)
  static func start(_ view: smxk_view, _ dtype: smx_dtype, _ entry: Int) -> Int {
    Int(smxk_integer(dtype, UnsafeRawPointer(view.data!) + entry &* Int(view.column)))
  }

  /// A task: some tiles of one group of queries, against all keys that they see, or one tile
  /// against one span.
  public static func attention<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_attention>, _ task: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let spans = Int(job.pointee.spans)
    let place = Place<L>(job, task / spans, scratch)
    if place.tiles <= 0 { return }
    let bench = place.bench
    if uses(SMXK_AMX_UNIT, bench) { smxk_amx_begin() }
    defer { if uses(SMXK_AMX_UNIT, bench) { smxk_amx_end() } }
    var lower = bench.keys
    var upper = 0
    for t in 0..<place.tiles {
      let tile = bench.tile(t)
      begin(tile, firstRow: (place.firstTile &+ t) &* Int(job.pointee.tile_lanes))
      if isFast(bench) { loadPairs(tile) }
      lower = Swift.min(lower, Int(tile.header.pointee.lower))
      upper = Swift.max(upper, Int(tile.header.pointee.upper))
    }
    if spans > 1 {
      let from = task % spans &* Int(SMXK_KEY_SPAN)
      visitSpan(
        bench, place.tiles, Swift.max(from, lower), Swift.min(from &+ Int(SMXK_KEY_SPAN), upper))
      keepPartial(bench.tile(0), task)
      return
    }
    var hasTotals = false
    var from = lower
    while from < upper {
      let end = Swift.min((from / Int(SMXK_KEY_SPAN) &+ 1) &* Int(SMXK_KEY_SPAN), upper)
      visitSpan(bench, place.tiles, from, end)
      if end < upper || hasTotals {
        for t in 0..<place.tiles { merge(bench.tile(t), isFirst: !hasTotals) }
        hasTotals = true
      }
      from = end
    }
    for t in 0..<place.tiles { finish(bench.tile(t), hasTotals: hasTotals) }
  }

  /// The end of a tile whose spans were tasks of their own.
  public static func joinSpans<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_attention>, _ number: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let place = Place<L>(job, number, scratch)
    if place.tiles <= 0 { return }
    let tile = place.bench.tile(0)
    begin(tile, firstRow: place.firstTile &* Int(job.pointee.tile_lanes))
    let lower = Int(tile.header.pointee.lower)
    let upper = Int(tile.header.pointee.upper)
    var hasTotals = false
    for span in 0..<Int(job.pointee.spans) {
      let from = span &* Int(SMXK_KEY_SPAN)
      if Swift.max(from, lower) >= Swift.min(from &+ Int(SMXK_KEY_SPAN), upper) { continue }
      takePartial(tile, number &* Int(job.pointee.spans) &+ span)
      merge(tile, isFirst: !hasTotals)
      hasTotals = true
    }
    finish(tile, hasTotals: hasTotals)
  }

  /// What a task is: which tiles, of which group.
  struct Place<L: TileLanes> {
    let bench: Bench<L>
    let firstTile: Int
    let tiles: Int

    @inline(__always)
    init(
      _ job: UnsafePointer<smxk_attention>, _ task: Int,
      _ scratch: UnsafeMutablePointer<smxk_scratch>
    ) {
      let tilesPerTask = Int(job.pointee.tiles_per_task)
      let tasksPerGroup = (Int(job.pointee.tile_count) &+ tilesPerTask &- 1) / tilesPerTask
      let number = task / tasksPerGroup
      // The last queries of a group first: causal, they have the most keys, and the small tasks
      // fill in at the end.
      firstTile = (tasksPerGroup &- 1 &- task % tasksPerGroup) &* tilesPerTask
      let groups = Int(job.pointee.groups)
      bench = Bench<L>(
        job: job,
        base: job.pointee.workspace.map {
          UnsafeMutableRawPointer($0) + Int(scratch.pointee.worker) &* Int(job.pointee.rooms.bytes)
        } ?? UnsafeMutableRawPointer(smxk_high_of(scratch)),
        batch: number / groups, group: number % groups)
      let tileLanes = Int(job.pointee.tile_lanes)
      tiles = Swift.min(tilesPerTask, (bench.rows &+ tileLanes &- 1) / tileLanes &- firstTile)
    }
  }

  /// The keys from..<to, all of one span, block by block; then the sums stand as (value size,
  /// lanes).
  @inline(never)
  static func visitSpan<L: TileLanes>(_ bench: Bench<L>, _ tiles: Int, _ from: Int, _ to: Int) {
    let size = Int(SMXK_KEY_BLOCK)
    var from = from
    while from < to {
      let end = Swift.min((from / size &+ 1) &* size, to)
      visit(bench, tiles, from: from, to: end)
      from = end
    }
    for t in 0..<tiles { gather(bench.tile(t)) }
  }

  // -- the sums of a span between two tasks -------------------------------------------------------

  /// Calls body with each part of a tile's sums, how many numbers it has, and its place in the
  /// partial.
  @inline(__always)
  private static func forEachPart<L: TileLanes>(
    _ tile: Tile<L>, _ number: Int,
    _ body: (UnsafeMutablePointer<L.Scalar>, UnsafeMutablePointer<L.Scalar>, Int) -> Void
  ) {
    let job = tile.bench.job
    let lanes = tile.lanes
    let partial = UnsafeMutableRawPointer(
      job.pointee.partials! + number &* Int(job.pointee.partial_bytes)
    )
    .assumingMemoryBound(to: L.Scalar.self)
    body(tile.state(SMXK_BASE), partial, lanes)
    body(tile.state(SMXK_EXPONENT), partial + lanes, lanes)
    body(tile.state(SMXK_WEIGHT), partial + 2 &* lanes, lanes)
    body(tile.sums, partial + 3 &* lanes, Int(job.pointee.value_size) &* lanes)
  }

  @inline(never)
  private static func keepPartial<L: TileLanes>(_ tile: Tile<L>, _ number: Int) {
    forEachPart(tile, number) { own, partial, count in copy(L.self, own, partial, count) }
  }

  @inline(never)
  private static func takePartial<L: TileLanes>(_ tile: Tile<L>, _ number: Int) {
    forEachPart(tile, number) { own, partial, count in copy(L.self, partial, own, count) }
  }

  /// `count` is a multiple of the lanes.
  @inline(__always)
  private static func copy<L: TileLanes>(
    _: L.Type, _ from: UnsafePointer<L.Scalar>, _ to: UnsafeMutablePointer<L.Scalar>, _ count: Int
  ) {
    var i = 0
    while i < count {
      L(at: from + i).store(at: to + i)
      i = i &+ L.count
    }
  }

  /// The keys from..<to, all of one block, against each tile that sees any of them.
  @inline(__always)
  static func visit<L: TileLanes>(_ bench: Bench<L>, _ tiles: Int, from: Int, to: Int) {
    let only = bench.tile(0)
    if isFast(bench) {
      visitFast(bench, tiles, from: from, to: to)
      var isDone = true
      for t in 0..<tiles where !isFast(bench.tile(t), from: from, to: to) { isDone = false }
      if isDone { return }
    }
    if tiles == 1 {
      visitOne(only, from: from, to: to)
      return
    }
    let block = KeyBlock(bench, from: from, to: to, isFew: false)
    var asksAhead = isLong(only)
    for t in 0..<tiles {
      let tile = bench.tile(t)
      if isFast(tile, from: from, to: to) { continue }
      let first = Swift.max(from, Int(tile.header.pointee.lower))
      let last = Swift.min(to, Int(tile.header.pointee.upper))
      if first < last && seesAny(tile, first, last) {
        absorb(tile, block, first, last, asksAhead: asksAhead)
        asksAhead = false
      }
    }
  }

  /// The same for a task's only tile: a block that it does not see is not gathered.
  @inline(__always)
  private static func visitOne<L: TileLanes>(_ tile: Tile<L>, from: Int, to: Int) {
    let first = Swift.max(from, Int(tile.header.pointee.lower))
    let last = Swift.min(to, Int(tile.header.pointee.upper))
    guard first < last && seesAny(tile, first, last) else { return }
    let block = KeyBlock(
      tile.bench, from: from, to: to,
      isFew: isFew(tile) && last &- first >= L.count && isWhole(tile, first, last))
    absorb(tile, block, first, last, asksAhead: isLong(tile))
  }

  /// Whether every query of the tile sees all keys first..<last, segments and arrays aside.
  @inline(__always)
  static func isWhole<L: TileLanes>(_ tile: Tile<L>, _ first: Int, _ last: Int) -> Bool {
    Int(tile.header.pointee.all_from) <= first && last <= Int(tile.header.pointee.all_to)
  }

  /// The keys first..<last into the tile's sums.
  @inline(never)
  static func absorb<L: TileLanes>(
    _ tile: Tile<L>, _ block: KeyBlock<L>, _ first: Int, _ last: Int, asksAhead: Bool
  ) {
    let bench = tile.bench
    var block = block
    if hasFewQueries(L.self) {
      if block.isFew {
        if tile.header.pointee.has_base == 0 && absorbFew(tile, block, first, last) { return }
        // Narrow ones lie as they are: what follows wants the lanes' type.
        block = KeyBlock(bench, from: block.from, to: block.to, isFew: false)
      }
      gather(tile)
    }
    if I.hasWideTiles && L.isSingle && !isWhole(tile, first, last)
      && absorbEdge(tile, block, first, last)
    {
      return
    }
    let shows = computeScores(tile, block, first, last, asksAhead: asksAhead)
    if tile.header.pointee.has_base != 0 || isLarge(L.self, tile.state(SMXK_LARGEST), tile.lanes) {
      rebase(tile, last &- first)
    }
    weigh(tile, last &- first)
    if let shows {
      addShown(tile, block, first, last, shows)
    } else {
      // O is (value size, lanes), P is (keys, lanes).
      let columns = Int(bench.job.pointee.value_size)
      var ahead =
        last == Int(tile.header.pointee.upper)
        ? askForResults(tile, 0, tile.lanes, strips: columns / 8)
        : asksAhead ? block.nextValues(columns: columns, strips: columns / 8) : Ahead()
      product(
        ValueGoal<L>(factor: tile.state(SMXK_FACTOR)), block.values(from: first),
        rows: Int(bench.job.pointee.value_size), steps: last &- first, bench.scores, tile.sums,
        lanes: tile.lanes,
        ahead: &ahead)
    }
  }
}
