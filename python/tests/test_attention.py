"""Attention against the slow reference: random combinations of options, every edge of a tile.

The tolerance is derived in attention_reference.py (`tolerances`).
"""

import numpy as np
import pytest
from attention_calls import Call, calls
from attention_reference import HAS_WIDER, assert_attention, four_axes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import BF16, DTYPES, WIDE, assert_same_bits, sample

import swiftmax as smx

FLAGS = {"return_lse": True, "return_weights": True}


def trials(count):
    # Derandomised: a failure on one machine is a failure on all.
    return settings(deadline=None, derandomize=True, max_examples=count,
                    suppress_health_check=[HealthCheck.too_slow])


# -- random combinations -------------------------------------------------------------------------


@given(calls())
@trials(160)
def test_float32_within_its_tolerance(call):
    tensors, options = call.build()
    assert_attention(*tensors, repr(call), **options)


@pytest.mark.skipif(not HAS_WIDER, reason="np.longdouble is float64")
@given(calls())
@trials(60)
def test_float64_within_its_tolerance(call):
    tensors, options = call.build(np.float64)
    assert_attention(*tensors, repr(call), **options)


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@given(calls())
@trials(40)
def test_narrow_is_float32_rounded_once(dtype, call):
    tensors, options = call.build(dtype)
    wide = {name: x.astype(np.float32) if getattr(x, "dtype", None) == dtype else x
            for name, x in options.items()}
    got = smx.attention(*tensors, **options, **FLAGS)
    out, lse, weights = smx.attention(*(x.astype(np.float32) for x in tensors), **wide, **FLAGS)
    assert_same_bits(got[0], out.astype(dtype), f"out, {call}")
    assert_same_bits(got[1], lse, f"lse, {call}")
    assert_same_bits(got[2], weights.astype(dtype), f"weights, {call}")
    if "bias" in options:  # float32 beside narrow tensors
        options["bias"] = wide["bias"]
        assert_same_bits(smx.attention(*tensors, **options), got[0], f"float32 bias, {call}")


@given(calls(), st.sampled_from(DTYPES))
@trials(60)
def test_keys_that_no_query_sees_may_hold_anything(call, dtype):
    tensors, options = call.build(dtype)
    poisoned, same_options = call.build(dtype, poison=True)
    results = smx.attention(*tensors, **options, **FLAGS)
    for name, got, expected in zip(("out", "lse", "weights"),
                                   smx.attention(*poisoned, **same_options, **FLAGS), results,
                                   strict=True):
        assert_same_bits(got, expected, f"{name}, {dtype}, {call}")


@given(calls())
@trials(40)
def test_what_is_returned_does_not_change_it(call):
    tensors, options = call.build()
    out, lse, weights = smx.attention(*tensors, **options, **FLAGS)
    assert_same_bits(smx.attention(*tensors, **options), out, f"out alone, {call}")
    for flag, extra in ("return_lse", lse), ("return_weights", weights):
        pair = smx.attention(*tensors, **options, **{flag: True})
        assert isinstance(pair, tuple) and len(pair) == 2, flag
        assert_same_bits(pair[0], out, f"out with {flag}, {call}")
        assert_same_bits(pair[1], extra, f"{flag}, {call}")


# -- every edge of a tile ------------------------------------------------------------------------

EDGES = [1, 2, 3, 15, 16, 17, 47, 48, 49, 63, 64, 65, 127, 128, 129]


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("lq", EDGES)
def test_lengths(lq, causal):
    for lk in EDGES:
        query, key, value = (sample((n, 24), seed=lq * 1000 + lk + i, spread=1.5)
                             for i, n in enumerate((lq, lk, lk)))
        assert_attention(query, key, value, f"Lq {lq}, Lk {lk}", causal=causal)


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_head_sizes(dtype):
    if dtype == np.float64 and not HAS_WIDER:
        pytest.skip("np.longdouble is float64")
    sizes = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 80, 127, 128, 129, 200, 256, 513]
    for d, dv in zip(sizes * 2, sizes + sizes[::-1], strict=True):
        query, key = sample((5, d), dtype, seed=d), sample((19, d), dtype, seed=d + 1)
        value = sample((19, dv), dtype, seed=dv + 2)
        assert_attention(query, key, value, f"D {d}, Dv {dv}", scale=0.3 / d)


@pytest.mark.parametrize("lk", [1000, 4097, 20_001])
@pytest.mark.parametrize("lq", [1, 3, 16])
def test_long_caches(lq, lk):
    query = sample((1, 4, lq, 16), seed=lq, spread=1.0)
    key, value = (sample((1, 2, lk, 16), seed=lk + i, spread=1.0) for i in range(2))
    assert_attention(query, key, value, f"seeds {lq}, {lk}", causal=True)


# -- arguments and results ------------------------------------------------------------------------


def test_a_textbook_example():
    # Scores 0 and ln 3: weights 1/4 and 3/4.
    key = np.array([[0.0], [np.log(3)]])
    out, lse, weights = smx.attention([[1.0]], key, [[4.0, 0.0], [8.0, 4.0]], **FLAGS)
    np.testing.assert_allclose(weights, [[0.25, 0.75]], rtol=1e-15)
    np.testing.assert_allclose(out, [[7.0, 3.0]], rtol=1e-15)
    np.testing.assert_allclose(lse, [np.log(4)], rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rank, layout", [(4, "BHLD"), (3, "BHLD"), (2, "BHLD"), (4, "BLHD"),
                                          (3, "BLHD")])
def test_shapes_dtypes_and_order_of_results(rank, layout, dtype):
    call = Call(1, 2 if rank == 4 else 1, 1 if rank == 2 else 2, 1 if rank == 2 else 3, 5, 7, 4, 3,
                rank, layout)
    tensors, options = call.build(dtype)
    out, lse, weights = smx.attention(*tensors, **options, **FLAGS)
    assert four_axes(out, layout).shape == (call.batch, call.key_heads * call.group, 5, 3)
    leading = (call.batch, call.key_heads * call.group)[4 - rank :]
    assert lse.shape == (*leading, 5) and weights.shape == (*leading, 5, 7)
    assert out.dtype == weights.dtype == dtype
    assert lse.dtype == (np.float64 if dtype == np.float64 else np.float32)
    into = np.full_like(out, 9)
    found = smx.attention(*tensors, **options, **FLAGS, out=into)
    assert found[0] is into
    for got, expected in zip(found, (out, lse, weights), strict=True):
        assert_same_bits(got, expected)
    assert smx.attention(*tensors, **options, out=into) is into


def test_array_likes():
    query, key, value = [[1, 2]], [[1, 0], [0, 1]], [[1, 2, 3], [4, 5, 6]]
    result = smx.attention(query, key, value)
    assert result.dtype == np.float64
    arrays = [np.array(x, float) for x in (query, key, value)]
    assert_same_bits(result, smx.attention(*arrays))
    assert_same_bits(smx.attention(*(x.astype(">f8") for x in arrays)), result)
    assert_same_bits(smx.attention(query=query, value=value, key=key), result)
    masked = smx.attention(query, key, value, mask=[[True, False]], key_lengths=2)
    assert masked.tolist() == [[1, 2, 3]]


def test_defaults_may_be_given():
    tensors, _ = Call(2, 2, 2, 2, 5, 7, 16, 3).build()
    plain = smx.attention(*tensors)
    nothing = dict.fromkeys(["mask", "bias", "query_offset", "window", "key_lengths", "softcap",
                             "query_lengths", "segment_ids", "alibi_slopes", "scale", "sinks",
                             "past_key", "past_value", "block_table", "out"])
    assert_same_bits(smx.attention(*tensors, **nothing), plain)
    for options in ({"scale": 0.25}, {"softcap": 0}, {"window": (None, -1)}, {"causal": False},
                    {"layout": "BHLD"}):
        assert_same_bits(smx.attention(*tensors, **options), plain, repr(options))


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_fast_precision_of_wide_types_is_exact(dtype):
    tensors, options = Call(3, 2, 2, 2, 50, 70, 16, 8, options=("causal", "sinks")).build(dtype)
    exact = smx.attention(*tensors, **options, precision="exact")
    assert_same_bits(smx.attention(*tensors, **options, precision="fast"), exact)


def test_fast_precision_of_bfloat16_is_near():
    # Products of bfloat16 are exact in float32: what differs is weights rounded to 8 bits, 2^-9.
    tensors, _ = Call(4, 1, 2, 2, 50, 170, 64, 32).build(BF16)
    fast = smx.attention(*tensors, precision="fast").astype(float)
    exact, size = (smx.attention(*tensors[:2], v.astype(BF16)).astype(float)
                   for v in (tensors[2], abs(tensors[2])))
    assert (abs(fast - exact) <= 2.0**-6 * size).all()
