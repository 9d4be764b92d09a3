"""The docstrings of the functions of the C module, with the signatures that `inspect` reads.

What functions share stands once, at the top; those of attention stand in _docs_attention.py.
"""

_X = """x : array_like
        Any shape and strides. float16, bfloat16 (of ml_dtypes), float32 and float64 keep their
        dtype and are read where they are; integers and bool become float64, and arrays in foreign
        byte order are copied to native order.
    axis : int, tuple of int or None, default -1
        The axes of a row; None is all of them."""

_MASK_AND_BIAS = """mask : array_like of bool or Mask, optional
        True where an element takes part. Broadcast to `x` without being copied; what is masked is
        not used, so that a NaN there leaks nothing. A `Mask` speaks of the last two axes of `x`
        and costs no memory.
    bias : array_like, optional
        Added to `x`, broadcast without being copied; the sum is formed without rounding it to the
        dtype. In another dtype than that of `x` it is cast first, for float64 to float64, else to
        float32. -inf excludes an element, and a row that a bias leaves with -inf alone counts as
        fully masked. A sum beyond the range of float32 (float64) counts as infinite."""

NOTES = """float16 and bfloat16 are computed in float32 and rounded once at the end.
    Subnormal numbers are kept, whatever mode the calling thread is in. Large arrays are shared
    among threads (`set_num_threads`), and the GIL is released meanwhile. Layout, batch, threads and
    instruction set never change a bit of the result."""

ERRORS = """ValueError
        A shape, an axis or a value does not fit; the sentence names the argument and both shapes.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used."""

_SOFTMAX_PARAMETERS = f"""{_X}
    temperature : float or array_like, default 1.0
        ``x + bias`` is divided by it, after the shift, so that the quotient never overflows. An
        array has one number for each row: the shape of `x` without the axes of a row, or with
        length 1 there, broadcast. 0 gives the limit: the largest elements share equally; inf is
        uniform over the elements that are neither masked nor -inf. Negative or NaN is an error.
    {_MASK_AND_BIAS}
    out : ndarray, optional
        Where the result goes: shape and dtype of `x`, any strides. May be `x` itself; if it
        overlaps an input otherwise, the result is computed aside first."""

TEXTS = {
    "softmax": f"""softmax(x, axis=-1, *, temperature=1.0, mask=None, bias=None, out=None)
--

Softmax: ``exp((x + bias) / T)`` divided by its sum over the row.

    Parameters
    ----------
    {_SOFTMAX_PARAMETERS}

    Returns
    -------
    ndarray or scalar
        Probabilities in the shape and dtype of `x`; a scalar where `x` has no axes.

    Raises
    ------
    {ERRORS}

    See Also
    --------
    log_softmax : its logarithm, without the loss that ``log(softmax(x))`` has.

    Notes
    -----
    At most 2 ulp from the exact value in float32 and float64, for every row length to 2**20 and
    every spread, in searches (the worst cases on paper add up to 2.09); below 2**-125 (2**-1021) up
    to 2.4. Of two elements whose results are closer than their rounding, the smaller may have the
    larger result. An element of -inf has probability 0. A row with NaN or +inf, or of -inf alone,
    is NaN; a row whose elements are all masked is 0.

    {NOTES}

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> smx.softmax([2.0, 1.0, 0.0]).round(6)
    array([0.665241, 0.244728, 0.090031])

    No overflow, where ``np.exp(x) / np.exp(x).sum()`` gives NaN:

    >>> smx.softmax([1000.0, 1001.0, 999.0]).round(6)
    array([0.244728, 0.665241, 0.090031])

    A fully masked row is 0, not NaN:

    >>> x = np.zeros((2, 2), np.float32)
    >>> smx.softmax(x, mask=np.array([[True, True], [False, False]]))
    array([[0.5, 0.5],
           [0. , 0. ]], dtype=float32)
    >>> smx.softmax(x, mask=smx.Mask.causal())
    array([[1. , 0. ],
           [0.5, 0.5]], dtype=float32)
""",
    "log_softmax": f"""log_softmax(x, axis=-1, *, temperature=1.0, mask=None, bias=None, out=None)
--

Logarithm of softmax: ``(x + bias) / T - log(sum(exp((x + bias) / T)))`` over each row.

    Parameters
    ----------
    {_SOFTMAX_PARAMETERS}

    Returns
    -------
    ndarray or scalar
        Log-probabilities in the shape and dtype of `x`; a scalar where `x` has no axes.

    Raises
    ------
    {ERRORS}

    See Also
    --------
    softmax, logsumexp

    Notes
    -----
    At most 2 ulp from the exact value in float32 and float64, also where one element dominates, as
    `softmax` has it. An element of -inf gives -inf. A row with NaN or +inf, or of -inf alone, is
    NaN; a row whose elements are all masked is -inf.

    {NOTES}

    Examples
    --------
    A loss of nearly nothing is still a number; the usual formula, and SciPy's, give 0:

    >>> import numpy as np, swiftmax as smx
    >>> smx.log_softmax(np.array([0, -20], np.float32))[0]
    np.float32(-2.0611537e-09)
""",
    "logsumexp": f"""logsumexp(x, axis=-1, *, b=None, mask=None, bias=None, \
keepdims=False, return_sign=False, out=None)
--

Logarithm of a sum of exponentials: ``log(sum(b * exp(x + bias)))`` over each row.

    Parameters
    ----------
    {_X}
    b : array_like, optional
        Weights, cast to the dtype of `x` and broadcast with it, as in SciPy: `x` may be the smaller
        one. A weight of 0 takes its element out.
    {_MASK_AND_BIAS}
    keepdims : bool, default False
        Whether the result keeps the axes of a row, with length 1.
    return_sign : bool, default False
        Whether to return the sign of the sum too, and the logarithm of its absolute value. Without
        it a negative sum, which weights can give, is NaN.
    out : ndarray, optional
        Where the result goes: the shape of the result and the dtype of `x`, any strides.

    Returns
    -------
    ndarray or scalar
        The dtype is that of `x`. A scalar where no axes are left.
    sign : ndarray or scalar
        1, -1 or 0, NaN where the result is; only with `return_sign`.

    Raises
    ------
    {ERRORS}

    Notes
    -----
    At most 1 ulp of ``max(abs(result), abs(max(x)))`` from the exact value; in float64, where that
    is below 2**-1021, 1.6. A row with NaN is NaN, with +inf and no NaN +inf. A row of -inf alone,
    an empty one, and one whose elements are all masked are -inf: the sum is 0.

    With `b` the terms ``exp(x - max(x))`` have the precision of the dtype, 1.31 * 2**-24 (2**-53)
    of each. So positive weights cost up to 1.4 * 2**-24 (2**-53) beside one ulp, and more is lost
    where signs cancel. Terms below 2**-190 of ``exp(max(x))`` count as 0 before they are weighted;
    in float64 they lose digits below 2**-1022 and are 0 below 2**-1075, as in SciPy. Infinite
    weights, and sums beyond float64, give inf.

    {NOTES}

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> smx.logsumexp([1000.0, 1000.0])
    np.float64(1000.6931471805599)

    What a small term adds to a large one is not lost:

    >>> smx.logsumexp(np.array([0, -20], np.float32))
    np.float32(2.0611537e-09)

    The logarithm of a difference, ``exp(1) - exp(0)``:

    >>> smx.logsumexp([1.0, 0.0], b=[1, -1]).round(6)
    np.float64(0.541325)
""",
    "set_num_threads": """set_num_threads(n, /)
--

Set how many threads a call may use, in the whole process.

    Parameters
    ----------
    n : int
        From 1 to 256.

    Raises
    ------
    ValueError
        `n` is out of that range.
    TypeError
        `n` is not an integer.

    See Also
    --------
    num_threads : for one thread and block.

    Notes
    -----
    The default is SWIFTMAX_NUM_THREADS, then OMP_NUM_THREADS, then the CPUs that this process may
    use (affinity and cgroup quota). Small calls stay on their thread. The number never changes a
    bit of a result.

    Examples
    --------
    >>> import swiftmax as smx
    >>> before = smx.get_num_threads()
    >>> smx.set_num_threads(2)
    >>> smx.get_num_threads()
    2
    >>> smx.set_num_threads(before)
""",
    "get_num_threads": """get_num_threads()
--

How many threads a call from this thread may use.

    Returns
    -------
    int
        The number of the innermost `num_threads` block of this thread, else that of
        `set_num_threads`, else its default.

    Raises
    ------
    RuntimeError
        No number has been set, and SWIFTMAX_NUM_THREADS is not a number of threads.

    See Also
    --------
    set_num_threads, num_threads

    Examples
    --------
    >>> import swiftmax as smx
    >>> with smx.num_threads(3):
    ...     smx.get_num_threads()
    3
""",
}
