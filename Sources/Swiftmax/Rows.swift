// The typed calls: softmax, log_softmax and logsumexp of contiguous rows.

import CSupport
import CSwiftmax

/// Checks and runs one typed call.
private func rows(
  _ operation: Int, _ dtype: Int, _ x: UnsafeRawPointer?, _ out: UnsafeMutableRawPointer?,
  _ rows: Int64, _ cols: Int64
) -> smx_status {
  enter { (machine) throws(Failure) in
    let size = itemSize(smx_dtype(dtype))
    try checkRows(x, out, rows, cols, hasResults: cols > 0 || operation == SMXK_LOGSUMEXP)
    guard rows > 0, let out else { return }
    let results = operation == SMXK_LOGSUMEXP ? 1 : cols
    try checkOverlap(x, rows * cols * size, out, rows * results * size, operation)
    // An empty row still has a logsumexp; its x may be NULL and is not read.
    let x = x ?? UnsafeRawPointer(out)
    var outer = smxk_axis()
    outer.count = rows
    outer.x = cols * size
    outer.out = results * size
    var inner = smxk_axis()
    inner.count = cols
    inner.x = size
    inner.out = size
    var job = smxk_job()
    job.operation = operation
    job.dtype = smx_dtype(dtype)
    job.direct = dtype >= SMX_FLOAT32 ? SMXK_DIRECT_PLAIN : SMXK_DIRECT_NARROW
    job.rows = rows
    job.cols = cols
    job.x = x
    job.out = out
    job.outer_count = 1
    job.inner_count = 1
    withUnsafePointer(to: &outer) { outer in
      withUnsafePointer(to: &inner) { inner in
        job.outer = outer
        job.inner = inner
        run(&job, on: machine)
      }
    }
  }
}

/// Refuses an out that overlaps x without being x, or for logsumexp at all.
private func checkOverlap(
  _ x: UnsafeRawPointer?, _ xBytes: Int64, _ out: UnsafeMutableRawPointer, _ outBytes: Int64,
  _ operation: Int
) throws(Failure) {
  guard let x, xBytes > 0, outBytes > 0 else { return }
  if x == UnsafeRawPointer(out) && operation != SMXK_LOGSUMEXP { return }
  if x < UnsafeRawPointer(out) + Int(outBytes) && UnsafeRawPointer(out) < x + Int(xBytes) {
    throw failure(
      SMX_ERROR_OVERLAP,
      operation == SMXK_LOGSUMEXP ? "out overlaps x" : "out overlaps x without being the same rows")
  }
}

private func checkRows(
  _ x: UnsafeRawPointer?, _ out: UnsafeMutableRawPointer?, _ rows: Int64, _ cols: Int64,
  hasResults: Bool
) throws(Failure) {
  if rows < 0 || cols < 0 {
    throw failure(SMX_ERROR_SHAPE) {
      $0.add("rows and cols must not be negative, but are ")
      $0.add(rows)
      $0.add(" and ")
      $0.add(cols)
    }
  }
  let (elements, isTooMany) = rows.multipliedReportingOverflow(by: max(cols, 1))
  if isTooMany || elements > Int64.max / 16 {
    throw failure(SMX_ERROR_OVERFLOW) {
      $0.add("x of shape (")
      $0.add(rows)
      $0.add(", ")
      $0.add(cols)
      $0.add(") is larger than memory can be")
    }
  }
  if rows > 0 && cols > 0 && x == nil { throw failure(SMX_ERROR_NULL, "x is NULL, but not empty") }
  if rows > 0 && hasResults && out == nil {
    throw failure(SMX_ERROR_NULL, "out is NULL, but not empty")
  }
}

@implementation @_cdecl("smx_softmax_f32")
public func smx_softmax_f32(
  _ x: UnsafePointer<Float>!, _ out: UnsafeMutablePointer<Float>!, _ rowCount: Int64, _ cols: Int64
) -> smx_status {
  rows(SMXK_SOFTMAX, SMX_FLOAT32, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_softmax_f64")
public func smx_softmax_f64(
  _ x: UnsafePointer<Double>!, _ out: UnsafeMutablePointer<Double>!, _ rowCount: Int64,
  _ cols: Int64
) -> smx_status {
  rows(SMXK_SOFTMAX, SMX_FLOAT64, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_softmax_f16")
public func smx_softmax_f16(
  _ x: UnsafePointer<UInt16>!, _ out: UnsafeMutablePointer<UInt16>!, _ rowCount: Int64,
  _ cols: Int64
) -> smx_status {
  rows(SMXK_SOFTMAX, SMX_FLOAT16, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_softmax_bf16")
public func smx_softmax_bf16(
  _ x: UnsafePointer<UInt16>!, _ out: UnsafeMutablePointer<UInt16>!, _ rowCount: Int64,
  _ cols: Int64
) -> smx_status {
  rows(SMXK_SOFTMAX, SMX_BFLOAT16, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_log_softmax_f32")
public func smx_log_softmax_f32(
  _ x: UnsafePointer<Float>!, _ out: UnsafeMutablePointer<Float>!, _ rowCount: Int64, _ cols: Int64
) -> smx_status {
  rows(SMXK_LOG_SOFTMAX, SMX_FLOAT32, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_log_softmax_f64")
public func smx_log_softmax_f64(
  _ x: UnsafePointer<Double>!, _ out: UnsafeMutablePointer<Double>!, _ rowCount: Int64,
  _ cols: Int64
) -> smx_status {
  rows(SMXK_LOG_SOFTMAX, SMX_FLOAT64, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_log_softmax_f16")
public func smx_log_softmax_f16(
  _ x: UnsafePointer<UInt16>!, _ out: UnsafeMutablePointer<UInt16>!, _ rowCount: Int64,
  _ cols: Int64
) -> smx_status {
  rows(SMXK_LOG_SOFTMAX, SMX_FLOAT16, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_log_softmax_bf16")
public func smx_log_softmax_bf16(
  _ x: UnsafePointer<UInt16>!, _ out: UnsafeMutablePointer<UInt16>!, _ rowCount: Int64,
  _ cols: Int64
) -> smx_status {
  rows(SMXK_LOG_SOFTMAX, SMX_BFLOAT16, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_logsumexp_f32")
public func smx_logsumexp_f32(
  _ x: UnsafePointer<Float>!, _ out: UnsafeMutablePointer<Float>!, _ rowCount: Int64, _ cols: Int64
) -> smx_status {
  rows(SMXK_LOGSUMEXP, SMX_FLOAT32, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_logsumexp_f64")
public func smx_logsumexp_f64(
  _ x: UnsafePointer<Double>!, _ out: UnsafeMutablePointer<Double>!, _ rowCount: Int64,
  _ cols: Int64
) -> smx_status {
  rows(SMXK_LOGSUMEXP, SMX_FLOAT64, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_logsumexp_f16")
public func smx_logsumexp_f16(
  _ x: UnsafePointer<UInt16>!, _ out: UnsafeMutablePointer<UInt16>!, _ rowCount: Int64,
  _ cols: Int64
) -> smx_status {
  rows(SMXK_LOGSUMEXP, SMX_FLOAT16, x, out, rowCount, cols)
}

@implementation @_cdecl("smx_logsumexp_bf16")
public func smx_logsumexp_bf16(
  _ x: UnsafePointer<UInt16>!, _ out: UnsafeMutablePointer<UInt16>!, _ rowCount: Int64,
  _ cols: Int64
) -> smx_status {
  rows(SMXK_LOGSUMEXP, SMX_BFLOAT16, x, out, rowCount, cols)
}
