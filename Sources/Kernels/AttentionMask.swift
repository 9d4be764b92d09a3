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

  /// Whether segments, if there are any, may let a query of the tile see a key of first..<last;
  /// has_others says whether they may also hide one.
  @inline(__always)
  static func seesAny<L: TileLanes>(_ tile: Tile<L>, _ first: Int, _ last: Int) -> Bool {
    tile.bench.job.pointee.has_segments == 0 || segmentsMeet(tile, first, last)
  }

  /// Where the segment ids of one row of queries or keys lie.
  struct Segments {
    private let base: UnsafeRawPointer
    private let step: Int
    private let dtype: smx_dtype

    @inline(__always) init(_ tensor: UnsafePointer<smx_tensor>, _ index: UnsafePointer<Int64>) {
      let last = Int(tensor.pointee.ndim) &- 1
      var p = UnsafeRawPointer(tensor.pointee.data!)
      for axis in 0..<last { p += Int(index[axis]) &* Int(tensor.pointee.strides[axis]) }
      base = p
      step = Int(tensor.pointee.strides[last])
      dtype = tensor.pointee.dtype
    }

    @inline(__always) subscript(place: Int) -> Int {
      Int(smxk_integer(dtype, base + place &* step))
    }
  }

  /// The ids of a tile's queries, or of the keys in front of them.
  struct SegmentRange {
    var least = Int.max
    var most = Int.min

    @inline(__always) mutating func add(_ id: Int) {
      least = Swift.min(least, id)
      most = Swift.max(most, id)
    }
  }

  /// The ranges of ids meet; has_others, unless both are one id.
  @inline(never)
  private static func segmentsMeet<L: TileLanes>(
    _ tile: Tile<L>, _ first: Int, _ last: Int
  ) -> Bool {
    let count = Int(tile.header.pointee.count)
    tile.header.pointee.has_others = 0
    var condition = tile.bench.job.pointee.structure
    while let c = condition {
      if let queries = c.pointee.query_segments, let keys = c.pointee.key_segments {
        var own = SegmentRange()
        var others = SegmentRange()
        var lane = 0
        while lane < count {
          // Ids are of a head at most: lanes of one head follow one another.
          let head = Int(tile.places(SMXK_HEAD)[lane])
          Leading(tile.bench, head: head).with { index in
            let queries = Segments(queries, index)
            while lane < count && Int(tile.places(SMXK_HEAD)[lane]) == head {
              own.add(queries[Int(tile.places(SMXK_PLACE)[lane])])
              lane = lane &+ 1
            }
            let keys = Segments(keys, index)
            for key in first..<last { others.add(keys[key]) }
          }
        }
        if own.most < others.least || others.most < own.least { return false }
        let isOne = own.least == own.most && others.least == others.most
        if !isOne { tile.header.pointee.has_others = 1 }
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
            let own = Segments(queries, index)[Int(tile.places(SMXK_PLACE)[lane])]
            let keys = Segments(keys, index)
            for key in first..<last where keys[key] != own {
              shown[(key &- first) &* lanes &+ lane] = 0
            }
          }
        }
      }
      condition = c.pointee.also
    }
  }
}
