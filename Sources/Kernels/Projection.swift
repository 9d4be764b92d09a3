// Rows times a matrix, before additive attention: W·s of each query and U·h of each key.
//
//     out[a] = sum over d of matrix[a][d] · row[d]
//
// The product of TileProduct.swift, with the matrix as the operand that is read where it lies and a
// panel of rows, turned, as the other: lanes run along the rows. Results are left that way, (width,
// lanes) for each panel, because AdditiveScores.swift wants keys side by side. Each number is made
// as a score is, the sum of chains over 32 columns each, added in order, so a row has the same bits
// wherever it stands. Order is part of the contract.

import CSupport

extension Kernels {
  /// A task: some panels of one group.
  public static func project<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_projection>, _ task: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let panels = Int(job.pointee.panels)
    let perTask = Int(job.pointee.panels_per_task)
    let tasks = (panels &+ perTask &- 1) / perTask
    let group = task / tasks
    let first = task % tasks &* perTask
    let base =
      UnsafeMutableRawPointer(job.pointee.workspace!) + Int(scratch.pointee.worker)
      &* Int(job.pointee.bytes)
    func numbers(_ offset: Int64) -> UnsafeMutablePointer<L.Scalar> {
      (base + Int(offset)).assumingMemoryBound(to: L.Scalar.self)
    }
    let input = numbers(job.pointee.input)
    let turn = numbers(job.pointee.turn)
    let left = matrix(L.self, job, group, numbers(job.pointee.matrix_copy))
    let width = Int(job.pointee.width)
    let lanes = Int(job.pointee.lanes)
    let results = UnsafeMutableRawPointer(job.pointee.out!).assumingMemoryBound(to: L.Scalar.self)
    for panel in first..<Swift.min(first &+ perTask, panels) {
      loadPanel(L.self, job, group, panel, input, turn)
      // The product of scores; the largest results, which it keeps beside, are of no use here.
      fill(L.self, turn, 0, lanes)
      product(
        ScoreGoal<L>(largest: turn), left, rows: width, steps: Int(job.pointee.size), input,
        results + (group &* panels &+ panel) &* width &* lanes, lanes: lanes)
    }
  }

  /// The group's matrix, where it lies if its numbers are the lanes' own and neighbours in a row,
  /// else copied.
  @inline(never)
  private static func matrix<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_projection>, _ group: Int,
    _ copy: UnsafeMutablePointer<L.Scalar>
  ) -> TileLeft {
    let view = job.pointee.matrix
    let size = Int(job.pointee.size)
    let stride = MemoryLayout<L.Scalar>.stride
    let start = UnsafeRawPointer(view.data!) + group &* Int(view.head)
    if isOwn(L.self, job.pointee.dtype) && Int(view.column) == stride {
      return TileLeft(base: start, stride: Int(view.row))
    }
    for a in 0..<Int(job.pointee.width) {
      readRow(
        L.self, job.pointee.dtype, start + a &* Int(view.row), Int(view.column), copy + a &* size,
        size)
    }
    return TileLeft(base: UnsafeRawPointer(copy), stride: size &* stride)
  }

  /// A panel's rows, turned: (size, lanes).
  @inline(never)
  private static func loadPanel<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_projection>, _ group: Int, _ panel: Int,
    _ input: UnsafeMutablePointer<L.Scalar>,
    _ turn: UnsafeMutablePointer<L.Scalar>
  ) {
    let view = job.pointee.rows
    let lanes = Int(job.pointee.lanes)
    let size = Int(job.pointee.size)
    let width = Int(SMXK_KEY_BLOCK)
    var lane = 0
    while lane < lanes {
      var column = 0
      while column < size {
        let columns = Swift.min(width, size &- column)
        for l in 0..<L.count {
          if let p = row(job, group, panel &* lanes &+ lane &+ l) {
            readRow(
              L.self, job.pointee.dtype, p + column &* Int(view.column), Int(view.column),
              turn + l &* width, columns)
          } else {
            clear(L.self, turn + l &* width, width)
          }
        }
        turnRows(L.self, turn, columns, input + (column &* lanes &+ lane), lanes: lanes, times: 1)
        column = column &+ width
      }
      lane = lane &+ L.count
    }
  }

  /// The row of a place of a group; nil where there is none.
  @inline(never)
  private static func row(
    _ job: UnsafePointer<smxk_projection>, _ group: Int, _ place: Int
  ) -> UnsafeRawPointer? {
    let slots = Int(job.pointee.slots)
    let perGroup = Int(job.pointee.heads / job.pointee.groups)
    let sequence = place / slots
    let batch = sequence / perGroup
    let row = place % slots
    if batch >= Int(job.pointee.batch) || row >= Int(job.pointee.length) { return nil }
    let head = job.pointee.groups == 1 ? sequence % perGroup : group
    let view = job.pointee.rows
    return UnsafeRawPointer(view.data!)
      + (batch &* Int(view.batch) &+ head &* Int(view.head) &+ row &* Int(view.row))
  }

  /// Where the results of a row begin; they are `lanes` of the projection apart.
  @inline(__always)
  static func projected<L: TileLanes>(
    _: L.Type, _ projection: smxk_projection, batch: Int, head: Int, row: Int
  ) -> UnsafePointer<L.Scalar> {
    let perGroup = Int(projection.heads / projection.groups)
    let (group, own) = projection.groups == 1 ? (0, head) : (head, 0)
    let place = (batch &* perGroup &+ own) &* Int(projection.slots) &+ row
    let lanes = Int(projection.lanes)
    let panel = group &* Int(projection.panels) &+ place / lanes
    return UnsafePointer(
      UnsafeMutableRawPointer(projection.out!).assumingMemoryBound(to: L.Scalar.self))
      + (panel &* Int(projection.width) &* lanes &+ place % lanes)
  }
}
