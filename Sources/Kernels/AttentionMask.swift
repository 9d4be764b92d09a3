// Which keys a query of attention sees, by arithmetic: an interval, and segments.

import CSupport

extension Kernels {
  /// The place of a query's row among the leading axes of the scores.
  struct Leading {
    var index = InlineArray<2, Int64>(repeating: 0)

    @inline(__always) init<L: TileLanes>(_ bench: Bench<L>, head: Int) {
      if bench.job.pointee.leading == 2 {
        index[0] = Int64(bench.batch)
        index[1] = Int64(head)
      } else {
        index[0] = Int64(head)
      }
    }

    @inline(__always) func with<T>(_ body: (UnsafePointer<Int64>) -> T) -> T {
      index.span.withUnsafeBufferPointer { body($0.baseAddress!) }
    }
  }

  /// The intersection of all conditions' intervals.
  @inline(never)
  static func keysSeen<L: TileLanes>(
    _ bench: Bench<L>, head: Int, query: Int
  ) -> (lower: Int, upper: Int) {
    let job = bench.job
    return Leading(bench, head: head).with { index in
      var lower = 0
      var upper = bench.keys
      var condition = job.pointee.structure
      while let c = condition {
        let found = interval(c, index, query: query, of: bench.queries, keys: bench.keys)
        lower = Swift.max(lower, found.lower)
        upper = Swift.min(upper, found.upper)
        condition = c.pointee.also
      }
      return (lower, upper)
    }
  }

  /// What ALiBi counts a query's distance from, beside its place.
  @inline(never)
  static func offset<L: TileLanes>(_ bench: Bench<L>, head: Int) -> Int {
    let job = bench.job
    guard let tensor = job.pointee.offset else { return bench.keys &- bench.queries }
    return Leading(bench, head: head).with { integer(tensor, $0) }
  }

  /// Whether segments, if there are any, may let a query of the tile see a key of first..<last: the
  /// ranges of their ids meet.
  @inline(__always)
  static func seesAny<L: TileLanes>(_ tile: Tile<L>, _ first: Int, _ last: Int) -> Bool {
    tile.bench.job.pointee.has_segments == 0 || segmentsMeet(tile, first, last)
  }

  @inline(never)
  private static func segmentsMeet<L: TileLanes>(
    _ tile: Tile<L>, _ first: Int, _ last: Int
  ) -> Bool {
    let count = Int(tile.header.pointee.count)
    var condition = tile.bench.job.pointee.structure
    while let c = condition {
      if let queries = c.pointee.query_segments, let keys = c.pointee.key_segments {
        var (least, most) = (Int.max, Int.min)
        var (leastKey, mostKey) = (Int.max, Int.min)
        var head = -1
        for lane in 0..<count {
          let index = Leading(tile.bench, head: Int(tile.places(SMXK_HEAD)[lane]))
          let id = index.with { segment(queries, $0, at: Int(tile.places(SMXK_PLACE)[lane])) }
          least = Swift.min(least, id)
          most = Swift.max(most, id)
          // Keys have ids of their own for each head at most.
          if Int(tile.places(SMXK_HEAD)[lane]) != head {
            head = Int(tile.places(SMXK_HEAD)[lane])
            for key in first..<last {
              let id = index.with { segment(keys, $0, at: key) }
              leastKey = Swift.min(leastKey, id)
              mostKey = Swift.max(mostKey, id)
            }
          }
        }
        if most < leastKey || mostKey < least { return false }
      }
      condition = c.pointee.also
    }
    return true
  }

  /// Sets to 0 what segments hide in `shown`, (keys, lanes).
  @inline(never)
  static func hideOtherSegments<L: TileLanes>(
    _ tile: Tile<L>, _ shown: UnsafeMutablePointer<L.Scalar>, _ first: Int, _ last: Int
  ) {
    let lanes = tile.lanes
    var condition = tile.bench.job.pointee.structure
    while let c = condition {
      if let queries = c.pointee.query_segments, let keys = c.pointee.key_segments {
        for lane in 0..<Int(tile.header.pointee.count) {
          Leading(tile.bench, head: Int(tile.places(SMXK_HEAD)[lane])).with { index in
            let own = segment(queries, index, at: Int(tile.places(SMXK_PLACE)[lane]))
            for key in first..<last where segment(keys, index, at: key) != own {
              shown[(key &- first) &* lanes &+ lane] = 0
            }
          }
        }
      }
      condition = c.pointee.also
    }
  }
}
