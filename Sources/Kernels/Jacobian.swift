// The Jacobian of softmax: J[i][j] = p_i·(δij - p_j) / T, a matrix for each row.
//
// Writing is the limit: a line takes a product for each element that it writes. Lines of a row are
// worked on in blocks of up to a tile, so that the row is gathered once for many lines.

import CSupport

extension Kernels {
  /// Elements of a tile; five tiles fit into scratch.
  static var jacobianTile: Int { @inline(__always) get { 1024 } }

  /// Tiles of numbers in scratch.
  struct JacobianTiles<L: Lanes> {
    /// p_i, and whether it is not masked (1 or 0); the same of p_j; a line's results.
    let lines: UnsafeMutablePointer<L.Scalar>
    let showsLine: UnsafeMutablePointer<L.Scalar>
    let columns: UnsafeMutablePointer<L.Scalar>
    let showsColumn: UnsafeMutablePointer<L.Scalar>
    let results: UnsafeMutablePointer<L.Scalar>

    @inline(__always) init(_ scratch: UnsafeMutablePointer<smxk_scratch>) {
      lines = smxk_high_of(scratch).assumingMemoryBound(to: L.Scalar.self)
      showsLine = lines + Kernels.jacobianTile
      results = showsLine + Kernels.jacobianTile
      columns = smxk_low_of(scratch).assumingMemoryBound(to: L.Scalar.self)
      showsColumn = columns + Kernels.jacobianTile
    }
  }

  /// Lines first ..< first + count, counted over the rows of the job.
  @inline(__always)
  public static func jacobian<L: Lanes>(
    _: L.Type, _ call: UnsafePointer<smxk_jacobian>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    withUnsafePointer(to: call.pointee.job) { job in
      let row = row(of: scratch)
      let cols = Int(job.pointee.cols)
      var line = first
      while line < first &+ count {
        let number = line / cols
        let from = line &- number &* cols
        let lines = Swift.min(jacobianTile, Swift.min(cols &- from, first &+ count &- line))
        beginRow(job, row, number)
        jacobianLines(L.self, call, job, row, from, lines, scratch)
        line = line &+ lines
      }
    }
  }

  /// Lines from ..< from + count of one row, at most a tile of them.
  @inline(never)
  static func jacobianLines<L: Lanes>(
    _: L.Type, _ call: UnsafePointer<smxk_jacobian>, _ job: UnsafePointer<smxk_job>,
    _ row: UnsafePointer<smxk_row>,
    _ from: Int, _ count: Int, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let tiles = JacobianTiles<L>(scratch)
    gatherTile(L.self, job, row, tiles.lines, tiles.showsLine, from, count, scratch)
    let isFlat = form(L.self, row.pointee.temperature) != SMXK_SCALED
    // A flat row's Jacobian is 0: p / inf.
    let temperature = isFlat ? Double.infinity : row.pointee.temperature
    let cols = Int(job.pointee.cols)
    let dtype = job.pointee.dtype
    let size = MemoryLayout<L.Scalar>.stride
    let isDirect = isOwn(L.self, dtype) && Int(call.pointee.column) == size
    var start = 0
    while start < cols {
      let length = Swift.min(jacobianTile, cols &- start)
      gatherTile(L.self, job, row, tiles.columns, tiles.showsColumn, start, length, scratch)
      for i in 0..<count {
        let out =
          UnsafeMutableRawPointer(row.pointee.out!)
          + ((from &+ i) &* Int(call.pointee.line) &+ start &* Int(call.pointee.column))
        let results = isDirect ? out.assumingMemoryBound(to: L.Scalar.self) : tiles.results
        writeLine(tiles, i, results, length, temperature, diagonal: from &+ i &- start)
        if !isDirect { write(L.self, dtype, out, Int(call.pointee.column), results, length) }
      }
      start = start &+ length
    }
  }

  /// Elements start ..< start + length of the row, and which of them are not masked.
  @inline(never)
  static func gatherTile<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>,
    _ p: UnsafeMutablePointer<L.Scalar>,
    _ shows: UnsafeMutablePointer<L.Scalar>, _ start: Int, _ length: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let from = Swift.max(0, Swift.min(Int(row.pointee.lower) &- start, length))
    let to = Swift.max(from, Swift.min(Int(row.pointee.upper) &- start, length))
    fill(L.self, p, 0, length, 0)
    fill(L.self, shows, 0, length, 0)
    fill(L.self, shows, from, to, 1)
    gatherGradient(L.self, job, row, p, nil, from, to, start, scratch)
    conceal(L.self, job, row, shows, nil, from, to, start, scratch)
  }

  /// `length` elements of line i of a tile; the one at `diagonal`, if it is there, is p_i·(1 -
  /// p_i).
  @inline(__always)
  static func writeLine<L: Lanes>(
    _ tiles: JacobianTiles<L>, _ i: Int, _ out: UnsafeMutablePointer<L.Scalar>, _ length: Int,
    _ temperature: Double,
    diagonal: Int
  ) {
    guard tiles.showsLine[i] != 0 else {
      fill(L.self, out, 0, length, 0)
      return
    }
    let p = L(tiles.lines[i])
    let whole = L.Eight(temperature)
    let inverse = L.Eight(1 / temperature)
    func eight(_ a: L.Eight, _ b: L.Eight) -> L.Eight {
      // Of float32 the product is exact. 0 - 0 and, after the division, + 0: no result is -0.
      let entry = L.Eight(0) - a * b
      return L.isSingle
        ? entry * inverse + L.Eight(0) : temperature == 1 ? entry : entry / whole + L.Eight(0)
    }
    for (at, first, last) in vectors(L.self, 0, length) {
      let column: L = load(tiles.columns + at, first, last, fill: 0)
      let entry = L(
        lower: eight(p.eight, column.eight),
        upper: L.isSingle ? eight(p.upperEight, column.upperEight) : L.Eight(0))
      let shows: L = load(tiles.showsColumn + at, first, last, fill: 0)
      store(L.pick(shows, equalTo: L(0), L(0), quiet(entry)), out + at, first, last)
    }
    guard diagonal >= 0 && diagonal < length else { return }
    let own = Double(tiles.lines[i])
    let top = own * (1 - own)
    let value = (L.isSingle ? top * (1 / temperature) : top / temperature) + 0
    out[diagonal] = value.isNaN ? quietNaN(L.self) : L.Scalar(value)
  }
}
