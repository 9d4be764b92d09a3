// The gradient of attention: tasks, and the loop over blocks of queries and keys
// (docs/attention.md, docs/training.md).
//
//     for each block of 48 queries                     delta_i = sum over e of dO[i][e] · O[i][e]
//       for each block of 64 keys
//         P  = exp(S - lse)                            scores once more, as attention has them
//         dS = P · (dO·Vᵀ - delta)                     · softcap's derivative
//         dQ = dQ + dS·K                               AttentionVjpBlock.swift
//         dV = dV + Pᵀ·dO,   dK = dK + dSᵀ·Q
//
// Up to eight blocks of queries take their turns with a block of keys, so that K, V, dK and dV come
// from the second-level cache in seven turns of eight (H8 L2048 D128, 4 MB a head: 217 ms one by
// one, 207 with four, 201 with eight).
//
// Five products of the forward's kind; none of the Lq × Lk numbers outlives its block. A gradient
// of a query is a sum over blocks of keys in their order, one of a key or value a sum over the
// heads that share it, in their order the blocks of queries; inside a block each is one chain of
// fused multiply-adds. That is so whether a task takes all queries of a key head, for all three
// gradients, or, where there are fewer key heads than threads, tasks take blocks of queries and
// then, computing scores again, some keys each. Order is part of the contract.

import CSupport

extension Kernels {
  /// A task's batch entry and query head, and the rooms for it.
  struct VjpBench<L: TileLanes> {
    let job: UnsafePointer<smxk_attention_vjp>
    let bench: Bench<L>
    /// Where the sums of the task's first key stand, and of its value.
    var keySums: UnsafeMutablePointer<L.Scalar>
    var valueSums: UnsafeMutablePointer<L.Scalar>
    /// The task's keys.
    let firstKey: Int
    let lastKey: Int
    let wantsQueries: Bool
    let wantsKeys: Bool

    @inline(__always)
    init(
      _ job: UnsafePointer<smxk_attention_vjp>, _ base: UnsafeMutableRawPointer, batch: Int,
      head: Int, keys: Range<Int>,
      wantsQueries: Bool, wantsKeys: Bool
    ) {
      self.job = job
      bench = Bench(
        job: UnsafeRawPointer(job).assumingMemoryBound(to: smxk_attention.self), base: base,
        batch: batch, group: head)
      firstKey = keys.lowerBound
      lastKey = keys.upperBound
      self.wantsQueries = wantsQueries
      self.wantsKeys = wantsKeys
      func sums(
        _ view: smxk_view, _ isDirect: Int32, _ room: Int64
      ) -> UnsafeMutablePointer<L.Scalar> {
        guard isDirect != 0, let data = view.data else {
          return (base + Int(room)).assumingMemoryBound(to: L.Scalar.self)
        }
        return UnsafeMutableRawPointer(
          data
            + (batch &* Int(view.batch) &+ bench.keyHead &* Int(view.head) &+ keys.lowerBound
              &* Int(view.row))
        ).assumingMemoryBound(to: L.Scalar.self)
      }
      keySums = bench.scores
      valueSums = bench.scores
      keySums = sums(job.pointee.d_key, job.pointee.is_key_direct, job.pointee.rooms.keys)
      valueSums = sums(job.pointee.d_value, job.pointee.is_value_direct, job.pointee.rooms.values)
    }

    @inline(__always) func room(
      _ offset: Int64
    ) -> UnsafeMutablePointer<L.Scalar> {
      bench.numbers(offset)
    }
    var wantsKeySums: Bool { @inline(__always) get { wantsKeys && job.pointee.d_key.data != nil } }
    var wantsValueSums: Bool {
      @inline(__always) get { wantsKeys && job.pointee.d_value.data != nil }
    }
  }

  public static func attentionVjp<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_attention_vjp>, _ task: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let forward = job.pointee.forward
    let base =
      UnsafeMutableRawPointer(forward.workspace!) + Int(scratch.pointee.worker)
      &* Int(job.pointee.rooms.bytes)
    let keys = Int(forward.keys)
    switch job.pointee.phase {
    case SMXK_VJP_QUERIES:
      let blocks = Int(job.pointee.query_tasks)
      let heads = Int(forward.heads)
      let entry = task / blocks
      let v = VjpBench<L>(
        job, base, batch: entry / heads, head: entry % heads, keys: 0..<keys, wantsQueries: true,
        wantsKeys: false)
      // The last queries first: causal, they have the most keys.
      visitQueries(v, (blocks &- 1 &- task % blocks) &* Int(SMXK_QUERY_BLOCK), blocks: 1)
    case SMXK_VJP_BIAS:
      visitBias(L.self, job, base, task)
    case SMXK_VJP_SINKS:
      visitSink(L.self, job, base, head: task)
    default:
      let size = Int(job.pointee.keys_per_task)
      let chunks = Int(job.pointee.key_tasks)
      let entry = task / chunks
      let first = task % chunks &* size
      visitKeys(L.self, job, base, entry, first..<Swift.min(first &+ size, keys))
    }
  }

  /// All queries, of all heads and batch entries that share them, against some keys.
  @inline(never)
  private static func visitKeys<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_attention_vjp>, _ base: UnsafeMutableRawPointer,
    _ entry: Int, _ keys: Range<Int>
  ) {
    let forward = job.pointee.forward
    let keyHeads = Int(forward.key_heads)
    let perGroup = Int(forward.heads) / keyHeads
    let isShared = job.pointee.shares_keys != 0 || job.pointee.shares_values != 0
    let batches = isShared ? 0..<Int(forward.batch) : entry / keyHeads..<entry / keyHeads &+ 1
    let keyHead = entry % keyHeads
    var batch = batches.lowerBound
    while batch < batches.upperBound {
      let isFirst = batch == batches.lowerBound
      let isLast = batch == batches.upperBound &- 1
      for h in 0..<perGroup {
        let v = VjpBench<L>(
          job, base, batch: batch, head: keyHead &* perGroup &+ h, keys: keys,
          wantsQueries: job.pointee.phase == SMXK_VJP_ALL && job.pointee.d_query.data != nil,
          wantsKeys: true)
        if h == 0 {
          if v.wantsKeySums && (isFirst || job.pointee.shares_keys == 0) {
            clearRows(
              L.self, v.keySums, Int(job.pointee.key_pitch), Int(forward.head_size), keys.count)
          }
          if v.wantsValueSums && (isFirst || job.pointee.shares_values == 0) {
            clearRows(
              L.self, v.valueSums, Int(job.pointee.value_pitch), Int(forward.value_size), keys.count
            )
          }
        }
        var query = 0
        while query < v.bench.queries {
          let blocks = Int(job.pointee.blocks_per_group)
          visitQueries(v, query, blocks: blocks)
          query = query &+ blocks &* Int(SMXK_QUERY_BLOCK)
        }
        if h == perGroup &- 1 {
          if v.wantsKeySums && (isLast || job.pointee.shares_keys == 0) {
            writeSums(
              v, v.keySums, Int(job.pointee.key_pitch), job.pointee.d_key, Int(forward.head_size),
              isDirect: job.pointee.is_key_direct != 0)
          }
          if v.wantsValueSums && (isLast || job.pointee.shares_values == 0) {
            writeSums(
              v, v.valueSums, Int(job.pointee.value_pitch), job.pointee.d_value,
              Int(forward.value_size),
              isDirect: job.pointee.is_value_direct != 0)
          }
        }
      }
      batch = batch &+ 1
    }
  }

  /// Some blocks of queries against the task's keys.
  @inline(never)
  private static func visitQueries<L: TileLanes>(_ v: VjpBench<L>, _ query: Int, blocks: Int) {
    let bench = v.bench
    let step = Int(SMXK_QUERY_BLOCK)
    var lower = v.lastKey
    var upper = v.firstKey
    let group = InlineArray<8, VjpBlock<L>> { place in
      let first = place < blocks ? query &+ place &* step : bench.queries
      let block = VjpBlock(v, first, place: place)
      if v.wantsKeys { loadPanels(v, block, first) }
      lower = Swift.min(lower, block.lower)
      upper = Swift.max(upper, block.upper)
      return block
    }
    let size = Int(SMXK_KEY_BLOCK)
    var from = Swift.max(v.firstKey, lower)
    let end = Swift.min(v.lastKey, upper)
    while from < end {
      let to = Swift.min((from / size &+ 1) &* size, end)
      let keys = KeyBlock(bench, from: from, to: to, isFew: false)
      // One look for all blocks of queries (H8 L1024 D64: 2 % less time than one for each).
      let areFinite =
        v.wantsQueries
        && keys.hasFiniteKeys(from, to, columns: Int(bench.job.pointee.head_size))
      for place in 0..<blocks {
        let block = group[place]
        let first = Swift.max(from, block.lower)
        let last = Swift.min(to, block.upper)
        if first < last
          && block.findGradients(v, keys, first, last, keysAreFinite: areFinite) && v.wantsKeys
        {
          addRows(v, block, first, last)
        }
      }
      from = to
    }
    if v.wantsQueries {
      for place in 0..<blocks { writeQueries(v, group[place]) }
    }
  }

  @inline(never)
  private static func writeQueries<L: TileLanes>(_ v: VjpBench<L>, _ block: VjpBlock<L>) {
    let forward = v.job.pointee.forward
    for t in 0..<block.tiles {
      let tile = block.tile(v, t)
      closeColumns(
        L.self, tile.sums, Int(forward.head_size) &* tile.lanes, times: L.Scalar(forward.scale))
      var lane = 0
      while lane < tile.lanes {
        writeTurned(
          tile, v.job.pointee.d_query, tile.sums, lane, first: 0, count: Int(forward.head_size))
        lane = lane &+ L.count
      }
    }
  }

  // -- sums that become results -------------------------------------------------------------------

  @inline(never)
  static func clearRows<L: TileLanes>(
    _: L.Type, _ sums: UnsafeMutablePointer<L.Scalar>, _ pitch: Int, _ size: Int, _ rows: Int
  ) {
    for j in 0..<rows { clear(L.self, sums + j &* pitch, size) }
  }

  /// Numbers times a factor, with one zero and one NaN; `count` is a multiple of the lanes.
  @inline(__always)
  static func closeColumns<L: TileLanes>(
    _: L.Type, _ numbers: UnsafeMutablePointer<L.Scalar>, _ count: Int, times factor: L.Scalar
  ) {
    var i = 0
    while i < count {
      let value = L(at: numbers + i) * L(factor) + L(0)
      L.pick(value, equalTo: value, value, L(.nan)).store(at: numbers + i)
      i = i &+ L.count
    }
  }

  @inline(never)
  static func writeSums<L: TileLanes>(
    _ v: VjpBench<L>, _ sums: UnsafeMutablePointer<L.Scalar>, _ pitch: Int, _ view: smxk_view,
    _ size: Int, isDirect: Bool
  ) {
    let bench = v.bench
    for j in v.firstKey..<v.lastKey {
      let row = sums + (j &- v.firstKey) &* pitch
      closeColumns(L.self, row, (size &+ L.count &- 1) / L.count &* L.count, times: 1)
      if isDirect { continue }
      let p =
        UnsafeMutableRawPointer(view.data!)
        + (bench.batch &* Int(view.batch) &+ bench.keyHead &* Int(view.head) &+ j &* Int(view.row))
      write(L.self, bench.job.pointee.dtype, p, Int(view.column), row, size)
    }
  }

  // -- the bias and the sinks ---------------------------------------------------------------------

  /// One block of keys of the bias, for one of its batch entries and heads: the sum over all that
  /// it serves.
  @inline(never)
  private static func visitBias<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_attention_vjp>, _ base: UnsafeMutableRawPointer,
    _ task: Int
  ) {
    let forward = job.pointee.forward
    let view = job.pointee.d_bias
    let blocks = Int(job.pointee.bias_tasks)
    let ownHeads = view.head != 0 ? Int(forward.heads) : 1
    let entry = task / blocks
    let batches =
      view.batch != 0 ? entry / ownHeads..<entry / ownHeads &+ 1 : 0..<Int(forward.batch)
    let heads = view.head != 0 ? entry % ownHeads..<entry % ownHeads &+ 1 : 0..<Int(forward.heads)
    let size = Int(SMXK_KEY_BLOCK)
    let first = blocks == 1 ? 0 : task % blocks &* size
    let last = blocks == 1 ? Int(forward.keys) : Swift.min(first &+ size, Int(forward.keys))
    let start =
      UnsafeMutableRawPointer(view.data!)
      + (batches.lowerBound &* Int(view.batch) &+ heads.lowerBound &* Int(view.head))
    for i in 0..<(view.row != 0 ? Int(forward.queries) : 1) {
      for j in first..<(view.column != 0 ? last : Swift.min(first &+ 1, last)) {
        (start + (i &* Int(view.row) &+ j &* Int(view.column))).storeBytes(of: 0, as: L.Scalar.self)
      }
    }
    for batch in batches {
      for head in heads {
        let v = VjpBench<L>(
          job, base, batch: batch, head: head, keys: first..<last, wantsQueries: false,
          wantsKeys: false)
        var query = 0
        while query < v.bench.queries {
          let block = VjpBlock(v, query, place: 0)
          var from = Swift.max(first, block.lower)
          let end = Swift.min(last, block.upper)
          while from < end {
            let to = Swift.min((from / size &+ 1) &* size, end)
            let keys = KeyBlock(v.bench, from: from, to: to, isFew: false)
            if block.findGradients(v, keys, from, to, keysAreFinite: false) {
              addBias(v, block, query, from, to)
            }
            from = to
          }
          query = query &+ Int(SMXK_QUERY_BLOCK)
        }
      }
    }
  }

  /// A block's gradients of scores into those of the bias.
  @inline(never)
  private static func addBias<L: TileLanes>(
    _ v: VjpBench<L>, _ block: VjpBlock<L>, _ query: Int, _ from: Int, _ to: Int
  ) {
    let view = v.job.pointee.d_bias
    let gradients = v.room(v.job.pointee.rooms.gradients)
    let start =
      UnsafeMutableRawPointer(view.data!)
      + (v.bench.batch &* Int(view.batch) &+ v.bench.group &* Int(view.head) &+ query
        &* Int(view.row))
    func add(_ p: UnsafeMutableRawPointer, _ value: L.Scalar) {
      let sum = p.loadUnaligned(as: L.Scalar.self) + value + 0
      p.storeBytes(of: sum == sum ? sum : .nan, as: L.Scalar.self)
    }
    for j in from..<to {
      let row = gradients + (j &- from) &* Int(SMXK_QUERY_BLOCK)
      let p = start + j &* Int(view.column)
      if view.row != 0 {
        for i in 0..<block.count { add(p + i &* Int(view.row), row[i]) }
      } else {
        var sum = 0.0
        for i in 0..<block.count { sum += Double(row[i]) }
        add(p, L.Scalar(sum))
      }
    }
  }

  /// -exp(sink - lse) · delta, summed over batch entries and queries in float64.
  @inline(never)
  private static func visitSink<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_attention_vjp>, _ base: UnsafeMutableRawPointer, head: Int
  ) {
    let forward = job.pointee.forward
    let sink = UnsafeRawPointer(forward.sinks.data! + head &* Int(forward.sinks.head))
      .loadUnaligned(as: L.Scalar.self)
    var sum = 0.0
    for batch in 0..<Int(forward.batch) {
      var query = 0
      while query < Int(forward.queries) {
        let v = VjpBench<L>(
          job, base, batch: batch, head: head, keys: 0..<0, wantsQueries: false, wantsKeys: false)
        let block = VjpBlock(v, query, place: 0)
        for t in 0..<block.tiles {
          let tile = block.tile(v, t)
          var lane = 0
          while lane < tile.lanes {
            let weight = VjpBlock<L>.weight(of: L(sink), tile, lane)
            let part = L.pick(
              weight, equalTo: L(0), weight, weight * L(at: tile.state(SMXK_TOTAL_WEIGHT) + lane))
            for l in 0..<Swift.min(L.count, Int(tile.header.pointee.count) &- lane) {
              sum -= Double(part[l])
            }
            lane = lane &+ L.count
          }
        }
        query = query &+ Int(SMXK_QUERY_BLOCK)
      }
    }
    sum += 0
    let p = UnsafeMutableRawPointer(
      job.pointee.d_sinks.data! + head &* Int(job.pointee.d_sinks.head))
    p.storeBytes(of: sum == sum ? L.Scalar(sum) : .nan, as: L.Scalar.self)
  }
}
