// The tensor calls: softmax, log_softmax and logsumexp of any axes, strides, masks and dtypes.

import CSupport
import CSwiftmax

@implementation @_cdecl("smx_softmax")
public func smx_softmax(
  _ x: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_softmax_options>!
) -> smx_status {
  softmax(SMXK_SOFTMAX, x, out, options)
}

@implementation @_cdecl("smx_log_softmax")
public func smx_log_softmax(
  _ x: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_softmax_options>!
) -> smx_status {
  softmax(SMXK_LOG_SOFTMAX, x, out, options)
}

private func softmax(
  _ operation: Int, _ x: UnsafePointer<smx_tensor>?, _ out: UnsafePointer<smx_tensor>?,
  _ options: UnsafePointer<smx_softmax_options>?
) -> smx_status {
  enter { (machine) throws(Failure) in
    let given = try read(options, or: smx_softmax_options())
    var operands = Operands(
      operation: operation, x: try Tensor(x, "x"), out: try Tensor(out, "out"))
    operands.temperature = try Tensor.optional(given.temperature, "temperature")
    operands.mask = try Tensor.optional(given.mask, "mask")
    operands.bias = try Tensor.optional(given.bias, "bias")
    operands.structure = UnsafePointer(given.structure)
    try execute(operands, Axes(given), machine)
  }
}

@implementation @_cdecl("smx_logsumexp")
public func smx_logsumexp(
  _ x: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_logsumexp_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    let given = try read(options, or: smx_logsumexp_options())
    var operands = Operands(
      operation: SMXK_LOGSUMEXP, x: try Tensor(x, "x"), out: try Tensor(out, "out"))
    operands.weights = try Tensor.optional(given.weights, "weights")
    operands.mask = try Tensor.optional(given.mask, "mask")
    operands.bias = try Tensor.optional(given.bias, "bias")
    operands.sign = try Tensor.optional(given.sign, "sign")
    operands.structure = UnsafePointer(given.structure)
    try execute(operands, Axes(given), machine)
  }
}

/// One call on its way through the room for its plan.
struct RowCall {
  let operands: Operands
  let axes: Axes
  let machine: Machine
  var failure: Failure? = nil
}

/// Checks, plans and runs a call.
func execute(_ operands: Operands, _ axes: Axes, _ machine: Machine) throws(Failure) {
  var call = RowCall(operands: operands, axes: axes, machine: machine)
  smxk_with_plan(
    { context, plan in
      let call = context.assumingMemoryBound(to: RowCall.self)
      do throws(Failure) {
        if call.pointee.operands.hasMatrices {
          try planMatrices(call.pointee, plan)
        } else {
          try planAndRun(call.pointee, plan)
        }
      } catch {
        call.pointee.failure = error
      }
    }, &call)
  if let failure = call.failure { throw failure }
}

private func planAndRun(_ call: RowCall, _ plan: UnsafeMutablePointer<smxk_plan>) throws(Failure) {
  let o = call.operands
  let isReduced = smxk_reduced_of(plan)
  try markAxes(call.axes, of: o.x, isReduced)
  var kept = 0
  for axis in 0..<o.x.rank where isReduced[axis] == 0 { kept += 1 }
  try check(o, isReduced, kept: kept)
  if o.out.count == 0 { return }
  var job = makeJob(o, plan, kept: kept)
  run(&job, on: call.machine)
}
