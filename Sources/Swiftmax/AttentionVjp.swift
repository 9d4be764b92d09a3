// The gradient of attention: what is wrong with a call, or a plan that runs.

import CSupport
import CSwiftmax

/// The operands beside those of the forward call.
private struct Gradients {
  let dOut: Tensor
  var query, key, value, bias, sinks: Tensor?

  init(
    _ dOut: UnsafePointer<smx_tensor>?, _ given: UnsafePointer<smx_attention_gradients>?
  ) throws(Failure) {
    self.dOut = try Tensor(dOut, "d_out")
    guard let given else { throw failure(SMX_ERROR_NULL, "gradients is NULL") }
    try requireSize(given, "gradients.size")
    query = try Tensor.optional(given.pointee.d_query, "d_query")
    key = try Tensor.optional(given.pointee.d_key, "d_key")
    value = try Tensor.optional(given.pointee.d_value, "d_value")
    bias = try Tensor.optional(given.pointee.d_bias, "d_bias")
    sinks = try Tensor.optional(given.pointee.d_sinks, "d_sinks")
  }

  /// The forward call has been checked.
  func check(
    _ forward: AttentionTensors, _ lse: Tensor, _ structure: UnsafePointer<smx_mask>?
  ) throws(Failure) {
    let single = lse.dtype
    try dOut.require(dtype: forward.query.dtype)
    try dOut.requireShape(of: forward.out)
    try require(query, forward.query.dtype, forward.query)
    try require(key, forward.query.dtype, forward.key)
    try require(value, forward.query.dtype, forward.value)
    if bias != nil && forward.bias == nil {
      throw failure(SMX_ERROR_NULL, "d_bias is given, but options.bias is NULL")
    }
    try require(bias, single, forward.bias)
    if sinks != nil && forward.sinks == nil {
      throw failure(SMX_ERROR_NULL, "d_sinks is given, but options.sinks is NULL")
    }
    try require(sinks, single, forward.sinks)
    let inputs: InlineArray<10, Tensor?> = [
      dOut, forward.query, forward.key, forward.value, forward.out, lse, forward.mask, forward.bias,
      forward.slopes,
      forward.sinks,
    ]
    for o in 0..<5 {
      guard let output = outputs[o] else { continue }
      try output.requireOwnPlaces()
      for i in 0..<10 { try output.requireDistinct(from: inputs[i], orSame: false) }
      try output.requireDistinct(fromThoseOf: structure)
      for other in 0..<o { try output.requireDistinct(from: outputs[other], orSame: false) }
    }
  }

  var outputs: InlineArray<5, Tensor?> { [query, key, value, bias, sinks] }

  /// What gradients are where there is no score.
  func clear() throws(Failure) {
    for o in 0..<5 {
      guard let output = outputs[o] else { continue }
      try forEach(output) { (p) throws(Failure) in
        let p = UnsafeMutableRawPointer(mutating: p)
        for i in 0..<Int(itemSize(output.dtype)) {
          p.storeBytes(of: 0, toByteOffset: i, as: UInt8.self)
        }
      }
    }
  }

  private func require(_ gradient: Tensor?, _ dtype: smx_dtype, _ of: Tensor?) throws(Failure) {
    guard let gradient, let of else { return }
    try gradient.require(dtype: dtype)
    try gradient.requireShape(of: of)
  }
}

/// One call on its way through the room for its plan.
private struct Call {
  let forward: AttentionTensors
  let lse: Tensor
  let gradients: Gradients
  let options: smx_attention_options
  let machine: Machine
  /// Where the size of the workspace goes, when only that is asked for.
  let size: UnsafeMutablePointer<Int>?
  var failure: Failure? = nil
}

private func execute(
  _ dOut: UnsafePointer<smx_tensor>?, _ query: UnsafePointer<smx_tensor>?,
  _ key: UnsafePointer<smx_tensor>?,
  _ value: UnsafePointer<smx_tensor>?, _ out: UnsafePointer<smx_tensor>?,
  _ lse: UnsafePointer<smx_tensor>?,
  _ gradients: UnsafePointer<smx_attention_gradients>?,
  _ options: UnsafePointer<smx_attention_options>?,
  size: UnsafeMutablePointer<Int>?, _ machine: Machine
) throws(Failure) {
  var given = try read(options, or: smx_attention_options())
  try refuse(given.lse, "lse")
  try refuse(given.weights, "weights")
  try refuse(given.past_key, "past_key")
  try refuse(given.past_value, "past_value")
  try refuse(given.block_table, "block_table")
  try refuse(given.query_starts, "query_starts")
  try refuse(given.key_starts, "key_starts")
  let logarithms = try Tensor(lse, "lse")
  given.lse = lse
  var call = Call(
    forward: try AttentionTensors(query, key, value, out, given), lse: logarithms,
    gradients: try Gradients(dOut, gradients), options: given, machine: machine, size: size)
  smxk_with_attention_vjp_plan(
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

private func refuse(_ tensor: UnsafePointer<smx_tensor>?, _ name: StaticString) throws(Failure) {
  if tensor == nil { return }
  throw failure(SMX_ERROR_VALUE) {
    $0.add("options.")
    $0.add(name)
    $0.add(" must be NULL: the gradient of attention does not take it")
  }
}

/// The sums of a key head, for each thread, must be countable: rows are filled up to whole vectors.
private func checkSums(_ forward: AttentionTensors, threads: Int32) throws(Failure) {
  let columns = forward.headSize + forward.valueSize + 32
  let (numbers, overflow) = max(forward.keys, 1).multipliedReportingOverflow(by: columns)
  if !overflow && numbers <= Int64.max / 32 / Int64(threads) { return }
  throw failure(SMX_ERROR_OVERFLOW) {
    $0.add("key of shape ")
    $0.add(shapeOf: forward.key.raw)
    $0.add(" and value of shape ")
    $0.add(shapeOf: forward.value.raw)
    $0.add(" make sums that are larger than memory can be")
  }
}

private func planAndRun(
  _ call: Call, _ plan: UnsafeMutablePointer<smxk_attention_vjp_plan>
) throws(Failure) {
  let forward = call.forward
  try forward.check(smxk_forward_of(plan), call.options)
  try call.gradients.check(forward, call.lse, UnsafePointer(call.options.structure))
  try checkSums(forward, threads: call.machine.threads)
  let job = smxk_vjp_job_of(plan)
  fill(job, call)
  let isWide = Int(job.pointee.forward.dtype) == SMX_FLOAT64
  let kernels = call.machine.kernels.pointee
  let isTogether = planGradient(
    job, lanes: isWide ? kernels.tile_f64 : kernels.tile_f32, isWide: isWide,
    threads: call.machine.threads)
  let batch = forward.batch
  let heads = forward.heads
  let hasScores = batch > 0 && heads > 0 && forward.queries > 0 && forward.keys > 0
  let needed = hasScores ? Int(job.pointee.rooms.bytes) * Int(call.machine.threads) : 0
  guard let room = try room(needed, call.options, forward, size: call.size) else { return }
  defer { room.release() }
  for o in 0..<5 { try room.requireApart(from: call.gradients.outputs[o]) }
  try room.requireApart(from: call.gradients.dOut)
  if !hasScores {
    try call.gradients.clear()
    return
  }
  job.pointee.forward.workspace = room.start.assumingMemoryBound(to: CChar.self)
  let isShared = job.pointee.shares_keys != 0 || job.pointee.shares_values != 0
  let entries = (isShared ? 1 : batch) * job.pointee.forward.key_heads
  let task = isWide ? kernels.attention_vjp_f64 : kernels.attention_vjp_f32
  let share = Share(job: job, task: task, threads: call.machine.threads)
  if isTogether { share.run(SMXK_VJP_ALL, entries) }
  if !isTogether && job.pointee.d_query.data != nil {
    share.run(SMXK_VJP_QUERIES, batch * heads * job.pointee.query_tasks)
  }
  if !isTogether && (job.pointee.d_key.data != nil || job.pointee.d_value.data != nil) {
    share.run(SMXK_VJP_KEYS, entries * job.pointee.key_tasks)
  }
  if job.pointee.d_bias.data != nil {
    let view = job.pointee.d_bias
    share.run(
      SMXK_VJP_BIAS,
      (view.batch != 0 ? batch : 1) * (view.head != 0 ? heads : 1) * job.pointee.bias_tasks)
  }
  if job.pointee.d_sinks.data != nil { share.run(SMXK_VJP_SINKS, heads) }
}

private func fill(_ job: UnsafeMutablePointer<smxk_attention_vjp>, _ call: Call) {
  let forward = call.forward
  // The forward job stands first in the gradient's.
  forward.fill(
    UnsafeMutableRawPointer(job).assumingMemoryBound(to: smxk_attention.self), call.options)
  job.pointee.d_out = forward.view(call.gradients.dOut)
  job.pointee.d_query = forward.view(call.gradients.query)
  job.pointee.d_key = forward.view(call.gradients.key)
  job.pointee.d_value = forward.view(call.gradients.value)
  job.pointee.d_bias = forward.scoreView(call.gradients.bias)
  if let sinks = call.gradients.sinks {
    job.pointee.d_sinks = smxk_view(
      data: forward.data(sinks), batch: 0, head: sinks.stride(0), row: 0, column: 0)
  }
  let isSole = job.pointee.forward.batch == 1
  job.pointee.shares_keys = !isSole && forward.length(forward.key, forward.batchAxis) == 1 ? 1 : 0
  job.pointee.shares_values =
    !isSole && forward.length(forward.value, forward.batchAxis) == 1 ? 1 : 0
}

private struct Share {
  let job: UnsafeMutablePointer<smxk_attention_vjp>
  let task:
    @convention(c) (UnsafePointer<smxk_attention_vjp>, Int64, UnsafeMutablePointer<smxk_scratch>) ->
      Void
  let threads: Int32

  func run(_ phase: Int, _ tasks: Int64) {
    if tasks == 0 { return }
    job.pointee.phase = phase
    var share = self
    let forward = UnsafeRawPointer(job).assumingMemoryBound(to: smxk_attention.self)
    smxk_parallel(
      attentionThreads(forward, threads, tasks), tasks, isSmall(forward) ? 1 : 0,
      { context, index, scratch in
        let share = context.assumingMemoryBound(to: Share.self).pointee
        share.task(share.job, index, scratch)
      }, &share)
  }
}

@implementation @_cdecl("smx_attention_vjp")
public func smx_attention_vjp(
  _ dOut: UnsafePointer<smx_tensor>!, _ query: UnsafePointer<smx_tensor>!,
  _ key: UnsafePointer<smx_tensor>!,
  _ value: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ lse: UnsafePointer<smx_tensor>!,
  _ gradients: UnsafePointer<smx_attention_gradients>!,
  _ options: UnsafePointer<smx_attention_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try execute(dOut, query, key, value, out, lse, gradients, options, size: nil, machine)
  }
}

@implementation @_cdecl("smx_attention_vjp_workspace_size")
public func smx_attention_vjp_workspace_size(
  _ dOut: UnsafePointer<smx_tensor>!, _ query: UnsafePointer<smx_tensor>!,
  _ key: UnsafePointer<smx_tensor>!,
  _ value: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ lse: UnsafePointer<smx_tensor>!,
  _ gradients: UnsafePointer<smx_attention_gradients>!,
  _ options: UnsafePointer<smx_attention_options>!,
  _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    try execute(dOut, query, key, value, out, lse, gradients, options, size: needed, machine)
  }
}
