// How far a classifier's confidence is from how often it is right, and what both calls of
// calibration share: rows of logits and their labels, judged at a temperature.

import CSupport
import CSwiftmax

/// What a call of smx_calibration_error is asked for.
private struct Question {
  let temperature: Double
  let bins: Int
  let areProbabilities: Bool
  let workspace: Workspace

  init(
    _ options: UnsafePointer<smx_calibration_options>?, size: UnsafeMutablePointer<Int>?
  ) throws(Failure) {
    let given = try read(options, or: smx_calibration_options())
    temperature = given.temperature == 0 ? 1 : given.temperature
    try requirePositive(temperature, "temperature")
    areProbabilities = given.probabilities != 0
    if areProbabilities && temperature != 1 {
      throw failure(SMX_ERROR_VALUE, "temperature is of logits, but probabilities were given")
    }
    bins = try binCount(given.bins)
    workspace = Workspace(given.workspace, given.workspace_size, size: size)
  }
}

@implementation @_cdecl("smx_calibration_error")
public func smx_calibration_error(
  _ logits: UnsafePointer<smx_tensor>!, _ labels: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_calibration_options>!,
  _ result: UnsafeMutablePointer<smx_calibration>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    let asked = try Question(options, size: nil)
    guard let result else { throw failure(SMX_ERROR_NULL, "result is NULL") }
    try requireSize(result, "result.size")
    guard var judges = try Judges(logits, labels, asked.bins, asked.workspace, machine)
    else { return }
    defer { judges.release() }
    judges.call.are_probabilities = asked.areProbabilities ? 1 : 0
    try judges.readLabels()
    judges.judge(inverse: 1 / asked.temperature)
    try judges.requireLosses()
    judges.histogram.fill(judges)
    judges.histogram.write(to: result, judges)
  }
}

@implementation @_cdecl("smx_calibration_error_workspace_size")
public func smx_calibration_error_workspace_size(
  _ logits: UnsafePointer<smx_tensor>!, _ labels: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_calibration_options>!, _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    let asked = try Question(options, size: needed)
    _ = try Judges(logits, labels, asked.bins, asked.workspace, machine)
  }
}

// -- checks ---------------------------------------------------------------------------------------

/// Positive and finite, and its inverse too.
func requirePositive(_ temperature: Double, _ name: StaticString) throws(Failure) {
  if temperature > 0 && temperature.isFinite && (1 / temperature).isFinite { return }
  throw failure(SMX_ERROR_VALUE) {
    $0.add(name)
    $0.add(" must be a positive number, and its inverse finite, but is ")
    $0.add(cString: smxk_decimal(temperature))
  }
}

/// More would be no diagram.
private let mostBins: Int32 = 1 << 20

func binCount(_ given: Int32) throws(Failure) -> Int {
  if given >= 0 && given <= mostBins { return given == 0 ? 15 : Int(given) }
  throw failure(SMX_ERROR_VALUE) {
    $0.add("bins must be from 1 to ")
    $0.add(Int64(mostBins))
    $0.add(", but is ")
    $0.add(Int64(given))
  }
}

private func emptyFailure(_ logits: Tensor) -> Failure {
  failure(SMX_ERROR_SHAPE) {
    $0.add("logits of shape ")
    $0.add(shapeOf: logits.raw)
    $0.add(" has no row to judge")
  }
}

// -- rows under judgement -------------------------------------------------------------------------

/// All rows of a call, each with its label and what it came to last.
struct Judges {
  let logits: Tensor
  let labels: Tensor
  let machine: Machine
  let histogram: Histogram
  private let room: Room
  var call = smxk_calibration()

  var rows: Int64 { labels.count }
  var judgements: UnsafeMutablePointer<smxk_judgement> { call.judgements }

  /// Checks logits and labels, and takes memory: for the plan, the job, what each row comes to, and
  /// the bins. nil where only the size of that was asked for.
  @inline(never)
  init?(
    _ rawLogits: UnsafePointer<smx_tensor>?, _ rawLabels: UnsafePointer<smx_tensor>?, _ bins: Int,
    _ workspace: Workspace, _ machine: Machine
  ) throws(Failure) {
    logits = try Tensor(rawLogits, "logits")
    labels = try Tensor(rawLabels, "labels")
    self.machine = machine
    try logits.requireFloats()
    try logits.requireRank(atLeast: 1)
    try labels.requireIntegers()
    try labels.require(leadingOf: logits, dropping: 1, " must have all axes but the last of ")
    if logits.count == 0 { throw emptyFailure(logits) }
    let ofPlan = MemoryLayout<smxk_plan>.stride + MemoryLayout<smxk_job>.stride
    let (ofRows, isTooMany) = labels.count.multipliedReportingOverflow(
      by: Int64(MemoryLayout<smxk_judgement>.stride))
    let needed =
      isTooMany || ofRows >= Int64.max / 2
      ? nil : ofPlan + Int(ofRows) + Histogram.bytes(bins)
    guard let room = try workspace.room(needed, for: "losses", of: logits) else { return nil }
    try room.requireApart(from: logits)
    try room.requireApart(from: labels)
    let memory = room.start
    let plan = memory.assumingMemoryBound(to: smxk_plan.self)
    let job = UnsafeMutableRawPointer(plan + 1).assumingMemoryBound(to: smxk_job.self)
    let isReduced = smxk_reduced_of(plan)
    for axis in 0..<logits.rank { isReduced[axis] = axis == logits.rank - 1 ? 1 : 0 }
    job.initialize(
      to: makeJob(
        Operands(operation: SMXK_LOG_SOFTMAX, x: logits, out: logits), plan, kept: logits.rank - 1))
    self.room = room
    histogram = Histogram(at: memory + (ofPlan + Int(ofRows)), bins)
    call.job = UnsafePointer(job)
    call.judgements = UnsafeMutableRawPointer(job + 1).assumingMemoryBound(to: smxk_judgement.self)
    call.is_first = 1
  }

  func release() { room.release() }

  /// Copies the labels, all of which must be classes.
  @inline(never) func readLabels() throws(Failure) {
    let classes = logits.length(logits.rank - 1)
    for row in 0..<rows {
      let label = labels.integer(row)
      judgements[Int(row)] = smxk_judgement()
      judgements[Int(row)].label = label
      if label >= 0 && label < classes { continue }
      throw failure(SMX_ERROR_VALUE) {
        $0.add("labels")
        labels.add(row, to: &$0)
        $0.add(" is ")
        $0.add(label)
        $0.add(", but logits of shape ")
        $0.add(shapeOf: logits.raw)
        $0.add(" have classes 0 to ")
        $0.add(classes - 1)
      }
    }
  }

  /// Judges all rows at a temperature of 1 / inverse.
  @inline(never) mutating func judge(inverse: Double) {
    call.inverse = inverse
    let isWide = Int(logits.dtype) == SMX_FLOAT64
    let kernels = machine.kernels.pointee
    var share = Share(
      call: call, kernel: isWide ? kernels.judge_f64 : kernels.judge_f32,
      portions: Portions(rows, each: logits.length(logits.rank - 1), on: machine))
    smxk_parallel(
      share.portions.threads, share.portions.tasks, share.portions.isSmall,
      { context, task, scratch in
        let share = context.assumingMemoryBound(to: Share.self)
        let portions = share.pointee.portions
        let first = portions.first(task)
        let count = portions.end(task) - first
        withUnsafePointer(to: &share.pointee.call) {
          share.pointee.kernel($0, first, count, scratch)
        }
      }, &share)
    call.is_first = 0
  }

  /// The sum over all rows of one of a judgement's numbers, in their order.
  @inline(never) func sum(_ field: (smxk_judgement) -> Double) -> Double {
    // TwoSum; order is part of the contract.
    var high = 0.0
    var low = 0.0
    for row in 0..<Int(rows) {
      let value = field(judgements[row])
      let sum = high + value
      let part = sum - high
      low += (high - (sum - part)) + (value - part)
      high = sum
    }
    return high.isFinite ? high + low : high
  }

  /// Refuses rows of which no loss can be told.
  @inline(never) func requireLosses() throws(Failure) {
    let areProbabilities = call.are_probabilities != 0
    for row in 0..<rows {
      let judgement = judgements[Int(row)]
      let confidence = judgement.confidence
      let isGood =
        areProbabilities
        ? confidence >= 0 && confidence <= 1 + 0x1p-10 && !judgement.loss.isNaN
        : judgement.loss.isFinite
      if isGood { continue }
      throw failure(SMX_ERROR_VALUE) {
        $0.add("logits")
        labels.add(row, to: &$0)
        if areProbabilities {
          $0.add(" holds a NaN, a largest number above 1, or a negative one for its label: ")
          $0.add("these are no probabilities")
        } else {
          $0.add(" holds a NaN or +inf, or -inf for its label ")
          $0.add(judgement.label)
          $0.add(", or its loss is beyond what a float64 can be")
        }
      }
    }
  }
}

private struct Share {
  var call: smxk_calibration
  let kernel:
    @convention(c) (
      UnsafePointer<smxk_calibration>, Int64, Int64, UnsafeMutablePointer<smxk_scratch>
    ) -> Void
  let portions: Portions
}

// -- bins -----------------------------------------------------------------------------------------

/// Rows by confidence: bin b has those above b / bins, up to (b + 1) / bins, as Guo et al. count.
struct Histogram {
  private struct Bin {
    var count: Int64 = 0
    var right: Int64 = 0
    var confidence = 0.0
  }

  private let bins: UnsafeMutablePointer<Bin>
  private let count: Int

  static func bytes(_ count: Int) -> Int { count * MemoryLayout<Bin>.stride }

  init(at memory: UnsafeMutableRawPointer, _ count: Int) {
    bins = memory.assumingMemoryBound(to: Bin.self)
    self.count = count
  }

  private func edge(_ b: Int) -> Double { Double(b) / Double(count) }

  /// From what the rows came to last.
  @inline(never) func fill(_ judges: Judges) {
    for b in 0..<count { bins[b] = Bin() }
    for row in 0..<Int(judges.rows) {
      let confidence = min(judges.judgements[row].confidence, 1)
      var b = min(Int(confidence * Double(count)), count - 1)
      // The product is rounded; the edges decide.
      if b > 0 && confidence <= edge(b) { b -= 1 }
      if b < count - 1 && confidence > edge(b + 1) { b += 1 }
      bins[b].count += 1
      bins[b].right += judges.judgements[row].is_right
      // Order is part of the contract.
      bins[b].confidence += confidence
    }
  }

  @inline(never) func write(to result: UnsafeMutablePointer<smx_calibration>, _ judges: Judges) {
    let rows = Double(judges.rows)
    var gap = 0.0
    var right: Int64 = 0
    var confidence = 0.0
    for b in 0..<count {
      let bin = bins[b]
      gap += (Double(bin.right) - bin.confidence).magnitude
      right += bin.right
      confidence += bin.confidence
      let divisor = Double(max(bin.count, 1))
      result.pointee.counts?[b] = bin.count
      result.pointee.confidences?[b] = bin.confidence / divisor
      result.pointee.accuracies?[b] = Double(bin.right) / divisor
      result.pointee.edges?[b] = edge(b)
    }
    result.pointee.edges?[count] = 1
    result.pointee.expected_error = gap / rows
    result.pointee.accuracy = Double(right) / rows
    result.pointee.confidence = confidence / rows
    result.pointee.loss = judges.sum { $0.loss } / rows
  }
}
