// smx_top_k: the largest of each row, with the probabilities that softmax gives them.

import CSupport
import CSwiftmax

private func execute(
  _ logits: UnsafePointer<smx_tensor>?, _ probabilities: UnsafePointer<smx_tensor>?,
  _ indices: UnsafePointer<smx_tensor>?, _ options: UnsafePointer<smx_top_k_options>?,
  size: UnsafeMutablePointer<Int>?, _ machine: Machine
) throws(Failure) {
  let given = try read(options, or: smx_top_k_options())
  var call = try Decoding(.topK, machine, logits, probabilities, outName: "probabilities")
  call.beside = try Tensor(indices, "indices")
  call.temperature = try Tensor.optional(given.temperature, "temperature")
  call.mask = try Tensor.optional(given.mask, "mask")
  call.flag = given.log != 0
  call.workspace = Workspace(given.workspace, given.workspace_size, size: size)
  try execute(call)
}

@implementation @_cdecl("smx_top_k")
public func smx_top_k(
  _ logits: UnsafePointer<smx_tensor>!, _ probabilities: UnsafePointer<smx_tensor>!,
  _ indices: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_top_k_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try execute(logits, probabilities, indices, options, size: nil, machine)
  }
}

@implementation @_cdecl("smx_top_k_workspace_size")
public func smx_top_k_workspace_size(
  _ logits: UnsafePointer<smx_tensor>!, _ probabilities: UnsafePointer<smx_tensor>!,
  _ indices: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_top_k_options>!, _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    try execute(logits, probabilities, indices, options, size: needed, machine)
  }
}

private struct Ranking {
  let call: Decoding
  let indices: Tensor
  let job: smxk_job
  let k: Int
  /// Room for a list of each thread, where their scratch has too little.
  let room: UnsafeMutableRawPointer?

  var capacity: Int { 2 * k + Int(SMXK_SELECTED_AT_ONCE) }
  var roomBytes: Int { capacity * 24 }
}

/// The longest row that is given to softmax as a whole. All of its probabilities cost less than the
/// stages one by one, for short rows are worked on side by side.
private let wholeRow: Int64 = 2048

/// Bytes of their probabilities that a thread keeps at a time, within the first-level cache.
private let wholeBytes = 16384

func topK(_ call: Decoding, _ plan: UnsafeMutablePointer<smxk_plan>) throws(Failure) {
  guard let indices = call.beside else { return }
  try call.out.require(dtype: call.x.dtype)
  try indices.require(dtype: smx_dtype(SMX_INT64))
  var fits = call.out.rank == call.x.rank
  if fits {
    for axis in 0..<call.x.rank - 1 { fits = fits && call.out.length(axis) == call.x.length(axis) }
  }
  if !fits { throw disagree(call.out, call.x, " has not the rows of ") }
  let k = call.out.length(call.out.rank - 1)
  if k > call.cols {
    throw disagree(call.out, call.x, " asks for more elements than there are in a row of ")
  }
  try requireSameShape(indices, call.out)
  try call.checkPlaces(call.out, mayBeX: false)
  try call.checkPlaces(indices, mayBeX: false)
  try indices.requireDistinct(from: call.out, orSame: false)
  if call.out.count == 0 { return }
  let operands = Operands(
    operation: call.flag ? SMXK_LOG_SOFTMAX : SMXK_SOFTMAX, x: call.x, out: call.x,
    mask: call.mask, temperature: call.temperature)
  var job = makeJob(operands, plan, kept: call.x.rank - 1)
  let isWhole = call.cols <= wholeRow
  if isWhole {
    makeDense(&job, operands, plan)
  } else {
    // Gathered, so that no term is written where the results of a plain softmax would go.
    job.direct = SMXK_DIRECT_NONE
  }
  var ranking = Ranking(call: call, indices: indices, job: job, k: Int(k), room: nil)
  // Up to 2^46 elements the bytes can be counted, 48 for each of k, for 256 threads.
  let isListed = k <= Int64(listedAtMost)
  let threads = Int(call.machine.threads)
  let needed = isListed ? 0 : k >= 1 << 46 ? nil : ranking.roomBytes * threads
  guard let room = try call.room(needed, for: "lists") else { return }
  defer { room.release() }
  if !isListed {
    ranking = Ranking(call: call, indices: indices, job: job, k: Int(k), room: room.start)
  }
  shareRows(
    call, &ranking,
    isWhole ? { smxk_with_panel(rankWholeRows, $0, $1, $2) } : rankLongRows)
}

/// So many of the largest are searched one by one.
private let fewLargest = 8

/// What has been found of a row, and where it goes.
private struct Ranked {
  let to: UnsafeMutableRawPointer
  let step: Int
  let toIndices: UnsafeMutableRawPointer
  let stepIndices: Int
  /// The first places have an element, the others are done.
  var found = 0

  /// Writes the indices of row `number`.
  init(
    _ ranking: UnsafePointer<Ranking>, _ job: UnsafePointer<smxk_job>, _ number: Int64,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let call = ranking.pointee.call
    let (out, indices) = (call.out, ranking.pointee.indices)
    to = call.rowOf(out, number)
    step = out.step
    toIndices = call.rowOf(indices, number)
    stepIndices = indices.step
    let kernels = call.machine.kernels
    let k = ranking.pointee.k
    var choice = RowChoice(kernels, job, scratch, number, list: list(ranking, scratch))
    let isOrdered = k <= fewLargest && choice.cols <= Int64(SMXK_BLOCK)
    let isValid = isOrdered ? choice.selectInOrder(k) : choice.select(k, trims: false)
    if isValid {
      let list = choice.list
      found = min(list.count, k)
      // What is out of order has room behind the list.
      var places = UnsafePointer(list.places)
      if !isOrdered, let ranks = list.ranks(kernels) {
        let ordered = list.places + list.capacity / 2
        for i in 0..<list.count { ordered[Int(ranks[i])] = places[i] }
        places = UnsafePointer(ordered)
      } else if !isOrdered {
        sortDescending(list.values, list.places, found)
      }
      for i in 0..<found { put(places[i], i) }
    }
    let rest = !isValid ? Double.nan : call.flag ? -.infinity : 0
    for i in found..<k {
      put(-1, i)
      out.store(special: rest, at: to + i * step)
    }
  }

  private func put(_ index: Int64, _ i: Int) {
    (toIndices + i * stepIndices).storeBytes(of: index, as: Int64.self)
  }

  /// Copies elements first ..< end, which `p` has `distance` bytes from one of the row to the next,
  /// to numbers of their own, `step` bytes apart.
  func copy(
    _ first: Int, _ end: Int, from p: UnsafeRawPointer, _ distance: Int, size: Int,
    to: UnsafeMutableRawPointer, _ step: Int
  ) {
    for i in first..<end {
      let index = (toIndices + i * stepIndices).loadUnaligned(as: Int64.self)
      (to + (i - first) * step).copyMemory(from: p + Int(index) &* distance, byteCount: size)
    }
  }
}

/// Rows of a task whose probabilities fit into a panel, some at a time.
private func rankWholeRows(
  _ context: UnsafeMutableRawPointer, _ index: Int64, _ scratch: UnsafeMutablePointer<smxk_scratch>
) {
  let ranking = UnsafePointer(context.assumingMemoryBound(to: Ranking.self))
  let call = ranking.pointee.call
  let kernels = call.machine.kernels.pointee
  let task = call.rows(ofTask: index)
  var job = ranking.pointee.job
  let size = Int(itemSize(job.dtype))
  let rowBytes = Int(job.cols) * size
  var first = task.lowerBound
  while first < task.upperBound {
    let end = min(first + Int64(max(1, wholeBytes / rowBytes)), task.upperBound)
    job.out = scratch.pointee.panel! - Int(first) * rowBytes
    (choosesWide(call) ? kernels.rows_f64 : kernels.rows_f32)(&job, first, end - first, scratch)
    for row in first..<end {
      let ranked = Ranked(ranking, &job, row, scratch)
      ranked.copy(
        0, ranked.found, from: job.out + Int(row) * rowBytes, size, size: size, to: ranked.to,
        ranked.step)
    }
    first = end
  }
}

/// Rows of a task, from the sums of each.
private func rankLongRows(
  _ context: UnsafeMutableRawPointer, _ index: Int64, _ scratch: UnsafeMutablePointer<smxk_scratch>
) {
  let ranking = UnsafePointer(context.assumingMemoryBound(to: Ranking.self))
  for row in ranking.pointee.call.rows(ofTask: index) { rankRow(ranking, row, scratch) }
}

private func rankRow(
  _ ranking: UnsafePointer<Ranking>, _ number: Int64, _ scratch: UnsafeMutablePointer<smxk_scratch>
) {
  let call = ranking.pointee.call
  let kernels = call.machine.kernels
  var job = ranking.pointee.job
  // First, for the passes of softmax need the scratch in which the list may lie.
  let ranked = Ranked(ranking, &job, number, scratch)
  if ranked.found == 0 { return }
  let isWide = choosesWide(call)
  let row = smxk_row_of(scratch)
  runStages(kernels, &job, scratch, number, isWide)
  // The results are those of a row of the found elements under this row's sum, written a block at a
  // time.
  let inner = job.inner[0]
  let x = UnsafeRawPointer(row.pointee.x!)
  let size = Int(itemSize(job.dtype))
  var axis = inner
  axis.x = Int64(size)
  axis.out = Int64(ranked.step)
  var elements = InlineArray<64, UInt64>(repeating: 0)
  withUnsafeMutablePointer(to: &elements) { elements in
    withUnsafePointer(to: &axis) { axis in
      let block = UnsafeMutableRawPointer(elements)
      job.inner = axis
      row.pointee.mask = nil
      row.pointee.lower = 0
      row.pointee.resident = 0
      var first = 0
      while first < ranked.found {
        let count = min(64, ranked.found - first)
        ranked.copy(first, first + count, from: x, Int(inner.x), size: size, to: block, size)
        job.cols = Int64(count)
        row.pointee.upper = Int64(count)
        row.pointee.x = UnsafeRawPointer(block).assumingMemoryBound(to: CChar.self)
        row.pointee.out = (ranked.to + first * ranked.step).assumingMemoryBound(to: CChar.self)
        var partial = smxk_partial(high: 0, low: 0, count: 0)
        let chunk = isWide ? kernels.pointee.chunk_f64 : kernels.pointee.chunk_f32
        chunk(&job, row, 0, scratch, &partial)
        first += count
      }
    }
  }
}

/// The stages of softmax up to the results.
private func runStages(
  _ kernels: UnsafePointer<smxk_kernels>, _ job: UnsafePointer<smxk_job>,
  _ scratch: UnsafeMutablePointer<smxk_scratch>, _ number: Int64, _ isWide: Bool
) {
  let row = smxk_row_of(scratch)
  let chunk = isWide ? kernels.pointee.chunk_f64 : kernels.pointee.chunk_f32
  let chunks = (job.pointee.cols + Int64(SMXK_CHUNK) - 1) / Int64(SMXK_CHUNK)
  kernels.pointee.begin_row(job, row, number)
  while row.pointee.stage != SMXK_FINISH {
    for i in 0..<chunks {
      var partial = smxk_partial(high: -.infinity, low: 0, count: 0)
      chunk(job, row, i, scratch, &partial)
      kernels.pointee.absorb(row, &partial)
    }
    isWide ? kernels.pointee.advance_f64(job, row) : kernels.pointee.advance_f32(job, row)
  }
}

/// The list of this thread, nil for the one in its scratch.
private func list(
  _ ranking: UnsafePointer<Ranking>, _ scratch: UnsafeMutablePointer<smxk_scratch>
) -> CandidateList? {
  guard let room = ranking.pointee.room else { return nil }
  let capacity = ranking.pointee.capacity
  let own = room + Int(scratch.pointee.worker) * ranking.pointee.roomBytes
  return CandidateList(
    values: own.assumingMemoryBound(to: Double.self),
    places: (own + 8 * capacity).assumingMemoryBound(to: Int64.self),
    copy: (own + 16 * capacity).assumingMemoryBound(to: Double.self), capacity: capacity)
}
