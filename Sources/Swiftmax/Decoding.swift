// What the calls of decoding share: rows along the last axis, numbers of a row's own, and rows
// among threads.

import CSupport
import CSwiftmax

/// A tensor with one number for each row of x, NULL where it has its default.
struct RowNumbers {
  let tensor: Tensor?
  init(_ raw: UnsafePointer<smx_tensor>?, _ name: StaticString) throws(Failure) {
    tensor = try Tensor.optional(raw, name)
  }
}

/// One call on its way through the room for its plan.
struct Decoding {
  enum Kind {
    case sample, filteredSoftmax, topK, gumbelSoftmax
  }

  let kind: Kind
  let machine: Machine
  let x: Tensor
  /// Tokens, probabilities.
  let out: Tensor
  /// log_probs, or the indices of top_k.
  var beside: Tensor? = nil
  var mask: Tensor? = nil
  var temperature: Tensor? = nil
  var topK: RowNumbers? = nil
  var topP: RowNumbers? = nil
  var minP: RowNumbers? = nil
  var seed: UInt64 = 0
  var counter: RowNumbers? = nil
  var draw: RowNumbers? = nil
  /// log, hard.
  var flag = false
  var workspace = Workspace()
  var failure: Failure? = nil

  init(
    _ kind: Kind, _ machine: Machine, _ x: UnsafePointer<smx_tensor>?,
    _ out: UnsafePointer<smx_tensor>?,
    outName: StaticString = "out"
  ) throws(Failure) {
    self.kind = kind
    self.machine = machine
    self.x = try Tensor(x, "logits")
    self.out = try Tensor(out, outName)
    try self.x.requireFloats()
    if self.x.rank == 0 {
      throw Swiftmax.failure(
        SMX_ERROR_SHAPE, "logits must have an axis of choices, but has shape ()")
    }
  }

  var rows: Int64 {
    var rows: Int64 = 1
    for axis in 0..<x.rank - 1 { rows *= x.length(axis) }
    return rows
  }
  var cols: Int64 { x.length(x.rank - 1) }

  /// Number of draws of a row.
  var size: Int64 { out.rank == x.rank ? out.length(out.rank - 1) : 1 }

  // -- checks -------------------------------------------------------------------------------------

  /// The mask, and every number of a row's own, against x.
  func checkInputs(_ isReduced: UnsafePointer<Int32>) throws(Failure) {
    if let mask {
      try mask.require(dtype: smx_dtype(SMX_BOOL))
      try mask.requireBroadcast(to: x)
    }
    if let temperature {
      try requireRows(temperature, of: x, isReduced, kept: x.rank - 1, broadcasts: true)
      try requireTemperatures(temperature)
    }
    let most = kind == .gumbelSoftmax ? Int64(Int32.max) : Int64.max - max(size, 1) + 1
    try checkIntegers(topK, isReduced, from: 0, to: .max)
    try checkIntegers(counter, isReduced, from: .min, to: .max)
    try checkIntegers(draw, isReduced, from: 0, to: most)
    try checkShares(topP, isReduced)
    try checkShares(minP, isReduced)
  }

  private func checkIntegers(
    _ numbers: RowNumbers?, _ isReduced: UnsafePointer<Int32>, from least: Int64, to most: Int64
  ) throws(Failure) {
    guard let tensor = numbers?.tensor else { return }
    if Int(tensor.dtype) != SMX_INT32 && Int(tensor.dtype) != SMX_INT64 {
      throw dtypeFailure(tensor, "int32 or int64")
    }
    try requireRows(tensor, of: x, isReduced, kept: x.rank - 1, broadcasts: true)
    try forEach(tensor) { (p) throws(Failure) in
      let value = smxk_integer(tensor.dtype, p)
      if value >= least && value <= most { return }
      throw Swiftmax.failure(SMX_ERROR_VALUE) {
        $0.add(tensor.name)
        $0.add(" holds ")
        $0.add(value)
        $0.add(", but must be from ")
        $0.add(least)
        $0.add(" to ")
        $0.add(most)
      }
    }
  }

  private func checkShares(
    _ numbers: RowNumbers?, _ isReduced: UnsafePointer<Int32>
  ) throws(Failure) {
    guard let tensor = numbers?.tensor else { return }
    if Int(tensor.dtype) != SMX_FLOAT32 && Int(tensor.dtype) != SMX_FLOAT64 {
      throw dtypeFailure(tensor, "float32 or float64")
    }
    try requireRows(tensor, of: x, isReduced, kept: x.rank - 1, broadcasts: true)
    try forEach(tensor) { (p) throws(Failure) in
      let value = number(tensor.dtype, p)
      if value >= 0 && value <= 1 { return }
      throw Swiftmax.failure(SMX_ERROR_VALUE) {
        $0.add(tensor.name)
        $0.add(" must be from 0 to 1, but holds ")
        $0.add(cString: smxk_decimal(value))
      }
    }
  }

  private func dtypeFailure(_ tensor: Tensor, _ expected: StaticString) -> Failure {
    Swiftmax.failure(SMX_ERROR_DTYPE) {
      $0.add(tensor.name)
      $0.add(" has dtype ")
      $0.add(dtypeName(tensor.dtype))
      $0.add(", but must have ")
      $0.add(expected)
    }
  }

  /// An output that shares no memory with an input; the one that x may be in place of is `mayBeX`.
  func checkPlaces(_ output: Tensor, mayBeX: Bool) throws(Failure) {
    try output.requireOwnPlaces()
    try output.requireDistinct(from: x, orSame: mayBeX)
    try output.requireDistinct(from: mask, orSame: false)
    try output.requireDistinct(from: temperature, orSame: false)
    try output.requireDistinct(from: topK?.tensor, orSame: false)
    try output.requireDistinct(from: topP?.tensor, orSame: false)
    try output.requireDistinct(from: minP?.tensor, orSame: false)
    try output.requireDistinct(from: counter?.tensor, orSame: false)
    try output.requireDistinct(from: draw?.tensor, orSame: false)
  }

  /// `needed` bytes apart from all operands; nil where only their number was asked for.
  @inline(never) func room(_ needed: Int?, for purpose: StaticString) throws(Failure) -> Room? {
    guard let room = try workspace.room(needed, for: purpose, of: x) else { return nil }
    try room.requireApart(from: x)
    try room.requireApart(from: out)
    try room.requireApart(from: beside)
    try room.requireApart(from: mask)
    try room.requireApart(from: temperature)
    try room.requireApart(from: topK?.tensor)
    try room.requireApart(from: topP?.tensor)
    try room.requireApart(from: minP?.tensor)
    try room.requireApart(from: counter?.tensor)
    try room.requireApart(from: draw?.tensor)
    return room
  }

  // -- numbers of a row ---------------------------------------------------------------------------

  /// Where a row's element of a tensor with one for each row lies.
  private func place(
    _ tensor: Tensor, _ row: Int64, _ isReduced: UnsafePointer<Int32>
  ) -> UnsafeRawPointer {
    var rest = row
    var offset: Int64 = 0
    var axis = x.rank - 2
    while axis >= 0 {
      let index = rest % x.length(axis)
      rest /= x.length(axis)
      offset = offset &+ index &* rowStride(tensor, axis, of: x, isReduced, kept: x.rank - 1)
      axis -= 1
    }
    return UnsafeRawPointer(tensor.raw.pointee.data!) + Int(offset)
  }

  func filter(_ row: Int64, temperature: Double, _ isReduced: UnsafePointer<Int32>) -> Filter {
    var filter = Filter(temperature: temperature)
    if let t = topK?.tensor { filter.topK = smxk_integer(t.dtype, place(t, row, isReduced)) }
    if let t = topP?.tensor { filter.topP = number(t.dtype, place(t, row, isReduced)) }
    if let t = minP?.tensor { filter.minP = number(t.dtype, place(t, row, isReduced)) }
    return filter
  }

  func random(_ row: Int64, _ isReduced: UnsafePointer<Int32>) -> RowRandom {
    RowRandom(
      seed: seed,
      counter: counter?.tensor.map { smxk_integer($0.dtype, place($0, row, isReduced)) } ?? row,
      draw: draw?.tensor.map { smxk_integer($0.dtype, place($0, row, isReduced)) } ?? 0)
  }

  /// Where a row of an output begins, whose leading axes are those of x.
  func rowOf(_ output: Tensor, _ row: Int64) -> UnsafeMutableRawPointer {
    var rest = row
    var offset: Int64 = 0
    var axis = x.rank - 2
    while axis >= 0 {
      offset = offset &+ (rest % x.length(axis)) &* output.stride(axis)
      rest /= x.length(axis)
      axis -= 1
    }
    return UnsafeMutableRawPointer(output.raw.pointee.data!) + Int(offset)
  }

  /// The job of the softmax family over these rows. Where out is of another kind, x stands in for
  /// it and is not written.
  func job(
    _ operation: Int, out: Tensor, bias: Tensor? = nil, _ plan: UnsafeMutablePointer<smxk_plan>
  ) -> smxk_job {
    let operands = Operands(
      operation: operation, x: x, out: out, mask: mask, bias: bias, temperature: temperature)
    return makeJob(operands, plan, kept: x.rank - 1)
  }
}

func number(_ dtype: smx_dtype, _ p: UnsafeRawPointer) -> Double {
  Int(dtype) == SMX_FLOAT32
    ? Double(p.loadUnaligned(as: Float.self)) : p.loadUnaligned(as: Double.self)
}

/// Elements of one task; a smaller call is a small one (`smxk_parallel`).
let decodingTask: Int64 = 32768
let decodingThreshold: Int64 = 65536

/// Calls `task` with numbers 0 ..< count of `rowsPerTask` rows each.
func shareRows(_ call: Decoding, _ context: UnsafeMutableRawPointer, _ task: smxk_task) {
  let rowsPerTask = call.rowsPerTask
  smxk_parallel(
    call.machine.threads, (call.rows + rowsPerTask - 1) / rowsPerTask,
    call.rows * call.cols < decodingThreshold ? 1 : 0, task, context)
}

extension Decoding {
  var rowsPerTask: Int64 { max(1, decodingTask / max(cols, 1)) }

  /// The rows of task `index`.
  func rows(ofTask index: Int64) -> Range<Int64> {
    index * rowsPerTask..<min(rows, (index + 1) * rowsPerTask)
  }
}

/// Runs a call in the room for its plan.
func execute(_ call: consuming Decoding) throws(Failure) {
  var call = call
  smxk_with_plan(
    { context, plan in
      let call = context.assumingMemoryBound(to: Decoding.self)
      let isReduced = smxk_reduced_of(plan)
      for axis in 0..<call.pointee.x.rank {
        isReduced[axis] = axis == call.pointee.x.rank - 1 ? 1 : 0
      }
      do throws(Failure) {
        try call.pointee.checkInputs(isReduced)
        switch call.pointee.kind {
        case .sample: try sample(call.pointee, plan)
        case .filteredSoftmax: try filteredSoftmax(call.pointee, plan)
        case .topK: try topK(call.pointee, plan)
        case .gumbelSoftmax: try gumbelSoftmax(call.pointee, plan)
        }
      } catch {
        call.pointee.failure = error
      }
    }, &call)
  if let failure = call.failure { throw failure }
}
