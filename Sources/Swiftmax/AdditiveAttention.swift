// Additive attention: what its parameters must be, how queries and keys are projected, and the
// calls. All that follows the scores is attention's (Attention.swift).

import CSupport
import CSwiftmax

/// The parameters of the scores: W of the queries, U of the keys, and v.
struct AdditiveTensors {
  let queryMatrix, keyMatrix, vector: Tensor

  init(
    _ queryMatrix: UnsafePointer<smx_tensor>?, _ keyMatrix: UnsafePointer<smx_tensor>?,
    _ vector: UnsafePointer<smx_tensor>?
  ) throws(Failure) {
    self.queryMatrix = try Tensor(queryMatrix, "w_query")
    self.keyMatrix = try Tensor(keyMatrix, "w_key")
    self.vector = try Tensor(vector, "v")
  }

  /// How many numbers a projected query or key has.
  private var width: Int64 { vector.length(vector.rank - 1) }

  // -- checks -------------------------------------------------------------------------------------

  func check(_ tensors: AttentionTensors) throws(Failure) {
    for i in 0..<3 { try matrices[i].require(dtype: tensors.query.dtype) }
    try checkMatrix(
      queryMatrix, tensors.query, heads: tensors.heads, " must be (A, Dq) or (Hq, A, Dq) for ")
    try checkMatrix(
      keyMatrix, tensors.key, heads: tensors.keyHeads, " must be (A, Dk) or (Hkv, A, Dk) for ")
    let width = queryMatrix.length(queryMatrix.rank - 2)
    if keyMatrix.length(keyMatrix.rank - 2) != width {
      throw disagree(keyMatrix, queryMatrix, " must have the rows, A, of ")
    }
    if vector.rank < 1 || vector.rank > 2 || vector.length(vector.rank - 1) != width {
      throw disagree(vector, queryMatrix, " must be (A) or (Hq, A), A being the rows of ")
    }
    if vector.rank == 2 && vector.length(0) != tensors.heads {
      throw disagree(vector, tensors.query, " must be (A) or (Hq, A) for ")
    }
    for o in 0..<3 {
      for i in 0..<3 { try tensors.outputs[o]?.requireDistinct(from: matrices[i], orSame: false) }
    }
  }

  var matrices: InlineArray<3, Tensor> { [queryMatrix, keyMatrix, vector] }

  private func checkMatrix(
    _ matrix: Tensor, _ rows: Tensor, heads: Int64, _ why: StaticString
  ) throws(Failure) {
    let fits =
      matrix.rank >= 2 && matrix.rank <= 3
      && matrix.length(matrix.rank - 1) == rows.length(rows.rank - 1)
      && (matrix.rank == 2 || matrix.length(0) == heads)
    if !fits { throw disagree(matrix, rows, why) }
  }

  // -- the plan -----------------------------------------------------------------------------------

  /// Of the job what is particular: queries and keys that will have been projected. Before tiles
  /// are planned.
  func plan(
    _ job: UnsafeMutablePointer<smxk_attention>, _ tensors: AttentionTensors, _ machine: Machine
  ) throws(Failure) {
    let isWide = Int(job.pointee.dtype) == SMX_FLOAT64
    let lanes = isWide ? machine.kernels.pointee.tile_f64 : machine.kernels.pointee.tile_f32
    job.pointee.head_size = width
    job.pointee.vector = smxk_view(
      data: tensors.data(vector), batch: 0, head: vector.rank == 2 ? vector.stride(0) : 0, row: 0,
      column: vector.stride(vector.rank - 1))
    job.pointee.query_projection = projection(
      tensors, queryMatrix, tensors.query, heads: tensors.heads, length: tensors.queries,
      isKey: false, lanes: lanes, isWide)
    job.pointee.key_projection = projection(
      tensors, keyMatrix, tensors.key, heads: tensors.keyHeads, length: tensors.keys, isKey: true,
      lanes: lanes, isWide)
    // Views that repeat their numbers can have more rows than any memory.
    let most =
      resultBytes(job.pointee.query_projection) + resultBytes(job.pointee.key_projection)
      + Double(SMXK_MAX_THREADS)
      * (threadBytes(job.pointee.query_projection) + threadBytes(job.pointee.key_projection))
    if most < 0x1p60 { return }
    throw failure(SMX_ERROR_OVERFLOW) {
      $0.add("query of shape ")
      $0.add(shapeOf: tensors.query.raw)
      $0.add(" and key of shape ")
      $0.add(shapeOf: tensors.key.raw)
      $0.add(", projected by w_query of shape ")
      $0.add(shapeOf: queryMatrix.raw)
      $0.add(", are larger than memory can be")
    }
  }

  private func projection(
    _ tensors: AttentionTensors, _ matrix: Tensor, _ rows: Tensor, heads: Int64, length: Int64,
    isKey: Bool, lanes most: Int64,
    _ isWide: Bool
  ) -> smxk_projection {
    let vector: Int64 = isWide ? 8 : 16
    var p = smxk_projection()
    p.dtype = rows.dtype
    p.rows = tensors.view(rows)
    p.matrix = smxk_view(
      data: tensors.data(matrix), batch: 0, head: matrix.rank == 3 ? matrix.stride(0) : 0,
      row: matrix.stride(matrix.rank - 2), column: matrix.stride(matrix.rank - 1))
    p.batch = tensors.batchAxis < 0 ? 1 : rows.length(tensors.batchAxis)
    p.heads = heads
    p.length = length
    // Keys of one head begin with a vector of their own (AdditiveScores.swift).
    p.slots = isKey ? (length &+ vector &- 1) / vector &* vector : length
    p.size = rows.length(rows.rank - 1)
    p.width = width
    p.groups = matrix.rank == 3 ? max(heads, 1) : 1
    // Wraps where they are too many, which the caller finds out.
    let places = p.batch &* (heads / p.groups) &* p.slots
    let panels = max(1, (places &+ most &- 1) / most)
    p.lanes = max(1, ((places &+ panels &- 1) / panels &+ vector &- 1) / vector) &* vector
    p.panels = (places &+ p.lanes &- 1) / max(p.lanes, 1)
    return p
  }
}

// -- sizes ----------------------------------------------------------------------------------------

private func itemBytes(_ p: smxk_projection) -> Int64 { Int(p.dtype) == SMX_FLOAT64 ? 8 : 4 }

/// Of all results, whatever their number.
private func resultBytes(_ p: smxk_projection) -> Double {
  let places = Double(p.batch) * Double(p.heads) * (Double(p.slots) + 64)
  return (places + Double(p.groups) * 64) * Double(p.width) * 8
}

/// Of a thread's workspace, likewise.
private func threadBytes(_ p: smxk_projection) -> Double {
  (Double(p.size) + 64) * (Double(p.width) + 128) * 8
}

/// Lays a thread's workspace out for one projection.
private func layOut(_ p: inout smxk_projection) {
  let size = itemBytes(p)
  let vector: Int64 = size == 8 ? 8 : 16
  let isInPlace = Int(p.dtype) >= SMX_FLOAT32 && p.matrix.column == size
  var end: Int64 = 0
  func take(_ bytes: Int64) -> Int64 {
    let start = end
    end += (bytes + 63) / 64 * 64
    return start
  }
  p.input = take((p.size + vector - 1) / vector * vector * p.lanes * size)
  p.turn = take(Int64(SMXK_KEY_BLOCK) * vector * size)
  p.matrix_copy = isInPlace ? 0 : take(p.width * p.size * size)
  p.bytes = end
}

/// Bytes of both projections' results; the threads' workspace grows to what projecting needs. 0
/// where there are none.
func layOutProjections(_ job: UnsafeMutablePointer<smxk_attention>) -> Int {
  if job.pointee.vector.data == nil { return 0 }
  layOut(&job.pointee.query_projection)
  layOut(&job.pointee.key_projection)
  let bytes = max(
    job.pointee.rooms.bytes,
    max(job.pointee.query_projection.bytes, job.pointee.key_projection.bytes))
  job.pointee.rooms.bytes = bytes
  job.pointee.query_projection.bytes = bytes
  job.pointee.key_projection.bytes = bytes
  // Never 0: the threads' workspace is wanted even where there are no results.
  return 64 + resultRoom(job.pointee.query_projection) + resultRoom(job.pointee.key_projection)
}

private func resultRoom(_ p: smxk_projection) -> Int {
  Int(p.groups * p.panels * p.width * p.lanes * itemBytes(p) + 63) / 64 * 64
}

// -- running --------------------------------------------------------------------------------------

/// In fused multiply-adds.
private func work(_ p: smxk_projection) -> Double {
  Double(p.groups) * Double(p.panels) * Double(p.lanes) * Double(p.width) * Double(p.size)
}

/// How many threads the larger of the projections is shared among; 1 where there is none.
func projectionThreads(_ job: UnsafePointer<smxk_attention>, _ machine: Machine) -> Int32 {
  if job.pointee.vector.data == nil { return 1 }
  return max(
    threads(job.pointee.query_projection, machine), threads(job.pointee.key_projection, machine))
}

private func threads(_ p: smxk_projection, _ machine: Machine) -> Int32 {
  sharing(work: work(p), machine.threads, p.groups * p.panels)
}

private struct ProjectionShare {
  let job: UnsafePointer<smxk_projection>
  let task:
    @convention(c) (UnsafePointer<smxk_projection>, Int64, UnsafeMutablePointer<smxk_scratch>) ->
      Void
}

/// Projects queries and keys to `room`; the job has its workspace.
func project(
  _ job: UnsafeMutablePointer<smxk_attention>, _ room: UnsafeMutablePointer<CChar>,
  _ machine: Machine
) {
  job.pointee.query_projection.out = room
  job.pointee.key_projection.out = room + resultRoom(job.pointee.query_projection)
  job.pointee.query_projection.workspace = job.pointee.workspace
  job.pointee.key_projection.workspace = job.pointee.workspace
  run(&job.pointee.query_projection, machine)
  run(&job.pointee.key_projection, machine)
}

private func run(_ p: inout smxk_projection, _ machine: Machine) {
  let count = threads(p, machine)
  // Few panels a task, so that threads end together; several, so that a matrix which is copied is
  // so seldom.
  p.panels_per_task = max(1, min(8, p.groups * p.panels / (8 * Int64(count))))
  let tasks = p.groups * ((p.panels + p.panels_per_task - 1) / p.panels_per_task)
  let small: Int32 = isSmall(work: work(p)) ? 1 : 0
  let task =
    Int(p.dtype) == SMX_FLOAT64
    ? machine.kernels.pointee.project_f64 : machine.kernels.pointee.project_f32
  if tasks == 0 { return }
  withUnsafePointer(to: &p) {
    var share = ProjectionShare(job: $0, task: task)
    smxk_parallel(
      count, tasks, small,
      { context, index, scratch in
        let share = context.assumingMemoryBound(to: ProjectionShare.self).pointee
        share.task(share.job, index, scratch)
      }, &share)
  }
}

// -- the calls ------------------------------------------------------------------------------------

private func execute(
  _ query: UnsafePointer<smx_tensor>?, _ key: UnsafePointer<smx_tensor>?,
  _ value: UnsafePointer<smx_tensor>?,
  _ wQuery: UnsafePointer<smx_tensor>?, _ wKey: UnsafePointer<smx_tensor>?,
  _ v: UnsafePointer<smx_tensor>?,
  _ out: UnsafePointer<smx_tensor>?, _ options: UnsafePointer<smx_additive_attention_options>?,
  size: UnsafeMutablePointer<Int>?, _ machine: Machine
) throws(Failure) {
  var given = smx_attention_options()
  if let options {
    try requireSize(options)
    let own = options.pointee
    given.layout = own.layout
    given.mask = own.mask
    given.bias = own.bias
    given.structure = own.structure
    given.lse = own.lse
    given.weights = own.weights
    given.workspace = own.workspace
    given.workspace_size = own.workspace_size
  }
  let tensors = try AttentionTensors(query, key, value, out, given, isDirect: false)
  try execute(tensors, AdditiveTensors(wQuery, wKey, v), given, size: size, machine)
}

@implementation @_cdecl("smx_additive_attention")
public func smx_additive_attention(
  _ query: UnsafePointer<smx_tensor>!, _ key: UnsafePointer<smx_tensor>!,
  _ value: UnsafePointer<smx_tensor>!,
  _ wQuery: UnsafePointer<smx_tensor>!, _ wKey: UnsafePointer<smx_tensor>!,
  _ v: UnsafePointer<smx_tensor>!,
  _ out: UnsafePointer<smx_tensor>!, _ options: UnsafePointer<smx_additive_attention_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try execute(query, key, value, wQuery, wKey, v, out, options, size: nil, machine)
  }
}

@implementation @_cdecl("smx_additive_attention_workspace_size")
public func smx_additive_attention_workspace_size(
  _ query: UnsafePointer<smx_tensor>!, _ key: UnsafePointer<smx_tensor>!,
  _ value: UnsafePointer<smx_tensor>!,
  _ wQuery: UnsafePointer<smx_tensor>!, _ wKey: UnsafePointer<smx_tensor>!,
  _ v: UnsafePointer<smx_tensor>!,
  _ out: UnsafePointer<smx_tensor>!, _ options: UnsafePointer<smx_additive_attention_options>!,
  _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    try execute(query, key, value, wQuery, wKey, v, out, options, size: needed, machine)
  }
}
