"""The docstrings of the functions of the C module, with the signatures that `inspect` reads.

What functions share stands once, at the top.
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
        dtype. -inf excludes an element, and a row that a bias leaves with -inf alone counts as
        fully masked."""

_NOTES = """float16 and bfloat16 are computed in float32 and rounded once at the end.
    Subnormal numbers are kept, whatever mode the calling thread is in. Large arrays are shared
    among threads (`set_num_threads`), and the GIL is released meanwhile. Layout, batch, threads and
    instruction set never change a bit of the result."""

_ERRORS = """ValueError
        A shape, an axis or a value does not fit; the sentence names the argument and both shapes.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error."""

_SOFTMAX_PARAMETERS = f"""{_X}
    temperature : float or array_like, default 1.0
        ``x + bias`` is divided by it, after the shift, so that nothing overflows. An array has one
        number for each row: the shape of `x` without the axes of a row, or with length 1 there,
        broadcast. 0 gives the limit: the largest elements share equally; inf is uniform over the
        elements that are neither masked nor -inf. Negative or NaN is an error.
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
    {_ERRORS}

    See Also
    --------
    log_softmax : its logarithm, without the loss that ``log(softmax(x))`` has.

    Notes
    -----
    At most 2 ulp from the exact value in float32 and float64, for every row length to 2**20 and
    every spread. An element of -inf has probability 0. A row with NaN or +inf, or of -inf alone, is
    NaN; a row whose elements are all masked is 0.

    {_NOTES}

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

Logarithm of softmax: ``x / T - log(sum(exp(x / T)))`` over each row.

    Parameters
    ----------
    {_SOFTMAX_PARAMETERS}

    Returns
    -------
    ndarray or scalar
        Log-probabilities in the shape and dtype of `x`; a scalar where `x` has no axes.

    Raises
    ------
    {_ERRORS}

    See Also
    --------
    softmax, logsumexp

    Notes
    -----
    At most 2 ulp from the exact value in float32 and float64, also where one element dominates.
    An element of -inf gives -inf. A row with NaN or +inf, or of -inf alone, is NaN; a row whose
    elements are all masked is -inf.

    {_NOTES}

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

Logarithm of a sum of exponentials: ``log(sum(b * exp(x)))`` over each row.

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
    {_ERRORS}

    Notes
    -----
    At most 1 ulp of ``max(abs(result), abs(max(x)))`` from the exact value. A row with NaN is NaN,
    with +inf and no NaN +inf. A row of -inf alone, an empty one, and one whose elements are all
    masked are -inf: the sum is 0.

    {_NOTES}

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
    "attention": f"""attention(query, key, value, *, mask=None, bias=None, causal=False, \
query_offset=None, window=None, key_lengths=None, query_lengths=None, segment_ids=None, \
alibi_slopes=None, scale=None, softcap=None, sinks=None, past_key=None, past_value=None, \
block_table=None, layout="BHLD", precision="exact", out=None, return_lse=False, \
return_weights=False)
--

Scaled dot-product attention: ``softmax(query @ key.T * scale) @ value`` for each head.

    B batch entries, Hq query heads and Hkv key heads, Lq queries and Lk keys, of sizes D and Dv.
    The scores, of shape (B, Hq, Lq, Lk), are never stored, and what a rule excludes is not
    computed.

    Parameters
    ----------
    query : array_like, shape (B, Hq, Lq, D)
        Any strides. float16, bfloat16 (of ml_dtypes), float32 and float64 keep their dtype and are
        read where they are; integers and bool become float64. (Hq, Lq, D) and (Lq, D) serve too;
        all arrays then lack the same axes, and so do the results.
    key : array_like, shape (B, Hkv, Lk, D)
        In the dtype of `query`. Hq is a multiple of Hkv: query head h uses key head
        ``h // (Hq // Hkv)``. A batch of 1 serves every batch entry of `query`.
    value : array_like, shape (B, Hkv, Lk, Dv)
        In the dtype of `query`.
    mask : array_like of bool or Mask, optional
        True where a query sees a key. Broadcast to the scores without being copied. A key that is
        not seen is not used: a NaN in it, or in its value, leaks nothing. Everything here that
        masks holds together.
    bias : array_like, optional
        Added to the scores, broadcast without being copied. -inf excludes a key.
    causal : bool, default False
        Whether query i sees key j only if ``j <= i + query_offset``.
    query_offset : int or array_like of int, optional
        Place of the first query among the keys, for `causal`, `window` and `alibi_slopes`: one for
        all, (B,) or (B, Hq). The default ``Lk - Lq`` aligns the last query with the last key. It
        may be negative: such queries see nothing if `causal`.
    window : (int or None, int or None), optional
        A pair (left, right): query i sees key j only if
        ``i + query_offset - left <= j <= i + query_offset + right``. None or -1 leaves a side open.
    key_lengths : int or array_like of int, optional
        Only the first keys are seen: one number for all, (B,) or (B, Hq).
    query_lengths : int or array_like of int, optional
        Only the first queries see, in the shapes of `key_lengths`. Results of the others are as if
        all keys were masked.
    segment_ids : array_like of int or tuple of two, optional
        A query sees the keys that have its id: ids of shape (L,), (B, L) or (B, Hq, L) for queries
        and keys alike, or a tuple (query_ids, key_ids).
    alibi_slopes : array_like, shape (Hq,) or (B, Hq), optional
        ``slope * abs(i + query_offset - j)`` is subtracted from each score.
    scale : float, optional
        Factor of the products of queries and keys; ``1 / sqrt(D)`` if None.
    softcap : float, optional
        Scaled products s become ``softcap * tanh(s / softcap)``. None and 0 leave them as they are.
    sinks : array_like, shape (Hq,), optional
        A further score for each row of a head, which takes its share of the sum but has no value.
    past_key : array_like, shape (B, Hkv, Lp, D), optional
        Keys that stand before those of `key`, without joining them in memory; Lk then counts both.
    past_value : array_like, shape (B, Hkv, Lp, Dv), optional
        Their values; both or neither.
    block_table : array_like of int, shape (B, N), optional
        For a cache in blocks: `key` and `value` then are pools (blocks, Hkv, size, D), and key j of
        batch entry b lies in block ``block_table[b, j // size]``. Lk is ``N * size``; entries
        behind `key_lengths` may hold anything.
    layout : {{"BHLD", "BLHD"}}, default "BHLD"
        The order of the axes of `query`, `key`, `value`, `out`, the past and the pools: heads
        before lengths, or lengths before heads. The scores have heads before lengths in both.
    precision : {{"exact", "fast"}}, default "exact"
        "fast" lets bfloat16 use the CPU's own products, where it has any. The bits then depend on
        the CPU; all other dtypes are not affected.
    out : ndarray, optional
        Where the result goes: its shape and the dtype of `query`, any strides. If it overlaps an
        input or is one, the result is computed aside first.
    return_lse : bool, default False
        Whether to return the logarithm of each row's sum too.
    return_weights : bool, default False
        Whether to return the weights too. This stores all (B, Hq, Lq, Lk) of them.

    Returns
    -------
    ndarray, shape (B, Hq, Lq, Dv)
        In the dtype of `query` and in `layout`. With `return_lse` or `return_weights` the first of
        a tuple ``(out[, lse][, weights])``.
    lse : ndarray, shape (B, Hq, Lq)
        Natural logarithm of the sum of ``exp(score)`` over the keys seen, and the sink. float64 for
        float64, else float32.
    weights : ndarray, shape (B, Hq, Lq, Lk)
        What the values are multiplied by, in the dtype of `query`.

    Raises
    ------
    {_ERRORS}

    See Also
    --------
    Mask : rules as for `mask`, which `causal` and its kin make too.

    Notes
    -----
    A score is made in this order: product of query and key, `scale`, `softcap`, `bias` and
    `alibi_slopes`, `mask` and all other rules; then softmax with `sinks`, then times `value`.

    A query that sees no key, or whose scores are all -inf, gives 0, weights 0 and an lse of -inf.
    A NaN in a query, key or value that takes part makes NaN what depends on it and nothing else.

    With the default offset, `causal` is::

        Lq = 2, Lk = 4    1 1 1 0        Lq = 4, Lk = 2    0 0
                          1 1 1 1                          0 0
                                                           1 0
                                                           1 1

    The error in float32 is that of its sums over D and over Lk. A query has the same bits alone
    and among others, in every chunk of queries, and whatever masked keys follow.

    {_NOTES}

    Examples
    --------
    A soft lookup: the query resembles the first key more than the second.

    >>> import numpy as np, swiftmax as smx
    >>> key, value = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[10.0], [20.0]])
    >>> smx.attention([[3.0, 0.0]], key, value).round(2)
    array([[11.07]])
    >>> out, weights = smx.attention([[3.0, 0.0]], key, value, return_weights=True)
    >>> weights.round(3)
    array([[0.893, 0.107]])

    Eight query heads share two key heads:

    >>> rng = np.random.default_rng(0)
    >>> query = rng.standard_normal((2, 8, 5, 16), np.float32)
    >>> key, value = rng.standard_normal((2, 2, 2, 5, 16), np.float32)
    >>> out = smx.attention(query, key, value, causal=True)
    >>> out.shape
    (2, 8, 5, 16)

    The last query alone, as in decoding, has the same bits:

    >>> step = smx.attention(query[:, :, -1:], key, value, causal=True)
    >>> np.array_equal(step, out[:, :, -1:])
    True

    So it has with a cache that has room for more keys, whatever is there:

    >>> room = [(0, 0), (0, 0), (0, 3), (0, 0)]
    >>> key, value = (np.pad(a, room, constant_values=np.nan) for a in (key, value))
    >>> step = smx.attention(query[:, :, -1:], key, value, key_lengths=[5, 5])
    >>> np.array_equal(step, out[:, :, -1:])
    True
""",
    "set_num_threads": """set_num_threads(n, /)
--

Set how many threads a call may use, in the whole process.

    The default is SWIFTMAX_NUM_THREADS, then OMP_NUM_THREADS, then the CPUs that this process may
    use. `num_threads` sets it for one thread and block. The number, from 1 to 256, never changes a
    bit of a result.
""",
    "get_num_threads": """get_num_threads()
--

How many threads a call from this thread may use.
""",
}
