// The log-probability of token sequences, from logits.

import CSupport
import CSwiftmax

private func execute(
  _ logits: UnsafePointer<smx_tensor>?, _ tokens: UnsafePointer<smx_tensor>?,
  _ out: UnsafePointer<smx_tensor>?, _ options: UnsafePointer<smx_sequence_options>?,
  size: UnsafeMutablePointer<Int>?, _ machine: Machine
) throws(Failure) {
  let given = try read(options, or: smx_sequence_options())
  var call = Call(
    logits: try Tensor(logits, "logits"), tokens: try Tensor(tokens, "tokens"),
    out: try Tensor(out, "out"),
    machine: machine, workspace: Workspace(given.workspace, given.workspace_size, size: size))
  call.lengths = try Tensor.optional(given.lengths, "lengths")
  call.temperature = try Tensor.optional(given.temperature, "temperature")
  call.mask = try Tensor.optional(given.mask, "mask")
  call.each = try Tensor.optional(given.token_log_probs, "token_log_probs")
  call.isMean = given.normalize != 0
  smxk_with_plan(
    { context, plan in
      let call = context.assumingMemoryBound(to: Call.self)
      do throws(Failure) {
        try check(call.pointee, plan)
        try score(call.pointee, plan)
      } catch {
        call.pointee.failure = error
      }
    }, &call)
  if let failure = call.failure { throw failure }
}

@implementation @_cdecl("smx_sequence_log_prob")
public func smx_sequence_log_prob(
  _ logits: UnsafePointer<smx_tensor>!, _ tokens: UnsafePointer<smx_tensor>!,
  _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_sequence_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try execute(logits, tokens, out, options, size: nil, machine)
  }
}

@implementation @_cdecl("smx_sequence_log_prob_workspace_size")
public func smx_sequence_log_prob_workspace_size(
  _ logits: UnsafePointer<smx_tensor>!, _ tokens: UnsafePointer<smx_tensor>!,
  _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_sequence_options>!, _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    try execute(logits, tokens, out, options, size: needed, machine)
  }
}

private struct Call {
  let logits: Tensor
  let tokens: Tensor
  let out: Tensor
  let machine: Machine
  let workspace: Workspace
  var lengths: Tensor? = nil
  var temperature: Tensor? = nil
  var mask: Tensor? = nil
  var each: Tensor? = nil
  var isMean = false
  var failure: Failure? = nil

  var positions: Int64 { logits.length(logits.rank - 2) }
  var classes: Int64 { logits.length(logits.rank - 1) }
  func length(_ sequence: Int64) -> Int64 { lengths.map { $0.integer(sequence) } ?? positions }
}

private func check(_ call: Call, _ plan: UnsafeMutablePointer<smxk_plan>) throws(Failure) {
  let logits = call.logits
  try logits.requireFloats()
  try logits.requireRank(atLeast: 2)
  try call.tokens.requireIntegers()
  try call.tokens.require(leadingOf: logits, dropping: 1, " must have all axes but the last of ")
  try call.out.require(dtype: smx_dtype(SMX_FLOAT64))
  try call.out.require(leadingOf: logits, dropping: 2, " must have all axes but the last two of ")
  try call.out.requireOwnPlaces()
  let isReduced = smxk_reduced_of(plan)
  for axis in 0..<logits.rank { isReduced[axis] = axis == logits.rank - 1 ? 1 : 0 }
  if let lengths = call.lengths {
    try lengths.requireIntegers()
    try lengths.require(leadingOf: logits, dropping: 2, " must have all axes but the last two of ")
  }
  if let temperature = call.temperature {
    try requireRows(temperature, of: logits, isReduced, kept: logits.rank - 1, broadcasts: true)
    try requireTemperatures(temperature)
  }
  if let mask = call.mask {
    try mask.require(dtype: smx_dtype(SMX_BOOL))
    try mask.requireBroadcast(to: logits)
  }
  if let each = call.each {
    try each.require(dtype: smx_dtype(Int(logits.dtype) == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32))
    try each.require(leadingOf: logits, dropping: 1, " must have all axes but the last of ")
    try each.requireOwnPlaces()
    try each.requireDistinct(from: call.out, orSame: false)
  }
  try requireOwnMemory(call.out, call)
  if let each = call.each { try requireOwnMemory(each, call) }
}

@inline(never)
private func requireOwnMemory(_ output: Tensor, _ call: Call) throws(Failure) {
  try output.requireDistinct(from: call.logits, orSame: false)
  try output.requireDistinct(from: call.tokens, orSame: false)
  try output.requireDistinct(from: call.lengths, orSame: false)
  try output.requireDistinct(from: call.temperature, orSame: false)
  try output.requireDistinct(from: call.mask, orSame: false)
}

/// In place of a token behind the end of its sequence.
private let noToken: Int64 = -1

/// One slot for each position: first its token, then the bits of its log-probability.
private func score(_ call: Call, _ plan: UnsafeMutablePointer<smxk_plan>) throws(Failure) {
  // Sequences without positions still have a result.
  let slots = call.tokens.count
  guard call.out.count > 0 else { return }
  guard
    let memory = try call.workspace.room(
      Int(slots) * 8, for: "log-probabilities", of: call.tokens)
  else { return }
  defer { memory.release() }
  try memory.requireApart(from: call.logits)
  try memory.requireApart(from: call.tokens)
  try memory.requireApart(from: call.out)
  try memory.requireApart(from: call.lengths)
  try memory.requireApart(from: call.temperature)
  try memory.requireApart(from: call.mask)
  try memory.requireApart(from: call.each)
  let room = memory.start.assumingMemoryBound(to: Int64.self)
  try readTokens(call, room)
  if slots > 0 && call.logits.count > 0 {
    var o = Operands(operation: SMXK_LOG_SOFTMAX, x: call.logits, out: call.logits)
    o.mask = call.mask
    o.temperature = call.temperature
    run(makeJob(o, plan, kept: call.logits.rank - 1), room, call)
  }
  write(call, UnsafePointer(room))
}

private func readTokens(_ call: Call, _ room: UnsafeMutablePointer<Int64>) throws(Failure) {
  for sequence in 0..<call.out.count {
    let length = call.length(sequence)
    if length < 0 || length > call.positions {
      throw failure(SMX_ERROR_VALUE) {
        $0.add("lengths")
        call.lengths!.add(sequence, to: &$0)
        $0.add(" is ")
        $0.add(length)
        $0.add(", but the sequences of logits of shape ")
        $0.add(shapeOf: call.logits.raw)
        $0.add(" have 0 to ")
        $0.add(call.positions)
        $0.add(" tokens")
      }
    }
    for i in 0..<call.positions {
      let slot = sequence * call.positions + i
      let token = i < length ? call.tokens.integer(slot) : noToken
      room[Int(slot)] = token
      if i < length && (token < 0 || token >= call.classes) {
        throw failure(SMX_ERROR_VALUE) {
          $0.add("tokens")
          call.tokens.add(slot, to: &$0)
          $0.add(" is ")
          $0.add(token)
          $0.add(", but logits of shape ")
          $0.add(shapeOf: call.logits.raw)
          $0.add(" have classes 0 to ")
          $0.add(call.classes - 1)
        }
      }
    }
  }
}

private struct Share {
  var job: smxk_job
  let room: UnsafeMutablePointer<Int64>
  let kernel:
    @convention(c) (UnsafePointer<smxk_job>, Int64, Int64, UnsafeMutablePointer<smxk_scratch>) ->
      Double
  let portions: Portions
}

private func run(_ job: smxk_job, _ room: UnsafeMutablePointer<Int64>, _ call: Call) {
  let kernels = call.machine.kernels.pointee
  var share = Share(
    job: job, room: room,
    kernel: Int(job.dtype) == SMX_FLOAT64 ? kernels.log_prob_f64 : kernels.log_prob_f32,
    portions: Portions(job.rows, each: job.cols, on: call.machine))
  smxk_parallel(
    share.portions.threads, share.portions.tasks, share.portions.isSmall,
    { context, task, scratch in
      let share = context.assumingMemoryBound(to: Share.self)
      let room = share.pointee.room
      withUnsafePointer(to: &share.pointee.job) { job in
        for row in share.pointee.portions.first(task)..<share.pointee.portions.end(task)
        where room[Int(row)] != noToken {
          let value = share.pointee.kernel(job, row, room[Int(row)], scratch)
          room[Int(row)] = Int64(bitPattern: value.bitPattern)
        }
      }
    }, &share)
}

private func write(_ call: Call, _ room: UnsafePointer<Int64>) {
  for sequence in 0..<call.out.count {
    let length = call.length(sequence)
    var total = 0.0
    // Order is part of the contract.
    for i in 0..<call.positions {
      let slot = sequence * call.positions + i
      let value = i < length ? Double(bitPattern: UInt64(bitPattern: room[Int(slot)])) : 0
      if i < length { total += value }
      call.each?.store(value, slot)
    }
    if call.isMean && length > 0 { total /= Double(length) }
    call.out.store(total.isNaN ? .nan : total, sequence)
  }
}
