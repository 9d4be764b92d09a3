// Sharing a job among threads: by rows, and inside a row where rows are fewer than threads.
//
// How the work is cut never shows in the bits: rows do not depend on one another, and inside a row
// the pieces are the chunks of the reduction order, whose partial results are absorbed in their
// order.

import CSupport

/// Elements below which a second thread costs more than it gives when it has to be woken: 512 × 128
/// takes 34 microseconds on one thread and on two, 256 × 128 17 and 20.
private let wakingThreshold: Int64 = 65536

/// Elements below which it does so even when it waits awake, as it does while calls follow one
/// another: 32 × 128 takes 2.2 microseconds on one thread and 1.9 on two, 64 × 128 4.2 and 2.8.
private let parallelThreshold: Int64 = 4096

/// Elements of one task, so that threads finish at about the same time and a task's rows stay in
/// cache.
private let taskElements: Int64 = 32768

/// Rows of a task where there are as many for each thread: a row asks for the next one's lines,
/// which the next task's thread would have to ask for again (logsumexp of 2048 × 32000 on two
/// threads: one row a task 23.6 ms, eight 15.4, thirty-two another 6 % less).
private let rowsInSequence: Int64 = 32

/// Bytes side by side from which results may go past the caches. One thread, Zen 4, time beside
/// that through them: rows of 256 float32 1.1, of 512 0.86, of 1024 0.6, of 4096 0.9 (log_softmax
/// 0.7); of bfloat16 1.0, since conversion is the limit there.
private let streamedRun: Int64 = 2048

/// Whether results go past the caches, through which each of their lines would first be read. In
/// place it has been. Of logsumexp, which has next to no results, whether the rows come from
/// memory.
func streams(_ job: smxk_job) -> Bool {
  let size = Int64(itemSize(job.dtype))
  let isColumns = job.direct == SMXK_DIRECT_COLUMNS
  if job.operation == SMXK_LOGSUMEXP {
    return !isColumns && smxk_exceeds_caches(job.rows &* job.cols &* size)
  }
  let run = size * (isColumns ? job.outer[Int(job.outer_count) - 1].count : job.cols)
  let isInPlace = job.x == UnsafeRawPointer(job.out) || job.weights == UnsafeRawPointer(job.out)
  guard size >= 4, run >= streamedRun, !isInPlace,
    smxk_exceeds_caches(job.rows &* job.cols &* size &* (job.weights == nil ? 2 : 3))
  else {
    return false
  }
  // Such stores are aligned, which elements between two addresses of their type never are.
  var places = Int64(Int(bitPattern: job.out))
  for i in 0..<Int(job.outer_count) { places |= job.outer[i].out }
  return places & (size - 1) == 0
}

func run(_ job: inout smxk_job, on machine: Machine) {
  guard job.rows > 0 else { return }
  if job.cols == 0 && job.operation != SMXK_LOGSUMEXP { return }
  let isWide = job.dtype == smx_dtype(SMX_FLOAT64)
  let elements = job.rows * max(job.cols, 1)
  let threads = elements < parallelThreshold ? 1 : machine.threads
  job.streams = streams(job) ? 1 : 0
  let isColumns = job.direct == SMXK_DIRECT_COLUMNS
  if threads > 1 && !isColumns && job.rows < 2 * Int64(threads) && job.cols >= 2 * Int64(SMXK_CHUNK)
  {
    splitRows(job, machine, isWide: isWide)
    return
  }
  // Rows side by side are worked on up to 512 at a time, a few blocks one after the other, or in
  // panels; a small job is cut in as many tasks as threads, of 64 rows or more.
  let together = isColumns ? 512 : job.panel_rows
  let most = isColumns ? 4 * taskElements : taskElements
  var share = Share(
    job: job, rows: isWide ? machine.kernels.pointee.rows_f64 : machine.kernels.pointee.rows_f32,
    rowsPerTask: together > 0
      ? min(
        max(1, most / max(job.cols, 1) / together) * together,
        max(64, (job.rows / Int64(threads) + 63) / 64 * 64))
      : max(1, min(taskElements, elements / Int64(threads)) / max(job.cols, 1)))
  share.rowsPerTask = max(
    share.rowsPerTask,
    threads == 1 && !isColumns ? job.rows : min(rowsInSequence, job.rows / (4 * Int64(threads))))
  let tasks = (job.rows + share.rowsPerTask - 1) / share.rowsPerTask
  smxk_parallel(
    threads, tasks, elements < wakingThreshold ? 1 : 0,
    job.panel_rows > 0 ? { smxk_with_panel(runTask, $0, $1, $2) } : runTask, &share)
}

private func runTask(
  _ context: UnsafeMutableRawPointer, _ index: Int64, _ scratch: UnsafeMutablePointer<smxk_scratch>
) {
  let share = context.assumingMemoryBound(to: Share.self)
  let first = index * share.pointee.rowsPerTask
  let count = min(share.pointee.rowsPerTask, share.pointee.job.rows - first)
  withUnsafePointer(to: &share.pointee.job) { share.pointee.rows($0, first, count, scratch) }
}

/// How work that comes in many equal items is cut into tasks. Cutting it never shows in a result.
struct Portions {
  let items: Int64
  let itemsPerTask: Int64
  let threads: Int32
  let isSmall: Int32

  /// `each` is how many elements an item has, `all` how many the whole call has if these are a part
  /// of it.
  init(_ items: Int64, each: Int64, on machine: Machine, of all: Int64 = 0) {
    let elements = items &* max(each, 1)
    self.items = items
    threads = elements < parallelThreshold ? 1 : machine.threads
    itemsPerTask = max(
      1, min(taskElements, elements / Int64(threads)) / max(each, 1),
      min(rowsInSequence, items / (4 * Int64(threads))))
    isSmall = max(elements, all) < wakingThreshold ? 1 : 0
  }

  var tasks: Int64 { (items + itemsPerTask - 1) / itemsPerTask }
  func first(_ task: Int64) -> Int64 { task * itemsPerTask }
  func end(_ task: Int64) -> Int64 { min(items, (task + 1) * itemsPerTask) }
}

private struct Share {
  var job: smxk_job
  let rows:
    @convention(c) (UnsafePointer<smxk_job>, Int64, Int64, UnsafeMutablePointer<smxk_scratch>) ->
      Void
  var rowsPerTask: Int64
}

// -- inside a row ---------------------------------------------------------------------------------

/// One row, its chunks shared by all threads stage after stage.
private struct Split {
  var job: smxk_job
  let machine: Machine
  let isWide: Bool
  var row = UnsafeMutablePointer<smxk_row>(bitPattern: 1)!
  var partials = UnsafeMutablePointer<smxk_partial>(bitPattern: 1)!
  var firstChunk: Int64 = 0
  /// Chunks of one task: enough to outweigh taking it.
  let chunksPerTask: Int64 = 4
  var chunkCount: Int64 = 0
}

private func splitRows(_ job: smxk_job, _ machine: Machine, isWide: Bool) {
  var split = Split(job: job, machine: machine, isWide: isWide)
  smxk_with_partials(
    { context, partials in
      let split = context.assumingMemoryBound(to: Split.self)
      split.pointee.partials = partials
      smxk_with_row(
        { context, row in
          let split = context.assumingMemoryBound(to: Split.self)
          split.pointee.row = row
          for index in 0..<split.pointee.job.rows { runRow(split, index) }
        }, context)
    }, &split)
}

private func runRow(_ split: UnsafeMutablePointer<Split>, _ index: Int64) {
  let kernels = split.pointee.machine.kernels
  let row = split.pointee.row
  let cols = split.pointee.job.cols
  let chunk = Int64(SMXK_CHUNK)
  withUnsafePointer(to: &split.pointee.job) { job in
    kernels.pointee.begin_row(job, row, index)
    while row.pointee.stage != SMXK_DONE {
      let isLast = row.pointee.stage == SMXK_FINISH
      let first = isLast ? 0 : row.pointee.lower / chunk
      let end = ((isLast ? cols : row.pointee.upper) + chunk - 1) / chunk
      var start = first
      while start < end {
        let count = min(end - start, Int64(SMXK_WAVE))
        runWave(split, from: start, count: count)
        // Order is part of the contract.
        for i in 0..<Int(count) { kernels.pointee.absorb(row, split.pointee.partials + i) }
        start += count
      }
      (split.pointee.isWide ? kernels.pointee.advance_f64 : kernels.pointee.advance_f32)(job, row)
    }
  }
}

/// The row's stage over chunks from ..< from + count, their partial results side by side.
private func runWave(_ split: UnsafeMutablePointer<Split>, from: Int64, count: Int64) {
  split.pointee.firstChunk = from
  split.pointee.chunkCount = count
  let perTask = split.pointee.chunksPerTask
  smxk_parallel(
    split.pointee.machine.threads, (count + perTask - 1) / perTask, 0,
    { context, index, scratch in
      let split = context.assumingMemoryBound(to: Split.self).pointee
      let kernels = split.machine.kernels.pointee
      let chunk = split.isWide ? kernels.chunk_f64 : kernels.chunk_f32
      let first = index * split.chunksPerTask
      withUnsafePointer(to: split.job) { job in
        for i in first..<min(first + split.chunksPerTask, split.chunkCount) {
          split.partials[Int(i)] = smxk_partial(high: -.infinity, low: 0, count: 0)
          chunk(job, split.row, split.firstChunk + i, scratch, split.partials + Int(i))
        }
      }
    }, split)
}
