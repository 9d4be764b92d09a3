// smx_gumbel_softmax: softmax with noise as its bias.

import CSupport
import CSwiftmax

private func execute(
  _ logits: UnsafePointer<smx_tensor>?, _ out: UnsafePointer<smx_tensor>?,
  _ options: UnsafePointer<smx_gumbel_softmax_options>?, size: UnsafeMutablePointer<Int>?,
  _ machine: Machine
) throws(Failure) {
  let given = try read(options, or: smx_gumbel_softmax_options())
  var call = try Decoding(.gumbelSoftmax, machine, logits, out)
  call.temperature = try Tensor.optional(given.temperature, "temperature")
  call.mask = try Tensor.optional(given.mask, "mask")
  call.seed = given.seed
  call.counter = try RowNumbers(given.counter, "counter")
  call.draw = try RowNumbers(given.draw, "draw")
  call.flag = given.hard != 0
  call.workspace = Workspace(given.workspace, given.workspace_size, size: size)
  try execute(call)
}

@implementation @_cdecl("smx_gumbel_softmax")
public func smx_gumbel_softmax(
  _ logits: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_gumbel_softmax_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in try execute(logits, out, options, size: nil, machine) }
}

@implementation @_cdecl("smx_gumbel_softmax_workspace_size")
public func smx_gumbel_softmax_workspace_size(
  _ logits: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_gumbel_softmax_options>!, _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    try execute(logits, out, options, size: needed, machine)
  }
}

private struct Noising {
  let call: Decoding
  let isReduced: UnsafePointer<Int32>
  let job: smxk_job
  /// A row of noise for each thread.
  let noise: UnsafeMutableRawPointer
  let rowBytes: Int
}

func gumbelSoftmax(_ call: Decoding, _ plan: UnsafeMutablePointer<smxk_plan>) throws(Failure) {
  try call.out.require(dtype: call.x.dtype)
  try requireSameShape(call.out, call.x)
  try call.checkPlaces(call.out, mayBeX: true)
  if call.out.count == 0 { return }
  if call.cols >= 1 << 33 {
    throw failure(SMX_ERROR_OVERFLOW) {
      $0.add("logits of shape ")
      $0.add(shapeOf: call.x.raw)
      $0.add(" has rows of 8589934592 elements or more, beyond the counters of smx_gumbel_softmax")
    }
  }
  let isWide = choosesWide(call)
  let rowBytes = (Int(call.cols) * (isWide ? 8 : 4) + 63) / 64 * 64
  let threads = Int(min(Int64(call.machine.threads), call.rows))
  let (bytes, isTooLarge) = rowBytes.multipliedReportingOverflow(by: max(threads, 1))
  guard let room = try call.room(isTooLarge ? nil : bytes, for: "noise") else { return }
  defer { room.release() }
  let noise = room.start
  var cols = call.cols
  withUnsafePointer(to: &cols) { shape in
    var raw = smx_tensor(
      data: noise, dtype: smx_dtype(isWide ? SMX_FLOAT64 : SMX_FLOAT32), ndim: 1, shape: shape,
      strides: nil)
    withUnsafePointer(to: &raw) { raw in
      let bias = Tensor(shapeOnly: raw, "noise")
      var noising = Noising(
        call: call, isReduced: smxk_reduced_of(plan),
        job: call.job(SMXK_SOFTMAX, out: call.out, bias: bias, plan),
        noise: noise, rowBytes: rowBytes)
      shareRows(call, &noising) { context, index, scratch in
        let noising = context.assumingMemoryBound(to: Noising.self)
        for row in noising.pointee.call.rows(ofTask: index) { noiseRow(noising, row, scratch) }
      }
    }
  }
}

private func noiseRow(
  _ noising: UnsafePointer<Noising>, _ row: Int64, _ scratch: UnsafeMutablePointer<smxk_scratch>
) {
  let call = noising.pointee.call
  let kernels = call.machine.kernels
  let isWide = choosesWide(call)
  let noise = noising.pointee.noise + Int(scratch.pointee.worker) * noising.pointee.rowBytes
  let random = call.random(row, noising.pointee.isReduced)
  let bits = UnsafeMutableRawPointer(smxk_high_of(scratch)).assumingMemoryBound(to: UInt64.self)
  var from: Int64 = 0
  while from < call.cols {
    let count = Int(min(Int64(SMXK_BLOCK), call.cols - from))
    var i = 0
    while i < count {
      let words = random.ofElements((from + Int64(i)) / 2)
      bits[i] = words.first
      bits[i + 1] = words.second
      i += 2
    }
    isWide
      ? kernels.pointee.gumbel_f64(bits, Int64(count), noise + Int(from) * 8)
      : kernels.pointee.gumbel_f32(bits, Int64(count), noise + Int(from) * 4)
    from += Int64(SMXK_BLOCK)
  }
  var job = noising.pointee.job
  job.bias = UnsafeRawPointer(noise)
  if !call.flag {
    let rows = isWide ? kernels.pointee.rows_f64 : kernels.pointee.rows_f32
    rows(&job, row, 1, scratch)
    return
  }
  withUnsafePointer(to: job) { job in
    var choice = RowChoice(kernels, job, scratch, row)
    let isGood = choice.select(1)
    let place = isGood && choice.list.count > 0 ? choice.list.places[0] : -1
    choice.write(above: .infinity, hidden: isGood ? 0 : .nan, from: 0, to: choice.cols)
    if place >= 0 { choice.write(above: .infinity, hidden: 1, from: place, to: place + 1) }
  }
}
