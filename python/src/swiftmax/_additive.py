"""Additive attention: the signature, the docstring, and the call of the C module."""

from swiftmax import _core


def additive_attention(
    query,
    key,
    value,
    w_query,
    w_key,
    v,
    *,
    mask=None,
    bias=None,
    causal=False,
    query_offset=None,
    window=None,
    key_lengths=None,
    query_lengths=None,
    segment_ids=None,
    layout="BHLD",
    out=None,
    return_lse=False,
    return_weights=False,
):
    """Additive attention: ``softmax(tanh(w_query @ query + w_key @ key) @ v) @ value``.

    That is, ``score[i, j] = sum(v * tanh(w_query @ query[i] + w_key @ key[j]))`` for each head, the
    alignment model of Bahdanau, Cho and Bengio (2015); a step of their decoder asks with Lq = 1.
    Queries and keys are projected once each; the scores are never stored, and what a rule excludes
    is not computed.

    Parameters
    ----------
    query : array_like, shape (B, Hq, Lq, Dq)
        Any strides. float16, bfloat16 (of ml_dtypes), float32 and float64 keep their dtype and are
        read where they are; integers and bool become float64. (Hq, Lq, Dq) and (Lq, Dq) serve too;
        `key` and `value` then lack the same axes, and so do the results.
    key : array_like, shape (B, Hkv, Lk, Dk)
        In the dtype of `query`, as are all parameters. Dk may differ from Dq. Hq is a multiple of
        Hkv: query head h uses key head ``h // (Hq // Hkv)``. A batch of 1 serves every batch entry.
    value : array_like, shape (B, Hkv, Lk, Dv)
        What is averaged; often `key` itself.
    w_query : array_like, shape (A, Dq) or (Hq, A, Dq)
        Projects queries, by one matrix for all heads or one for each.
    w_key : array_like, shape (A, Dk) or (Hkv, A, Dk)
        Projects keys.
    v : array_like, shape (A,) or (Hq, A)
        Weighs the A sums.
    mask : array_like of bool or Mask, optional
        True where a query sees a key, as for `attention`; so are all arguments down to
        `segment_ids`.
    bias : array_like, optional
        Added to the scores, broadcast without being copied. -inf excludes a key.
    causal : bool, default False
        Whether query i sees key j only if ``j <= i + query_offset``.
    query_offset : int or array_like of int, optional
        Place of the first query among the keys; ``Lk - Lq`` if None.
    window : (int or None, int or None), optional
        A pair (left, right) around the place of each query; None or -1 leaves a side open.
    key_lengths : int or array_like of int, optional
        Only the first keys are seen: one number for all, (B,) or (B, Hq).
    query_lengths : int or array_like of int, optional
        Only the first queries see.
    segment_ids : array_like of int or tuple of two, optional
        A query sees the keys that have its id: ids for queries and keys alike, or a tuple
        (query_ids, key_ids).
    layout : {"BHLD", "BLHD"}, default "BHLD"
        The order of the axes of `query`, `key`, `value` and `out`.
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
        Natural logarithm of the sum of ``exp(score)`` over the keys seen. float64 for float64, else
        float32.
    weights : ndarray, shape (B, Hq, Lq, Lk)
        What the values are multiplied by, in the dtype of `query`.

    Raises
    ------
    ValueError
        A shape or a value does not fit; the sentence names the argument and both shapes.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.
    MemoryError
        There is no room for the projected queries and keys.

    See Also
    --------
    attention : scores by products of queries and keys.
    Mask : rules as for `mask`, which `causal` and its kin make too.

    Notes
    -----
    Scores are not scaled: a factor belongs into `v`. `bias` comes after the sum, then the masks,
    then softmax, then `value`.

    A query that sees no key, or whose scores are all -inf, gives 0, weights 0 and an lse of -inf.
    A masked key is never used, whatever it and its value hold. A NaN in what takes part makes NaN
    what depends on it and nothing else. An infinite sum saturates: its tanh is 1 or -1.

    tanh is within 2 ulp; the rest of the error is that of the sums over Dq, Dk, A and Lk. float16
    and bfloat16 are computed in float32 and rounded once at the end. Layout, batch, threads and
    instruction set never change a bit of the result, and a query has the same bits alone and among
    others. Memory: ``(Lq + Lk) * A`` numbers for each batch entry and head.

    Examples
    --------
    A decoder of three words attends to five of the encoder's states, one word at a time:

    >>> import numpy as np, swiftmax as smx
    >>> rng = np.random.default_rng(0)
    >>> decoder, encoder = rng.standard_normal((3, 6)), rng.standard_normal((5, 8))
    >>> w, u, v = rng.standard_normal((4, 6)), rng.standard_normal((4, 8)), np.ones(4)
    >>> step = smx.additive_attention(decoder[:1], encoder, encoder, w, u, v)
    >>> step.shape
    (1, 8)

    All steps at once have the same bits:

    >>> context, weights = smx.additive_attention(
    ...     decoder, encoder, encoder, w, u, v, return_weights=True)
    >>> np.array_equal(context[:1], step)
    True

    By hand:

    >>> score = np.tanh((decoder @ w.T)[:, None] + encoder @ u.T) @ v
    >>> np.allclose(weights, smx.softmax(score))
    True
    """
    return _core._additive_attention(
        query, key, value, w_query, w_key, v, mask, bias, causal, query_offset, window, key_lengths,
        query_lengths, segment_ids, layout, out, return_lse, return_weights,
    )
