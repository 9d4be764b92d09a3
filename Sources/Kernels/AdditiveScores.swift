// Scores of additive attention, from queries and keys that have been projected (Projection.swift):
//
//     score[i][j] = sum over a of v[a] · tanh(q[i][a] + k[j][a])
//
// Lanes run along the keys, so one query is as good as many, as when a decoder takes a step; whole
// vectors of keys that a query does not see are passed over. As for products, each 32 numbers a are
// a chain from 0 in their order, `s = fma(v[a], tanh(q[a] + k[a]), s)`, and a score is the sum of
// the chains, in order. Order is part of the contract.
//
// The limit is the vector units: 27 operations for the numbers of 16 pairs, of which only the last
// waits for the one before, 4 cycles of 14. The other 26 depend on nothing, so that out-of-order
// execution has as many of them under way as there is room for; more chains side by side would gain
// nothing. A vector of keys is `width` vectors long and stays in the first cache for all queries of
// the tile.

import CSupport

extension Kernels {
  /// The tile's queries, projected, a row for each, and behind them v, a row for each again.
  @inline(never)
  static func loadProjected<L: TileLanes>(_ tile: Tile<L>) {
    let bench = tile.bench
    let job = bench.job
    let width = Int(job.pointee.head_size)
    let lanes = Int(job.pointee.query_projection.lanes)
    let vector = job.pointee.vector
    for lane in 0..<Int(tile.header.pointee.count) {
      let head = Int(tile.places(SMXK_HEAD)[lane])
      let from = projected(
        L.self, job.pointee.query_projection, batch: bench.batch, head: head,
        row: Int(tile.places(SMXK_PLACE)[lane]))
      let to = tile.query + lane &* width
      for a in 0..<width { to[a] = from[a &* lanes] }
      readRow(
        L.self, job.pointee.dtype, UnsafeRawPointer(vector.data!) + head &* Int(vector.head),
        Int(vector.column),
        tile.query + (tile.lanes &+ lane) &* width, width)
    }
  }

  /// Scores of keys first..<last, 0 for those that the structure hides, and the largest of each
  /// lane, NaN passed over.
  @inline(never)
  static func addScores<L: TileLanes>(_ tile: Tile<L>, _ first: Int, _ last: Int) {
    let bench = tile.bench
    let job = bench.job
    let lanes = tile.lanes
    let width = Int(job.pointee.head_size)
    let stride = Int(job.pointee.key_projection.lanes)
    let batch = job.pointee.key_projection.batch == 1 ? 0 : bench.batch
    let turn = bench.numbers(job.pointee.rooms.turn)
    clear(L.self, bench.scores, (last &- first) &* lanes)
    // Vectors of keys begin at multiples of their length, as keys have been projected.
    var key = first / L.count &* L.count
    while key < last {
      let keys = projected(
        L.self, job.pointee.key_projection, batch: batch, head: bench.keyHead, row: key)
      for lane in 0..<Int(tile.header.pointee.count) {
        let from = Swift.max(Swift.max(key, first), Int(tile.places(SMXK_FIRST)[lane]))
        let to = Swift.min(Swift.min(key &+ L.count, last), Int(tile.places(SMXK_LAST)[lane]))
        if from >= to { continue }
        let query = tile.query + lane &* width
        sumOfTanh(L.self, keys, stride, query, query + lanes &* width, width).store(at: turn)
        for k in from..<to { bench.scores[(k &- first) &* lanes &+ lane] = turn[k &- key] }
      }
      key = key &+ L.count
    }
    var lane = 0
    while lane < lanes {
      var largest = L(-L.Scalar.infinity)
      for k in 0..<(last &- first) {
        largest = L.max(L(at: bench.scores + (k &* lanes &+ lane)), largest)
      }
      largest.store(at: tile.state(SMXK_LARGEST) + lane)
      lane = lane &+ L.count
    }
  }

  /// A vector of keys, its numbers `stride` apart, against one query.
  @inline(__always)
  private static func sumOfTanh<L: TileLanes>(
    _: L.Type, _ keys: UnsafePointer<L.Scalar>, _ stride: Int, _ query: UnsafePointer<L.Scalar>,
    _ vector: UnsafePointer<L.Scalar>, _ width: Int
  ) -> L {
    var sum = L(0)
    var from = 0
    while from < width {
      var piece = L(0)
      for a in from..<Swift.min(from &+ Int(SMXK_SCORE_PIECE), width) {
        piece = L(vector[a]).fma((L(query[a]) + L(at: keys + a &* stride)).tanh(), piece)
      }
      sum = sum + piece
      from = from &+ Int(SMXK_SCORE_PIECE)
    }
    return sum
  }
}
