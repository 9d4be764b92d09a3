// Rows of queries and dO in panels, and what they add to the gradients of keys and values
// (AttentionVjpBlock.swift).

import CSupport

extension Kernels {
  /// Vectors of the panel that begins at vector `from` of `vectors`: three where strips have room
  /// for them, and as even as that goes.
  @inline(__always) static func panelWidth(_ vectors: Int, from: Int) -> Int {
    let most = I.hasWideTiles ? 3 : 1
    let rest = vectors &- from
    let panels = (rest &+ most &- 1) / most
    return (rest &+ panels &- 1) / panels
  }

  @inline(never)
  static func loadPanels<L: TileLanes>(_ v: VjpBench<L>, _ block: VjpBlock<L>, _ query: Int) {
    let forward = v.bench.job
    if v.wantsKeySums {
      loadPanels(
        v, forward.pointee.query, query, block.count, Int(forward.pointee.head_size),
        times: L.Scalar(forward.pointee.scale), to: block.queryPanels(v))
    }
    if v.wantsValueSums {
      loadPanels(
        v, v.job.pointee.d_out, query, block.count, Int(forward.pointee.value_size), times: 1,
        to: block.outPanels(v))
    }
  }

  /// Rows of an operand, times a factor: panel after panel, in each SMXK_QUERY_BLOCK rows; the last
  /// vector is filled up with 0.
  @inline(never)
  private static func loadPanels<L: TileLanes>(
    _ v: VjpBench<L>, _ view: smxk_view, _ query: Int, _ count: Int, _ size: Int,
    times factor: L.Scalar,
    to panels: UnsafeMutablePointer<L.Scalar>
  ) {
    let bench = v.bench
    let vectors = (size &+ L.count &- 1) / L.count
    let start =
      UnsafeRawPointer(view.data!)
      + (bench.batch &* Int(view.batch) &+ bench.group &* Int(view.head))
    let row = bench.numbers(bench.job.pointee.rooms.turn)
    for i in 0..<count {
      let p = start + (query &+ i) &* Int(view.row)
      var vector = 0
      while vector < vectors {
        let width = panelWidth(vectors, from: vector)
        let to = panels + (vector &* Int(SMXK_QUERY_BLOCK) &+ i &* width) &* L.count
        for k in 0..<width {
          let column = (vector &+ k) &* L.count
          let used = Swift.min(L.count, size &- column)
          if used < L.count { clear(L.self, row, L.count) }
          readRow(
            L.self, bench.job.pointee.dtype, p + column &* Int(view.column), Int(view.column), row,
            used)
          (L(at: row) * L(factor)).store(at: to + k &* L.count)
        }
        vector = vector &+ width
      }
    }
  }

  /// What the block's queries add to the gradients of keys first..<last and of their values.
  @inline(never)
  static func addRows<L: TileLanes>(
    _ v: VjpBench<L>, _ block: VjpBlock<L>, _ first: Int, _ last: Int
  ) {
    let forward = v.bench.job
    if v.wantsValueSums {
      addRows(
        v, block, v.room(v.job.pointee.rooms.weights), block.outPanels(v),
        Int(forward.pointee.value_size),
        v.valueSums + (first &- v.firstKey) &* Int(v.job.pointee.value_pitch),
        Int(v.job.pointee.value_pitch), last &- first)
    }
    if v.wantsKeySums {
      addRows(
        v, block, v.room(v.job.pointee.rooms.gradients), block.queryPanels(v),
        Int(forward.pointee.head_size),
        v.keySums + (first &- v.firstKey) &* Int(v.job.pointee.key_pitch),
        Int(v.job.pointee.key_pitch), last &- first)
    }
  }

  @inline(__always)
  private static func addRows<L: TileLanes>(
    _ v: VjpBench<L>, _ block: VjpBlock<L>, _ factors: UnsafeMutablePointer<L.Scalar>,
    _ panels: UnsafeMutablePointer<L.Scalar>, _ size: Int, _ sums: UnsafeMutablePointer<L.Scalar>,
    _ pitch: Int, _ rows: Int
  ) {
    let vectors = (size &+ L.count &- 1) / L.count
    let queries = Int(SMXK_QUERY_BLOCK)
    var vector = 0
    while vector < vectors {
      let width = panelWidth(vectors, from: vector)
      let panel = panels + vector &* queries &* L.count
      let place = sums + vector &* L.count
      if block.isFinite {
        product(
          RowGoal<L>(pitch: pitch),
          TileLeft(base: factors, stride: queries &* MemoryLayout<L.Scalar>.stride), rows: rows,
          steps: block.count, panel, place, lanes: width &* L.count)
      } else {
        addShownRows(L.self, factors, panel, width, place, pitch, rows, block.count)
      }
      vector = vector &+ width
    }
  }

  /// The same where a query or dO is not finite: no product is formed with a factor of 0.
  @inline(never)
  private static func addShownRows<L: TileLanes>(
    _: L.Type, _ factors: UnsafePointer<L.Scalar>, _ panel: UnsafePointer<L.Scalar>, _ width: Int,
    _ sums: UnsafeMutablePointer<L.Scalar>, _ pitch: Int, _ rows: Int, _ count: Int
  ) {
    for j in 0..<rows {
      for k in 0..<width {
        var sum = L(0)
        for i in 0..<count {
          let factor = L(factors[j &* Int(SMXK_QUERY_BLOCK) &+ i])
          sum = L.pick(
            factor, equalTo: L(0), sum, factor.fma(L(at: panel + (i &* width &+ k) &* L.count), sum)
          )
        }
        let place = sums + (j &* pitch &+ k &* L.count)
        (L(at: place) + sum).store(at: place)
      }
    }
  }
}
