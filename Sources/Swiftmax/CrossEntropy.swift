// Cross-entropy, negative log-likelihood and perplexity: from the call to rows, and from rows to
// one number.

import CSupport
import CSwiftmax

@implementation @_cdecl("smx_cross_entropy")
public func smx_cross_entropy(
  _ logits: UnsafePointer<smx_tensor>!, _ targets: UnsafePointer<smx_tensor>!,
  _ loss: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_cross_entropy_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try crossEntropy(.crossEntropy, logits, targets, loss, options, machine)
  }
}

@implementation @_cdecl("smx_nll")
public func smx_nll(
  _ logProbs: UnsafePointer<smx_tensor>!, _ targets: UnsafePointer<smx_tensor>!,
  _ loss: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_cross_entropy_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try crossEntropy(.nll, logProbs, targets, loss, options, machine)
  }
}

@implementation @_cdecl("smx_perplexity")
public func smx_perplexity(
  _ logits: UnsafePointer<smx_tensor>!, _ targets: UnsafePointer<smx_tensor>!,
  _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_cross_entropy_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try crossEntropy(.perplexity, logits, targets, out, options, machine)
  }
}

/// One call on its way through the room for its plan.
private struct Call {
  let operands: LossOperands
  let machine: Machine
  var job = smxk_cross_entropy()
  var rows: Int64 = 0
  /// The rows' sum so far, as a pair.
  var sum = 0.0
  var rest = 0.0
}

private func crossEntropy(
  _ function: LossFunction, _ logits: UnsafePointer<smx_tensor>?,
  _ targets: UnsafePointer<smx_tensor>?,
  _ loss: UnsafePointer<smx_tensor>?, _ options: UnsafePointer<smx_cross_entropy_options>?,
  _ machine: Machine
) throws(Failure) {
  let operands = try LossOperands(function, logits, targets, loss, options)
  var call = Call(operands: operands, machine: machine)
  let counted = try operands.countTargets()
  call.job.factor = 1
  let isMean = Int(operands.options.reduction) == SMX_MEAN
  if isMean { call.job.factor = counted.rows == 0 ? 0 : 1 / counted.weight }
  smxk_with_plan(
    { context, plan in
      let call = context.assumingMemoryBound(to: Call.self)
      call.pointee.rows = call.pointee.operands.fill(&call.pointee.job, plan)
      run(call)
    }, &call)
  if Int(operands.options.reduction) == SMX_NONE { return }
  let sum = call.sum + call.rest
  let mean = counted.rows == 0 ? 0 : isMean ? sum / counted.weight : sum
  let value = function == .perplexity ? machine.kernels.pointee.exponential(mean) : mean
  let quiet = value.isNaN ? Double.nan : value
  let place = operands.loss.raw.pointee.data!
  if Int(operands.loss.dtype) == SMX_FLOAT64 {
    place.storeBytes(of: quiet, as: Double.self)
  } else {
    place.storeBytes(of: Float(quiet), as: Float.self)
  }
}

// -- rows among threads ---------------------------------------------------------------------------

private func run(_ call: UnsafeMutablePointer<Call>) {
  let rows = call.pointee.rows
  if rows == 0 { return }
  if Int(call.pointee.operands.options.reduction) == SMX_NONE {
    runRows(call, first: 0, count: rows)
    return
  }
  // Sums of some rows each; short rows cost too little for one each. As many at a time as there is
  // room for.
  var shift: Int64 = 6
  while shift > 0 && call.pointee.job.logits.cols << shift > 4096 { shift -= 1 }
  call.pointee.job.sum_shift = shift
  smxk_with_partials(
    { context, losses in
      let call = context.assumingMemoryBound(to: Call.self)
      call.pointee.job.losses = losses
      let shift = call.pointee.job.sum_shift
      var first: Int64 = 0
      while first < call.pointee.rows {
        let count = min(call.pointee.rows - first, Int64(SMXK_WAVE) << shift)
        runRows(call, first: first, count: count)
        addSums(call, losses, Int((count - 1) >> shift) + 1)
        first += count
      }
    }, call)
}

private func addSums(
  _ call: UnsafeMutablePointer<Call>, _ sums: UnsafePointer<smxk_partial>, _ count: Int
) {
  var sum = call.pointee.sum
  var rest = call.pointee.rest
  // Order is part of the contract: block after block, in float64 by TwoSum.
  for i in 0..<count where sums[i].count != 0 {
    let b = sums[i].high
    let s = sum + b
    let part = s - sum
    let lost = (sum - (s - part)) + (b - part) + sums[i].low
    if lost - lost == 0 { rest += lost }
    sum = s
  }
  call.pointee.sum = sum
  call.pointee.rest = rest
}

private struct Rows {
  let job: UnsafePointer<smxk_cross_entropy>
  let kernel:
    @convention(c) (
      UnsafePointer<smxk_cross_entropy>, Int64, Int64, UnsafeMutablePointer<smxk_scratch>
    ) -> Void
  let first: Int64
  let end: Int64
  /// Of blocks of rows.
  let portions: Portions
}

private func runRows(_ call: UnsafeMutablePointer<Call>, first: Int64, count: Int64) {
  let kernels = call.pointee.machine.kernels.pointee
  let isWide = Int(call.pointee.job.logits.dtype) == SMX_FLOAT64
  let shift = call.pointee.job.sum_shift
  // A row takes about as long as 64 elements beside its own: 40 ns.
  let each = call.pointee.job.logits.cols + 64
  let portions = Portions(
    (count - 1) >> shift + 1, each: each << shift, on: call.pointee.machine,
    of: call.pointee.rows &* each)
  call.pointee.job.first = first
  withUnsafePointer(to: &call.pointee.job) { job in
    var rows = Rows(
      job: job, kernel: isWide ? kernels.cross_entropy_f64 : kernels.cross_entropy_f32,
      first: first, end: first + count,
      portions: portions)
    smxk_parallel(
      portions.threads, portions.tasks, portions.isSmall,
      job.pointee.logits.panel_rows > 0 ? { smxk_with_panel(runTask, $0, $1, $2) } : runTask, &rows)
  }
}

private func runTask(
  _ context: UnsafeMutableRawPointer, _ index: Int64, _ scratch: UnsafeMutablePointer<smxk_scratch>
) {
  let rows = context.assumingMemoryBound(to: Rows.self).pointee
  let shift = rows.job.pointee.sum_shift
  let from = rows.first + rows.portions.first(index) << shift
  rows.kernel(
    rows.job, from, min(rows.end, rows.first + rows.portions.end(index) << shift) - from, scratch)
}
