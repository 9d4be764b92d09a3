"""The same bits of a query in any company, whatever numbers lie about: NaN, infinities and scores
too large for the usual way, with sizes and counts of queries that have ways of their own.

A result that depends on what memory held before shows here as well: calls come in any order.
"""

import numpy as np
import pytest
from attention_reference import assert_attention
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import DTYPES, assert_same_bits, sample

import swiftmax as smx

ODD = [np.nan, np.inf, -np.inf, 1e4, 6e4, -0.0, 1e-7]
SCALES = [None, -1.0, 2.0**20, 2.0**-20, 1e30]


def some_odd(x, rng):
    """x with up to three of its numbers replaced, or none."""
    for _ in range(rng.integers(0, 4) if rng.random() < 0.5 else 0):
        x.flat[rng.integers(x.size)] = rng.choice(ODD)
    return x


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    heads=st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 1)]),
    lengths=st.tuples(st.sampled_from([5, 9, 49, 70]), st.sampled_from([16, 31, 64, 65, 130, 300])),
    sizes=st.tuples(st.sampled_from([8, 32, 33, 64, 96]), st.sampled_from([20, 64, 128])),
    scale=st.sampled_from(SCALES),
    causal=st.booleans(),
)
def test_prefill_part_and_past(dtype, seed, heads, lengths, sizes, scale, causal):
    rng = np.random.default_rng(seed)
    (lq, lk), (size, value_size) = lengths, sizes
    shapes = (1, heads[0], lq, size), (1, heads[1], lk, size), (1, heads[1], lk, value_size)
    query, key, value = (
        some_odd(sample(shape, dtype, (seed, i), 1.0), rng) for i, shape in enumerate(shapes)
    )
    offset = int(rng.integers(0, lk))
    start = int(rng.integers(0, lq))
    few = slice(start, start + int(rng.integers(1, 10)))
    cut = int(rng.integers(1, lk))

    def attention(rows, key, value, **past):
        where = {"causal": True, "query_offset": offset + rows.start} if causal else {}
        return smx.attention(
            query[:, :, rows], key, value, scale=scale, return_lse=True, **where, **past
        )

    whole = attention(slice(0, lq), key, value)
    part = attention(few, key, value)
    past = attention(
        few,
        key[:, :, cut:],
        value[:, :, cut:],
        past_key=key[:, :, :cut],
        past_value=value[:, :, :cut],
    )
    for name, a, b, c in zip(("out", "lse"), whole, part, past, strict=True):
        assert_same_bits(b, a[:, :, few], f"{name} of queries {few}")
        assert_same_bits(c, b, f"{name} with {cut} past keys")


@pytest.mark.parametrize("offset", [2**24, 2**25 - 3, 2**30, 2**40 + 1], ids=str)
def test_distances_beyond_the_precision_of_float32(offset):
    """The window's edge, and with it the first key of a tile, is another one for each query."""
    query, key, value = (sample((1, 1, n, 8), seed=offset % 97 + n) for n in (20, 300, 300))
    options = {"alibi_slopes": np.float32([2.0**-20]), "window": (4, -1)}
    whole = smx.attention(query, key, value, query_offset=offset - offset // 2, **options)
    assert np.isfinite(whole).all()
    options["window"] = (offset - 4, -1)
    whole = smx.attention(query, key, value, query_offset=offset, **options)
    for i in range(20):
        part = query[:, :, i : i + 1]
        alone = smx.attention(part, key, value, query_offset=offset + i, **options)
        assert_same_bits(alone, whole[:, :, i : i + 1], f"query {i}")


@pytest.mark.parametrize("hidden", [-1e5, -1e9, -3e38, -np.inf], ids=str)
@pytest.mark.parametrize("low", [0.0, -500.0, -1000.0], ids=str)
def test_keys_behind_hidden_ones_keep_their_digits(hidden, low):
    """A block hidden by a bias, one far below the rest, then the rest, of scores about 0."""
    rng = np.random.default_rng(5)
    scores = rng.standard_normal(200).astype(np.float32)
    value = rng.standard_normal((200, 4)).astype(np.float32)
    bias = np.zeros((1, 200), np.float32)
    bias[:, :64], bias[:, 64:128] = hidden, low
    one = np.ones((1, 1), np.float32)
    out, lse = smx.attention(one, scores[:, None], value, scale=1.0, bias=bias, return_lse=True)
    exact = scores.astype(np.float64) + bias[0]
    weights = np.exp(exact - exact.max())
    expected = weights @ value.astype(np.float64) / weights.sum()
    np.testing.assert_allclose(out[0], expected, rtol=0, atol=2.0**-22)
    np.testing.assert_allclose(lse[0], np.log(weights.sum()) + exact.max(), rtol=2.0**-22)


@pytest.mark.parametrize("queries", [1, 9, 48])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_least_weight_that_counts(dtype, queries):
    """2^-100 (2^-960) of the largest. Returned weights go on to the smallest number there is."""
    least = 960 if dtype == np.float64 else 100
    for exponent, counts in ((least - 2, True), (least - 1, True), (least + 1, False)):
        score = dtype(-exponent * np.log(2.0))
        query = np.ones((queries, 1), dtype)
        key = np.zeros((64, 1), dtype)
        key[1] = score
        key[2:] = -np.inf
        value = np.zeros((64, 2), dtype)
        value[0, 0] = value[1, 1] = 1
        out, lse, weights = smx.attention(
            query, key, value, scale=1, return_lse=True, return_weights=True
        )
        exact = np.exp(score.astype(np.longdouble))
        assert np.all(out[:, 0] == 1)
        assert np.all(weights[:, 1] > 0)
        np.testing.assert_allclose(weights[:, 1], exact.astype(dtype), rtol=1e-5)
        np.testing.assert_allclose(out[:, 1], exact.astype(dtype) if counts else 0, rtol=1e-5)
        *_, d_value = smx.attention_vjp(np.ones_like(out), query, key, value, out, lse, scale=1)
        np.testing.assert_allclose(d_value[1], queries * (exact if counts else 0), rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 4.0, 16.0])
@pytest.mark.parametrize("lq", [1, 48, 70])
def test_scores_far_apart(lq, scale):
    """Where many weights are too small to count, float32 is as near as everywhere."""
    rng = np.random.default_rng(int(scale) + lq)
    query, key, value = (
        rng.standard_normal((1, 2, n, 64)).astype(np.float32) for n in (lq, 300, 300)
    )
    assert_attention(query, key, value, f"scale {scale}", scale=scale)
