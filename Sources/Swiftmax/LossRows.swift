// Rows along one axis, for losses: which axis, what has one element for each row, and the job over
// them.

import CSupport
import CSwiftmax

/// float64 for float64, else float32: the dtype of a loss.
func wideDtype(_ dtype: smx_dtype) -> smx_dtype {
  smx_dtype(Int(dtype) == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32)
}

/// The axis that the rows of a tensor lie along.
func classAxis(_ given: UnsafePointer<Int32>?, of tensor: Tensor) throws(Failure) -> Int {
  let value = given.map { Int64($0.pointee) } ?? -1
  let axis = value < 0 ? value + Int64(tensor.rank) : value
  if axis >= 0 && axis < Int64(tensor.rank) { return Int(axis) }
  throw failure(SMX_ERROR_AXIS) {
    $0.add("axis ")
    $0.add(value)
    $0.add(" is out of range for ")
    $0.add(tensor.name)
    $0.add(" of shape ")
    $0.add(shapeOf: tensor.raw)
  }
}

/// Requires the shape of `whole` without an axis.
func requireRowShape(_ tensor: Tensor, _ whole: Tensor, _ axis: Int) throws(Failure) {
  var fits = tensor.rank == whole.rank - 1
  if fits {
    for i in 0..<tensor.rank {
      fits = fits && tensor.length(i) == whole.length(i < axis ? i : i + 1)
    }
  }
  if fits { return }
  throw failure(SMX_ERROR_SHAPE) {
    $0.add(tensor.name)
    $0.add(" of shape ")
    $0.add(shapeOf: tensor.raw)
    $0.add(" must have the shape of ")
    $0.add(whole.name)
    $0.add(" ")
    $0.add(shapeOf: whole.raw)
    $0.add(" without axis ")
    $0.add(Int64(axis))
  }
}

func rowCount(_ tensor: Tensor, _ axis: Int) -> Int64 {
  var rows: Int64 = 1
  for i in 0..<tensor.rank where i != axis { rows = rows &* tensor.length(i) }
  return rows
}

/// The job of rows along an axis of x, with an out of x's shape or none (x again). Its axes are the
/// caller's, one by one.
func rowsJob(
  _ x: Tensor, _ axis: Int, outer: UnsafeMutablePointer<smxk_axis>,
  inner: UnsafeMutablePointer<smxk_axis>,
  mask: Tensor? = nil, out: Tensor? = nil
) -> smxk_job {
  var job = smxk_job()
  var count = 0
  for i in 0..<x.rank {
    var a = smxk_axis()
    a.count = x.length(i)
    a.place = Int64(i)
    a.x = x.stride(i)
    a.out = out?.stride(i) ?? a.x
    a.mask = mask?.broadcastStride(i, rank: x.rank) ?? 0
    if i == axis {
      inner[0] = a
    } else {
      outer[count] = a
      count += 1
    }
  }
  if count == 0 {
    outer[0] = smxk_axis()
    outer[0].count = 1
    count = 1
  }
  let data = x.raw.pointee.data ?? UnsafeMutableRawPointer(bitPattern: 64)!
  job.dtype = x.dtype
  job.outer = UnsafePointer(outer)
  job.inner = UnsafePointer(inner)
  job.outer_count = Int32(count)
  job.inner_count = 1
  job.rows = rowCount(x, axis)
  job.cols = x.length(axis)
  job.x = UnsafeRawPointer(data)
  job.out = out?.raw.pointee.data ?? data
  job.mask = UnsafeRawPointer(mask?.raw.pointee.data)
  return job
}
