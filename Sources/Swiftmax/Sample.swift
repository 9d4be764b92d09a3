// smx_sample: filters, then draws from what they leave.

import CSupport
import CSwiftmax

private func execute(
  _ logits: UnsafePointer<smx_tensor>?, _ out: UnsafePointer<smx_tensor>?,
  _ options: UnsafePointer<smx_sample_options>?, size: UnsafeMutablePointer<Int>?,
  _ machine: Machine
) throws(Failure) {
  let given = try read(options, or: smx_sample_options())
  var call = try Decoding(.sample, machine, logits, out)
  call.temperature = try Tensor.optional(given.temperature, "temperature")
  call.topK = try RowNumbers(given.top_k, "top_k")
  call.topP = try RowNumbers(given.top_p, "top_p")
  call.minP = try RowNumbers(given.min_p, "min_p")
  call.mask = try Tensor.optional(given.mask, "mask")
  call.seed = given.seed
  call.counter = try RowNumbers(given.counter, "counter")
  call.draw = try RowNumbers(given.draw, "draw")
  call.beside = try Tensor.optional(given.log_probs, "log_probs")
  call.workspace = Workspace(given.workspace, given.workspace_size, size: size)
  try execute(call)
}

@implementation @_cdecl("smx_sample")
public func smx_sample(
  _ logits: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_sample_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in try execute(logits, out, options, size: nil, machine) }
}

@implementation @_cdecl("smx_sample_workspace_size")
public func smx_sample_workspace_size(
  _ logits: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_sample_options>!, _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    try execute(logits, out, options, size: needed, machine)
  }
}

/// Tokens are kept aside until every row has been found good.
private struct Sampling {
  let call: Decoding
  let job: smxk_job
  let isReduced: UnsafePointer<Int32>
  let size: Int64
  let tokens: UnsafeMutablePointer<Int64>
  let logProbs: UnsafeMutablePointer<Double>?
}

/// In the place of a row's first token.
private let emptyRow: Int64 = -1
private let invalidRow: Int64 = -2

/// Results that stay on the stack.
private let fewResults = 512

func sample(_ call: Decoding, _ plan: UnsafeMutablePointer<smxk_plan>) throws(Failure) {
  try call.out.require(dtype: smx_dtype(SMX_INT64))
  var fits = call.out.rank == call.x.rank || call.out.rank == call.x.rank - 1
  if fits {
    for axis in 0..<call.x.rank - 1 { fits = fits && call.out.length(axis) == call.x.length(axis) }
  }
  if !fits { throw disagree(call.out, call.x, " has not the rows of ") }
  try call.checkPlaces(call.out, mayBeX: false)
  if let logProbs = call.beside {
    try logProbs.require(dtype: smx_dtype(SMX_FLOAT64))
    try requireSameShape(logProbs, call.out)
    try call.checkPlaces(logProbs, mayBeX: false)
    try logProbs.requireDistinct(from: call.out, orSame: false)
  }
  let count = call.out.count
  if count == 0 { return }
  if call.cols == 0 { throw rowFailure(call, 0, emptyRow) }
  let bytes = Int(count) * (call.beside == nil ? 8 : 16)
  let isFew = bytes <= 8 * fewResults
  guard let room = try call.room(isFew ? 0 : bytes, for: "tokens") else { return }
  defer { room.release() }
  if !isFew {
    try sample(call, plan, room.start, count)
    return
  }
  var onStack = InlineArray<512, Int64>(repeating: 0)
  try withUnsafeMutablePointer(to: &onStack) { (p) throws(Failure) in
    try sample(call, plan, UnsafeMutableRawPointer(p), count)
  }
}

private func sample(
  _ call: Decoding, _ plan: UnsafeMutablePointer<smxk_plan>, _ room: UnsafeMutableRawPointer,
  _ count: Int64
) throws(Failure) {
  let tokens = room.assumingMemoryBound(to: Int64.self)
  let logProbs =
    call.beside == nil ? nil : (room + 8 * Int(count)).assumingMemoryBound(to: Double.self)
  let size = call.size
  var sampling = Sampling(
    call: call, job: call.job(SMXK_SOFTMAX, out: call.x, plan), isReduced: smxk_reduced_of(plan),
    size: size,
    tokens: tokens, logProbs: logProbs)
  shareRows(call, &sampling) { context, index, scratch in
    let sampling = context.assumingMemoryBound(to: Sampling.self)
    for row in sampling.pointee.call.rows(ofTask: index) { sampleRow(sampling, row, scratch) }
  }
  for row in 0..<call.rows where tokens[Int(row * size)] < 0 {
    throw rowFailure(call, row, tokens[Int(row * size)])
  }
  let step = call.out.rank == call.x.rank ? call.out.stride(call.out.rank - 1) : 0
  let stepBeside = call.beside.map { $0.rank == call.x.rank ? $0.stride($0.rank - 1) : 0 } ?? 0
  for row in 0..<call.rows {
    let to = call.rowOf(call.out, row)
    let beside = call.beside.map { call.rowOf($0, row) }
    for i in 0..<size {
      (to + Int(i * step)).storeBytes(of: tokens[Int(row * size + i)], as: Int64.self)
      if let beside, let logProbs {
        (beside + Int(i * stepBeside)).storeBytes(
          of: logProbs[Int(row * size + i)], as: Double.self)
      }
    }
  }
}

private func rowFailure(_ call: Decoding, _ row: Int64, _ kind: Int64) -> Failure {
  failure(SMX_ERROR_VALUE) {
    $0.add("row ")
    $0.add(row)
    $0.add(" of logits of shape ")
    $0.add(shapeOf: call.x.raw)
    $0.add(
      kind == emptyRow
        ? " has no element above -inf that is not masked: there is nothing to draw from"
        : " has NaN or +inf among the elements that are not masked")
  }
}

private func sampleRow(
  _ sampling: UnsafePointer<Sampling>, _ row: Int64, _ scratch: UnsafeMutablePointer<smxk_scratch>
) {
  let call = sampling.pointee.call
  let first = Int(row * sampling.pointee.size)
  let tokens = sampling.pointee.tokens + first
  let logProbs = sampling.pointee.logProbs.map { $0 + first }
  withUnsafePointer(to: sampling.pointee.job) { job in
    var choice = RowChoice(call.machine.kernels, job, scratch, row)
    let temperature = smxk_row_of(scratch).pointee.temperature
    switch choice.choose(call.filter(row, temperature: temperature, sampling.pointee.isReduced)) {
    case .empty: tokens[0] = emptyRow
    case .invalid: tokens[0] = invalidRow
    case .good:
      let random = call.random(row, sampling.pointee.isReduced)
      choice.isListed
        ? choice.drawFromList(random, sampling.pointee.size, tokens, logProbs)
        : choice.drawFromRow(random, sampling.pointee.size, tokens, logProbs)
    }
  }
}

extension RowChoice {
  /// log of a token's probability, `total` being the weight of all that is left.
  private func logProbability(_ x: Double, _ logTotal: Double) -> Double {
    logWeight(x) * 0x1.62e42fefa39efp-1 - logTotal
  }

  /// Draws from the list, by its running sums.
  func drawFromList(
    _ random: RowRandom, _ size: Int64, _ tokens: UnsafeMutablePointer<Int64>,
    _ logProbs: UnsafeMutablePointer<Double>?
  ) {
    let sums = UnsafeMutableRawPointer(list.copy).assumingMemoryBound(to: UInt64.self)
    weighList(list.values, list.count, sums)
    for i in 1..<max(list.count, 1) { sums[i] += sums[i - 1] }
    let total = Mass(high: 0, low: sums[list.count - 1])
    let logTotal = logProbs == nil ? 0 : kernels.pointee.log(total.number)
    for i in 0..<Int(size) {
      let target = total.scaled(random.ofDraw(Int64(i))).whole.low
      var low = 0
      var high = list.count - 1
      while low < high {
        let middle = (low + high) / 2
        if sums[middle] > target { high = middle } else { low = middle + 1 }
      }
      tokens[i] = list.places[low]
      logProbs?[i] = logProbability(list.values[low], logTotal)
    }
  }

  /// Draws from the row: a few hundred sums of several blocks each tell the block, its weights the
  /// element.
  func drawFromRow(
    _ random: RowRandom, _ size: Int64, _ tokens: UnsafeMutablePointer<Int64>,
    _ logProbs: UnsafeMutablePointer<Double>?
  ) {
    let block = Int64(SMXK_BLOCK)
    let sums = room.assumingMemoryBound(to: Mass.self)
    let sumCount: Int64 = Int64(SMXK_SCRATCH_BYTES) / 4 / 16
    let blocks = (cols + block - 1) / block
    let blocksPerSum = (blocks + sumCount - 1) / sumCount
    var total = Mass()
    var weighed: Int64 = -1
    for b in 0..<blocks {
      let slot = Int(b / blocksPerSum)
      if b % blocksPerSum == 0 { sums[slot] = Mass() }
      let sum = weigh(from: b * block, to: min(cols, (b + 1) * block))
      sums[slot].add(sum)
      total.add(sum)
      weighed = b
    }
    let logTotal = logProbs == nil ? 0 : kernels.pointee.log(total.number)
    for i in 0..<Int(size) {
      var rest = total.scaled(random.ofDraw(Int64(i))).whole
      var slot = 0
      while !rest.isBelow(sums[slot]) {
        rest.subtract(sums[slot])
        slot += 1
      }
      var b = Int64(slot) * blocksPerSum
      while true {
        let to = min(cols, (b + 1) * block)
        // The weights of the last block are still there.
        var sum = sums[slot]
        if b != weighed || blocksPerSum > 1 {
          sum = Mass(high: 0, low: weigh(from: b * block, to: to))
        }
        weighed = b
        if rest.isBelow(sum) { break }
        rest.subtract(sum)
        b += 1
      }
      var at = 0
      while weights[at] <= rest.low {
        rest.low -= weights[at]
        at += 1
      }
      tokens[i] = b * block + Int64(at)
      logProbs?[i] = logProbability(value(at: tokens[i]), logTotal)
    }
  }

  /// The element at a place, for which the list is given up.
  private func value(at place: Int64) -> Double {
    var s = selection(above: -.infinity, from: place)
    s.to = place + 1
    scan(&s)
    return list.values[0]
  }
}
