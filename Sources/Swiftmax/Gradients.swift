// The gradients of softmax, log_softmax and logsumexp: tensor calls, and typed calls of contiguous
// rows.

import CSupport
import CSwiftmax

@implementation @_cdecl("smx_softmax_vjp")
public func smx_softmax_vjp(
  _ y: UnsafePointer<smx_tensor>!, _ dy: UnsafePointer<smx_tensor>!,
  _ dx: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_softmax_options>!
) -> smx_status {
  gradient(SMXK_SOFTMAX_VJP, y, dy, dx, ("dy", "dx"), options)
}

@implementation @_cdecl("smx_softmax_jvp")
public func smx_softmax_jvp(
  _ y: UnsafePointer<smx_tensor>!, _ dx: UnsafePointer<smx_tensor>!,
  _ dy: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_softmax_options>!
) -> smx_status {
  gradient(SMXK_SOFTMAX_VJP, y, dx, dy, ("dx", "dy"), options)
}

@implementation @_cdecl("smx_log_softmax_vjp")
public func smx_log_softmax_vjp(
  _ y: UnsafePointer<smx_tensor>!, _ dy: UnsafePointer<smx_tensor>!,
  _ dx: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_softmax_options>!
) -> smx_status {
  gradient(SMXK_LOG_SOFTMAX_VJP, y, dy, dx, ("dy", "dx"), options)
}

/// A call with y and its tangent or cotangent. The forward's bias shows in y alone.
private func gradient(
  _ operation: Int, _ y: UnsafePointer<smx_tensor>?, _ given: UnsafePointer<smx_tensor>?,
  _ result: UnsafePointer<smx_tensor>?, _ names: (given: StaticString, result: StaticString),
  _ options: UnsafePointer<smx_softmax_options>?
) -> smx_status {
  enter { (machine) throws(Failure) in
    let settings = try read(options, or: smx_softmax_options())
    let y = try Tensor(y, "y")
    let given = try Tensor(given, names.given)
    var operands = Operands(operation: operation, x: y, out: try Tensor(result, names.result))
    operands.weights = given
    operands.temperature = try Tensor.optional(settings.temperature, "temperature")
    operands.mask = try Tensor.optional(settings.mask, "mask")
    operands.structure = UnsafePointer(settings.structure)
    try execute(operands, Axes(settings), machine)
  }
}

@implementation @_cdecl("smx_logsumexp_vjp")
public func smx_logsumexp_vjp(
  _ x: UnsafePointer<smx_tensor>!, _ dy: UnsafePointer<smx_tensor>!,
  _ dx: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_logsumexp_options>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    let settings = try read(options, or: smx_logsumexp_options())
    if settings.weights != nil || settings.sign != nil {
      throw failure(
        SMX_ERROR_VALUE, "options.weights and options.sign must be NULL: the gradient has none")
    }
    let x = try Tensor(x, "x")
    let dy = try Tensor(dy, "dy")
    // Of all results, dy times softmax.
    var operands = Operands(operation: SMXK_SOFTMAX, x: x, out: try Tensor(dx, "dx"))
    operands.factor = dy
    operands.mask = try Tensor.optional(settings.mask, "mask")
    operands.bias = try Tensor.optional(settings.bias, "bias")
    operands.structure = UnsafePointer(settings.structure)
    try execute(operands, Axes(settings), machine)
  }
}

// -- contiguous rows ------------------------------------------------------------------------------

/// Calls body with the tensors of y (or x), dy and dx; each row has one dy where `isByRow`.
private func withRows(
  _ dtype: Int, _ y: UnsafeRawPointer?, _ dy: UnsafeRawPointer?, _ dx: UnsafeMutableRawPointer?,
  _ rows: Int64,
  _ cols: Int64, isByRow: Bool,
  _ body: (UnsafePointer<smx_tensor>, UnsafePointer<smx_tensor>, UnsafePointer<smx_tensor>) ->
    smx_status
) -> smx_status {
  var shape: InlineArray<2, Int64> = [rows, cols]
  return withUnsafePointer(to: &shape) {
    let shape = UnsafeRawPointer($0).assumingMemoryBound(to: Int64.self)
    // Of empty rows nothing is read, so that dy may be NULL like the rest.
    let dy = rows > 0 && cols == 0 ? dy ?? UnsafeRawPointer(bitPattern: 64) : dy
    func tensor(_ data: UnsafeRawPointer?, _ rank: Int32) -> smx_tensor {
      smx_tensor(
        data: UnsafeMutableRawPointer(mutating: data), dtype: smx_dtype(dtype), ndim: rank,
        shape: shape,
        strides: nil)
    }
    var first = tensor(y, 2)
    var second = tensor(dy, isByRow ? 1 : 2)
    var result = tensor(dx, 2)
    return body(&first, &second, &result)
  }
}

@implementation @_cdecl("smx_softmax_vjp_f32")
public func smx_softmax_vjp_f32(
  _ y: UnsafePointer<Float>!, _ dy: UnsafePointer<Float>!, _ dx: UnsafeMutablePointer<Float>!,
  _ rows: Int64,
  _ cols: Int64
) -> smx_status {
  withRows(SMX_FLOAT32, y, dy, dx, rows, cols, isByRow: false) { smx_softmax_vjp($0, $1, $2, nil) }
}

@implementation @_cdecl("smx_softmax_vjp_f64")
public func smx_softmax_vjp_f64(
  _ y: UnsafePointer<Double>!, _ dy: UnsafePointer<Double>!, _ dx: UnsafeMutablePointer<Double>!,
  _ rows: Int64,
  _ cols: Int64
) -> smx_status {
  withRows(SMX_FLOAT64, y, dy, dx, rows, cols, isByRow: false) { smx_softmax_vjp($0, $1, $2, nil) }
}

@implementation @_cdecl("smx_log_softmax_vjp_f32")
public func smx_log_softmax_vjp_f32(
  _ y: UnsafePointer<Float>!, _ dy: UnsafePointer<Float>!, _ dx: UnsafeMutablePointer<Float>!,
  _ rows: Int64,
  _ cols: Int64
) -> smx_status {
  withRows(SMX_FLOAT32, y, dy, dx, rows, cols, isByRow: false) {
    smx_log_softmax_vjp($0, $1, $2, nil)
  }
}

@implementation @_cdecl("smx_log_softmax_vjp_f64")
public func smx_log_softmax_vjp_f64(
  _ y: UnsafePointer<Double>!, _ dy: UnsafePointer<Double>!, _ dx: UnsafeMutablePointer<Double>!,
  _ rows: Int64,
  _ cols: Int64
) -> smx_status {
  withRows(SMX_FLOAT64, y, dy, dx, rows, cols, isByRow: false) {
    smx_log_softmax_vjp($0, $1, $2, nil)
  }
}

@implementation @_cdecl("smx_logsumexp_vjp_f32")
public func smx_logsumexp_vjp_f32(
  _ x: UnsafePointer<Float>!, _ dy: UnsafePointer<Float>!, _ dx: UnsafeMutablePointer<Float>!,
  _ rows: Int64,
  _ cols: Int64
) -> smx_status {
  withRows(SMX_FLOAT32, x, dy, dx, rows, cols, isByRow: true) { smx_logsumexp_vjp($0, $1, $2, nil) }
}

@implementation @_cdecl("smx_logsumexp_vjp_f64")
public func smx_logsumexp_vjp_f64(
  _ x: UnsafePointer<Double>!, _ dy: UnsafePointer<Double>!, _ dx: UnsafeMutablePointer<Double>!,
  _ rows: Int64,
  _ cols: Int64
) -> smx_status {
  withRows(SMX_FLOAT64, x, dy, dx, rows, cols, isByRow: true) { smx_logsumexp_vjp($0, $1, $2, nil) }
}
