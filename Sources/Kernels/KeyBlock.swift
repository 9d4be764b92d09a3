// Keys and values of a block, where they lie, or gathered into the workspace.
//
// They are used in place as long as they are of the lanes' own type, the numbers of a row follow
// one another and the rows lie in one piece: not narrow, not turned, not across the end of the past
// keys or of a pool's block. Few queries take narrow ones in place too (FewQueries.swift).

import CSupport

extension Kernels {
  /// Keys from..<to and their values.
  struct KeyBlock<L: TileLanes> {
    let from: Int
    let to: Int
    /// For few queries, which find keys and values in these dtypes.
    let isFew: Bool
    private(set) var keyDtype: smx_dtype
    private(set) var valueDtype: smx_dtype
    private var key = TileLeft(base: UnsafeRawPointer(bitPattern: 1)!, stride: 0)
    private var value = TileLeft(base: UnsafeRawPointer(bitPattern: 1)!, stride: 0)

    /// `bench` fixes batch entry and head.
    @inline(never)
    init(_ bench: Bench<L>, from: Int, to: Int, isFew: Bool) {
      self.from = from
      self.to = to
      self.isFew = isFew
      keyDtype = bench.job.pointee.dtype
      valueDtype = keyDtype
      let job = bench.job
      if job.pointee.vector.data == nil {
        key = Self.place(
          bench, job.pointee.key, job.pointee.past_key, from, to, Int(job.pointee.head_size),
          job.pointee.rooms.keys, isFew,
          &keyDtype)
      }
      value = Self.place(
        bench, job.pointee.value, job.pointee.past_value, from, to, Int(job.pointee.value_size),
        job.pointee.rooms.values,
        isFew, &valueDtype)
    }

    @inline(__always) func keys(from first: Int) -> TileLeft {
      TileLeft(base: key.base + (first &- from) &* key.stride, stride: key.stride)
    }

    @inline(__always) func values(from first: Int) -> TileLeft {
      TileLeft(base: value.base + (first &- from) &* value.stride, stride: value.stride)
    }

    /// The keys of the next block, if they follow these.
    @inline(__always) func nextKeys(
      columns: Int, strips: Int
    ) -> Ahead {
      next(key, columns, strips)
    }

    @inline(__always) func nextValues(
      columns: Int, strips: Int
    ) -> Ahead {
      next(value, columns, strips)
    }

    @inline(__always) private func next(_ rows: TileLeft, _ columns: Int, _ strips: Int) -> Ahead {
      Ahead(
        rows.base + (to &- from) &* rows.stride, rows: Int(SMXK_KEY_BLOCK), stride: rows.stride,
        bytes: columns &* MemoryLayout<L.Scalar>.stride, strips: strips)
    }

    /// `found` is the dtype of the rows at the result.
    @inline(never)
    private static func place(
      _ bench: Bench<L>, _ view: smxk_view, _ past: smxk_view, _ from: Int, _ to: Int,
      _ columns: Int, _ room: Int64,
      _ isFew: Bool, _ found: inout smx_dtype
    ) -> TileLeft {
      let dtype = bench.job.pointee.dtype
      let whole = piece(bench, view, past, from)
      let size = MemoryLayout<L.Scalar>.stride
      let ownSize = isOwn(L.self, dtype) ? size : 2
      if (isFew || ownSize == size) && whole.end >= to && (whole.column == ownSize || columns <= 1)
      {
        return TileLeft(base: whole.start, stride: whole.row)
      }
      found = smx_dtype(L.isSingle ? SMX_FLOAT32 : SMX_FLOAT64)
      let numbers = bench.numbers(room)
      var key = from
      while key < to {
        let piece = piece(bench, view, past, key)
        let end = Swift.min(piece.end, to)
        for k in key..<end {
          readRow(
            L.self, dtype, piece.start + (k &- key) &* piece.row, piece.column,
            numbers + (k &- from) &* columns, columns)
        }
        key = end
      }
      return TileLeft(base: UnsafeRawPointer(numbers), stride: columns &* size)
    }

    /// Where key number `key` lies, and up to where the ones behind it follow with one stride.
    @inline(never)
    private static func piece(
      _ bench: Bench<L>, _ view: smxk_view, _ past: smxk_view, _ key: Int
    ) -> (start: UnsafeRawPointer, end: Int, row: Int, column: Int) {
      let job = bench.job
      let pastCount = Int(job.pointee.past)
      let isPast = key < pastCount
      let v = isPast ? past : view
      var batch = bench.batch
      var row = isPast ? key : key &- pastCount &+ bench.firstKey
      var end = isPast ? pastCount : bench.keys
      if let table = job.pointee.blocks.data {
        let size = Int(job.pointee.block_size)
        let entry =
          UnsafeRawPointer(table)
          + (batch &* Int(job.pointee.blocks.batch) &+ key / size &* Int(job.pointee.blocks.column))
        batch = Int(smxk_integer(job.pointee.blocks_dtype, entry))
        row = key % size
        end = key &- row &+ size
      }
      let start =
        UnsafeRawPointer(v.data!)
        + (batch &* Int(v.batch) &+ bench.keyHead &* Int(v.head) &+ row &* Int(v.row))
      return (start, end, Int(v.row), Int(v.column))
    }

    /// Whether the values of keys first..<last are all finite.
    @inline(__always) func hasFiniteValues(_ first: Int, _ last: Int, columns: Int) -> Bool {
      Kernels.areFinite(L.self, values(from: first), rows: last &- first, columns: columns)
    }

    /// Whether the keys first..<last are.
    @inline(__always) func hasFiniteKeys(_ first: Int, _ last: Int, columns: Int) -> Bool {
      Kernels.areFinite(L.self, keys(from: first), rows: last &- first, columns: columns)
    }

    /// One number of the keys.
    @inline(__always) func key(_ key: Int, _ column: Int) -> L.Scalar {
      let place = (key &- from) &* self.key.stride &+ column &* MemoryLayout<L.Scalar>.stride
      return (self.key.base + place).loadUnaligned(as: L.Scalar.self)
    }

    /// One number of the values.
    @inline(__always) func value(_ key: Int, _ column: Int) -> L.Scalar {
      (value.base + ((key &- from) &* value.stride &+ column &* MemoryLayout<L.Scalar>.stride))
        .loadUnaligned(as: L.Scalar.self)
    }
  }

  /// Whether all numbers of a matrix are finite.
  @inline(never)
  static func areFinite<L: TileLanes>(
    _: L.Type, _ left: TileLeft, rows: Int, columns: Int
  ) -> Bool {
    // A product with 0 is 0 for a finite number and NaN for any other. Four chains, as one would
    // wait for itself.
    var found = InlineArray<4, L>(repeating: L(0))
    // Rows that follow one another are one.
    let isOne = left.stride == columns &* MemoryLayout<L.Scalar>.stride
    let columns = isOne ? rows &* columns : columns
    for r in 0..<(isOne ? 1 : rows) {
      let row = (left.base + r &* left.stride).assumingMemoryBound(to: L.Scalar.self)
      var column = 0
      while column &+ 4 &* L.count <= columns {
        for v in 0..<4 { found[v] = L(at: row + (column &+ v &* L.count)).fma(L(0), found[v]) }
        column = column &+ 4 &* L.count
      }
      while column &+ L.count <= columns {
        found[0] = L(at: row + column).fma(L(0), found[0])
        column = column &+ L.count
      }
      while column < columns {
        found[0] = L(row[column]).fma(L(0), found[0])
        column = column &+ 1
      }
    }
    let sum = (found[0] + found[1]) + (found[2] + found[3])
    return L.pick(sum, equalTo: L(0), L(0), L(1)).largest() == 0
  }
}
