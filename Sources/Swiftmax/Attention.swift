// The attention calls: what is wrong with them, or a plan that runs.

import CSupport
import CSwiftmax

/// One call on its way through the room for its plan.
private struct Call {
  let tensors: AttentionTensors
  let options: smx_attention_options
  let additive: AdditiveTensors?
  let machine: Machine
  /// Where the size of the workspace goes, when only that is asked for.
  let size: UnsafeMutablePointer<Int>?
  var failure: Failure? = nil
}

private func execute(
  _ query: UnsafePointer<smx_tensor>?, _ key: UnsafePointer<smx_tensor>?,
  _ value: UnsafePointer<smx_tensor>?,
  _ out: UnsafePointer<smx_tensor>?, _ options: UnsafePointer<smx_attention_options>?,
  size: UnsafeMutablePointer<Int>?, _ machine: Machine
) throws(Failure) {
  let given = try read(options, or: smx_attention_options())
  let tensors = try AttentionTensors(query, key, value, out, given)
  try execute(tensors, nil, given, size: size, machine)
}

func execute(
  _ tensors: AttentionTensors, _ additive: AdditiveTensors?, _ options: smx_attention_options,
  size: UnsafeMutablePointer<Int>?, _ machine: Machine
) throws(Failure) {
  var call = Call(
    tensors: tensors, options: options, additive: additive, machine: machine, size: size)
  smxk_with_attention_plan(
    { context, plan in
      let call = context.assumingMemoryBound(to: Call.self)
      do throws(Failure) {
        try planAndRun(call.pointee, plan)
      } catch {
        call.pointee.failure = error
      }
    }, &call)
  if let failure = call.failure { throw failure }
}

private func planAndRun(
  _ call: Call, _ plan: UnsafeMutablePointer<smxk_attention_plan>
) throws(Failure) {
  let tensors = call.tensors
  try tensors.check(plan, call.options)
  try tensors.checkOutputs(UnsafePointer(call.options.structure))
  let job = smxk_job_of(plan)
  tensors.fill(job, call.options)
  try call.additive?.check(tensors)
  try call.additive?.plan(job, tensors, call.machine)
  let isWide = Int(job.pointee.dtype) == SMX_FLOAT64
  let kernels = call.machine.kernels.pointee
  if Int(call.options.precision) == SMX_FAST {
    job.pointee.unit = fastUnit(job, lanes: kernels.tile_f32)
  }
  planTiles(
    job, lanes: isWide ? kernels.tile_f64 : kernels.tile_f32, isWide: isWide,
    threads: call.machine.threads)
  splitSpans(job, isWide: isWide, threads: call.machine.threads)
  let tiles = taskCount(job)
  let tasks = tiles * job.pointee.spans
  let threads = max(
    attentionThreads(job, call.machine.threads, tasks), projectionThreads(job, call.machine))
  let partials = job.pointee.spans > 1 ? Int(tasks * job.pointee.partial_bytes) : 0
  let projections = layOutProjections(job)
  let isIdle = job.pointee.rows == 0 || tasks == 0
  let isRoomy =
    job.pointee.rooms.bytes > Int64(SMXK_SCRATCH_BYTES) || partials > 0 || projections > 0
  let needed =
    isRoomy && !isIdle ? Int(job.pointee.rooms.bytes) * Int(threads) + partials + projections : 0
  guard let room = try room(needed, call.options, tensors, size: call.size) else { return }
  if isIdle { return }
  defer { room.release() }
  if let additive = call.additive {
    for i in 0..<3 { try room.requireApart(from: additive.matrices[i]) }
  }
  if needed > 0 {
    let start = room.start.assumingMemoryBound(to: CChar.self)
    job.pointee.workspace = start
    job.pointee.partials = start + Int(job.pointee.rooms.bytes) * Int(threads)
    if call.additive != nil { project(job, job.pointee.partials + partials, call.machine) }
  }
  run(
    AttentionShare(job: job, task: isWide ? kernels.attention_f64 : kernels.attention_f32), threads,
    tasks)
  if job.pointee.spans > 1 {
    run(
      AttentionShare(
        job: job, task: isWide ? kernels.attention_join_f64 : kernels.attention_join_f32), threads,
      tiles)
  }
}

private func run(_ share: AttentionShare, _ threads: Int32, _ tasks: Int64) {
  var share = share
  smxk_parallel(
    threads, tasks, isSmall(share.job) ? 1 : 0,
    { context, index, scratch in
      let share = context.assumingMemoryBound(to: AttentionShare.self).pointee
      share.task(share.job, index, scratch)
    }, &share)
}

private struct AttentionShare {
  let job: UnsafeMutablePointer<smxk_attention>
  let task:
    @convention(c) (UnsafePointer<smxk_attention>, Int64, UnsafeMutablePointer<smxk_scratch>) ->
      Void
}

/// The workspace of a call of attention, apart from what that reads and writes; nil where only its
/// size was asked for.
func room(
  _ needed: Int, _ options: smx_attention_options, _ tensors: AttentionTensors,
  size: UnsafeMutablePointer<Int>?
) throws(Failure) -> Room? {
  let workspace = Workspace(options.workspace, options.workspace_size, size: size)
  guard let room = try workspace.room(needed, for: "scores", of: tensors.key) else { return nil }
  for i in 0..<12 { try room.requireApart(from: tensors.inputs[i]) }
  for o in 0..<3 { try room.requireApart(from: tensors.outputs[o]) }
  try room.requireApart(fromThoseOf: options.structure)
  return room
}

@implementation @_cdecl("smx_attention")
public func smx_attention(
  _ query: UnsafePointer<smx_tensor>!, _ key: UnsafePointer<smx_tensor>!,
  _ value: UnsafePointer<smx_tensor>!,
  _ out: UnsafePointer<smx_tensor>!, _ options: UnsafePointer<smx_attention_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try execute(query, key, value, out, options, size: nil, machine)
  }
}

@implementation @_cdecl("smx_attention_workspace_size")
public func smx_attention_workspace_size(
  _ query: UnsafePointer<smx_tensor>!, _ key: UnsafePointer<smx_tensor>!,
  _ value: UnsafePointer<smx_tensor>!,
  _ out: UnsafePointer<smx_tensor>!, _ options: UnsafePointer<smx_attention_options>!,
  _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    try execute(query, key, value, out, options, size: needed, machine)
  }
}

@implementation @_cdecl("smx_attention_f32")
public func smx_attention_f32(
  _ query: UnsafePointer<Float>!, _ key: UnsafePointer<Float>!, _ value: UnsafePointer<Float>!,
  _ out: UnsafeMutablePointer<Float>!, _ batch: Int64, _ heads: Int64, _ keyHeads: Int64,
  _ lq: Int64, _ lk: Int64,
  _ headSize: Int64, _ valueSize: Int64, _ causal: Int32
) -> smx_status {
  enter { (machine) throws(Failure) in
    var condition = smx_mask()
    condition.size = MemoryLayout<smx_mask>.size
    condition.causal = 1
    var options = smx_attention_options()
    options.size = MemoryLayout<smx_attention_options>.size
    let shapes: InlineArray<16, Int64> = [
      batch, heads, lq, headSize, batch, keyHeads, lk, headSize, batch, keyHeads, lk, valueSize,
      batch, heads, lq,
      valueSize,
    ]
    try shapes.span.withUnsafeBufferPointer { (shapes) throws(Failure) in
      func tensor(_ data: UnsafeRawPointer?, _ which: Int) -> smx_tensor {
        smx_tensor(
          data: UnsafeMutableRawPointer(mutating: data), dtype: smx_dtype(SMX_FLOAT32), ndim: 4,
          shape: shapes.baseAddress! + 4 * which, strides: nil)
      }
      var q = tensor(query, 0)
      var k = tensor(key, 1)
      var v = tensor(value, 2)
      var o = tensor(out, 3)
      try withUnsafePointer(to: &condition) { (condition) throws(Failure) in
        if causal != 0 { options.structure = condition }
        try execute(&q, &k, &v, &o, &options, size: nil, machine)
      }
    }
  }
}
