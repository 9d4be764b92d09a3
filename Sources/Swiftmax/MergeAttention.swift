// Joining two results of attention.

import CSupport
import CSwiftmax

/// The axes of a result (rank 2 to 4) or of its lse (one axis less).
private struct ResultAxes {
  let rank: Int
  let isBLHD: Bool

  func view(_ tensor: Tensor) -> smxk_view {
    let isLse = tensor.rank == rank - 1
    // lse is (B, Hq, Lq) in both layouts.
    let isSwapped = isBLHD && rank > 2 && !isLse
    let row = isLse ? tensor.rank - 1 : isSwapped ? rank - 3 : rank - 2
    let head = rank == 2 ? -1 : isLse ? tensor.rank - 2 : isSwapped ? rank - 2 : rank - 3
    func stride(_ axis: Int) -> Int64 { axis < 0 ? 0 : tensor.stride(axis) }
    return smxk_view(
      data: tensor.raw.pointee.data?.assumingMemoryBound(to: CChar.self) ?? UnsafeMutablePointer(
        bitPattern: 64)!,
      batch: rank == 4 ? stride(0) : 0, head: stride(head), row: stride(row),
      column: isLse ? 0 : stride(rank - 1))
  }

  func lengths(_ out: Tensor) -> (batch: Int64, heads: Int64, rows: Int64) {
    let isSwapped = isBLHD && rank > 2
    return (
      rank == 4 ? out.length(0) : 1, rank == 2 ? 1 : out.length(isSwapped ? rank - 2 : rank - 3),
      out.length(isSwapped ? rank - 3 : rank - 2)
    )
  }
}

@implementation @_cdecl("smx_merge_attention")
public func smx_merge_attention(
  _ outA: UnsafePointer<smx_tensor>!, _ lseA: UnsafePointer<smx_tensor>!,
  _ outB: UnsafePointer<smx_tensor>!,
  _ lseB: UnsafePointer<smx_tensor>!, _ out: UnsafePointer<smx_tensor>!,
  _ lse: UnsafePointer<smx_tensor>!,
  _ layout: smx_layout
) -> smx_status {
  enter { (machine) throws(Failure) in
    let a = try Tensor(outA, "out_a")
    let b = try Tensor(outB, "out_b")
    let ofA = try Tensor(lseA, "lse_a")
    let ofB = try Tensor(lseB, "lse_b")
    let result = try Tensor(out, "out")
    let logarithm = try Tensor.optional(lse, "lse")
    if Int(layout) != SMX_BHLD && Int(layout) != SMX_BLHD {
      throw failure(SMX_ERROR_VALUE, "layout must be SMX_BHLD (0) or SMX_BLHD (1)", got: layout)
    }
    try check(a, b, result)
    let axes = ResultAxes(rank: a.rank, isBLHD: Int(layout) == SMX_BLHD)
    let lengths = axes.lengths(a)
    try checkLse(ofA, a, lengths)
    try checkLse(ofB, a, lengths)
    if let logarithm { try checkLse(logarithm, a, lengths) }
    try checkPlaces([result, logarithm], [a, b, ofA, ofB])
    try logarithm?.requireDistinct(from: result, orSame: false)
    if result.count == 0 && (logarithm?.count ?? 0) == 0 { return }
    var job = smxk_merge()
    job.dtype = a.dtype
    (job.batch, job.heads, job.rows) = lengths
    job.columns = a.length(a.rank - 1)
    job.out_a = axes.view(a)
    job.out_b = axes.view(b)
    job.out = axes.view(result)
    job.lse_a = axes.view(ofA)
    job.lse_b = axes.view(ofB)
    if let logarithm { job.lse = axes.view(logarithm) }
    run(&job, on: machine)
  }
}

private func check(_ a: Tensor, _ b: Tensor, _ out: Tensor) throws(Failure) {
  if !isFloat(a.dtype) {
    throw failure(SMX_ERROR_DTYPE, "out_a must have float16, bfloat16, float32 or float64")
  }
  if a.rank < 2 || a.rank > 4 {
    throw failure(SMX_ERROR_SHAPE) {
      $0.add("out_a must have 2, 3 or 4 axes, but has shape ")
      $0.add(shapeOf: a.raw)
    }
  }
  try b.require(dtype: a.dtype)
  try b.requireShape(of: a)
  try out.require(dtype: a.dtype)
  try out.requireShape(of: a)
}

private func checkLse(
  _ lse: Tensor, _ out: Tensor, _ lengths: (batch: Int64, heads: Int64, rows: Int64)
) throws(Failure) {
  try lse.require(dtype: smx_dtype(Int(out.dtype) == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32))
  let expected: InlineArray<3, Int64> = [lengths.batch, lengths.heads, lengths.rows]
  var fits = lse.rank == out.rank - 1
  if fits {
    for axis in 0..<lse.rank { fits = fits && lse.length(axis) == expected[axis + 3 - lse.rank] }
  }
  if !fits { throw disagree(lse, out, " must have the batch, heads and queries of ") }
}

/// An output may be an input itself, element for element.
private func checkPlaces(
  _ outputs: InlineArray<2, Tensor?>, _ inputs: InlineArray<4, Tensor>
) throws(Failure) {
  for o in 0..<2 {
    guard let output = outputs[o] else { continue }
    try output.requireOwnPlaces()
    for i in 0..<4 { try output.requireDistinct(from: inputs[i]) }
  }
}

/// Elements of one task. Fewer than four tasks are a small call (`smxk_parallel`).
private let taskElements: Int64 = 16384

private struct Share {
  var job: smxk_merge
  let rows:
    @convention(c) (UnsafePointer<smxk_merge>, Int64, Int64, UnsafeMutablePointer<smxk_scratch>) ->
      Void
  let rowsPerTask: Int64
  let count: Int64
}

private func run(_ job: inout smxk_merge, on machine: Machine) {
  let isWide = Int(job.dtype) == SMX_FLOAT64
  let count = job.batch &* job.heads &* job.rows
  var share = Share(
    job: job, rows: isWide ? machine.kernels.pointee.merge_f64 : machine.kernels.pointee.merge_f32,
    rowsPerTask: max(1, taskElements / max(job.columns, 1)), count: count)
  let tasks = (count + share.rowsPerTask - 1) / share.rowsPerTask
  smxk_parallel(
    machine.threads, tasks, tasks < 4 ? 1 : 0,
    { context, index, scratch in
      let share = context.assumingMemoryBound(to: Share.self)
      let first = index &* share.pointee.rowsPerTask
      let count = min(share.pointee.rowsPerTask, share.pointee.count - first)
      withUnsafePointer(to: &share.pointee.job) { share.pointee.rows($0, first, count, scratch) }
    }, &share)
}
