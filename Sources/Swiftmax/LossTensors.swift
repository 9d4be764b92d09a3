// The operands of a loss: checked against one another, counted, and laid out as the kernels' job.

import CSupport
import CSwiftmax

enum LossFunction { case crossEntropy, nll, perplexity }

struct LossOperands {
  let function: LossFunction
  let options: smx_cross_entropy_options
  let logits: Tensor
  let targets: Tensor
  let loss: Tensor
  let weight, mask, scale, lse, grad: Tensor?
  let axis: Int
  let ignoreIndex: Int64
  let temperature: Double

  var classes: Int64 { logits.length(axis) }
  var isClasses: Bool { !isFloat(targets.dtype) }
  var wide: smx_dtype { wideDtype(logits.dtype) }

  init(
    _ function: LossFunction, _ logits: UnsafePointer<smx_tensor>?,
    _ targets: UnsafePointer<smx_tensor>?,
    _ loss: UnsafePointer<smx_tensor>?, _ given: UnsafePointer<smx_cross_entropy_options>?
  ) throws(Failure) {
    let options = try read(given, or: smx_cross_entropy_options())
    self.function = function
    self.options = options
    self.logits = try Tensor(logits, function == .nll ? "log_probs" : "logits")
    self.targets = try Tensor(targets, "targets")
    self.loss = try Tensor(loss, function == .perplexity ? "out" : "loss")
    weight = try Tensor.optional(options.weight, "weight")
    mask = try Tensor.optional(options.mask, "mask")
    scale = try Tensor.optional(options.grad_scale, "grad_scale")
    lse = try Tensor.optional(options.lse, "lse")
    grad = try Tensor.optional(options.grad, "grad")
    try self.logits.requireFloats()
    axis = try classAxis(options.axis, of: self.logits)
    ignoreIndex = options.has_ignore_index != 0 ? options.ignore_index : -100
    temperature = options.temperature == 0 ? 1 : options.temperature
    try checkNumbers()
    try checkTensors()
    try checkPlaces()
  }

  private func checkNumbers() throws(Failure) {
    let other: StaticString? =
      function == .crossEntropy
      ? nil
      : scale != nil
        ? "grad_scale"
        : lse != nil
          ? "lse"
          : grad != nil
            ? "grad"
            : options.z_loss != 0
              ? "z_loss"
              : function == .perplexity
                ? (options.label_smoothing != 0
                  ? "label_smoothing" : Int(options.reduction) != SMX_MEAN ? "reduction" : nil)
                : options.temperature != 0 ? "temperature" : mask != nil ? "mask" : nil
    if let other {
      throw failure(SMX_ERROR_VALUE) {
        $0.add(other)
        $0.add(function == .nll ? " is no option of smx_nll" : " is no option of smx_perplexity")
      }
    }
    if options.reduction < Int32(SMX_MEAN) || options.reduction > Int32(SMX_NONE) {
      throw failure(SMX_ERROR_VALUE) {
        $0.add("reduction is ")
        $0.add(Int64(options.reduction))
        $0.add(", which is none of smx_reduction")
      }
    }
    if !(temperature >= 0x1p-126 && temperature <= 0x1p126) {
      throw failure(
        SMX_ERROR_VALUE, "temperature must be a number from 2^-126 to 2^126", got: temperature)
    }
    if !(options.label_smoothing >= 0 && options.label_smoothing <= 1) {
      throw failure(
        SMX_ERROR_VALUE, "label_smoothing must be a number from 0 to 1",
        got: options.label_smoothing)
    }
    if !(options.z_loss >= 0 && options.z_loss.isFinite) {
      throw failure(SMX_ERROR_VALUE, "z_loss must be 0 or more and finite", got: options.z_loss)
    }
  }

  private func checkTensors() throws(Failure) {
    if isClasses {
      if Int(targets.dtype) != SMX_INT32 && Int(targets.dtype) != SMX_INT64 {
        throw failure(SMX_ERROR_DTYPE) {
          $0.add("targets has dtype ")
          $0.add(dtypeName(targets.dtype))
          $0.add(", but must have int32 or int64 for classes, or a float dtype for probabilities")
        }
      }
      try requireRowShape(targets, logits, axis)
    } else {
      // Narrow logits may have float32 targets.
      if targets.dtype != wide { try targets.require(dtype: logits.dtype) }
      try targets.requireShape(of: logits)
      if ignoreIndex >= 0 && ignoreIndex < classes {
        throw failure(SMX_ERROR_VALUE) {
          $0.add("ignore_index is ")
          $0.add(ignoreIndex)
          $0.add(", but targets are probabilities, of which none is ignored")
        }
      }
    }
    try loss.require(dtype: wide)
    if Int(options.reduction) == SMX_NONE {
      try requireRowShape(loss, logits, axis)
    } else if loss.rank != 0 {
      throw failure(SMX_ERROR_SHAPE) {
        $0.add(loss.name)
        $0.add(" of shape ")
        $0.add(shapeOf: loss.raw)
        $0.add(" must have no axis: rows are reduced")
      }
    }
    if let lse {
      try lse.require(dtype: wide)
      try requireRowShape(lse, logits, axis)
    }
    if let grad {
      try grad.require(dtype: logits.dtype)
      try grad.requireShape(of: logits)
    }
    if let mask {
      try mask.require(dtype: smx_dtype(SMX_BOOL))
      try mask.requireBroadcast(to: logits)
    }
    if let weight {
      try weight.require(dtype: wide)
      if weight.rank != 1 || weight.length(0) != classes {
        throw disagree(weight, logits, " is not one number for each class of ")
      }
    }
    if let scale {
      try scale.require(dtype: wide)
      var fits = scale.rank < logits.rank
      if fits {
        for own in 0..<scale.rank {
          let kept = own + (logits.rank - 1 - scale.rank)
          let length = scale.length(own)
          fits = fits && (length == 1 || length == logits.length(kept < axis ? kept : kept + 1))
        }
      }
      if !fits { throw disagree(scale, logits, " does not broadcast to the rows of ") }
    }
  }

  private func checkPlaces() throws(Failure) {
    let outputs: InlineArray<3, Tensor?> = [loss, lse, grad]
    let inputs: InlineArray<5, Tensor?> = [logits, targets, weight, mask, scale]
    for o in 0..<3 {
      guard let output = outputs[o] else { continue }
      try output.requireOwnPlaces()
      for i in 0..<5 { try output.requireDistinct(from: inputs[i], orSame: o == 2 && i == 0) }
      for other in 0..<o { try output.requireDistinct(from: outputs[other], orSame: false) }
    }
  }

  // -- targets ------------------------------------------------------------------------------------

  /// How many rows count and the sum of their weights; refuses a target that is no class.
  func countTargets() throws(Failure) -> (rows: Int64, weight: Double) {
    if !isClasses {
      let rows = rowCount(logits, axis)
      return (rows, Double(rows))
    }
    var rows: Int64 = 0
    var row: Int64 = 0
    // As a pair, row after row. Order is part of the contract.
    var sum = 0.0
    var rest = 0.0
    try forEach(targets) { (p) throws(Failure) in
      let target = smxk_integer(targets.dtype, p)
      row += 1
      if target == ignoreIndex { return }
      if target < 0 || target >= classes { throw noClass(target, row: row - 1) }
      rows += 1
      if let weight {
        let b = number(weight, target)
        let s = sum + b
        let part = s - sum
        rest += (sum - (s - part)) + (b - part)
        sum = s
      }
    }
    return (rows, weight == nil ? Double(rows) : sum + rest)
  }

  private func number(_ weight: Tensor, _ i: Int64) -> Double {
    let p = UnsafeRawPointer(weight.raw.pointee.data!) + Int(i &* weight.stride(0))
    return Int(weight.dtype) == SMX_FLOAT64
      ? p.loadUnaligned(as: Double.self) : Double(p.loadUnaligned(as: Float.self))
  }

  private func noClass(_ target: Int64, row: Int64) -> Failure {
    failure(SMX_ERROR_VALUE) {
      $0.add("the target of row ")
      $0.add(row)
      $0.add(" is ")
      $0.add(target)
      $0.add(", but ")
      $0.add(logits.name)
      $0.add(" of shape ")
      $0.add(shapeOf: logits.raw)
      $0.add(" has ")
      $0.add(classes)
      $0.add(" classes (ignore_index is ")
      $0.add(ignoreIndex)
      $0.add(")")
    }
  }

  // -- the job ------------------------------------------------------------------------------------

  /// Fills all but factor and losses; returns the number of rows. Rows are in C order of the kept
  /// axes.
  func fill(_ job: inout smxk_cross_entropy, _ plan: UnsafeMutablePointer<smxk_plan>) -> Int64 {
    // Somewhere to point where there is nothing to read or write.
    let nowhere =
      loss.raw.pointee.data ?? logits.raw.pointee.data ?? UnsafeMutableRawPointer(bitPattern: 64)!
    let isNone = Int(options.reduction) == SMX_NONE
    job.logits = rowsJob(
      logits, axis, outer: smxk_outer_of(plan), inner: smxk_inner_of(plan), mask: mask, out: grad)
    job.logits.operation = SMXK_LOG_SOFTMAX
    job.logits.direct = directness(job.logits)
    job.logits.streams = grad != nil && streams(job.logits) ? 1 : 0
    job.rows = job.logits
    let outer = smxk_axes_of(plan)
    let inner = smxk_inner_of(plan) + 1
    for i in 0..<Int(job.logits.outer_count) {
      var a = smxk_axis()
      a.count = smxk_outer_of(plan)[i].count
      if i < logits.rank - 1 {
        let own = i < axis ? i : i + 1
        a.x = targets.stride(isClasses ? i : own)
        a.out = isNone ? loss.stride(i) : 0
        a.sign = lse?.stride(i) ?? 0
        if let scale {
          let place = i - (logits.rank - 1 - scale.rank)
          a.bias = place < 0 || scale.length(place) == 1 ? 0 : scale.stride(place)
        }
      }
      outer[i] = a
    }
    inner[0] = smxk_axis()
    inner[0].count = classes
    inner[0].x = isClasses ? 0 : targets.stride(axis)
    job.rows.outer_count = mergeAxes(outer, job.rows.outer_count)
    job.logits.outer_count = mergeAxes(smxk_outer_of(plan), job.logits.outer_count)
    if mask == nil { job.logits.panel_rows = panelRows(job.logits, operands: 1) }
    job.rows.dtype = wide
    job.rows.outer = UnsafePointer(outer)
    job.rows.inner = UnsafePointer(inner)
    job.rows.x = UnsafeRawPointer(targets.raw.pointee.data ?? nowhere)
    job.rows.out = nowhere
    job.rows.mask = nil
    job.rows.sign = lse?.raw.pointee.data
    job.rows.bias = UnsafeRawPointer(scale?.raw.pointee.data)
    job.rows.bias_dtype = wide
    job.is_classes = isClasses ? 1 : 0
    job.target_dtype = targets.dtype
    job.has_grad = grad == nil ? 0 : 1
    job.has_loss = isNone ? 1 : 0
    job.is_log = function == .nll ? 1 : 0
    job.ignore_index = ignoreIndex
    job.weights = UnsafeRawPointer(weight?.raw.pointee.data)
    job.weights_stride = weight?.stride(0) ?? 0
    job.temperature = temperature
    job.smoothing = options.label_smoothing
    job.z_loss = options.z_loss
    return job.logits.rows
  }

  /// Whether rows may be read, and gradients written, where they lie.
  private func directness(_ job: smxk_job) -> Int {
    let size = itemSize(job.dtype)
    let inner = job.inner[0]
    let isContiguous = inner.count <= 1 || (inner.x == size && (grad == nil || inner.out == size))
    if mask != nil || !isContiguous { return SMXK_DIRECT_NONE }
    return size < 4 ? SMXK_DIRECT_NARROW : SMXK_DIRECT_PLAIN
  }
}
