// Which keys a query of attention sees: by arithmetic, an interval and segments; and by an array.

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

  /// Whether segments and the mask array, if there are any, may let a query of the tile see a key
  /// of first..<last; has_others and has_masked say whether they may also hide one.
  @inline(__always)
  static func seesAny<L: TileLanes>(_ tile: Tile<L>, _ first: Int, _ last: Int) -> Bool {
    let job = tile.bench.job
    return (job.pointee.has_segments == 0 || segmentsMeet(tile, first, last))
      && (job.pointee.mask.data == nil || maskShows(tile, first, last))
  }

  /// The mask array shows some key; has_masked, unless it shows all of them.
  @inline(never)
  private static func maskShows<L: TileLanes>(
    _ tile: Tile<L>, _ first: Int, _ last: Int
  ) -> Bool {
    let bench = tile.bench
    let view = bench.job.pointee.mask
    // One row may be that of all queries, one number that of all keys.
    let isOne = view.row == 0 && (view.head == 0 || bench.job.pointee.is_flat == 0)
    let stride = Int(view.column)
    let count = stride == 0 ? 1 : last &- first
    // Eight flags in a word; a zero among them borrows from its highest bit. (Of bytes, with
    // `pointwiseMin`, the compiler made a loop that took longer than the block's products.)
    typealias Words = SIMD8<UInt64>
    let ones = Words(repeating: 0x0101_0101_0101_0101)
    var shown = Words(repeating: 0)
    var hidden = Words(repeating: 0)
    for lane in 0..<(isOne ? 1 : Int(tile.header.pointee.count)) {
      let row = UnsafeRawPointer(address(view, bench.batch, tile, lane)) + first &* stride
      if stride == 1 && count == 64 {
        let flags = row.loadUnaligned(as: Words.self)
        shown = shown | flags
        hidden = hidden | (((flags &- ones) & (flags ^ Words(repeating: .max))) & (ones &<< 7))
      } else {
        for key in 0..<count {
          let flag = row.load(fromByteOffset: key &* stride, as: UInt8.self)
          if flag != 0 { shown[0] = 1 } else { hidden[0] = 1 }
        }
      }
    }
    tile.header.pointee.has_masked = hidden.max() != 0 ? 1 : 0
    return shown.max() != 0
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
