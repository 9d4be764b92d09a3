// The Jacobian of softmax, a matrix for each row.

import CSupport
import CSwiftmax

@implementation @_cdecl("smx_softmax_jacobian")
public func smx_softmax_jacobian(
  _ p: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_softmax_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    let given = try read(options, or: smx_softmax_options())
    var operands = Operands(
      operation: SMXK_SOFTMAX, x: try Tensor(p, "p"), out: try Tensor(out, "out"))
    operands.temperature = try Tensor.optional(given.temperature, "temperature")
    operands.mask = try Tensor.optional(given.mask, "mask")
    operands.structure = UnsafePointer(given.structure)
    operands.hasMatrices = true
    try execute(operands, Axes(given), machine)
  }
}

/// Checks, plans and runs a call of Jacobians.
func planMatrices(_ call: RowCall, _ plan: UnsafeMutablePointer<smxk_plan>) throws(Failure) {
  let o = call.operands
  let isReduced = smxk_reduced_of(plan)
  try markAxes(call.axes, of: o.x, isReduced)
  try requireMatrices(o.out, of: o.x, isReduced)
  let kept = o.out.rank - 2
  try checkInputs(o, isReduced, kept: kept)
  try checkPlaces(o, mayBeInput: false)
  if o.out.count == 0 { return }
  var jacobian = smxk_jacobian()
  jacobian.job = makeJob(o, plan, kept: kept)
  jacobian.line = o.out.stride(kept)
  jacobian.column = o.out.stride(kept + 1)
  run(&jacobian, on: call.machine)
}

/// out must have the kept axes of p and behind them twice the length of a row.
private func requireMatrices(
  _ out: Tensor, of p: Tensor, _ isReduced: UnsafePointer<Int32>
) throws(Failure) {
  var place = 0
  var length: Int64 = 1
  var fits = true
  for axis in 0..<p.rank {
    if isReduced[axis] != 0 {
      length = length &* p.length(axis)
    } else {
      fits = fits && place < out.rank && out.length(place) == p.length(axis)
      place += 1
    }
  }
  fits =
    fits && out.rank == place + 2 && out.length(place) == length && out.length(place + 1) == length
  if !fits { throw disagree(out, p, " must have the kept axes and twice the length of a row of ") }
}

/// Elements of one task. Fewer than four tasks are a small call (`smxk_parallel`).
private let taskElements: Int64 = 16384

private struct Share {
  var job: smxk_jacobian
  let lines:
    @convention(c) (UnsafePointer<smxk_jacobian>, Int64, Int64, UnsafeMutablePointer<smxk_scratch>)
      -> Void
  let linesPerTask: Int64
  let count: Int64
}

private func run(_ job: inout smxk_jacobian, on machine: Machine) {
  let isWide = Int(job.job.dtype) == SMX_FLOAT64
  let count = job.job.rows &* job.job.cols
  var share = Share(
    job: job,
    lines: isWide ? machine.kernels.pointee.jacobian_f64 : machine.kernels.pointee.jacobian_f32,
    linesPerTask: max(1, taskElements / job.job.cols), count: count)
  let tasks = (count + share.linesPerTask - 1) / share.linesPerTask
  smxk_parallel(
    machine.threads, tasks, tasks < 4 ? 1 : 0,
    { context, index, scratch in
      let share = context.assumingMemoryBound(to: Share.self)
      let first = index &* share.pointee.linesPerTask
      let count = min(share.pointee.linesPerTask, share.pointee.count - first)
      withUnsafePointer(to: &share.pointee.job) { share.pointee.lines($0, first, count, scratch) }
    }, &share)
}
