"""attention_vjp: the gradient of attention."""

from swiftmax import _core


def attention_vjp(
    d_out, query, key, value, out, lse, *, mask=None, bias=None, causal=False, query_offset=None,
    window=None, key_lengths=None, query_lengths=None, segment_ids=None, alibi_slopes=None,
    scale=None, softcap=None, sinks=None, layout="BHLD", return_d_bias=False, return_d_sinks=False,
):
    """Gradient of `attention`: from that by its result, those by query, key and value.

    The vector-Jacobian product: for a number that depends on ``out = attention(query, key, value,
    ...)``, `d_out` is its derivative by `out`, and what is returned are its derivatives by the
    arguments. The weights are computed again from `lse`, tile by tile: nothing of the size Lq by
    Lk is stored.

    Parameters
    ----------
    d_out : array_like, shape (B, Hq, Lq, Dv)
        The derivative by `out`, in the dtype of `query`. Any strides.
    query : array_like, shape (B, Hq, Lq, D)
        As in `attention`, like all that follows: (Hq, Lq, D) and (Lq, D) serve too, and all arrays
        then lack the same axes.
    key : array_like, shape (B, Hkv, Lk, D)
        A batch of 1 serves every batch entry of `query`; its gradient is then their sum.
    value : array_like, shape (B, Hkv, Lk, Dv)
        The same.
    out : array_like, shape (B, Hq, Lq, Dv)
        What `attention` gave for the same arguments.
    lse : array_like, shape (B, Hq, Lq)
        What it gave beside, of ``return_lse=True``. Cast to float32, float64 for float64.
    mask : array_like of bool or Mask, optional
        As in `attention`. A key that is not seen adds nothing, whatever it, its value, the query
        and `d_out` hold.
    bias : array_like, optional
        As in `attention`.
    causal : bool, default False
        As in `attention`.
    query_offset : int or array_like of int, optional
        As in `attention`.
    window : (int or None, int or None), optional
        As in `attention`.
    key_lengths : int or array_like of int, optional
        As in `attention`.
    query_lengths : int or array_like of int, optional
        As in `attention`.
    segment_ids : array_like of int or tuple of two, optional
        As in `attention`.
    alibi_slopes : array_like, shape (Hq,) or (B, Hq), optional
        As in `attention`, with the same offset.
    scale : float, optional
        As in `attention`: ``1 / sqrt(D)`` if None.
    softcap : float, optional
        As in `attention`.
    sinks : array_like, shape (Hq,), optional
        As in `attention`.
    layout : {"BHLD", "BLHD"}, default "BHLD"
        The order of the axes of `d_out`, `query`, `key`, `value`, `out` and their gradients.
    return_d_bias : bool, default False
        Whether to return the gradient of `bias` too.
    return_d_sinks : bool, default False
        Whether to return the gradient of `sinks` too.

    Returns
    -------
    d_query, d_key, d_value : ndarray
        In the shapes of `query`, `key` and `value`, and in the dtype of `query`. Those of keys that
        several heads or batch entries share are sums.
    d_bias : ndarray, optional
        In the shape of `bias`, summed over what it was broadcast to. float64 for float64, else
        float32.
    d_sinks : ndarray, optional
        In the shape of `sinks`, summed over batch entries and queries. float64 for float64, else
        float32.

    Raises
    ------
    ValueError
        A shape, an axis or a value does not fit; the sentence names the argument and both shapes.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.
    MemoryError
        There is no room for the tiles of the threads.

    See Also
    --------
    attention : whose gradient this is.

    Notes
    -----
    With weights p and scores s, which are ``scale * query @ key.T`` if nothing else is given::

        d_value = p.T @ d_out
        d_score = p * (d_out @ value.T - (d_out * out).sum(-1))
        d_query = scale * d_score @ key
        d_key   = scale * d_score.T @ query

    A query that sees no key has gradient 0. A weight of exactly 0 adds nothing. Weights come from
    scores less `lse`, so they are as coarse as that is: where a row's scores all are large, 1e4 in
    float32 or more, its gradients have few digits, and a row that a bias of -1e9 hides whole has
    none that are right. A mask, or -inf, hides a row exactly. A NaN makes NaN
    what depends on it and nothing else. An `lse` that is more than about 43 below one of its row's
    scores is not that of these arguments: the gradients of that row, and what sums over it, are
    NaN.

    The error in float32 is that of the sums, over D, Dv and over all keys or queries, and of `lse`
    and `out` as they are given. float16 and bfloat16 are computed in float32 and rounded once at
    the end. Past keys, pools of blocks, packed entries and a gradient by lse are not offered.

    Large calls are shared among threads (`set_num_threads`), and the GIL is released meanwhile.
    Layout, batch, threads and instruction set never change a bit of the result, nor do keys that
    are appended behind a mask.

    References
    ----------
    Dao, Fu, Ermon, Rudra and Ré, FlashAttention: fast and memory-efficient exact attention with
    IO-awareness, 2022, algorithm 4.

    Examples
    --------
    A step against the gradient of a squared error makes it smaller:

    >>> import numpy as np, swiftmax as smx
    >>> rng = np.random.default_rng(0)
    >>> query, key, value, goal = rng.standard_normal((4, 2, 8, 16), np.float32)
    >>> out, lse = smx.attention(query, key, value, causal=True, return_lse=True)
    >>> d_out = out - goal
    >>> d_query, d_key, d_value = smx.attention_vjp(d_out, query, key, value, out, lse, causal=True)
    >>> step = [x - 0.1 * d for x, d in ((query, d_query), (key, d_key), (value, d_value))]
    >>> after = smx.attention(*step, causal=True)
    >>> bool(((after - goal) ** 2).sum() < ((out - goal) ** 2).sum())
    True

    The first query sees one key, so its weight is 1 whatever its score:

    >>> bool((d_query[:, 0] == 0).all())
    True
    """
    return _core._attention_vjp(
        d_out, out, lse, return_d_bias, return_d_sinks, query, key, value, mask, bias, causal,
        query_offset, window, key_lengths, query_lengths, segment_ids, alibi_slopes, scale, softcap,
        sinks, layout,
    )
