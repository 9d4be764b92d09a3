// A tile's beginning: its queries, turned so that lanes run along them, and the keys that each of
// them sees.

import CSupport

extension Kernels {
  /// Reads the queries of rows firstRow... of the group and begins their sums.
  @inline(never)
  static func begin<L: TileLanes>(_ tile: Tile<L>, firstRow: Int) {
    let job = tile.bench.job
    let count = Swift.min(Int(job.pointee.tile_lanes), tile.bench.rows &- firstRow)
    tile.header.pointee.count = Int64(count)
    tile.header.pointee.is_apart = 0
    tile.header.pointee.has_base = 0
    tile.header.pointee.has_others = 0
    tile.header.pointee.has_masked = 0
    tile.header.pointee.lanes = Int64((count &+ L.count &- 1) / L.count &* L.count)
    findLanes(tile, firstRow)
    if job.pointee.vector.data == nil {
      loadColumns(
        tile, job.pointee.query, Int(job.pointee.head_size), times: L.Scalar(job.pointee.scale),
        to: tile.query)
    } else {
      loadProjected(tile)
    }
    let lanes = tile.lanes
    clear(L.self, tile.sums, wholeSquares(L.self, Int(job.pointee.value_size)) &* lanes)
    fill(L.self, tile.state(SMXK_BASE), 0, lanes)
    fill(L.self, tile.state(SMXK_EXPONENT), -L.Scalar.greatestFiniteMagnitude, lanes)
    fill(L.self, tile.state(SMXK_WEIGHT), 0, lanes)
  }

  @inline(__always)
  static func fill<L: TileLanes>(
    _: L.Type, _ p: UnsafeMutablePointer<L.Scalar>, _ value: L.Scalar, _ count: Int
  ) {
    var i = 0
    while i < count {
      L(value).store(at: p + i)
      i = i &+ L.count
    }
  }

  @inline(__always)
  static func clear<L: TileLanes>(_: L.Type, _ p: UnsafeMutablePointer<L.Scalar>, _ count: Int) {
    fill(L.self, p, 0, count)
  }

  /// Which query each lane is, and which keys it sees.
  @inline(never)
  static func findLanes<L: TileLanes>(_ tile: Tile<L>, _ firstRow: Int) {
    let bench = tile.bench
    let job = bench.job
    let queries = bench.queries
    let keys = bench.keys
    let perGroup = Int(job.pointee.heads / job.pointee.key_heads)
    var lower = keys
    var upper = 0
    var allFrom = 0
    var allTo = keys
    // Queries that only their number tells apart.
    let count = Int(tile.header.pointee.count)
    let areAlike =
      job.pointee.is_flat == 0 && job.pointee.structure == nil && job.pointee.slopes.data == nil
      && keys > 0
    if areAlike {
      lower = 0
      upper = keys
      number(tile.places(SMXK_PLACE), from: firstRow, step: 1, count)
      number(tile.places(SMXK_HEAD), from: bench.group, step: 0, count)
      number(tile.places(SMXK_FIRST), from: 0, step: 0, count)
      number(tile.places(SMXK_LAST), from: keys, step: 0, count)
    }
    for lane in (areAlike ? count : 0)..<tile.lanes {
      var place = 0
      var head = 0
      var seen = (lower: 0, upper: keys)
      if lane < count {
        place = firstRow &+ lane
        head = bench.group
        if job.pointee.is_flat != 0 {
          head = bench.group &* perGroup &+ place / queries
          place = place % queries
        }
        if job.pointee.structure != nil { seen = keysSeen(bench, head: head, query: place) }
        if seen.lower < seen.upper {
          lower = Swift.min(lower, seen.lower)
          upper = Swift.max(upper, seen.upper)
          allFrom = Swift.max(allFrom, seen.lower)
          allTo = Swift.min(allTo, seen.upper)
        } else {
          // Its sums are thrown away at the end.
          seen = (keys, 0)
        }
      }
      tile.places(SMXK_PLACE)[lane] = Int64(place)
      tile.places(SMXK_HEAD)[lane] = Int64(head)
      tile.places(SMXK_FIRST)[lane] = Int64(seen.lower)
      tile.places(SMXK_LAST)[lane] = Int64(seen.upper)
      if let slopes = job.pointee.slopes.data {
        let view = job.pointee.slopes
        let p =
          UnsafeRawPointer(slopes) + (bench.batch &* Int(view.batch) &+ head &* Int(view.head))
        tile.state(SMXK_SLOPE)[lane] = p.loadUnaligned(as: L.Scalar.self)
      }
    }
    tile.header.pointee.lower = Int64(lower)
    tile.header.pointee.upper = Int64(upper)
    tile.header.pointee.all_from = Int64(allFrom)
    tile.header.pointee.all_to = Int64(allTo)
  }

  /// first, first + step, first + 2·step and so on.
  @inline(never)
  private static func number(
    _ places: UnsafeMutablePointer<Int64>, from first: Int, step: Int, _ count: Int
  ) {
    for i in 0..<count { places[i] = Int64(first &+ i &* step) }
  }

  /// Whether the tile's keys are so many that what it reads and writes beside them may have left
  /// the cache.
  @inline(__always) static func isLong<L: TileLanes>(_ tile: Tile<L>) -> Bool {
    tile.header.pointee.upper &- tile.header.pointee.lower >= 4 &* Int64(SMXK_KEY_BLOCK)
  }

  /// An operand's rows for the tile's queries, times a factor, turned: (size, lanes).
  @inline(never)
  static func loadColumns<L: TileLanes>(
    _ tile: Tile<L>, _ view: smxk_view, _ size: Int, times scale: L.Scalar,
    to: UnsafeMutablePointer<L.Scalar>
  ) {
    let bench = tile.bench
    // Of a vector's lanes, up to 64 columns at a time.
    let width = Int(SMXK_KEY_BLOCK)
    let rows = bench.scores
    var lane = 0
    while lane < tile.lanes {
      var column = 0
      if let even = evenRows(tile, view, lane) {
        while column &+ L.count <= size {
          // The rows of the next lanes, which may be the next tile's.
          for l in 0..<(isLong(tile) ? L.count : 0) {
            I.prefetchAhead(even.start + (column &+ (l &+ L.count) &* even.stride))
          }
          transpose(
            L.self, even.start + column, even.stride, to + (column &* tile.lanes &+ lane),
            tile.lanes,
            times: scale)
          column = column &+ L.count
        }
      }
      while column < size {
        let columns = Swift.min(width, size &- column)
        for l in 0..<L.count {
          let row = rows + l &* width
          if lane &+ l < Int(tile.header.pointee.count) {
            let p = address(view, bench.batch, tile, lane &+ l) + column &* Int(view.column)
            readRow(L.self, bench.job.pointee.dtype, p, Int(view.column), row, columns)
            for i in columns..<(columns &+ L.count &- 1) / L.count &* L.count { row[i] = 0 }
          } else {
            clear(L.self, row, width)
          }
        }
        turnRows(
          L.self, rows, columns, to + (column &* tile.lanes &+ lane), lanes: tile.lanes,
          times: scale)
        column = column &+ width
      }
      lane = lane &+ L.count
    }
  }

  /// Start and stride of a vector's rows in an operand, in numbers, where they lie so that they can
  /// be turned in place: of the lanes' own type, a row's numbers side by side, the rows evenly
  /// spaced.
  @inline(never)
  static func evenRows<L: TileLanes>(
    _ tile: Tile<L>, _ view: smxk_view, _ lane: Int
  ) -> (start: UnsafeMutablePointer<L.Scalar>, stride: Int)? {
    let size = MemoryLayout<L.Scalar>.stride
    let last = lane &+ L.count &- 1
    guard last < Int(tile.header.pointee.count), isOwn(L.self, tile.bench.job.pointee.dtype),
      Int(view.column) == size,
      Int(view.row) % size == 0, tile.places(SMXK_HEAD)[lane] == tile.places(SMXK_HEAD)[last]
    else { return nil }
    let start = address(view, tile.bench.batch, tile, lane).assumingMemoryBound(to: L.Scalar.self)
    return (start, Int(view.row) / size)
  }

  /// Where the row of a lane's query begins in an operand.
  @inline(__always)
  static func address<L: TileLanes>(
    _ view: smxk_view, _ batch: Int, _ tile: Tile<L>, _ lane: Int
  ) -> UnsafeMutableRawPointer {
    let head = Int(tile.places(SMXK_HEAD)[lane])
    let place = Int(tile.places(SMXK_PLACE)[lane]) &+ tile.bench.firstQuery
    return UnsafeMutableRawPointer(view.data!)
      + (batch &* Int(view.batch) &+ head &* Int(view.head) &+ place &* Int(view.row))
  }

  /// Numbers of a dtype, `stride` bytes apart, as L.Scalar.
  @inline(never)
  static func readRow<L: TileLanes>(
    _: L.Type, _ dtype: smx_dtype, _ p: UnsafeRawPointer, _ stride: Int,
    _ to: UnsafeMutablePointer<L.Scalar>, _ count: Int
  ) {
    var i = 0
    if isOwn(L.self, dtype) && stride == MemoryLayout<L.Scalar>.stride {
      let from = p.assumingMemoryBound(to: L.Scalar.self)
      while i &+ L.count <= count {
        L(at: from + i).store(at: to + i)
        i = i &+ L.count
      }
    }
    read(L.self, dtype, p + i &* stride, stride, to + i, count &- i)
  }
}
