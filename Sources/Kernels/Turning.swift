// Rows that become columns: squares of L.count rows and columns, turned.
//
//     row 0    a b c d              a e i m    column 0
//     row 1    e f g h              b f j n    column 1
//     row 2    i j k l      →       c g k o    column 2
//     row 3    m n o p              d h l p    column 3
//
// With w = L.count / 4 numbers in a quarter of a vector, 16 bytes, vector i is loaded in quarters
// from rows i, i + w, i + 2w and i + 3w: only the squares inside the quarters are left to turn, and
// the rows then stand in order. With AVX-512 a square of 16 × 16 takes 48 insertions, which either
// port takes, and 32 shuffles, which one does; whole vectors as rows take 64 shuffles. In the
// first-level cache 17.8 ns a square against 22.6 (Xeon); no load crosses a line where rows begin
// at multiples of 16 bytes.

import CSupport

extension Kernels {
  /// Columns column..<column + w of L.count rows, which begin where `row` says: the first w of four
  /// vectors.
  @inline(__always)
  static func turnedColumns<L: TileLanes>(
    _: L.Type, _ column: Int, _ row: (Int) -> UnsafeRawPointer
  ) -> InlineArray<4, L> {
    let width = L.count / 4
    let offset = column &* MemoryLayout<L.Scalar>.stride
    @inline(__always) func load(_ i: Int) -> L {
      L(
        quarters: row(i) + offset, row(i &+ width) + offset, row(i &+ 2 &* width) + offset,
        row(i &+ 3 &* width) + offset)
    }
    if L.count == 8 {
      let (a, b) = L.weave(load(0), load(1))
      return [a, b, b, b]
    }
    let even = L.weave(load(0), load(2))
    let odd = L.weave(load(1), load(3))
    let (a, b) = L.weave(even.lower, odd.lower)
    let (c, d) = L.weave(even.upper, odd.upper)
    return [a, b, c, d]
  }

  /// Rows that squares reach: so many are cleared, for the rest of the last square is turned too.
  @inline(__always) static func wholeSquares<L: TileLanes>(_: L.Type, _ rows: Int) -> Int {
    (rows &+ L.count &- 1) / L.count &* L.count
  }

  /// All columns of a square, a vector each.
  @inline(__always)
  static func turn<L: TileLanes>(
    _: L.Type, _ row: (Int) -> UnsafeRawPointer, _ take: (_ column: Int, L) -> Void
  ) {
    var column = 0
    while column < L.count {
      let columns = turnedColumns(L.self, column, row)
      // Written out: as a loop the vectors would go through memory.
      take(column, columns[0])
      take(column &+ 1, columns[1])
      if L.count == 16 {
        take(column &+ 2, columns[2])
        take(column &+ 3, columns[3])
      }
      column = column &+ L.count / 4
    }
  }

  /// A square, turned, to where it does not lie itself; strides in elements. Results are stored row
  /// after row, so what one has too many the next one may overwrite.
  @inline(never)
  static func transpose<L: TileLanes>(
    _: L.Type, _ from: UnsafePointer<L.Scalar>, _ fromRow: Int,
    _ to: UnsafeMutablePointer<L.Scalar>, _ toRow: Int
  ) {
    turn(L.self) {
      UnsafeRawPointer(from + $0 &* fromRow)
    } _: { column, numbers in
      numbers.store(at: to + column &* toRow)
    }
  }

  /// The first columns of a square; beyond its rows it has the last one again.
  @inline(never)
  static func transpose<L: TileLanes>(
    _: L.Type, _ from: UnsafePointer<L.Scalar>, _ fromRow: Int,
    _ to: UnsafeMutablePointer<L.Scalar>, _ toRow: Int, rows: Int, columns: Int
  ) {
    turn(L.self) {
      UnsafeRawPointer(from + Swift.min($0, rows &- 1) &* fromRow)
    } _: { column, numbers in
      if column < columns { numbers.store(at: to + column &* toRow) }
    }
  }

  /// The same times a factor. (1 would be one, but subnormal numbers would take their time.)
  @inline(never)
  static func transpose<L: TileLanes>(
    _: L.Type, _ from: UnsafePointer<L.Scalar>, _ fromRow: Int,
    _ to: UnsafeMutablePointer<L.Scalar>, _ toRow: Int, times factor: L.Scalar
  ) {
    turn(L.self) {
      UnsafeRawPointer(from + $0 &* fromRow)
    } _: { column, numbers in
      (numbers * L(factor)).store(at: to + column &* toRow)
    }
  }

  /// Up to 64 columns of L.count rows, turned, times a factor: (columns, lanes), whole squares
  /// beyond the last. `rows` has room for 64 numbers each.
  @inline(never)
  static func turnRows<L: TileLanes>(
    _: L.Type, _ rows: UnsafePointer<L.Scalar>, _ columns: Int,
    _ results: UnsafeMutablePointer<L.Scalar>, lanes: Int,
    times factor: L.Scalar
  ) {
    var column = 0
    while column < columns {
      transpose(
        L.self, rows + column, Int(SMXK_KEY_BLOCK), results + column &* lanes, lanes, times: factor)
      column = column &+ L.count
    }
  }
}
