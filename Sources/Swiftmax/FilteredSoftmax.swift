// smx_filtered_softmax: -inf in the place of what the filters take out, then softmax where it is.

import CSupport
import CSwiftmax

@implementation @_cdecl("smx_filtered_softmax")
public func smx_filtered_softmax(
  _ logits: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_filter_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    let given = try read(options, or: smx_filter_options())
    var call = try Decoding(.filteredSoftmax, machine, logits, out)
    call.temperature = try Tensor.optional(given.temperature, "temperature")
    call.topK = try RowNumbers(given.top_k, "top_k")
    call.topP = try RowNumbers(given.top_p, "top_p")
    call.minP = try RowNumbers(given.min_p, "min_p")
    call.mask = try Tensor.optional(given.mask, "mask")
    try execute(call)
  }
}

private struct Filtering {
  let call: Decoding
  let isReduced: UnsafePointer<Int32>
  /// From x to out, and of out in place.
  let job: smxk_job
  var inPlace: smxk_job
}

func filteredSoftmax(_ call: Decoding, _ plan: UnsafeMutablePointer<smxk_plan>) throws(Failure) {
  try call.out.require(dtype: call.x.dtype)
  try requireSameShape(call.out, call.x)
  try call.checkPlaces(call.out, mayBeX: true)
  if call.out.count == 0 { return }
  let job = call.job(SMXK_SOFTMAX, out: call.out, plan)
  var filtering = Filtering(call: call, isReduced: smxk_reduced_of(plan), job: job, inPlace: job)
  smxk_with_plan(
    { context, plan in
      let filtering = context.assumingMemoryBound(to: Filtering.self)
      let call = filtering.pointee.call
      for axis in 0..<call.x.rank {
        smxk_reduced_of(plan)[axis] = filtering.pointee.isReduced[axis]
      }
      let operands = Operands(
        operation: SMXK_SOFTMAX, x: call.out, out: call.out, temperature: call.temperature)
      filtering.pointee.inPlace = makeJob(operands, plan, kept: call.x.rank - 1)
      shareRows(call, context) { context, index, scratch in
        let filtering = context.assumingMemoryBound(to: Filtering.self)
        for row in filtering.pointee.call.rows(ofTask: index) { filterRow(filtering, row, scratch) }
      }
    }, &filtering)
}

private func filterRow(
  _ filtering: UnsafeMutablePointer<Filtering>, _ row: Int64,
  _ scratch: UnsafeMutablePointer<smxk_scratch>
) {
  let call = filtering.pointee.call
  let kind = withUnsafePointer(to: filtering.pointee.job) { job in
    var choice = RowChoice(call.machine.kernels, job, scratch, row)
    let temperature = smxk_row_of(scratch).pointee.temperature
    let kind = choice.choose(
      call.filter(row, temperature: temperature, filtering.pointee.isReduced))
    switch kind {
    case .good: choice.keep()
    case .empty: choice.write(above: .infinity, hidden: 0, from: 0, to: choice.cols)
    // softmax makes of the NaN or +inf what it makes of any.
    case .invalid: choice.write(above: -.infinity, hidden: -.infinity, from: 0, to: choice.cols)
    }
    return kind
  }
  if kind == .empty { return }
  let rows =
    choosesWide(call)
    ? call.machine.kernels.pointee.rows_f64 : call.machine.kernels.pointee.rows_f32
  withUnsafePointer(to: filtering.pointee.inPlace) { rows($0, row, 1, scratch) }
}

func choosesWide(_ call: Decoding) -> Bool { Int(call.x.dtype) == SMX_FLOAT64 }

extension RowChoice {
  /// Writes elements from ..< to: those above a number as they are, `hidden` for the others.
  func write(above threshold: Double, hidden: Double, from: Int64, to end: Int64) {
    var from = from
    while from < end {
      let to = min(from + Int64(SMXK_BLOCK), end)
      var block = smxk_block(from: from, to: to, threshold: threshold, hidden: hidden)
      isWide
        ? kernels.pointee.keep_f64(job, &block, scratch)
        : kernels.pointee.keep_f32(job, &block, scratch)
      from = to
    }
  }

  /// Writes the row with -inf in the place of what the cut takes out.
  func keep() {
    let split = min(cut.place + 1, cols)
    if split > 0 { write(above: below(cut.value), hidden: -.infinity, from: 0, to: split) }
    write(above: cut.value, hidden: -.infinity, from: split, to: cols)
  }
}
