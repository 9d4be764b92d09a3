"""The gradient of attention as swiftmax.h says it, slow and obvious, row by row.

Weights are those of attention_reference.py, from query and key alone: neither `out` nor `lse` of
the library goes in. Also how near a result must be, and why.
"""

from typing import Any, NamedTuple

import numpy as np
from attention_reference import (
    assert_near,
    expected_attention,
    four_axes,
    given_axes,
    least_weight,
    tolerances,
)

import swiftmax as smx

NAMES = ["d_query", "d_key", "d_value", "d_bias", "d_sinks"]


class Gradients(NamedTuple):
    """Heads before places, four axes; those of bias and sinks as the caller has them, or None."""

    query: Any
    key: Any
    value: Any
    bias: Any
    sinks: Any


def summed_to(shape, x):
    """The sum over all axes along which an array of this shape would have been broadcast to x."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(a for a, n in enumerate(shape) if n == 1), keepdims=True)


def _operands(query, key, value, d_out, layout, work):
    """Of four axes in the type that is computed in, key and value with a batch of their own."""
    query, key, value, d_out = (four_axes(x, layout) for x in (query, key, value, d_out))
    spread = [np.broadcast_to(x, (query.shape[0], *x.shape[1:])) for x in (key, value)]
    return [np.array(x, work, order="C") for x in (query, *spread, d_out)]


def expected_gradients(d_out, query, key, value, *, bias=None, scale=None, softcap=None, sinks=None,
                       layout="BHLD", **options):
    """The gradients, and the largest errors of them that the arithmetic of the dtype accounts for.

    u, tiny and the errors of out, lse and weights are those of `tolerances`. The library reads out
    and lse, with these errors, and computes weights anew from the same scores:

        w  = exp(s - lse)                |d w|  <= weights_error + w (lse_error + 2u)
                                                   + least_weight
        p  = dO·V, n = Dv                |d p|  <= 2 sqrt(n) u sum |dO V|
        e  = dO·out                      |d e|  <= 2 sqrt(n) u sum |dO out| + sum |dO| out_error
        g  = w (p - e)                   |d g|  <= |d w| |p - e| + w (|d p| + |d e|)
                                                   + 2u w (|p| + |e|)
        softcap: g (1 - t²), t = tanh    |g| (2 |t d t| + 3u) more, |d t| <= 8u + |d score| / cap
        sums of g·k, g·q, w·dO, g        2 sqrt(n) u sum|terms| beside the terms' own errors: a
                                         chain in each block, one of blocks, n = block + blocks + 1
    """
    dtype = np.asarray(query).dtype
    work = np.longdouble if dtype == np.float64 else np.float64
    u, tiny = (2.0**-53, 2.0**-1022) if dtype == np.float64 else (2.0**-24, 2.0**-126)
    forward = expected_attention(query, key, value, bias=bias, scale=scale, softcap=softcap,
                                 sinks=sinks, layout=layout, **options)
    shapes = [four_axes(x, layout).shape for x in (key, value)]
    query, key, value, d_out = _operands(query, key, value, d_out, layout, work)
    batch, heads, lq, head_size = query.shape
    lk, value_size, group = key.shape[2], value.shape[3], heads // max(key.shape[1], 1)
    out_error, lse_error, weights_error = tolerances(forward, dtype, head_size, softcap)
    scale = 1 / np.sqrt(work(max(head_size, 1))) if scale is None else work(scale)

    def zeros(*of):
        return [np.zeros(shape, work) for shape in of]

    d_query, d_key, d_value = zeros(query.shape, key.shape, value.shape)
    d_bias, d_sinks = zeros((batch, heads, lq, lk), heads)
    # The errors of the terms, and the sums of the terms' magnitudes.
    e_query, e_key, e_value = zeros(query.shape, key.shape, value.shape)
    s_query, s_key, s_value = zeros(query.shape, key.shape, value.shape)
    e_bias, e_sinks, s_sinks = zeros((batch, heads, lq, lk), heads, heads)
    chain = 2 * np.sqrt(value_size + 1) * u
    for b, h, i in np.ndindex(batch, heads, lq):
        seen = np.flatnonzero(forward.visible[b, h, i])
        w, out = forward.weights[b, h, i][seen], forward.out[b, h, i]
        if not (w > 0).any():  # nothing is seen, or all of it at -inf
            continue
        k, v = key[b, h // group][seen], value[b, h // group][seen]
        q, do = query[b, h, i], d_out[b, h, i]
        p, e = v @ do, out @ do
        score, slope = w * (p - e), np.ones_like(w)
        e_w = weights_error[b, h, i][seen] + w * (lse_error[b, h, i] + 2 * u)
        e_w += least_weight(dtype)
        e_p = chain * (abs(v) @ abs(do))
        e_e = chain * (abs(out) @ abs(do)) + out_error[b, h, i] @ abs(do)
        e_score = e_w * abs(p - e) + w * (e_p + e_e + 2 * u * (abs(p) + abs(e))) + tiny
        d_bias[b, h, i][seen], e_bias[b, h, i][seen] = score, e_score
        if softcap:
            t = np.tanh(scale * (k @ q) / softcap)
            slope = 1 - t * t
            size = abs(scale) * (abs(k) @ abs(q)) / softcap
            e_t = (8 + (4 + np.sqrt(head_size)) * size) * u
            e_score = e_score * slope + abs(score) * (2 * abs(t) * e_t + e_t**2 + 3 * u)
            score = score * slope
        d_query[b, h, i] = scale * score @ k
        d_key[b, h // group][seen] += scale * np.outer(score, q)
        d_value[b, h // group][seen] += np.outer(w, do)
        e_query[b, h, i] = abs(scale) * (e_score @ abs(k))
        s_query[b, h, i] = abs(scale) * (abs(score) @ abs(k))
        e_key[b, h // group][seen] += abs(scale) * np.outer(e_score, abs(q))
        s_key[b, h // group][seen] += abs(scale) * np.outer(abs(score), abs(q))
        e_value[b, h // group][seen] += np.outer(e_w, abs(do))
        s_value[b, h // group][seen] += np.outer(w, abs(do))
        if sinks is not None:
            share = np.exp(np.asarray(sinks, work)[h] - forward.lse[b, h, i])
            d_sinks[h] -= share * e
            with np.errstate(divide="ignore", invalid="ignore"):
                log = np.where(share > 0, abs(np.log(share)), 0)
            e_sinks[h] += share * e_e + share * abs(e) * (lse_error[b, h, i] + (4 + 2 * log) * u)
            s_sinks[h] += share * abs(e)

    def rounded(terms, count, error):
        return error + (2 * np.sqrt(count) + 4) * u * terms + tiny * (1 + terms)

    # Blocks of 64 keys and of 48 queries; heads of a group, and entries that share their keys.
    of_keys = min(lk, 64) + lk / 64 + 1
    of_queries = min(lq, 48) + (lq / 48 + 1) * group * batch + 1
    bias_shape = np.shape(bias)
    terms = [d_query, d_key, d_value]
    errors = [rounded(s_query, of_keys, e_query), rounded(s_key, of_queries, e_key),
              rounded(s_value, of_queries, e_value)]
    terms[1:] = (summed_to(s, x) for s, x in zip(shapes, terms[1:], strict=True))
    errors[1:] = (summed_to(s, x) for s, x in zip(shapes, errors[1:], strict=True))
    if bias is not None:
        full = d_bias.reshape((1,) * max(len(bias_shape) - 4, 0) + d_bias.shape)
        count = max(d_bias.size / max(np.prod(bias_shape), 1), 1)
        sizes, errors_of_terms = (summed_to(bias_shape, x) for x in (abs(full), e_bias))
        errors.append(rounded(sizes, count, errors_of_terms))
        terms.append(summed_to(bias_shape, full))
    else:
        terms.append(None), errors.append(None)
    terms.append(None if sinks is None else d_sinks)
    errors.append(None if sinks is None else rounded(s_sinks, 1, e_sinks))
    return Gradients(*terms), Gradients(*errors)


def gradients(d_out, *tensors, **options):
    """attention, and its gradients: a Gradients in the caller's axes."""
    out, lse = smx.attention(*tensors, **options, return_lse=True)
    wanted = {"return_d_bias": "bias" in options, "return_d_sinks": "sinks" in options}
    results = iter(smx.attention_vjp(d_out, *tensors, out, lse, **options, **wanted))
    found = [next(results) for _ in range(3)]
    found += [next(results) if is_wanted else None for is_wanted in wanted.values()]
    assert next(results, None) is None
    return Gradients(*found)


def assert_gradients(d_out, query, key, value, context="", **options):
    """All gradients of one call against the reference."""
    got = gradients(d_out, query, key, value, **options)
    expected, near = expected_gradients(d_out, query, key, value, **options)
    layout, rank = options.get("layout", "BHLD"), query.ndim
    wide = np.float64 if query.dtype == np.float64 else np.float32
    for i, name in enumerate(NAMES):
        if expected[i] is None:
            assert got[i] is None, name
            continue
        assert got[i].dtype == (query.dtype if i < 3 else wide), (name, got[i].dtype, context)
        exact, tolerance = (given_axes(x[i], rank, layout) if i < 3 else x[i]
                            for x in (expected, near))
        assert_near(got[i], exact, tolerance, f"{name}, {context}")
    return got
