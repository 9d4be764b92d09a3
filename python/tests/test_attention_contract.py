"""CONTRACT, section 1: one test for each line that concerns attention."""

import subprocess
import sys

import numpy as np
import pytest
from attention_reference import assert_attention, expected_attention, visible_keys
from reference import DTYPES, WIDE, assert_same_bits, bits, sample

import swiftmax as smx

INF, NAN = np.inf, np.nan
FLAGS = {"return_lse": True, "return_weights": True}
# More than one tile of queries and more than one block of keys.
BATCH, HEADS, KEY_HEADS, LQ, LK, SIZE, VALUE_SIZE = 2, 4, 2, 51, 70, 12, 9
SCORES = BATCH, HEADS, LQ, LK


def tensors(seed, dtype=np.float32, lq=LQ, lk=LK):
    query = sample((BATCH, HEADS, lq, SIZE), dtype, seed, 1.0)
    key = sample((BATCH, KEY_HEADS, lk, SIZE), dtype, seed + 1, 1.0)
    return query, key, sample((BATCH, KEY_HEADS, lk, VALUE_SIZE), dtype, seed + 2, 1.0)


def assert_shows_nothing(results, rows):
    """out +0, weights +0 and lse -inf in these rows, and no NaN in the others."""
    out, lse, weights = (x.astype(float) for x in results)
    assert rows.any() and not rows.all()
    for name, x in ("out", out[rows]), ("weights", weights[rows]):
        assert (x == 0).all() and not np.signbit(x).any(), (name, x)
    assert (lse[rows] == -INF).all(), lse[rows]
    for x in out, lse, weights:
        assert np.isfinite(x[~rows]).all()


def array_mask():
    mask = np.random.default_rng(3).random(SCORES) < 0.6
    mask[1, :, 4:30] = False
    return mask


FULLY_MASKED = {
    "array": {"mask": array_mask()},
    "Mask": {"mask": smx.Mask.lengths(LK, 20)},
    "Mask and array": {"mask": smx.Mask.causal(-3) & array_mask()},
    "causal": {"causal": True, "query_offset": -7},
    "window": {"window": (3, -1), "query_offset": 40},
    "key_lengths": {"key_lengths": [0, 33]},
    "query_lengths": {"query_lengths": [0, 33]},
    "segment_ids": {"segment_ids": (np.arange(LQ) // 10, np.arange(LK) // 30)},
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", FULLY_MASKED.values(), ids=FULLY_MASKED)
def test_s3_fully_masked_rows(options, dtype):
    hidden = ~visible_keys(SCORES, 4, **options).any(-1)
    assert_shows_nothing(smx.attention(*tensors(3, dtype), **options, **FLAGS), hidden)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s4_rows_that_a_bias_leaves_with_minus_infinity(dtype):
    bias = sample(SCORES, dtype, 4, 1.0)
    bias[1, 2:, ::3] = -INF
    rows = np.broadcast_to((bias == -INF).all(-1), SCORES[:3])
    assert_shows_nothing(smx.attention(*tensors(4, dtype), bias=bias, **FLAGS), rows)
    # What a mask leaves of a row may be -inf alone, too.
    mask, bias = np.ones(SCORES, bool), sample(SCORES, dtype, 5, 1.0)
    mask[0, 1, 5, 10:], bias[0, 1, 5, :10] = False, -INF
    rows = np.zeros(SCORES[:3], bool)
    rows[0, 1, 5] = True
    assert_shows_nothing(smx.attention(*tensors(4, dtype), bias=bias, mask=mask, **FLAGS), rows)


@pytest.mark.parametrize("poison", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s5_nothing_masked_leaks(dtype, poison):
    """One poisoned key and value, seen by some queries: the others do not change by a bit."""
    query, key, value = tensors(5, dtype)
    mask = np.random.default_rng(5).random(SCORES) < 0.7
    clean = smx.attention(query, key, value, mask=mask, **FLAGS)
    for j in 0, 37, LK - 1:
        bad_key, bad_value = key.copy(), value.copy()
        bad_key[:, :, j], bad_value[:, :, j] = poison, poison
        for tensors_of_case in (query, bad_key, value), (query, key, bad_value):
            results = smx.attention(*tensors_of_case, mask=mask, **FLAGS)
            for name, got, expected in zip(("out", "lse", "weights"), results, clean, strict=True):
                assert_same_bits(got[~mask[..., j]], expected[~mask[..., j]], f"{name}, key {j}")
    assert (clean[2][~mask].astype(float) == 0).all()


def test_s5_nothing_leaks_past_structured_masks():
    query, key, value = tensors(6)
    key_lengths, offset = [33, 0], np.array([10, -4])
    options = {"key_lengths": key_lengths, "causal": True, "query_offset": offset}
    clean = smx.attention(query, key, value, **options, **FLAGS)
    for b in range(BATCH):
        key[b, :, key_lengths[b] :], value[b, :, key_lengths[b] :] = NAN, INF
    for got, expected in zip(smx.attention(query, key, value, **options, **FLAGS), clean,
                             strict=True):
        assert_same_bits(got, expected, "key lengths")
    # Key 20 is first seen by query 10 of entry 0: before it, nothing shows.
    value[0, :, 20], key[0, :, 21] = NAN, NAN
    out = smx.attention(query, key, value, **options)
    assert_same_bits(out[:, :, :10], clean[0][:, :, :10], "causal")
    assert np.isnan(out[0, :, 10:]).all()


def assert_nan_exactly(results, clean, where, context):
    """NaN in these elements of out, lse and weights, always +quiet; the others as they were."""
    for name, got, expected, nan in zip(("out", "lse", "weights"), results, clean, where,
                                        strict=True):
        one = np.full_like(got, NAN)
        assert_same_bits(got, np.where(nan, one, expected), f"{name}, NaN in {context}")
        quiet = {2: (0x7E00, 0x7FC0), 4: (0x7FC00000,), 8: (0x7FF8 << 48,)}[got.itemsize]
        assert np.isin(bits(got[nan]), quiet).all(), (name, context)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s6_nan_in_exactly_what_depends_on_it(dtype):
    clean_tensors = tensors(7, dtype)
    options = {"causal": True, "query_lengths": [LQ, 40]}
    visible = visible_keys(SCORES, 4, **options)
    clean = smx.attention(*clean_tensors, **options, **FLAGS)
    shape, group = (*SCORES[:3], VALUE_SIZE), HEADS // KEY_HEADS
    for place, head, d in (0, 1, 0), (33, 0, 5), (45, 1, 8):
        of_head = slice(head * group, (head + 1) * group)
        for which, name in enumerate(("query", "key", "value")):
            case = [x.copy() for x in clean_tensors]
            case[which][1, head, place, d] = -np.array(NAN, dtype)
            rows, columns = np.zeros(SCORES[:3], bool), np.zeros(shape, bool)
            if name == "query":
                rows[1, head, place] = visible[1, head, place].any()
            elif name == "key":
                rows[1, of_head] = visible[1, of_head, :, place]
            else:
                columns[1, of_head, :, d] = visible[1, of_head, :, place]
            where = columns | rows[..., None], rows, visible & rows[..., None]
            assert_nan_exactly(smx.attention(*case, **options, **FLAGS), clean, where,
                               f"{name} {place}")


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_s6_infinite_values_are_summed_as_such(dtype):
    query, key, value = tensors(8, dtype)
    value[0, 0, 3, 2], value[0, 0, 60, 4], value[0, 0, 61, 4] = INF, INF, -INF
    out = assert_attention(query, key, value, "seed 8", causal=True)[0]
    assert (out[0, :2, :, 2] == INF).all()  # query 0 sees key 19
    assert np.isnan(out[0, :2, 42:, 4]).all() and (out[0, :2, 41, 4] == INF).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s7_minus_infinity_has_weight_zero(dtype):
    query, key, value = tensors(9, dtype)
    bias = np.where(np.random.default_rng(9).random(SCORES) < 0.3, -INF, 0.5).astype(dtype)
    weights = smx.attention(query, key, value, bias=bias, **FLAGS)[2].astype(float)
    assert (weights[bias == -INF] == 0).all() and (weights[bias != -INF] > 0).all()
    # Also where the product of query and key is it; +inf makes the row NaN.
    query[..., 0] = np.where(np.arange(LQ) % 2, 1, -1)
    key[:, :, 40, 0] = INF
    out, _, weights = (x.astype(float) for x in smx.attention(query, key, value, **FLAGS))
    assert (weights[:, :, ::2, 40] == 0).all() and np.isfinite(out[:, :, ::2]).all()
    assert np.isnan(weights[:, :, 1::2]).all() and np.isnan(out[:, :, 1::2]).all()


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_s9_scale_then_softcap_then_bias_then_mask(dtype):
    query, key = np.array([[2.0]], dtype), np.array([[1.0], [-3.0], [4.0], [9.0]], dtype)
    value, bias = np.eye(4, dtype=dtype), np.array([0.0, 6.0, -1.0, INF], dtype)
    score = 1.5 * np.tanh(0.5 * 2 * key[:, 0].astype(float) / 1.5) + bias
    powers = np.where([1, 1, 1, 0], np.exp(score.clip(max=10)), 0)
    options = {"scale": 0.5, "softcap": 1.5, "bias": bias, "mask": np.arange(4) < 3}
    out, lse, weights = smx.attention(query, key, value, **options, **FLAGS)
    for got in out, weights:
        np.testing.assert_allclose(got[0], powers / powers.sum(), rtol=1e-6)
    np.testing.assert_allclose(lse, np.log(powers.sum()), rtol=1e-6)
    # ALiBi comes after softcap as the bias does: query 0 stands at key 3.
    options = {"scale": 0.5, "softcap": 1.5, "alibi_slopes": np.array([0.75], dtype)}
    weights = smx.attention(query[None], key[None], value[None], **options, **FLAGS)[2]
    score = 1.5 * np.tanh(key[:, 0].astype(float) / 1.5) - 0.75 * abs(3 - np.arange(4))
    np.testing.assert_allclose(weights[0, 0], np.exp(score) / np.exp(score).sum(), rtol=1e-6)
    # And at large, with scores far beyond the cap.
    query, key, value = tensors(10, dtype)
    bias = sample(SCORES, dtype, 11, 2.0)
    assert_attention(20 * query, key, value, "seed 10", bias=bias, softcap=2.0, scale=0.7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s13_lse(dtype):
    query, key, value = tensors(18, dtype)
    wide = np.float64 if dtype == np.float64 else np.float32
    lse = smx.attention(query, key, value, causal=True, return_lse=True)[1]
    assert lse.dtype == wide and lse.shape == SCORES[:3]
    exact = expected_attention(query, key, value, causal=True).lse
    np.testing.assert_allclose(lse, exact.astype(float), rtol=2e-6, atol=2e-6)
    # Of one key it is the score; base e, not 2.
    one = smx.attention(query[:, :, :1], key[:, :, :1], value[:, :, :1], return_lse=True)[1]
    score = (query[:, :, 0].astype(float) * key[:, :, 0].astype(float).repeat(2, 1)).sum(-1)
    np.testing.assert_allclose(one[..., 0], score / np.sqrt(SIZE), rtol=2e-6, atol=1e-6)
    # A sink is in it, and takes its share of the weights.
    sinks = np.array([-3.0, 0.0, 2.5, 100.0], wide)
    _, with_sink, weights = smx.attention(query, key, value, causal=True, sinks=sinks, **FLAGS)
    expected = np.logaddexp(lse.astype(float), sinks.astype(float)[:, None])
    np.testing.assert_allclose(with_sink, expected, rtol=2e-6, atol=2e-6)
    share = np.exp(lse.astype(float) - expected)
    np.testing.assert_allclose(weights.astype(float).sum(-1), share, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s13_a_sink_alone(dtype):
    sinks = np.array([-3, 0, 2.5, 7], np.float64 if dtype == np.float64 else np.float32)
    hidden = -100 * np.ones((1, LK), dtype) * INF
    for options in {"key_lengths": 0}, {"bias": hidden}, {"mask": np.zeros(LK, bool)}:
        out, lse, weights = smx.attention(*tensors(19, dtype), sinks=sinks, **options, **FLAGS)
        assert (out.astype(float) == 0).all() and (weights.astype(float) == 0).all()
        assert_same_bits(lse, np.broadcast_to(sinks[:, None], lse.shape), repr(options))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s14_empty(dtype):
    query, key, value = tensors(20, dtype)
    wide = np.float64 if dtype == np.float64 else np.float32
    for options in {}, {"causal": True, "window": (3, 3), "key_lengths": 0, "softcap": 1.0}:
        out, lse, weights = smx.attention(query, key[:, :, :0], value[:, :, :0], **options, **FLAGS)
        assert (out == np.zeros((*SCORES[:3], VALUE_SIZE))).all() and weights.shape[3] == 0
        assert (lse == np.full(SCORES[:3], -INF)).all()
    sinks = np.arange(HEADS).astype(wide)
    lse = smx.attention(query, key[:, :, :0], value[:, :, :0], sinks=sinks, return_lse=True)[1]
    # The sum is one rounded power of two; its error shows in the logarithm.
    np.testing.assert_allclose(lse, np.broadcast_to(sinks[:, None], lse.shape), atol=2.0**-22)
    results = smx.attention(query[:, :, :0], key, value, **FLAGS)
    assert [x.shape for x in results] == [(2, 4, 0, 9), (2, 4, 0), (2, 4, 0, LK)]
    results = smx.attention(query[:0], key[:0], value[:0], causal=True, **FLAGS)
    assert [x.shape for x in results] == [(0, 4, LQ, 9), (0, 4, LQ), (0, 4, LQ, LK)]
    whole = smx.attention(query, key, value, **FLAGS)
    out, lse, weights = smx.attention(query, key, value[..., :0], **FLAGS)
    assert out.shape == (*SCORES[:3], 0)
    assert_same_bits(lse, whole[1], "Dv 0")
    assert_same_bits(weights, whole[2], "Dv 0")


_MODE_PROGRAM = """
import ctypes, sys
import numpy as np
import swiftmax as smx
library = ctypes.CDLL(sys.argv[1])
library.get_mode.restype = ctypes.c_uint
rng = np.random.default_rng(15)
def normal(*shape): return rng.standard_normal(shape).astype(np.float32)
query, key, value = normal(2, 4, 200, 24), normal(2, 2, 300, 24), normal(2, 2, 300, 40)
query[0, 0] *= np.float32(1e-38)
value[:, :, ::3] *= np.float32(1e-39)
options = dict(causal=True, softcap=20.0, alibi_slopes=np.float32([0, 1, .1, 2]),
               sinks=np.float32([0, 1, -1, 9]), return_lse=True, return_weights=True)
# Before the mode changes: NumPy would convert in it.
kinds = np.float32, np.float64, np.float16
cases = [[x.astype(dtype) for x in (query, key, value)] for dtype in kinds]
def results():
    found = []
    for case in cases:
        found += [x.tobytes() for x in smx.attention(*case, **options)]
        found.append(smx.attention(*case).tobytes())
        found.append(smx.attention(case[0][:, :, :1], *case[1:]).tobytes())
    return found
# The first use starts the threads, so they inherit the mode.
mode = 0x1f80 | int(sys.argv[2], 16)
library.set_mode(mode)
changed = results()
after = library.get_mode() & ~0x3f  # the flags that say what has happened are not the mode
library.set_mode(0x1f80)
assert after == mode & ~0x3f, (hex(after), hex(mode))
assert changed == results(), "bits differ under mode " + sys.argv[2]
"""


@pytest.mark.parametrize("mode", ["0x8040", "0x2000", "0x4000", "0xe040"],
                         ids=["ftz+daz", "down", "up", "ftz+daz+zero"])
def test_s15_floating_point_mode_of_the_caller(mode_library, mode):
    done = subprocess.run([sys.executable, "-c", _MODE_PROGRAM, mode_library, mode],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_s15_subnormals_are_kept():
    one, small = np.ones((1, 1), np.float32), np.full((1, 1), 1e-40, np.float32)
    # The product with the weight is rounded to whole multiples of 2^-149, and so is out.
    assert abs(smx.attention(one, one, small) - small) <= 2.0**-148
    # A weight of e^-100, and products of subnormal queries with large keys.
    weights = smx.attention(one, np.float32([[0], [-100]]), one.repeat(2, 0), **FLAGS)[2]
    assert 0 < weights[0, 1] < 1e-38, weights
    key = np.float32([[1e38], [3e38]])
    lse = smx.attention(np.float32([[1e-38]]), key, key * 0, scale=1.0, return_lse=True)[1]
    np.testing.assert_allclose(lse, np.logaddexp(1, 3), rtol=1e-6)
    lse = smx.attention(small, key, key * 0, scale=100.0, return_lse=True)[1]
    np.testing.assert_allclose(lse, np.logaddexp(1, 3), rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_s16_narrow_types_round_once(dtype):
    case = tensors(21, dtype)
    options = {"causal": True, "softcap": 5.0, "sinks": np.arange(4, dtype=np.float32)}
    narrow = smx.attention(*case, **options, **FLAGS)
    wide = smx.attention(*(x.astype(np.float32) for x in case), **options, **FLAGS)
    for got, expected, kind in zip(narrow, wide, (dtype, np.float32, dtype), strict=True):
        assert_same_bits(got, expected.astype(kind), "seed 21")
