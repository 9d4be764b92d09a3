// Entropy and Kullback-Leibler divergence of rows.

import CSupport
import CSwiftmax

@implementation @_cdecl("smx_entropy")
public func smx_entropy(
  _ p: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_divergence_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try divergence(Tensor(p, "p"), nil, Tensor(out, "out"), options, machine)
  }
}

@implementation @_cdecl("smx_kl_divergence")
public func smx_kl_divergence(
  _ p: UnsafePointer<smx_tensor>!, _ q: UnsafePointer<smx_tensor>!,
  _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_divergence_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try divergence(Tensor(p, "p"), Tensor(q, "q"), Tensor(out, "out"), options, machine)
  }
}

private struct Call {
  let p: Tensor
  let q: Tensor?
  let out: Tensor
  let axis: Int
  let machine: Machine
  var job = smxk_divergence()
  var perTask: Int64 = 1
}

private func divergence(
  _ p: Tensor, _ q: Tensor?, _ out: Tensor, _ given: UnsafePointer<smx_divergence_options>?,
  _ machine: Machine
) throws(Failure) {
  let options = try read(given, or: smx_divergence_options())
  try p.requireFloats()
  let axis = try classAxis(options.axis, of: p)
  if let q {
    try q.require(dtype: p.dtype)
    try q.requireShape(of: p)
  }
  try out.require(dtype: wideDtype(p.dtype))
  try requireRowShape(out, p, axis)
  try out.requireOwnPlaces()
  try out.requireDistinct(from: p, orSame: false)
  try out.requireDistinct(from: q, orSame: false)
  if out.count == 0 { return }
  var call = Call(p: p, q: q, out: out, axis: axis, machine: machine)
  call.job.p_is_logits = Int64(options.p_is_logits)
  call.job.q_is_logits = Int64(options.q_is_logits)
  smxk_with_plan(
    { context, plan in
      let call = context.assumingMemoryBound(to: Call.self)
      fill(call, plan)
      run(call)
    }, &call)
}

private func fill(_ call: UnsafeMutablePointer<Call>, _ plan: UnsafeMutablePointer<smxk_plan>) {
  let axis = call.pointee.axis
  let p = call.pointee.p
  let out = call.pointee.out
  let inner = smxk_inner_of(plan)
  let outer = smxk_outer_of(plan)
  call.pointee.job.dtype = out.dtype
  call.pointee.job.p = rowsJob(p, axis, outer: outer, inner: inner)
  for i in 0..<p.rank - 1 { outer[i].out = out.stride(i) }
  call.pointee.job.p.out = out.raw.pointee.data
  call.pointee.job.p.operation = SMXK_LOG_SOFTMAX
  guard let q = call.pointee.q else { return }
  call.pointee.job.q = rowsJob(q, axis, outer: smxk_axes_of(plan), inner: inner + 1)
  call.pointee.job.q.operation = SMXK_LOG_SOFTMAX
}

private func run(_ call: UnsafeMutablePointer<Call>) {
  let rows = call.pointee.job.p.rows
  let cols = max(call.pointee.job.p.cols, 1)
  let elements = rows &* cols
  // An eighth of the elements that a softmax has in a task, for ten times the work.
  let threads = elements < 512 ? 1 : call.pointee.machine.threads
  call.pointee.perTask = max(1, min(4096, elements / Int64(threads)) / cols)
  smxk_parallel(
    threads, (rows + call.pointee.perTask - 1) / call.pointee.perTask, elements < 8192 ? 1 : 0,
    { context, index, scratch in
      let call = context.assumingMemoryBound(to: Call.self)
      let kernels = call.pointee.machine.kernels.pointee
      let isWide = Int(call.pointee.p.dtype) == SMX_FLOAT64
      let first = index &* call.pointee.perTask
      let count = min(call.pointee.perTask, call.pointee.job.p.rows - first)
      withUnsafePointer(to: &call.pointee.job) {
        (isWide ? kernels.divergence_f64 : kernels.divergence_f32)($0, first, count, scratch)
      }
    }, call)
}
