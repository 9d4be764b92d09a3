"""CONTRACT, section 1: one test for each line that concerns the softmax family."""

import subprocess
import sys

import mpmath
import numpy as np
import pytest
from reference import (
    BF16,
    DTYPES,
    assert_same_bits,
    assert_within_ulp,
    bound_of,
    reference,
    sample,
)

import swiftmax as smx

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s1_nan_and_plus_infinity(dtype):
    x = np.array([[0, NAN, 1], [0, INF, 1], [INF, NAN, -INF], [0, 1, 2]], dtype)
    for f in smx.softmax, smx.log_softmax:
        nan = np.isnan(f(x).astype(float))
        assert nan[:3].all() and not nan[3].any()
    lse = smx.logsumexp(x).astype(float)
    assert np.isnan(lse[0]) and lse[1] == INF and np.isnan(lse[2]) and np.isfinite(lse[3])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s2_all_minus_infinity(dtype):
    x = np.full((2, 5), -INF, dtype)
    assert np.isnan(smx.softmax(x).astype(float)).all()
    assert np.isnan(smx.log_softmax(x).astype(float)).all()
    assert (smx.logsumexp(x).astype(float) == -INF).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["array", "Mask", "both"])
def test_s3_fully_masked_row(dtype, kind):
    x = np.array([[1, 2, 3], [4, NAN, INF]], dtype)
    array = np.array([[True, True, True], [False, False, False]])
    mask = {"array": array, "Mask": smx.Mask.lengths(3, 1)}
    mask["both"] = mask["Mask"] & array
    p, log_p, lse = (f(x, mask=mask[kind]).astype(float)
                     for f in (smx.softmax, smx.log_softmax, smx.logsumexp))
    assert (p[1] == 0).all() and not np.signbit(p[1]).any()
    assert (log_p[1] == -INF).all() and lse[1] == -INF
    assert np.isfinite(p[0]).all() and np.isfinite(log_p[0]).all() and np.isfinite(lse[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s5_true_takes_part_and_nothing_masked_leaks(function, dtype):
    x = sample((4, 50), dtype, seed=5)
    mask = np.random.default_rng(6).random((4, 50)) < 0.7
    poisoned = x.copy()
    poisoned[~mask] = np.resize([NAN, INF, -INF], (~mask).sum()).astype(dtype)
    result = function(x, mask=mask)
    assert_same_bits(function(poisoned, mask=mask), result, "seed 5")
    exact = reference(function.__name__, x, mask=mask)
    assert_within_ulp(result, exact, bound_of(x.dtype), "seed 5")


def test_s7_minus_infinity_entries(function):
    x = np.array([0.5, -INF, 2, -INF], np.float32)
    assert_within_ulp(function(x), reference(function.__name__, x))
    assert smx.softmax(x)[1] == 0 and smx.log_softmax(x)[1] == -INF
    assert_same_bits(smx.logsumexp(x), smx.logsumexp(x[::2]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1e-30, 0.3, 1.0, 7.5, 1e30, INF])
def test_s8_temperature(elementwise, dtype, temperature):
    x = np.array([[3, 1, 3, -INF, 0], [-2, -2.5, 60, 59, 1]], dtype)
    exact = reference(elementwise.__name__, x, temperature=mpmath.mpf(temperature))
    assert_within_ulp(elementwise(x, temperature=temperature), exact, bound_of(x.dtype))


def test_s8_temperature_for_each_row(elementwise):
    x = sample((3, 4, 6), np.float32, seed=8)
    t = np.array([[0.5], [0.0], [2.0]], np.float32)
    whole = elementwise(x, temperature=t)
    for i in range(3):
        assert_same_bits(whole[i], elementwise(x[i], temperature=float(t[i, 0])), "seed 8")
    assert_same_bits(elementwise(x, temperature=t[:, :, None]), whole, "keepdims shape")
    assert_same_bits(elementwise(x, temperature=np.broadcast_to(t, (3, 4))), whole)
    assert_same_bits(elementwise(x, axis=0, temperature=[[1.0]]), elementwise(x, axis=0))


def test_s8_scaling_cannot_overflow(elementwise):
    x = np.array([3e38, 2e38, -3e38], np.float32)
    result = elementwise(x, temperature=1e-30)
    assert result.tolist() == ([1, 0, 0] if elementwise is smx.softmax else [0, -INF, -INF])


@pytest.mark.parametrize("temperature", [-1.0, -INF, NAN, np.array([1.0, -1.0])])
def test_s8_negative_or_nan_temperature_is_an_error(elementwise, temperature):
    with pytest.raises(ValueError, match="temperature"):
        elementwise(np.zeros((2, 3)), temperature=temperature)


def test_s14_empty(function):
    for shape in (0,), (0, 3), (3, 0), (2, 0, 4), (0, 0):
        result = function(np.zeros(shape, np.float32))
        if function is smx.logsumexp:
            assert result.shape == shape[:-1] and (np.asarray(result) == -INF).all()
        else:
            assert result.shape == shape
    assert smx.logsumexp([]) == -INF
    assert smx.logsumexp(np.zeros((2, 0)), axis=None) == -INF


_MODE_PROGRAM = """
import ctypes, sys
import numpy as np
import swiftmax as smx
library = ctypes.CDLL(sys.argv[1])
library.get_mode.restype = ctypes.c_uint
x = np.concatenate([np.float32([1e-40, -1e-39, 0, -100, -102.5]), np.linspace(-103, 3, 59)])
x = np.tile(x.astype(np.float32), (1200, 1))
def results():
    kinds = x, x.astype(np.float64), x.astype(np.float16)
    functions = smx.softmax, smx.log_softmax, smx.logsumexp
    return [f(k).tobytes() for f in functions for k in kinds]
# The first use starts the threads, so they inherit the mode.
mode = 0x1f80 | int(sys.argv[2], 16)
library.set_mode(mode)
changed = results()
after = library.get_mode() & ~0x3f  # the flags that say what has happened are not the mode
library.set_mode(0x1f80)
assert after == mode & ~0x3f, (hex(after), hex(mode))
assert changed == results(), "bits differ under mode " + sys.argv[2]
smallest = smx.softmax(np.float32([0, -103]))[1]
assert 0 < smallest < 1e-38, smallest
"""


@pytest.mark.parametrize("mode", ["0x8040", "0x2000", "0x4000", "0xe040"],
                         ids=["ftz+daz", "down", "up", "ftz+daz+zero"])
def test_s15_floating_point_mode_of_the_caller(mode_library, mode):
    done = subprocess.run([sys.executable, "-c", _MODE_PROGRAM, mode_library, mode],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_s16_narrow_types_round_once(function, dtype):
    x = sample((8, 300), dtype, seed=16)
    wide = function(x.astype(np.float32))
    assert_same_bits(function(x), np.asarray(wide).astype(dtype), "seed 16")
    assert np.asarray(function(x)).dtype == dtype


def test_s16_bfloat16_is_known_by_its_type_not_its_name():
    with pytest.raises(TypeError, match="x has dtype"):
        smx.softmax(np.zeros(3, "V2"))
    assert smx.softmax(np.zeros(4, BF16)).dtype == BF16


def test_s17_all_masks_together(function):
    x = sample((2, 3, 6, 7), np.float32, seed=17)
    array = np.random.default_rng(18).random((2, 1, 6, 7)) < 0.8
    ids_q, ids_k = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 2, 1])
    masks = [
        smx.Mask.causal(np.array([1, 2])),
        smx.Mask.window(3, None),
        smx.Mask.lengths(np.array([[7, 6, 5], [4, 7, 0]]), 5),
        smx.Mask.segments(ids_q, ids_k),
    ]
    joined = masks[0] & masks[1] & masks[2] & masks[3]
    dense = np.ones((2, 3, 6, 7), bool)
    for mask in masks:
        one = mask.to_array(6, 7)
        dense &= one.reshape(one.shape[:-2] + (1,) * (4 - one.ndim) + (6, 7))
    assert_same_bits(function(x, mask=joined), function(x, mask=dense), "seed 17")
    dense &= array
    for both in joined & array, array & joined:
        assert_same_bits(function(x, mask=both), function(x, mask=dense), "seed 17, 18")
    assert (both.to_array(6, 7) == dense).all()
    # A bias too, and rows along another axis.
    bias = np.where(array, 0, -INF).astype(np.float32)
    everything = function(x, axis=-2, mask=joined, bias=bias)
    exact = reference(function.__name__, x, axis=-2, mask=dense)
    assert_within_ulp(everything, exact, context="seed 17, 18")
