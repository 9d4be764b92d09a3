// Cross-entropy of a linear layer's logits: what is wrong with a call, or a plan that runs group by
// group.

import CSupport
import CSwiftmax

private struct LinearOperands {
  let hidden, weight, targets, loss: Tensor
  var bias, lse, dHidden, dWeight, dBias: Tensor?

  init(
    _ hidden: UnsafePointer<smx_tensor>?, _ weight: UnsafePointer<smx_tensor>?,
    _ targets: UnsafePointer<smx_tensor>?,
    _ loss: UnsafePointer<smx_tensor>?, _ options: smx_linear_cross_entropy_options
  ) throws(Failure) {
    self.hidden = try Tensor(hidden, "hidden")
    self.weight = try Tensor(weight, "weight")
    self.targets = try Tensor(targets, "targets")
    self.loss = try Tensor(loss, "loss")
    bias = try Tensor.optional(options.bias, "bias")
    lse = try Tensor.optional(options.lse, "lse")
    dHidden = try Tensor.optional(options.d_hidden, "d_hidden")
    dWeight = try Tensor.optional(options.d_weight, "d_weight")
    dBias = try Tensor.optional(options.d_bias, "d_bias")
  }

  var tokens: Int64 { hidden.length(0) }
  var columns: Int64 { hidden.length(1) }
  var classes: Int64 { weight.length(0) }
  var isWide: Bool { Int(hidden.dtype) == SMX_FLOAT64 }

  func check(_ options: smx_linear_cross_entropy_options) throws(Failure) {
    try hidden.requireFloats()
    try requireRank(hidden, 2, "hidden must have 2 axes, tokens and columns, but has shape ")
    try requireRank(weight, 2, "weight must have 2 axes, classes and columns, but has shape ")
    try weight.require(dtype: hidden.dtype)
    if weight.length(1) != columns { throw disagree(weight, hidden, " must have the columns of ") }
    try targets.requireIntegers()
    let single = smx_dtype(isWide ? SMX_FLOAT64 : SMX_FLOAT32)
    try requireRow(targets, tokens, of: hidden, " must have one number for each token of ")
    try loss.require(dtype: single)
    if Int(options.reduction) == SMX_NONE {
      try requireRow(loss, tokens, of: hidden, " must have one number for each token of ")
    } else if loss.count != 1 || loss.rank != 0 {
      try requireRank(loss, 0, "loss must be a single number of shape (), but has shape ")
    }
    if let bias {
      try bias.require(dtype: hidden.dtype)
      try requireRow(bias, classes, of: weight, " must have one number for each class of ")
    }
    if let lse {
      try lse.require(dtype: single)
      try requireRow(lse, tokens, of: hidden, " must have one number for each token of ")
    }
    if let dHidden {
      try dHidden.require(dtype: hidden.dtype)
      try dHidden.requireShape(of: hidden)
    }
    if let dWeight {
      try dWeight.require(dtype: hidden.dtype)
      try dWeight.requireShape(of: weight)
    }
    if let dBias {
      if bias == nil { throw failure(SMX_ERROR_NULL, "d_bias is given, but options.bias is NULL") }
      try dBias.require(dtype: single)
      try requireRow(dBias, classes, of: weight, " must have one number for each class of ")
    }
    try checkNumbers(options)
    try checkPlaces()
    try checkTargets(options)
  }

  private func requireRank(
    _ tensor: Tensor, _ rank: Int, _ sentence: StaticString
  ) throws(Failure) {
    if tensor.rank == rank { return }
    throw failure(SMX_ERROR_SHAPE) {
      $0.add(sentence)
      $0.add(shapeOf: tensor.raw)
    }
  }

  private func requireRow(
    _ tensor: Tensor, _ length: Int64, of other: Tensor, _ why: StaticString
  ) throws(Failure) {
    if tensor.rank != 1 || tensor.length(0) != length { throw disagree(tensor, other, why) }
  }

  private func checkNumbers(_ options: smx_linear_cross_entropy_options) throws(Failure) {
    let reduction = Int(options.reduction)
    if reduction != SMX_MEAN && reduction != SMX_SUM && reduction != SMX_NONE {
      throw failure(
        SMX_ERROR_VALUE, "reduction must be SMX_MEAN, SMX_SUM or SMX_NONE", got: options.reduction)
    }
    if !(options.label_smoothing >= 0 && options.label_smoothing <= 1) {
      throw failure(
        SMX_ERROR_VALUE, "label_smoothing must be from 0 to 1", got: options.label_smoothing)
    }
    if !(options.z_loss >= 0 && options.z_loss.isFinite) {
      throw failure(SMX_ERROR_VALUE, "z_loss must be 0 or more and finite", got: options.z_loss)
    }
    if !options.grad_scale.isFinite {
      throw failure(SMX_ERROR_VALUE, "grad_scale must be finite", got: options.grad_scale)
    }
    if columns > Int64(Int32.max) {
      throw failure(SMX_ERROR_OVERFLOW) {
        $0.add("hidden of shape ")
        $0.add(shapeOf: hidden.raw)
        $0.add(" has rows longer than ")
        $0.add(Int64(Int32.max))
      }
    }
  }

  private var inputs: InlineArray<4, Tensor?> { [hidden, weight, targets, bias] }
  private var outputs: InlineArray<5, Tensor?> { [loss, lse, dHidden, dWeight, dBias] }

  func requireApart(from room: Room) throws(Failure) {
    for i in 0..<4 { try room.requireApart(from: inputs[i]) }
    for o in 0..<5 { try room.requireApart(from: outputs[o]) }
  }

  private func checkPlaces() throws(Failure) {
    for o in 0..<5 {
      guard let output = outputs[o] else { continue }
      try output.requireOwnPlaces()
      for i in 0..<4 { try output.requireDistinct(from: inputs[i], orSame: false) }
      for other in 0..<o { try output.requireDistinct(from: outputs[other], orSame: false) }
    }
  }

  private func checkTargets(_ options: smx_linear_cross_entropy_options) throws(Failure) {
    for i in 0..<tokens {
      let target = target(i)
      if target == ignoreIndex(options) || target >= 0 && target < classes { continue }
      throw failure(SMX_ERROR_VALUE) {
        $0.add("targets holds ")
        $0.add(target)
        $0.add(" at ")
        $0.add(i)
        $0.add(", but there are ")
        $0.add(classes)
        $0.add(" classes")
      }
    }
  }

  func target(_ i: Int64) -> Int64 {
    smxk_integer(
      targets.dtype, UnsafeRawPointer(targets.raw.pointee.data!) + Int(i &* targets.stride(0)))
  }
}

private func ignoreIndex(_ options: smx_linear_cross_entropy_options) -> Int64 {
  options.has_ignore_index != 0 ? options.ignore_index : -100
}

private func matrix(_ tensor: Tensor?) -> smxk_matrix {
  guard let tensor else { return smxk_matrix() }
  return smxk_matrix(
    data: tensor.raw.pointee.data?.assumingMemoryBound(to: CChar.self) ?? UnsafeMutablePointer(
      bitPattern: 64)!,
    row: tensor.rank == 0 ? 0 : tensor.stride(0),
    column: tensor.rank == 0 ? 0 : tensor.stride(tensor.rank - 1))
}

/// Bytes that a group's logits may have: enough tokens that weights and their gradients, which each
/// group reads anew, cost little beside the products.
private let groupBytes: Int64 = 32 << 20
private let mostBlocks: Int64 = 4

/// Fills the job but for its rooms; returns how many bytes these have, nil where no memory is that
/// large.
private func plan(_ job: inout smxk_linear_loss, _ machine: Machine) -> Int? {
  let isWide = Int(job.dtype) == SMX_FLOAT64
  let size: Int64 = isWide ? 8 : 4
  let vector: Int64 = isWide ? 8 : 16
  let tokens = Int64(SMXK_QUERY_BLOCK)
  job.padded = (job.columns + vector - 1) / vector * vector
  // Without classes too there is a part of the tokens' gradients, which is 0.
  job.span_count = max(1, (job.classes + Int64(SMXK_CLASS_SPAN) - 1) / Int64(SMXK_CLASS_SPAN))
  let isOwn = Int(job.dtype) >= SMX_FLOAT32
  job.is_weight_direct = isOwn && job.weight.column == size ? 1 : 0
  job.is_gradient_direct =
    isOwn && job.d_weight.column == size && job.d_weight.row % size == 0
      && job.columns == job.padded ? 1 : 0
  job.gradient_pitch = job.is_gradient_direct != 0 ? job.d_weight.row / size : job.padded
  // Every product below stays under 2^62 if these do.
  guard job.classes < 1 << 40, job.padded < 1 << 31, job.classes * job.padded < 1 << 50 else {
    return nil
  }
  let blockBytes = max(1, job.classes * tokens * size)
  let all = (job.tokens + tokens - 1) / tokens
  let blocks = max(1, min(min(all, mostBlocks), groupBytes / blockBytes))
  job.group_tokens = blocks * tokens
  var end: Int64 = 0
  func take(_ numbers: Int64, of size: Int64) -> Int64 {
    let start = end
    end += (numbers * size + 63) / 64 * 64
    return start
  }
  func room(
    _ offset: Int64
  ) -> UnsafeMutablePointer<CChar>? {
    UnsafeMutablePointer(bitPattern: Int(offset) + 64)
  }
  job.logits = room(take(blocks * tokens * job.classes, of: size))
  job.turned = room(take(blocks * tokens * job.padded, of: size))
  job.panels = room(take(blocks * tokens * job.padded, of: size))
  job.states = room(take(Int64(SMXK_LOSS_STATES) * job.group_tokens, of: size))
  job.spans = room(take(job.span_count * Int64(SMXK_SPAN_STATES) * job.group_tokens, of: size))
  job.parts = room(
    take(job.d_hidden.data == nil ? 0 : job.span_count * job.group_tokens * job.padded, of: size))
  let ownsSums = job.d_weight.data != nil && job.is_gradient_direct == 0
  job.sums = room(take(ownsSums ? job.classes * job.padded : 0, of: size))
  job.losses = UnsafeMutableRawPointer(bitPattern: Int(take(job.tokens, of: 8)) + 64)!
    .assumingMemoryBound(to: Double.self)
  let ownRows = max(vector, job.is_weight_direct != 0 ? 0 : Int64(SMXK_CLASS_BLOCK))
  job.own_bytes = (ownRows * job.padded * size + 63) / 64 * 64
  job.own = room(take(job.own_bytes * Int64(machine.threads), of: 1))
  return Int(end)
}

/// Rooms were offsets from 64, so that none was NULL.
private func move(_ job: inout smxk_linear_loss, to base: UnsafeMutableRawPointer) {
  func at(_ room: UnsafeMutablePointer<CChar>?) -> UnsafeMutablePointer<CChar>? {
    (base + (Int(bitPattern: room) - 64)).assumingMemoryBound(to: CChar.self)
  }
  job.logits = at(job.logits)
  job.turned = at(job.turned)
  job.panels = at(job.panels)
  job.states = at(job.states)
  job.spans = at(job.spans)
  job.parts = at(job.parts)
  job.sums = at(job.sums)
  job.own = at(job.own)
  job.losses = (base + (Int(bitPattern: job.losses) - 64)).assumingMemoryBound(to: Double.self)
}

private struct Share {
  var job: smxk_linear_loss
  let task:
    @convention(c) (UnsafePointer<smxk_linear_loss>, Int64, UnsafeMutablePointer<smxk_scratch>) ->
      Void

  mutating func run(_ phase: Int, _ tasks: Int64, _ machine: Machine) {
    job.phase = phase
    smxk_parallel(
      machine.threads, tasks, 0,
      { context, index, scratch in
        let share = context.assumingMemoryBound(to: Share.self)
        withUnsafePointer(to: &share.pointee.job) { share.pointee.task($0, index, scratch) }
      }, &self)
  }
}

private func execute(
  _ o: LinearOperands, _ options: smx_linear_cross_entropy_options,
  size: UnsafeMutablePointer<Int>?, _ machine: Machine
) throws(Failure) {
  try o.check(options)
  var counted: Int64 = 0
  for i in 0..<o.tokens where o.target(i) != ignoreIndex(options) { counted += 1 }
  var job = smxk_linear_loss()
  job.dtype = o.hidden.dtype
  job.target_dtype = o.targets.dtype
  job.tokens = o.tokens
  job.columns = o.columns
  job.classes = o.classes
  job.hidden = matrix(o.hidden)
  job.weight = matrix(o.weight)
  job.bias = matrix(o.bias)
  job.targets = matrix(o.targets)
  job.lse = matrix(o.lse)
  job.d_hidden = matrix(o.dHidden)
  job.d_weight = matrix(o.dWeight)
  job.d_bias = matrix(o.dBias)
  job.ignore_index = ignoreIndex(options)
  job.label_smoothing = options.label_smoothing
  job.z_loss = options.z_loss
  job.factor = options.grad_scale == 0 ? 1 : options.grad_scale
  if Int(options.reduction) == SMX_MEAN && counted > 0 { job.factor /= Double(counted) }
  let workspace = Workspace(options.workspace, options.workspace_size, size: size)
  guard let room = try workspace.room(plan(&job, machine), for: "logits", of: o.weight)
  else { return }
  defer { room.release() }
  try o.requireApart(from: room)
  move(&job, to: room.start)
  var share = Share(
    job: job,
    task: o.isWide
      ? machine.kernels.pointee.linear_loss_f64 : machine.kernels.pointee.linear_loss_f32)
  let wants = o.dHidden != nil || o.dWeight != nil || o.dBias != nil
  let tokens = Int64(SMXK_QUERY_BLOCK)
  if o.tokens == 0 {
    try clear(o.dWeight)
    try clear(o.dBias)
  }
  while share.job.first < o.tokens {
    share.job.count = min(share.job.group_tokens, o.tokens - share.job.first)
    let blocks = (share.job.count + tokens - 1) / tokens
    share.run(SMXK_LOSS_TURN, blocks, machine)
    share.run(SMXK_LOSS_LOGITS, job.span_count, machine)
    share.run(SMXK_LOSS_ROWS, blocks, machine)
    if wants { share.run(SMXK_LOSS_CLASSES, job.span_count, machine) }
    if o.dHidden != nil { share.run(SMXK_LOSS_TOKENS, blocks, machine) }
    share.job.first += share.job.count
  }
  writeLoss(o, options, job.losses!, counted)
}

/// The losses, or their sum in order of the tokens.
private func writeLoss(
  _ o: LinearOperands, _ options: smx_linear_cross_entropy_options, _ losses: UnsafePointer<Double>,
  _ counted: Int64
) {
  func store(_ value: Double, _ p: UnsafeMutableRawPointer) {
    if o.isWide {
      p.storeBytes(of: value, as: Double.self)
    } else {
      p.storeBytes(of: Float(value), as: Float.self)
    }
  }
  let out = matrix(o.loss)
  if Int(options.reduction) == SMX_NONE {
    for i in 0..<Int(o.tokens) {
      store(losses[i], UnsafeMutableRawPointer(out.data! + i * Int(out.row)))
    }
    return
  }
  var sum = 0.0
  for i in 0..<Int(o.tokens) { sum += losses[i] }
  if Int(options.reduction) == SMX_MEAN && counted > 0 { sum /= Double(counted) }
  store(sum == sum ? sum : .nan, UnsafeMutableRawPointer(out.data!))
}

private func execute(
  _ hidden: UnsafePointer<smx_tensor>?, _ weight: UnsafePointer<smx_tensor>?,
  _ targets: UnsafePointer<smx_tensor>?,
  _ loss: UnsafePointer<smx_tensor>?, _ options: UnsafePointer<smx_linear_cross_entropy_options>?,
  size: UnsafeMutablePointer<Int>?, _ machine: Machine
) throws(Failure) {
  let given = try read(options, or: smx_linear_cross_entropy_options())
  let operands = try LinearOperands(hidden, weight, targets, loss, given)
  try execute(operands, given, size: size, machine)
}

@implementation @_cdecl("smx_linear_cross_entropy")
public func smx_linear_cross_entropy(
  _ hidden: UnsafePointer<smx_tensor>!, _ weight: UnsafePointer<smx_tensor>!,
  _ targets: UnsafePointer<smx_tensor>!,
  _ loss: UnsafePointer<smx_tensor>!, _ options: UnsafePointer<smx_linear_cross_entropy_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try execute(hidden, weight, targets, loss, options, size: nil, machine)
  }
}

@implementation @_cdecl("smx_linear_cross_entropy_workspace_size")
public func smx_linear_cross_entropy_workspace_size(
  _ hidden: UnsafePointer<smx_tensor>!, _ weight: UnsafePointer<smx_tensor>!,
  _ targets: UnsafePointer<smx_tensor>!,
  _ loss: UnsafePointer<smx_tensor>!, _ options: UnsafePointer<smx_linear_cross_entropy_options>!,
  _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    try execute(hidden, weight, targets, loss, options, size: needed, machine)
  }
}
