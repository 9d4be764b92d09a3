"""Gradients of softmax, log_softmax and logsumexp, and the Jacobian of softmax.

The functions here have the signatures and the texts; _core_gradients.c has the calls.
"""

from swiftmax import _core
from swiftmax._arguments import as_flag, as_float, beside, is_float_array


def softmax_vjp(y, dy, axis=-1, *, temperature=1.0, mask=None, out=None):
    """Gradient of softmax: ``y * (dy - sum(y * dy)) / T`` over each row.

    Parameters
    ----------
    y : array_like
        The result of ``softmax(x, axis, temperature=T, mask=mask)``, of any shape and strides.
        float16, bfloat16 (of ml_dtypes), float32 and float64 keep their dtype and are read where
        they are; integers and bool become float64.
    dy : array_like
        The gradient by `y`, of its shape and dtype; what is no array of floats is cast.
    axis : int, tuple of int or None, default -1
        The axes of a row; None is all of them.
    temperature : float or array_like, default 1.0
        As given to `softmax`: a number, or one for each row. At 0 and inf the gradient is 0.
    mask : array_like of bool or Mask, optional
        As given to `softmax`: True where an element takes part. Masked ones have gradient 0, and
        nothing is used that stands there.
    out : ndarray, optional
        Where the result goes: shape and dtype of `y`, any strides. May be `y` or `dy` itself; if it
        overlaps an input otherwise, the result is computed aside first.

    Returns
    -------
    ndarray or scalar
        The gradient by `x` in the shape and dtype of `y`; a scalar where `y` has no axes.

    Raises
    ------
    ValueError
        A shape, an axis or a value does not fit; the sentence names the argument and both shapes.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    See Also
    --------
    softmax_jvp : forward mode.
    softmax_jacobian : the whole matrix.
    log_softmax_vjp, logsumexp_vjp

    Notes
    -----
    Within three units of 2**-24 (2**-53) of each result in float32 (float64), but for 2**-44
    (2**-88) times ``y * sum(abs(y * dy))``, the error of the sum: float32 adds the products in
    float64, where they are exact, and float64 adds them as pairs of numbers, so that cancellation
    in ``dy - sum`` does not show it. A temperature costs one unit; in float64 it divides last, and
    a product that is subnormal before has lost digits by then. A NaN or an infinity in a visible
    `y` or `dy`, or in the sum, makes every visible element of its row NaN. A bias of
    `softmax` shows in `y` and is not needed. Layout, batch, threads and instruction set never
    change a bit of the result.

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> y = smx.softmax([2.0, 1.0, 0.0])
    >>> smx.softmax_vjp(y, [1, 0, 0]).round(6)
    array([ 0.222695, -0.162803, -0.059892])

    What all elements gain alike changes nothing:

    >>> smx.softmax_vjp([0.5, 0.25, 0.25], [3, 3, 3])
    array([0., 0., 0.])
    """
    if not is_float_array(y) or not is_float_array(dy):
        y = as_float(y, "y")
        dy = beside(dy, y, "dy")
    return _core._softmax_vjp(y, dy, axis, temperature, mask, out)


def softmax_jvp(y, dx, axis=-1, *, temperature=1.0, mask=None, out=None):
    """Directional derivative of softmax: ``y * (dx - sum(y * dx)) / T`` over each row.

    The Jacobian of softmax is symmetric, so this is the same function as `softmax_vjp`, to the
    last bit; the two names say which way a program goes.

    Parameters
    ----------
    y : array_like
        The result of ``softmax(x, axis, temperature=T, mask=mask)``, as for `softmax_vjp`.
    dx : array_like
        The change of `x`, of the shape and dtype of `y`; what is no array of floats is cast.
    axis : int, tuple of int or None, default -1
        The axes of a row; None is all of them.
    temperature : float or array_like, default 1.0
        As given to `softmax`: a number, or one for each row. At 0 and inf the derivative is 0.
    mask : array_like of bool or Mask, optional
        As given to `softmax`: True where an element takes part.
    out : ndarray, optional
        Where the result goes: shape and dtype of `y`, any strides. May be `y` or `dx` itself.

    Returns
    -------
    ndarray or scalar
        The change of `y`, in its shape and dtype.

    Raises
    ------
    ValueError
        A shape, an axis or a value does not fit; the sentence names the argument and both shapes.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    Notes
    -----
    Accuracy and special values are those of `softmax_vjp`.

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> x, dx = np.array([2.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0])
    >>> smx.softmax_jvp(smx.softmax(x), dx).round(6)
    array([ 0.162803, -0.184836,  0.022033])
    >>> h = 1e-5
    >>> ((smx.softmax(x + h * dx) - smx.softmax(x - h * dx)) / (2 * h)).round(6)
    array([ 0.162803, -0.184836,  0.022033])
    """
    if not is_float_array(y) or not is_float_array(dx):
        y = as_float(y, "y")
        dx = beside(dx, y, "dx")
    return _core._softmax_jvp(y, dx, axis, temperature, mask, out)


def log_softmax_vjp(y, dy, axis=-1, *, temperature=1.0, mask=None, out=None):
    """Gradient of log_softmax: ``(dy - exp(y) * sum(dy)) / T`` over each row.

    Parameters
    ----------
    y : array_like
        The result of ``log_softmax(x, axis, temperature=T, mask=mask)``, of any shape and strides.
        Dtypes as for `softmax_vjp`.
    dy : array_like
        The gradient by `y`, of its shape and dtype; what is no array of floats is cast.
    axis : int, tuple of int or None, default -1
        The axes of a row; None is all of them.
    temperature : float or array_like, default 1.0
        As given to `log_softmax`: a number, or one for each row. At 0 and inf the gradient is 0.
    mask : array_like of bool or Mask, optional
        As given to `log_softmax`: True where an element takes part. Masked elements have gradient
        0, and nothing is used that stands there.
    out : ndarray, optional
        Where the result goes: shape and dtype of `y`, any strides. May be `y` or `dy` itself.

    Returns
    -------
    ndarray or scalar
        The gradient by `x` in the shape and dtype of `y`; a scalar where `y` has no axes.

    Raises
    ------
    ValueError
        A shape, an axis or a value does not fit; the sentence names the argument and both shapes.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    Notes
    -----
    Within three units of 2**-24 (2**-53) of each result in float32 (float64), and two of
    ``exp(y) * abs(sum(dy))``, but for 2**-44 (2**-88) times ``exp(y) * sum(abs(dy))``. This holds
    where ``exp(y)`` is a normal number, `y` above about -87 (-708); below, ``exp(y)`` is rounded
    to a multiple of 2**-149 (2**-1074), and the sum multiplies that error. A NaN or an
    infinity in a visible `dy`, or a sum of float64 that overflows, makes every visible element of
    its row NaN; a NaN in `y`, or a `y` above 32, which is no logarithm of a probability, that
    element alone.

    Examples
    --------
    The gradient of the cross-entropy ``-log_softmax(x)[k]`` is p - y, y being 1 at k:

    >>> import numpy as np, swiftmax as smx
    >>> smx.log_softmax_vjp(smx.log_softmax([2.0, 1.0, 0.0]), [0, -1, 0]).round(6)
    array([ 0.665241, -0.755272,  0.090031])
    """
    if not is_float_array(y) or not is_float_array(dy):
        y = as_float(y, "y")
        dy = beside(dy, y, "dy")
    return _core._log_softmax_vjp(y, dy, axis, temperature, mask, out)


def logsumexp_vjp(x, dy, axis=-1, *, mask=None, bias=None, keepdims=False, out=None):
    """Gradient of logsumexp: ``dy * softmax(x + bias)`` over each row.

    Parameters
    ----------
    x : array_like
        What was given to `logsumexp`: any shape and strides, dtypes as for `softmax`.
    dy : array_like
        The gradient by its result, one number for each row, in the dtype of `x`; what is no array
        of floats is cast.
    axis : int, tuple of int or None, default -1
        The axes of a row; None is all of them.
    mask : array_like of bool or Mask, optional
        As given to `logsumexp`: True where an element takes part. Masked elements have gradient 0.
    bias : array_like, optional
        As given to `logsumexp`.
    keepdims : bool, default False
        Whether `dy` has the axes of a row, with length 1.
    out : ndarray, optional
        Where the result goes: shape and dtype of `x`, any strides. May be `x` itself.

    Returns
    -------
    ndarray or scalar
        The gradient by `x` in its shape and dtype; a scalar where `x` has no axes.

    Raises
    ------
    ValueError
        A shape, an axis or a value does not fit; the sentence names the argument and both shapes.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    Notes
    -----
    Computed as a softmax, so that it is as accurate: 2 ulp, and one rounding of the product.
    ``exp(x - lse)`` would lose the digits that `lse` has before its point. A row of which softmax
    is NaN is NaN, but for masked elements; a row without a visible element is 0.

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> smx.logsumexp_vjp([[2.0, 1.0, 0.0], [1000.0, 1000.0, -np.inf]], [1, 2]).round(6)
    array([[0.665241, 0.244728, 0.090031],
           [1.      , 1.      , 0.      ]])
    """
    if not is_float_array(x) or not is_float_array(dy):
        x = as_float(x, "x")
        dy = beside(dy, x, "dy")
    keepdims = as_flag(keepdims, "keepdims")
    rows = x.ndim if axis is None else len(axis) if isinstance(axis, (tuple, list)) else 1
    if rows and (dy.ndim == x.ndim > 0) != keepdims:
        raise ValueError(
            f"dy of shape {dy.shape} does not fit x of shape {x.shape} with keepdims={keepdims}"
        )
    return _core._logsumexp_vjp(x, dy, axis, bias, mask, out)


def softmax_jacobian(p, axis=-1, *, temperature=1.0, mask=None, out=None):
    """Jacobian of softmax: ``(diag(p) - outer(p, p)) / T`` of each row.

    Parameters
    ----------
    p : array_like
        The result of ``softmax(x, axis, temperature=T, mask=mask)``: any shape and strides, dtypes
        as for `softmax_vjp`.
    axis : int, tuple of int or None, default -1
        The axes of a row; several are flattened in C order. None is all of them.
    temperature : float or array_like, default 1.0
        As given to `softmax`: a number, or one for each row. At 0 and inf the Jacobian is 0.
    mask : array_like of bool or Mask, optional
        As given to `softmax`: lines and columns of masked elements are 0.
    out : ndarray, optional
        Where the result goes: its shape, the dtype of `p`, any strides.

    Returns
    -------
    ndarray
        Shape (..., n, n): the other axes of `p`, then twice the length n of a row. Element
        ``[..., i, j]`` is the derivative of ``p[i]`` by ``x[j]``, ``p[i] * ((i == j) - p[j]) / T``.

    Raises
    ------
    ValueError
        A shape, an axis or a value does not fit; the sentence names the argument and both shapes.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    See Also
    --------
    softmax_vjp, softmax_jvp : its products with a vector, which need no matrix.

    Notes
    -----
    Each entry is within three units of 2**-24 (2**-53) of itself in float32 (float64), but where
    float64 has a subnormal product before a temperature divides it. A NaN in `p` makes NaN of its
    line and its column.

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> smx.softmax_jacobian(smx.softmax([2.0, 1.0, 0.0])).round(6)
    array([[ 0.222695, -0.162803, -0.059892],
           [-0.162803,  0.184836, -0.022033],
           [-0.059892, -0.022033,  0.081925]])
    """
    return _core._softmax_jacobian(p, None, axis, temperature, mask, out)
