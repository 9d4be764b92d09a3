"""Additive attention as swiftmax_attention.h says it, slow and obvious, and how near is near.

The scores are computed here; what follows them is attention's, whose reference takes them as the
bias of keys and queries that are 0.
"""

import numpy as np
from attention_reference import (
    assert_near,
    expected_attention,
    four_axes,
    given_axes,
    tolerances,
)

import swiftmax as smx

FLAGS = {"return_lse": True, "return_weights": True}


def _projected(rows, matrix):
    """The rows (B, H, L, D) times a matrix (A, D) or (H, A, D), and the sums of magnitudes."""
    matrix = np.broadcast_to(matrix, (rows.shape[1], *matrix.shape[-2:]))
    return (np.einsum("bhld,had->bhla", rows, matrix),
            np.einsum("bhld,had->bhla", abs(rows), abs(matrix)))


def additive_scores(query, key, w_query, w_key, v, layout="BHLD"):
    """The scores (B, Hq, Lq, Lk), and how far those of the library may be off.

    n fused multiply-adds in chains of 32 err by depth(n)*u*sum|terms| at most. tanh has a slope of
    at most 1, rounds its sum (u*|sum|, of which (1 - tanh²)*|sum| < 1/2 shows) and is within 2 ulp,
    4u; then the sum over A. u is 2^-24, 2^-53 for float64.
    """

    def depth(n):
        return min(n, 32) + n // 32

    dtype = np.asarray(query).dtype
    u = 2.0**-53 if dtype == np.float64 else 2.0**-24
    work = np.longdouble if dtype == np.float64 else np.float64
    query, key = (np.asarray(four_axes(x, layout)).astype(work) for x in (query, key))
    w_query, w_key, v = (np.asarray(x).astype(work) for x in (w_query, w_key, v))
    group = query.shape[1] // max(key.shape[1], 1)
    with np.errstate(invalid="ignore"):
        q, of_query = _projected(query, w_query)
        k, of_key = _projected(key, w_key)
    k, of_key = (np.repeat(x, group, 1)[:, :, None] for x in (k, of_key))
    q, of_query = q[:, :, :, None], of_query[:, :, :, None]
    v = np.broadcast_to(v, (query.shape[1], v.shape[-1]))[:, None, None]
    terms = v * np.tanh(q + k)
    one = u * (depth(query.shape[3]) * of_query + depth(key.shape[3]) * of_key + 0.5)
    error = (abs(v) * one).sum(-1) + (4 + depth(v.shape[-1])) * u * abs(terms).sum(-1)
    return terms.sum(-1), error


def expected_additive(query, key, value, w_query, w_key, v, *, bias=None, layout="BHLD", **masks):
    """out, lse and weights as attention_reference.Expected, and the tolerance of each."""
    dtype = np.asarray(query).dtype
    scores, error = additive_scores(query, key, w_query, w_key, v, layout)
    u = 2.0**-53 if dtype == np.float64 else 2.0**-24
    bias = np.zeros(()) if bias is None else np.asarray(bias).astype(scores.dtype)
    nothing = [np.zeros((*np.shape(x)[:-1], 1), dtype) for x in (query, key)]
    expected = expected_attention(*nothing, value, bias=scores + bias, layout=layout, **masks)
    with np.errstate(invalid="ignore"):
        size = np.where(expected.score_size > 0, error + 2 * u * abs(scores + bias), 0) / (4 * u)
    expected = expected._replace(score_size=np.where(np.isfinite(size), size, 0))
    return expected, tolerances(expected, dtype if dtype == np.float64 else np.float32, 0)


def assert_additive(*operands, context="", **options):
    """out, lse and weights of one call against the reference."""
    results = smx.additive_attention(*operands, **options, **FLAGS)
    expected, near = expected_additive(*operands, **options)
    rank, layout = np.ndim(operands[0]), options.get("layout", "BHLD")
    for name, got, i in zip(("out", "lse", "weights"), results, range(3), strict=True):
        kind = layout if name == "out" else "BHLD"
        tolerance = near[i]
        if got.dtype.itemsize == 2:  # rounded once more, to a narrow type
            digits = 11 if got.dtype == np.float16 else 8
            tolerance = tolerance + abs(expected[i]) * 2.0**-digits + 2.0**-24
        assert_near(got, given_axes(expected[i], rank, kind), given_axes(tolerance, rank, kind),
                    f"{name}, {context}")
    return results
