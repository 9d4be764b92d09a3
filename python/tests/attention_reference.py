"""Attention as swiftmax.h says it, slow and obvious: row by row, with only the keys it sees.

What a row does not see is left out before anything is computed, so nothing there can show, not even
through 0 * NaN. Computed in float64; in np.longdouble where the result is to be float64.
Also how near a result must be, and why.
"""

from typing import Any, NamedTuple

import numpy as np
from reference import _hex, _where

import swiftmax as smx

INF = np.inf
# Otherwise np.longdouble cannot judge float64 (it is float64 itself on some machines).
HAS_WIDER = np.finfo(np.longdouble).eps < 2.0**-60


class Expected(NamedTuple):
    """All of four axes, heads before places, whatever the caller's layout and rank."""

    out: Any  # (B, Hq, Lq, Dv)
    lse: Any  # (B, Hq, Lq)
    weights: Any  # (B, Hq, Lq, Lk)
    visible: Any  # (B, Hq, Lq, Lk), bool
    score_size: Any  # (B, Hq, Lq, Lk): what the rounding of a score is relative to; 0 where masked
    top: Any  # (B, Hq, Lq): the magnitude of the largest score, the sink among them
    value: Any  # (B, Hkv, Lk, Dv), as gathered


# -- shapes ----------------------------------------------------------------------------------


def four_axes(x, layout="BHLD"):
    """(B, H, L, D) of any tensor that attention takes or returns."""
    x = np.asarray(x)
    if x.ndim == 2:
        return x[None, None]
    x = x if x.ndim == 4 else x[None]
    return x.swapaxes(1, 2) if layout == "BLHD" else x


def given_axes(x, rank, layout="BHLD"):
    """The way back: (B, H, L, D) as a caller with tensors of `rank` axes sees it."""
    if rank == 2:
        return x[0, 0]
    x = x.swapaxes(1, 2) if layout == "BLHD" else x
    return x if rank == 4 else x[0]


def _leading(values, rank, batch, heads, own=0):
    """Numbers for the first of the scores' leading axes, over (batch, heads) and own axes."""
    values = np.asarray(values)
    count = values.ndim - own
    shape = (1,) * (4 - rank) + values.shape[:count] + (1,) * (rank - 2 - count)
    return np.broadcast_to(
        values.reshape(shape + values.shape[count:]), (batch, heads, *values.shape[count:])
    )


def _gather(pool, table, layout, key_lengths, work):
    """Keys or values of a pool of blocks; what stands beyond the key lengths is not looked at."""
    pool = pool.swapaxes(1, 2) if layout == "BLHD" else pool
    size = pool.shape[2]
    batch, count = table.shape
    result = np.full((batch, pool.shape[1], count * size, pool.shape[3]), np.nan, work)
    for b, n in np.ndindex(batch, count):
        length = min(count * size, key_lengths[b].max()) - n * size
        if length > 0:
            block = pool[table[b, n]][:, :length]
            result[b, :, n * size : n * size + block.shape[1]] = block
    return result


def visible_keys(shape, rank, *, mask=None, causal=False, query_offset=None, window=None,
                 key_lengths=None, query_lengths=None, segment_ids=None, **_):
    """The boolean array (B, Hq, Lq, Lk) of which query sees which key."""
    batch, heads, lq, lk = shape
    i, j = np.arange(lq)[:, None], np.arange(lk)[None, :]
    offset = lk - lq if query_offset is None else query_offset
    place = i + _leading(offset, rank, batch, heads)[..., None, None]
    visible = np.ones(shape, bool)
    if isinstance(mask, smx.Mask):
        array = mask.to_array(lq, lk)
        visible &= _leading(array, rank, batch, heads, own=2)
    elif mask is not None:
        visible &= np.asarray(mask)
    if causal:
        visible &= j <= place
    if window is not None:
        left, right = window
        if left not in (None, -1):
            visible &= j >= place - left
        if right not in (None, -1):
            visible &= j <= place + right
    if key_lengths is not None:
        visible &= j < _leading(key_lengths, rank, batch, heads)[..., None, None]
    if query_lengths is not None:
        visible &= i < _leading(query_lengths, rank, batch, heads)[..., None, None]
    if segment_ids is not None:
        pair = segment_ids if isinstance(segment_ids, tuple) else (segment_ids, segment_ids)
        of_queries, of_keys = (_leading(ids, rank, batch, heads, own=1) for ids in pair)
        visible &= of_queries[..., :, None] == of_keys[..., None, :]
    return visible


# -- attention -------------------------------------------------------------------------------


def expected_attention(query, key, value, *, bias=None, query_offset=None, key_lengths=None,
                       alibi_slopes=None, scale=None, softcap=None, sinks=None, past_key=None,
                       past_value=None, block_table=None, layout="BHLD", **masks):
    rank, dtype = np.ndim(query), np.asarray(query).dtype
    work = np.longdouble if dtype == np.float64 else np.float64
    query = np.array(four_axes(query, layout), work, order="C")
    batch, heads, lq, head_size = query.shape
    if block_table is not None:
        pool = np.shape(key)
        size = pool[1 if layout == "BLHD" else 2]
        most = np.shape(block_table)[1] * size
        lengths = _leading(most if key_lengths is None else key_lengths, rank, batch, heads)
        key, value = (_gather(np.asarray(x), np.asarray(block_table), layout, lengths, work)
                      for x in (key, value))
    else:
        key, value = (four_axes(x, layout) for x in (key, value))
    if past_key is not None:
        past_key, past_value = four_axes(past_key, layout), four_axes(past_value, layout)
        key = np.concatenate([past_key, key], axis=2)
        value = np.concatenate([past_value, value], axis=2)
    key, value = (np.array(np.broadcast_to(x, (batch, *x.shape[1:])), work, order="C")
                  for x in (key, value))
    lk, group = key.shape[2], heads // max(key.shape[1], 1)
    shape = batch, heads, lq, lk
    visible = visible_keys(
        shape, rank, query_offset=query_offset, key_lengths=key_lengths, **masks
    )
    bias = np.zeros((), work) if bias is None else np.asarray(bias).astype(work)
    bias = np.broadcast_to(bias, shape)
    offset = _leading(lk - lq if query_offset is None else query_offset, rank, batch, heads)
    slopes = np.zeros(()) if alibi_slopes is None else np.asarray(alibi_slopes)
    slopes = np.broadcast_to(slopes, (batch, heads)).astype(work)
    sinks = np.broadcast_to(-INF if sinks is None else np.asarray(sinks), heads).astype(work)
    scale = 1 / np.sqrt(work(head_size)) if scale is None else work(scale)

    out = np.zeros((batch, heads, lq, value.shape[3]), work)
    lse, top = np.full(shape[:3], -INF, work), np.zeros(shape[:3], work)
    weights, score_size = np.zeros(shape, work), np.zeros(shape, work)
    for at in np.ndindex(batch, heads, lq):
        b, h, i = at
        seen = np.flatnonzero(visible[at])
        products = key[b, h // group][seen] * query[at]
        score = scale * products.sum(axis=1)
        if softcap:
            score = softcap * np.tanh(score / softcap)
        alibi = slopes[b, h] * abs(i + offset[b, h] - seen)
        score = score + bias[at][seen] - alibi
        largest = np.max(np.append(score, sinks[h]))
        if largest == -INF:
            continue
        with np.errstate(invalid="ignore"):  # inf - inf: a row with a score of +inf is NaN
            powers = np.exp(score - largest)
            total = powers.sum() + np.exp(sinks[h] - largest)
            weights[at][seen] = powers / total
            out[at] = (weights[at][seen][:, None] * value[b, h // group][seen]).sum(axis=0)
        lse[at] = largest + np.log(total)
        top[at] = abs(largest)
        sizes = abs(scale) * abs(products).sum(axis=1) + abs(bias[at][seen]) + alibi
        score_size[at][seen] = np.where(score == -INF, 0, sizes)
    return Expected(out, lse, weights, visible, score_size, top, value)


def attention_reference(query, key, value, **options):
    """out, lse and weights with the axes that the caller's tensors have."""
    found = expected_attention(query, key, value, **options)
    rank, layout = np.ndim(query), options.get("layout", "BHLD")
    out = given_axes(found.out, rank, layout)
    return out, given_axes(found.lse, rank), given_axes(found.weights, rank)


# -- how near --------------------------------------------------------------------------------


def least_weight(dtype):
    """Attention's weights below this part of their row's largest count as 0."""
    return 2.0**-960 if dtype == np.float64 else 2.0**-100


def tolerances(expected, dtype, head_size, softcap=None):
    """The largest errors of out, lse and weights that the arithmetic of `dtype` accounts for.

    u is 2^-24 (2^-53 for float64), the error of one rounding.

    A chain of n fused multiply-adds errs by n*u*sum|terms| at worst. Roundings that fall like coin
    tosses leave a small multiple of sqrt(n)*u*sum|terms| (Higham and Mary, SIAM J. Sci. Comput. 41,
    2019). Where an early term dwarfs the rest, each of them is 0.4u in the mean square, so that
    2*sqrt(n) is five standard deviations. Terms of both signs and like sizes, as in a score here,
    leave about u*sum|terms|, whatever n.

    - A score is a chain of n = D: allowed is sqrt(D)*u. Beside it roundings of the scale, of the
      product with it and of the additions of bias and ALiBi, 4 in all, each at most u times
      size = |scale| sum|q k| + |bias| + |alibi|. With softcap, whose slope is at most 1: the
      division, tanh to 2 ulp = 4u, the product. So
          |d score| <= score_error = (4 + sqrt(D) [+ 6 with softcap]) * u * size.
    - 2^d is within 0.8 ulp, so 1.6u, and d = score * log2(e) - N is rounded at its own size,
      log2(e) being
      a rounded number too: a weight before the division has the relative error
      e = score_error + 2u + 2u |log w|.
    - The sum over keys, of the exponentials as of the products with V, is a chain in each block of
      64 keys, then a chain of blocks: n = min(Lk, 64) + Lk / 64 + 1, relative error 2*sqrt(n)*u
      (one weight often dwarfs the rest). The division and the last rounding: 2u.

    To first order, with weight w, out's exact value o, and the sums over the keys:

        |d w_j| <= w_j (e_j + sum w e + (2 + 2 sqrt(n)) u)
        |d o|   <= sum w e |v - o|  +  (2 + 2 sqrt(n)) u (sum w |v| + |o|)
        |d lse| <= sum w e + 2 sqrt(n) u, and one ulp of the larger of |lse| and |max score|

    Weights below the normal range may have lost bits: the smallest normal number is added. Those
    below `least_weight` do not count in out.
    """
    u = 2.0**-53 if dtype == np.float64 else 2.0**-24
    tiny = float(np.finfo(dtype).smallest_normal)
    out, lse, w, visible, score_size, top, value = expected
    lk, group = w.shape[3], w.shape[1] // max(value.shape[1], 1)
    score_error = (4 + np.sqrt(head_size) + (6 if softcap else 0)) * u * score_size
    with np.errstate(divide="ignore"):
        e = score_error + 2 * u * (1 + np.where(w > 0, abs(np.log(w)), 0))
    sums = (2 + 2 * np.sqrt(min(lk, 64) + lk / 64 + 1)) * u
    by_weights = (w * e).sum(-1, keepdims=True)
    weights_error = np.where(visible, w * (e + by_weights + sums) + tiny, 0)
    out_error = np.zeros_like(out)
    for b, h, i in np.ndindex(out.shape[:3]):
        seen = np.flatnonzero(w[b, h, i])
        share, v, o = w[b, h, i][seen][:, None], value[b, h // group][seen], out[b, h, i]
        with np.errstate(invalid="ignore"):  # an infinite value
            out_error[b, h, i] = (share * e[b, h, i][seen][:, None] * abs(v - o)).sum(0)
        out_error[b, h, i] += sums * ((share * abs(v)).sum(0) + abs(o))
        out_error[b, h, i] += tiny + least_weight(dtype) * abs(v).sum(0)
    size = np.maximum(np.where(np.isfinite(lse), abs(lse), 0), top).astype(dtype)
    lse_error = by_weights[..., 0] + sums + np.spacing(size)
    return out_error, lse_error, weights_error


def assert_near(got, expected, tolerance, context=""):
    """Within the tolerance; NaN and infinities in the same places."""
    got = np.asarray(got)
    assert got.shape == expected.shape, (got.shape, expected.shape, context)
    with np.errstate(invalid="ignore"):
        error = abs(got.astype(expected.dtype) - expected)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    wrong = ~(same | (error <= tolerance))
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        raise AssertionError(
            f"{wrong.sum()} of {got.size} elements of shape {got.shape} are too far off, first at "
            f"{at}: {_hex(got[at])} instead of {float(expected[at]).hex()}, error "
            f"{float(error[at]):.3g} > {float(tolerance[at]):.3g}; {_where(context)}"
        )


def assert_attention(query, key, value, context="", **options):
    """out, lse and weights of one call against the reference."""
    results = smx.attention(query, key, value, **options, return_lse=True, return_weights=True)
    options.pop("out", None)
    dtype, rank, layout = query.dtype, query.ndim, options.get("layout", "BHLD")
    expected = expected_attention(query, key, value, **options)
    near = tolerances(expected, dtype, query.shape[-1], options.get("softcap"))
    for name, got, i in zip(("out", "lse", "weights"), results, range(3), strict=True):
        kind = layout if name == "out" else "BHLD"
        assert got.dtype == dtype, (name, got.dtype, context)
        assert_near(got, given_axes(expected[i], rank, kind), given_axes(near[i], rank, kind),
                    f"{name}, {context}")
    return results
