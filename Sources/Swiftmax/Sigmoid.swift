// sigmoid and log_sigmoid: any shape, any strides, element by element.

import CSupport
import CSwiftmax

@implementation @_cdecl("smx_sigmoid")
public func smx_sigmoid(
  _ x: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!
) -> smx_status {
  eachElement(SMXK_SIGMOID, x, out)
}

@implementation @_cdecl("smx_log_sigmoid")
public func smx_log_sigmoid(
  _ x: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!
) -> smx_status {
  eachElement(SMXK_LOG_SIGMOID, x, out)
}

private struct Call {
  let operation: Int
  let x: Tensor
  let out: Tensor
  let machine: Machine
}

private func eachElement(
  _ operation: Int, _ x: UnsafePointer<smx_tensor>?, _ out: UnsafePointer<smx_tensor>?
) -> smx_status {
  enter { (machine) throws(Failure) in
    var call = Call(
      operation: operation, x: try Tensor(x, "x"), out: try Tensor(out, "out"), machine: machine)
    try call.x.requireFloats()
    try call.out.require(dtype: call.x.dtype)
    try requireSameShape(call.out, call.x)
    try call.out.requireOwnPlaces()
    try call.out.requireDistinct(from: call.x)
    if call.x.count == 0 { return }
    smxk_with_plan(
      { context, plan in
        let call = context.assumingMemoryBound(to: Call.self).pointee
        var share = Share(job: plainJob(call, plan), call: call)
        smxk_parallel(
          share.portions.threads, share.portions.tasks, share.portions.isSmall,
          { context, task, scratch in
            let share = context.assumingMemoryBound(to: Share.self)
            let portions = share.pointee.portions
            let first = portions.first(task)
            let count = portions.end(task) - first
            withUnsafePointer(to: &share.pointee.job) {
              share.pointee.kernel($0, first, count, scratch)
            }
          }, &share)
      }, &call)
  }
}

private struct Share {
  var job: smxk_job
  let kernel:
    @convention(c) (UnsafePointer<smxk_job>, Int64, Int64, UnsafeMutablePointer<smxk_scratch>) ->
      Void
  /// Of chunks.
  let portions: Portions

  init(job: smxk_job, call: Call) {
    self.job = job
    let kernels = call.machine.kernels.pointee
    kernel = Int(job.dtype) == SMX_FLOAT64 ? kernels.sigmoid_f64 : kernels.sigmoid_f32
    let chunk = min(job.cols, Int64(SMXK_CHUNK))
    portions = Portions((job.cols + chunk - 1) / chunk, each: chunk, on: call.machine)
  }
}

/// All elements as one row. No element depends on another, so its axes may come in the order that
/// suits the memory.
private func plainJob(_ call: Call, _ plan: UnsafeMutablePointer<smxk_plan>) -> smxk_job {
  let sorted = smxk_axes_of(plan)
  let inner = smxk_inner_of(plan)
  let rank = call.x.rank
  for axis in 0..<rank {
    var a = smxk_axis()
    a.count = call.x.length(axis)
    a.x = call.x.stride(axis)
    a.out = call.out.stride(axis)
    var place = axis
    while place > 0 && sorted[place - 1].x.magnitude < a.x.magnitude {
      sorted[place] = sorted[place - 1]
      place -= 1
    }
    sorted[place] = a
  }
  var count = 0
  for axis in 0..<rank { append(sorted[axis], to: inner, &count, merges: true) }
  var one = smxk_axis()
  one.count = 1
  if count == 0 { append(one, to: inner, &count, merges: false) }
  var job = smxk_job()
  job.operation = call.operation
  job.dtype = call.x.dtype
  job.inner = UnsafePointer(inner)
  job.inner_count = Int32(count)
  job.outer = UnsafePointer(inner)
  job.outer_count = 0
  job.rows = 1
  job.cols = call.x.count
  job.x = UnsafeRawPointer(call.x.raw.pointee.data)
  job.out = call.out.raw.pointee.data
  let size = itemSize(job.dtype)
  let isContiguous =
    count == 1 && (inner[0].count == 1 || (inner[0].x == size && inner[0].out == size))
  job.direct = size >= 4 && isContiguous ? SMXK_DIRECT : SMXK_DIRECT_NONE
  return job
}
