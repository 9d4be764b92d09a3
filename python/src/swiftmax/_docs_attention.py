"""The docstrings of attention and merge_attention; _docs.py has the others."""

from swiftmax._docs import ERRORS, NOTES

TEXTS = {
    "attention": f"""attention(query, key, value, *, mask=None, bias=None, causal=False, \
query_offset=None, window=None, key_lengths=None, query_lengths=None, segment_ids=None, \
alibi_slopes=None, scale=None, softcap=None, sinks=None, past_key=None, past_value=None, \
block_table=None, query_starts=None, key_starts=None, layout="BHLD", precision="exact", \
out=None, return_lse=False, return_weights=False)
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
        Added to the scores, broadcast without being copied; cast first where it has another dtype
        than `query`, for float64 to float64, else to float32. -inf excludes a key.
    causal : bool, default False
        Whether query i sees key j only if ``j <= i + query_offset``.
    query_offset : int or array_like of int, optional
        Place of the first query among the keys, for `causal`, `window` and `alibi_slopes`: one for
        all, (B,) or (B, Hq). The default ``Lk - Lq`` aligns the last query with the last key. It
        may be negative: such queries see nothing if `causal`. Rules of a `Mask` have their own.
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
        and keys alike, or a tuple (query_ids, key_ids); a list of two is one array.
    alibi_slopes : array_like, shape (Hq,) or (B, Hq), optional
        ``slope * abs(i + offset - j)`` is subtracted from each score. offset is `query_offset`, or
        if that is None the first offset that a rule of `mask` has, else ``Lk - Lq``.
    scale : float, optional
        Factor of the products of queries and keys; ``1 / sqrt(D)`` if None.
    softcap : float, optional
        Scaled products s become ``softcap * tanh(s / softcap)``. None and 0 leave them as they are.
    sinks : array_like, shape (Hq,), optional
        A further score for each row of a head, which takes its share of the sum but has no value.
        A finite one beyond 2**126 (2**1022 for float64) in magnitude counts as that, as scores do.
    past_key : array_like, shape (B, Hkv, Lp, D), optional
        Keys that stand before those of `key`, without joining them in memory; Lk then counts both.
    past_value : array_like, shape (B, Hkv, Lp, Dv), optional
        Their values; both or neither.
    block_table : array_like of int, shape (B, N), optional
        For a cache in blocks: `key` and `value` then are pools (blocks, Hkv, size, D), and key j of
        batch entry b lies in block ``block_table[b, j // size]``. Lk is ``N * size``; entries
        behind `key_lengths` may hold anything.
    query_starts : array_like of int, shape (B + 1,), optional
        For entries of many lengths packed one behind the other: `query` and the result then are
        (Hq, T, ...), rows ``query_starts[b]`` to ``query_starts[b + 1] - 1`` are those of entry b.
        The numbers do not fall. `mask` as an array, `bias`, `return_weights`, past keys and
        `block_table` are not allowed with it.
    key_starts : array_like of int, shape (B + 1,), optional
        The same for `key` and `value`; both or neither.
    layout : {{"BHLD", "BLHD"}}, default "BHLD"
        The order of the axes of `query`, `key`, `value`, `out`, the past and the pools: heads
        before lengths, or lengths before heads. The scores have heads before lengths in both.
    precision : {{"exact", "fast"}}, default "exact"
        "fast" lets bfloat16 go through AMX tiles, where the CPU has them, or on AMD through
        AVX512-BF16: weights are then rounded to bfloat16, up to 2**-8 of each, and the bits depend
        on the CPU. It has no effect on other dtypes and CPUs; for up to eight queries that share
        keys (Lq times the heads of a group); if D or Dv is 0 or no multiple of 32, or the last axis
        of `query`, `key` or `value` is not contiguous; and with `mask` as an array, `bias`,
        `softcap`, `alibi_slopes`, segments, weights, a past or a block table.
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
    lse : ndarray, shape (B, Hq, Lq), or (Hq, T) of packed entries
        Natural logarithm of the sum of ``exp(score)`` over the keys seen, and the sink. float64 for
        float64, else float32.
    weights : ndarray, shape (B, Hq, Lq, Lk)
        What the values are multiplied by, in the dtype of `query`.

    Raises
    ------
    {ERRORS}
    MemoryError
        There is no room for the tiles of the threads.

    See Also
    --------
    Mask : rules as for `mask`, which `causal` and its kin make too.
    merge_attention : joins results over different keys.

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

    Packed entries have scores of shape (B, Hq, Lq, Lk) with the longest of their lengths, which is
    what `causal`, `key_lengths` and the other rules speak of; the default offset is that of each
    entry. In a result made here, rows that belong to no entry are 0, with an lse of -inf; in `out`
    they stay as they are.

    The error in float32 is that of its sums over D and over Lk. lse has beside that of the scores
    and one rounding about 2**-22 (2**-51 for float64), up to (80 + Lk / 1024) * 2**-24 (2**-53)
    for constant scores. Values up to 2**126 / Lk (2**1022 / Lk) in magnitude never overflow; beyond
    that inf may result, although the average is finite. A query has the same bits alone and among
    others, in every chunk of queries, and whatever masked keys follow.

    {NOTES}

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

    Two texts of 3 and 2 tokens in one array, without padding:

    >>> packed, starts = rng.standard_normal((8, 5, 16), np.float32), [0, 3, 5]
    >>> rules = {{"causal": True, "query_starts": starts, "key_starts": starts}}
    >>> out = smx.attention(packed, packed, packed, **rules)
    >>> second = packed[:, 3:]
    >>> np.array_equal(out[:, 3:], smx.attention(second, second, second, causal=True))
    True
""",
    "merge_attention": f"""merge_attention(out_a, lse_a, out_b, lse_b, *, \
layout="BHLD", out=None)
--

Join the results of attention over two sets of keys that have none in common.

    ``lse = log(exp(lse_a) + exp(lse_b))`` and
    ``out = out_a * exp(lse_a - lse) + out_b * exp(lse_b - lse)``, which is `attention` over the
    keys of both.

    Parameters
    ----------
    out_a : array_like, shape (B, Hq, Lq, Dv)
        What `attention` gave over the first keys. Any strides. float16, bfloat16 (of ml_dtypes),
        float32 and float64 keep their dtype and are read where they are; integers and bool become
        float64. (Hq, Lq, Dv) and (Lq, Dv) serve too; all arrays then lack the same axes.
    lse_a : array_like, shape (B, Hq, Lq)
        The logarithm of its sums, of ``return_lse=True``. Cast to float32, float64 for float64.
    out_b : array_like, shape (B, Hq, Lq, Dv)
        The same over the other keys, in the dtype of `out_a`.
    lse_b : array_like, shape (B, Hq, Lq)
        The logarithm of its sums.
    layout : {{"BHLD", "BLHD"}}, default "BHLD"
        The order of the axes of `out_a`, `out_b` and `out`, as in `attention`. In both, `lse_a` and
        `lse_b` have heads before lengths.
    out : ndarray, optional
        Where the result goes: shape and dtype of `out_a`, any strides. May be `out_a` or `out_b`
        itself; if it overlaps an input otherwise, the result is computed aside first.

    Returns
    -------
    out : ndarray, shape (B, Hq, Lq, Dv)
        In the dtype of `out_a` and in `layout`.
    lse : ndarray, shape (B, Hq, Lq)
        To join with further keys. float64 for float64, else float32.

    Raises
    ------
    {ERRORS}

    See Also
    --------
    attention : gives what is joined here.

    Notes
    -----
    A side whose lse is -inf, as where no key was seen, adds nothing, whatever its out holds; if
    both are, the result is 0, with an lse of -inf. A NaN in an lse makes its row NaN. `sinks` must
    be given to one of the two calls of `attention` only.

    In float32 out is within 3.5 units in the last place of its larger term, lse within 1 ulp of the
    largest of the magnitudes of `lse_a`, `lse_b` and the result.

    {NOTES}

    Examples
    --------
    Keys that two machines hold, or a prefix that many queries share:

    >>> import numpy as np, swiftmax as smx
    >>> rng = np.random.default_rng(0)
    >>> query, key, value = rng.standard_normal((3, 2, 8, 16), np.float32)
    >>> first = smx.attention(query, key[:, :5], value[:, :5], return_lse=True)
    >>> rest = smx.attention(query, key[:, 5:], value[:, 5:], return_lse=True)
    >>> out, lse = smx.merge_attention(*first, *rest)
    >>> np.allclose(out, smx.attention(query, key, value), atol=1e-6)
    True
""",
}
