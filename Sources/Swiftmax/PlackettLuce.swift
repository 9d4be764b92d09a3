// The log-probability of rankings under the Plackett–Luce model.

import CSupport
import CSwiftmax

private func execute(
  _ scores: UnsafePointer<smx_tensor>?, _ ranking: UnsafePointer<smx_tensor>?,
  _ out: UnsafePointer<smx_tensor>?, _ options: UnsafePointer<smx_plackett_luce_options>?,
  size: UnsafeMutablePointer<Int>?, _ machine: Machine
) throws(Failure) {
  let given = try read(options, or: smx_plackett_luce_options())
  let scores = try Tensor(scores, "scores")
  let ranking = try Tensor(ranking, "ranking")
  let out = try Tensor(out, "out")
  try scores.requireFloats()
  try scores.requireRank(atLeast: 1)
  try ranking.requireIntegers()
  try ranking.requireRank(atLeast: 1)
  try ranking.require(leadingOf: scores, dropping: 1, own: 1, " must have the leading axes of ")
  if ranking.length(ranking.rank - 1) > scores.length(scores.rank - 1) {
    throw disagree(ranking, scores, " has more places than there are ")
  }
  try out.require(dtype: smx_dtype(SMX_FLOAT64))
  try out.require(leadingOf: scores, dropping: 1, " must have all axes but the last of ")
  try out.requireOwnPlaces()
  try out.requireDistinct(from: scores, orSame: false)
  try out.requireDistinct(from: ranking, orSame: false)
  guard out.count > 0 else { return }
  try run(
    Rankings(scores: scores, ranking: ranking, out: out),
    in: Workspace(given.workspace, given.workspace_size, size: size), on: machine)
}

@implementation @_cdecl("smx_plackett_luce_log_prob")
public func smx_plackett_luce_log_prob(
  _ scores: UnsafePointer<smx_tensor>!, _ ranking: UnsafePointer<smx_tensor>!,
  _ out: UnsafePointer<smx_tensor>!, _ options: UnsafePointer<smx_plackett_luce_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    try execute(scores, ranking, out, options, size: nil, machine)
  }
}

@implementation @_cdecl("smx_plackett_luce_log_prob_workspace_size")
public func smx_plackett_luce_log_prob_workspace_size(
  _ scores: UnsafePointer<smx_tensor>!, _ ranking: UnsafePointer<smx_tensor>!,
  _ out: UnsafePointer<smx_tensor>!, _ options: UnsafePointer<smx_plackett_luce_options>!,
  _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    try execute(scores, ranking, out, options, size: needed, machine)
  }
}

/// The operands, and room of each thread: scores in the order in which the kernel wants them, and
/// for each item the last row that has ranked it.
private struct Rankings {
  let scores: Tensor
  let ranking: Tensor
  let out: Tensor
  var kernel: (@convention(c) (UnsafePointer<Double>, Int64, Int64) -> Double)! = nil
  var room = UnsafeMutablePointer<Double>(bitPattern: 64)!
  var portions: Portions! = nil

  var items: Int64 { scores.length(scores.rank - 1) }
  var places: Int64 { ranking.length(ranking.rank - 1) }

  func values(_ worker: Int64) -> UnsafeMutablePointer<Double> { room + 2 * Int(worker * items) }
  func marks(_ worker: Int64) -> UnsafeMutablePointer<Int64> {
    UnsafeMutableRawPointer(values(worker) + Int(items)).assumingMemoryBound(to: Int64.self)
  }
}

private func run(
  _ rankings: Rankings, in workspace: Workspace, on machine: Machine
) throws(Failure) {
  var share = rankings
  share.kernel = machine.kernels.pointee.plackett_luce
  // A place costs about as much as 32 elements of a softmax; beyond 2^40 items a row is a task by
  // itself anyway.
  share.portions = Portions(share.out.count, each: 32 * min(share.items, 1 << 40), on: machine)
  let threads = Int64(share.portions.threads)
  let (numbers, isTooMany) = (2 * threads).multipliedReportingOverflow(by: max(share.items, 1))
  let needed = isTooMany || numbers >= Int64.max / 16 ? nil : Int(numbers) * 8
  guard let room = try workspace.room(needed, for: "order", of: share.scores) else { return }
  defer { room.release() }
  try room.requireApart(from: share.scores)
  try room.requireApart(from: share.ranking)
  try room.requireApart(from: share.out)
  share.room = room.start.assumingMemoryBound(to: Double.self)
  for i in 0..<Int(numbers) { share.room[i] = 0 }
  // Marks of this pass stay below those of the next.
  for row in 0..<share.out.count { try checkRow(share, row, share.marks(0), mark: row + 1) }
  smxk_parallel(
    share.portions.threads, share.portions.tasks, share.portions.isSmall,
    { context, task, scratch in
      let share = context.assumingMemoryBound(to: Rankings.self)
      for row in share.pointee.portions.first(task)..<share.pointee.portions.end(task) {
        score(share, row, worker: scratch.pointee.worker)
      }
    }, &share)
}

/// Every place must name an item, and no item twice.
private func checkRow(
  _ share: Rankings, _ row: Int64, _ marks: UnsafeMutablePointer<Int64>, mark: Int64
) throws(Failure) {
  guard share.places > 0 else { return }
  let ranking = share.ranking.place(row * share.places)
  let step = share.ranking.step
  for place in 0..<share.places {
    let item = smxk_integer(share.ranking.dtype, ranking + Int(place) * step)
    let isItem = item >= 0 && item < share.items
    if isItem && marks[Int(item)] != mark {
      marks[Int(item)] = mark
      continue
    }
    throw failure(SMX_ERROR_VALUE) {
      $0.add("ranking")
      share.ranking.add(row * share.places + place, to: &$0)
      $0.add(" is ")
      $0.add(item)
      $0.add(isItem ? ", which has a place before it" : ", but scores of shape ")
      if !isItem {
        $0.add(shapeOf: share.scores.raw)
        $0.add(" have items 0 to ")
        $0.add(share.items - 1)
      }
    }
  }
}

private func score(_ share: UnsafePointer<Rankings>, _ row: Int64, worker: Int64) {
  let call = share.pointee
  let values = call.values(worker)
  let marks = call.marks(worker)
  let mark = call.out.count + row + 1
  let places = Int(call.places)
  let items = Int(call.items)
  if items > 0 {
    let scores = call.scores.place(row * call.items)
    let step = call.scores.step
    if places > 0 {
      let ranking = call.ranking.place(row * call.places)
      let rankingStep = call.ranking.step
      for place in 0..<places {
        let item = Int(smxk_integer(call.ranking.dtype, ranking + place * rankingStep))
        marks[item] = mark
        values[items - 1 - place] = call.scores.number(at: scores + item * step)
      }
    }
    var next = 0
    for item in 0..<items where marks[item] != mark {
      values[next] = call.scores.number(at: scores + item * step)
      next += 1
    }
  }
  call.out.store(call.kernel(values, call.items, call.places), row)
}
