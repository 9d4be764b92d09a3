// From a tensor call to a job: which axes are kept, which reduced, and how every operand moves
// along them.
//
// Axes of length 1 are dropped and neighbours that every operand walks as one are merged, so that
// the kernels see rows of one run wherever the memory allows it. A structure speaks of the caller's
// axes by their place; then nothing is merged or dropped.

import CSupport
import CSwiftmax

/// The operands of one call of the softmax family, each known to be whole. A gradient has y as x
/// and dy as weights.
struct Operands {
  let operation: Int
  let x: Tensor
  let out: Tensor
  var mask: Tensor? = nil
  var bias: Tensor? = nil
  var temperature: Tensor? = nil
  var weights: Tensor? = nil
  var sign: Tensor? = nil
  /// One number for each row, which multiplies its results.
  var factor: Tensor? = nil
  /// out has the kept axes of x first, and others of its own behind them.
  var hasMatrices = false
  var structure: UnsafePointer<smx_mask>? = nil
}

/// The axes to reduce, as the options give them.
struct Axes {
  let list: UnsafePointer<Int32>?
  let count: Int32
  let isAll: Bool

  init(_ options: smx_softmax_options) {
    list = UnsafePointer(options.axes)
    count = options.axis_count
    isAll = options.all_axes != 0
  }

  init(_ options: smx_logsumexp_options) {
    list = UnsafePointer(options.axes)
    count = options.axis_count
    isAll = options.all_axes != 0
  }
}

/// Marks the reduced axes of x.
func markAxes(
  _ axes: Axes, of x: Tensor, _ isReduced: UnsafeMutablePointer<Int32>
) throws(Failure) {
  for axis in 0..<x.rank { isReduced[axis] = axes.isAll ? 1 : 0 }
  if axes.isAll { return }
  guard let list = axes.list else {
    // The default: the last axis, and for a single number that number.
    if x.rank > 0 { isReduced[x.rank - 1] = 1 }
    return
  }
  if axes.count < 0 {
    throw failure(SMX_ERROR_AXIS) {
      $0.add("axis_count must not be negative, but is ")
      $0.add(Int64(axes.count))
    }
  }
  for i in 0..<Int(axes.count) {
    let given = Int64(list[i])
    let axis = given < 0 ? given + Int64(max(x.rank, 1)) : given
    if axis < 0 || axis >= Int64(max(x.rank, 1)) {
      throw failure(SMX_ERROR_AXIS) {
        $0.add("axis ")
        $0.add(given)
        $0.add(" is out of range for ")
        $0.add(x.name)
        $0.add(" of shape ")
        $0.add(shapeOf: x.raw)
      }
    }
    if x.rank == 0 { continue }
    if isReduced[Int(axis)] != 0 {
      throw failure(SMX_ERROR_AXIS) {
        $0.add("axis ")
        $0.add(given)
        $0.add(" of ")
        $0.add(x.name)
        $0.add(" of shape ")
        $0.add(shapeOf: x.raw)
        $0.add(" is given twice")
      }
    }
    isReduced[Int(axis)] = 1
  }
}

/// Stride of a tensor that has one element for each row: either all axes of x with the reduced ones
/// of length 1, or the kept axes alone.
func rowStride(
  _ tensor: Tensor, _ axis: Int, of x: Tensor, _ isReduced: UnsafePointer<Int32>, kept: Int
) -> Int64 {
  if isReduced[axis] != 0 { return 0 }
  var place = axis
  if tensor.rank != x.rank {
    // Counted among the kept axes, aligned at the last one.
    place = 0
    for i in 0..<axis where isReduced[i] == 0 { place += 1 }
    place -= kept - tensor.rank
  }
  return place < 0 || tensor.length(place) == 1 ? 0 : tensor.stride(place)
}

/// Checks a tensor that has one element for each row; `broadcasts` where fewer elements will do.
func requireRows(
  _ tensor: Tensor, of x: Tensor, _ isReduced: UnsafePointer<Int32>, kept: Int, broadcasts: Bool
) throws(Failure) {
  var fits = tensor.rank == x.rank || tensor.rank == kept || (broadcasts && tensor.rank < kept)
  if fits {
    var place = tensor.rank == x.rank ? 0 : tensor.rank - kept
    for axis in 0..<x.rank {
      if tensor.rank != x.rank && isReduced[axis] != 0 { continue }
      let expected = isReduced[axis] != 0 ? 1 : x.length(axis)
      if place >= 0 {
        let length = tensor.length(place)
        fits = fits && (length == expected || (broadcasts && length == 1))
      }
      place += 1
    }
  }
  if fits { return }
  throw failure(SMX_ERROR_SHAPE) {
    $0.add(tensor.name)
    $0.add(" of shape ")
    $0.add(shapeOf: tensor.raw)
    $0.add(broadcasts ? " does not broadcast to" : " is not")
    $0.add(" the rows of ")
    $0.add(x.name)
    $0.add(" of shape ")
    $0.add(shapeOf: x.raw)
  }
}

/// Checks all operands against one another; nothing has been written when it fails.
func check(_ o: Operands, _ isReduced: UnsafePointer<Int32>, kept: Int) throws(Failure) {
  try checkInputs(o, isReduced, kept: kept)
  let x = o.x
  if o.operation == SMXK_LOGSUMEXP {
    try requireRows(o.out, of: x, isReduced, kept: kept, broadcasts: false)
  } else {
    try requireSameShape(o.out, x)
  }
  if let sign = o.sign {
    try sign.require(dtype: x.dtype)
    try requireRows(sign, of: x, isReduced, kept: kept, broadcasts: false)
    try sign.requireOwnPlaces()
    try sign.requireDistinct(from: x, orSame: false)
    try sign.requireDistinct(from: o.out, orSame: false)
    try sign.requireDistinct(from: o.weights, orSame: false)
    try sign.requireDistinct(from: o.mask, orSame: false)
    try sign.requireDistinct(from: o.bias, orSame: false)
    try sign.requireDistinct(fromThoseOf: o.structure)
  }
  try checkPlaces(o, mayBeInput: o.operation != SMXK_LOGSUMEXP)
}

/// out shares no memory with an input, but that it may be x, and the result of a gradient y or dy.
func checkPlaces(_ o: Operands, mayBeInput: Bool) throws(Failure) {
  try o.out.requireOwnPlaces()
  try o.out.requireDistinct(from: o.x, orSame: mayBeInput)
  try o.out.requireDistinct(from: o.weights, orSame: isGradient(o.operation))
  try o.out.requireDistinct(from: o.mask, orSame: false)
  try o.out.requireDistinct(from: o.bias, orSame: false)
  try o.out.requireDistinct(from: o.temperature, orSame: false)
  try o.out.requireDistinct(from: o.factor, orSame: false)
  try o.out.requireDistinct(fromThoseOf: o.structure)
}

/// Checks all that is read, and the dtype of out.
func checkInputs(_ o: Operands, _ isReduced: UnsafePointer<Int32>, kept: Int) throws(Failure) {
  let x = o.x
  try x.requireFloats()
  try o.out.require(dtype: x.dtype)
  if let mask = o.mask {
    try mask.require(dtype: smx_dtype(SMX_BOOL))
    try mask.requireBroadcast(to: x)
  }
  if let bias = o.bias {
    let isNarrow = Int(x.dtype) == SMX_FLOAT16 || Int(x.dtype) == SMX_BFLOAT16
    if !(isNarrow && Int(bias.dtype) == SMX_FLOAT32) { try bias.require(dtype: x.dtype) }
    try bias.requireBroadcast(to: x)
  }
  if let weights = o.weights {
    try weights.require(dtype: x.dtype)
    if isGradient(o.operation) {
      try requireSameShape(weights, x)
    } else {
      try weights.requireBroadcast(to: x)
    }
  }
  if let factor = o.factor {
    try factor.require(dtype: x.dtype)
    try requireRows(factor, of: x, isReduced, kept: kept, broadcasts: false)
  }
  if let temperature = o.temperature {
    try requireRows(temperature, of: x, isReduced, kept: kept, broadcasts: true)
    try requireTemperatures(temperature)
  }
  try checkStructure(o.structure, x)
}

/// Whether an operation takes y and dy.
func isGradient(
  _ operation: Int
) -> Bool {
  operation == SMXK_SOFTMAX_VJP || operation == SMXK_LOG_SOFTMAX_VJP
}

func requireSameShape(_ out: Tensor, _ x: Tensor) throws(Failure) {
  var fits = out.rank == x.rank
  if fits { for axis in 0..<x.rank { fits = fits && out.length(axis) == x.length(axis) } }
  if !fits { throw disagree(out, x, " differs from ") }
}

/// The job over a plan's axes; `isReduced` and the operands are checked.
func makeJob(
  _ o: Operands, _ plan: UnsafeMutablePointer<smxk_plan>, kept: Int
) -> smxk_job {
  let isReduced = smxk_reduced_of(plan)
  let isSum = o.operation == SMXK_LOGSUMEXP
  let merges = o.structure == nil
  var outerCount = 0
  var innerCount = 0
  /// Kept axes before this one.
  var before = 0
  var job = smxk_job()
  job.rows = 1
  job.cols = 1
  for axis in 0..<o.x.rank {
    let rank = o.x.rank
    var a = smxk_axis()
    a.count = o.x.length(axis)
    a.place = Int64(axis)
    a.x = o.x.stride(axis)
    a.mask = o.mask?.broadcastStride(axis, rank: rank) ?? 0
    a.bias = o.bias?.broadcastStride(axis, rank: rank) ?? 0
    a.weights = o.weights?.broadcastStride(axis, rank: rank) ?? 0
    func ofRow(_ tensor: Tensor?) -> Int64 {
      tensor.map { rowStride($0, axis, of: o.x, isReduced, kept: kept) } ?? 0
    }
    a.out =
      isSum
      ? ofRow(o.out)
      : !o.hasMatrices ? o.out.stride(axis) : isReduced[axis] != 0 ? 0 : o.out.stride(before)
    a.temperature = ofRow(o.temperature)
    a.sign = ofRow(o.sign)
    a.factor = ofRow(o.factor)
    before += isReduced[axis] != 0 ? 0 : 1
    if isReduced[axis] != 0 {
      job.cols = job.cols &* a.count
      append(a, to: smxk_inner_of(plan), &innerCount, merges: merges)
    } else {
      job.rows = job.rows &* a.count
      append(a, to: smxk_outer_of(plan), &outerCount, merges: merges)
    }
  }
  // One axis of length 1 where there is none, so that every row has a run.
  var one = smxk_axis()
  one.count = 1
  one.place = Int64(SMX_MAX_DIMS)
  if outerCount == 0 { append(one, to: smxk_outer_of(plan), &outerCount, merges: false) }
  if innerCount == 0 { append(one, to: smxk_inner_of(plan), &innerCount, merges: false) }

  job.operation = o.operation
  job.dtype = o.x.dtype
  job.outer = UnsafePointer(smxk_outer_of(plan))
  job.inner = UnsafePointer(smxk_inner_of(plan))
  job.outer_count = Int32(outerCount)
  job.inner_count = Int32(innerCount)
  job.x = UnsafeRawPointer(o.x.raw.pointee.data ?? o.out.raw.pointee.data)
  job.out = o.out.raw.pointee.data
  job.mask = UnsafeRawPointer(o.mask?.raw.pointee.data)
  job.weights = UnsafeRawPointer(o.weights?.raw.pointee.data)
  job.sign = o.sign?.raw.pointee.data
  job.factor = UnsafeRawPointer(o.factor?.raw.pointee.data)
  job.structure = o.structure
  if let bias = o.bias {
    job.bias = UnsafeRawPointer(bias.raw.pointee.data)
    job.bias_dtype = bias.dtype
  }
  if let temperature = o.temperature {
    job.temperature = UnsafeRawPointer(temperature.raw.pointee.data)
    job.temperature_dtype = temperature.dtype
  }
  if o.structure != nil {
    job.query_place = Int64(o.x.rank - 2)
    job.key_place = Int64(o.x.rank - 1)
    job.query_count = o.x.length(o.x.rank - 2)
    job.key_count = o.x.length(o.x.rank - 1)
  }
  job.direct = directness(o, job)
  job.panel_rows = panelRows(o, job)
  if job.panel_rows > 0 && job.direct == SMXK_DIRECT_COLUMNS { job.direct = SMXK_DIRECT_NONE }
  return job
}

/// Makes the results of a job one after the other, row after row, at whatever place it is given: on
/// their way to where they belong. `o` has x as its out.
func makeDense(
  _ job: inout smxk_job, _ o: Operands, _ plan: UnsafeMutablePointer<smxk_plan>
) {
  var step = Int64(itemSize(job.dtype))
  smxk_inner_of(plan)[0].out = step
  step = step &* job.cols
  var axis = Int(job.outer_count)
  while axis > 0 {
    axis -= 1
    let place = smxk_outer_of(plan) + axis
    place.pointee.out = step
    step = step &* place.pointee.count
  }
  job.direct = directness(o, job)
  job.panel_rows = 0
}

/// Adds an axis to a list, slowest first; merged into the last one where every operand allows it.
func append(
  _ axis: smxk_axis, to list: UnsafeMutablePointer<smxk_axis>, _ count: inout Int, merges: Bool
) {
  if merges && axis.count == 1 { return }
  if merges && count > 0 {
    let last = list[count - 1]
    let isOneWalk =
      last.x == axis.x &* axis.count && last.out == axis.out &* axis.count
      && last.mask == axis.mask &* axis.count && last.bias == axis.bias &* axis.count
      && last.weights == axis.weights &* axis.count && last.sign == axis.sign &* axis.count
      && last.temperature == axis.temperature &* axis.count
      && last.factor == axis.factor &* axis.count
    if isOneWalk {
      list[count - 1] = axis
      list[count - 1].count = last.count &* axis.count
      return
    }
  }
  list[count] = axis
  count += 1
}

/// Merges the neighbours in a list of axes that every operand walks as one; returns how many are
/// left, one at least.
func mergeAxes(_ list: UnsafeMutablePointer<smxk_axis>, _ given: Int32) -> Int32 {
  var count = 0
  for i in 0..<Int(given) { append(list[i], to: list, &count, merges: true) }
  if count > 0 { return Int32(count) }
  list[0] = smxk_axis()
  list[0].count = 1
  return 1
}

/// Whether the kernels may work on the caller's rows where they are.
private func directness(_ o: Operands, _ job: smxk_job) -> Int {
  let size = itemSize(job.dtype)
  let inner = job.inner[0]
  let isGradient = isGradient(job.operation)
  let isContiguous =
    job.inner_count == 1
    && (inner.count == 1
      || (inner.x == size && (inner.out == size || job.operation == SMXK_LOGSUMEXP)
        && (inner.weights == size || !isGradient)))
  let isOutContiguous = size >= 4 && job.inner_count == 1 && (inner.count == 1 || inner.out == size)
  let isOfRows = job.operation == SMXK_SOFTMAX || job.operation == SMXK_LOG_SOFTMAX
  let gathered = isOfRows && isOutContiguous && o.factor == nil ? SMXK_DIRECT_OUT : SMXK_DIRECT_NONE
  guard o.mask == nil, o.bias == nil, o.weights == nil || isGradient else { return gathered }
  let isPlain = o.structure == nil && o.temperature == nil && o.sign == nil && o.factor == nil
  if size < 4 { return isPlain && isContiguous ? SMXK_DIRECT_NARROW : SMXK_DIRECT_NONE }
  if !isContiguous {
    let last = job.outer[Int(job.outer_count) - 1]
    // Gradients gain from fewer: five rows side by side of 2 elements take 28 ns an element one by
    // one and 7 so, of 21 elements 3.4 and 2.7.
    let isBesideRows =
      job.inner_count == 1 && last.count >= (isGradient ? 4 : 8) && last.x == size
      && last.out == size && (last.weights == size || !isGradient)
    return isPlain && isBesideRows ? SMXK_DIRECT_COLUMNS : gathered
  }
  var condition = o.structure
  while let c = condition {
    if c.pointee.query_segments != nil || inner.place != job.key_place { return gathered }
    condition = c.pointee.also
  }
  return isPlain ? SMXK_DIRECT_PLAIN : SMXK_DIRECT
}
