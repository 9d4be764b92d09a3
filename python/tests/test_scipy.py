"""Behaviour equal to SciPy's where the contract agrees with it."""

import numpy as np
import pytest
import scipy.special
from reference import WIDE, sample

import swiftmax as smx

AXES = [-1, 0, 1, -3, (0, 1), (2, 0), (-1, -2, -3), None]


def check(ours, theirs, dtype=np.float64):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    # SciPy's own error is up to 64 ulp in softmax, more in log_softmax.
    tolerance = 300 * np.finfo(dtype).eps
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", WIDE, ids=str)
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_axis(function, axis, dtype):
    x = sample((3, 4, 5), dtype, seed=1)
    result = function(x, axis=axis)
    check(result, getattr(scipy.special, function.__name__)(x, axis=axis), dtype)
    assert result.dtype == dtype


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_keepdims(axis, keepdims):
    x = sample((3, 4, 5), np.float64, seed=2)
    check(smx.logsumexp(x, axis, keepdims=keepdims),
          scipy.special.logsumexp(x, axis, keepdims=keepdims))


@pytest.mark.parametrize("b_shape", [(), (5,), (4, 1), (3, 4, 5), (2, 3, 4, 5), (2, 1, 1, 1)])
@pytest.mark.parametrize("axis", [-1, 1, (-2, -1), None], ids=str)
def test_b_and_return_sign(b_shape, axis):
    x = sample((3, 4, 5), np.float64, seed=3)
    b = sample(b_shape, np.float64, seed=4, spread=1.0)
    ours, our_sign = smx.logsumexp(x, axis, b=b, return_sign=True)
    theirs, sign = scipy.special.logsumexp(x, axis, b=b, return_sign=True)
    check(our_sign, sign)
    check(ours, theirs)
    check(smx.logsumexp(x, axis, b=np.abs(b), keepdims=True),
          scipy.special.logsumexp(x, axis, b=np.abs(b), keepdims=True))


def test_b_larger_than_x_without_a_copy():
    x, b = sample((5,), seed=5), np.ones((4, 3, 1), np.float32)
    check(smx.logsumexp(x, b=b), scipy.special.logsumexp(x, axis=-1, b=b), np.float32)
    assert smx.logsumexp(x, b=b).shape == (4, 3)


def test_b_zero_takes_out_and_negative_sum_is_nan():
    x = np.array([1.0, np.inf, np.nan, -np.inf, 2.0])
    assert smx.logsumexp(x, b=[1, 0, 0, 1, 0]) == 1.0
    assert np.isnan(smx.logsumexp([1.0, 2.0], b=[1, -1]))
    value, sign = smx.logsumexp([1.0, 2.0], b=[1, -1], return_sign=True)
    check(value, np.log(np.exp(2) - np.exp(1)))
    assert sign == -1
    assert smx.logsumexp([1.0, 1.0], b=[1, -1], return_sign=True) == (-np.inf, 0)
    assert smx.logsumexp([1.0, 1.0], b=[0, 0]) == -np.inf


@pytest.mark.parametrize("x", [
    [1, 2, 3],
    [[1.5, 2], [3, -4]],
    (1.0, 2.0),
    [True, False],
    np.arange(6, dtype=np.int8).reshape(2, 3),
    np.arange(6, dtype=np.uint64),
    range(4),
    7.5,
    3,
    np.float32(2),
], ids=repr)
def test_array_likes(function, x):
    result = function(x)
    theirs = getattr(scipy.special, function.__name__)(np.asarray(x, np.float64), axis=-1
                                                       if np.ndim(x) else None)
    check(result, theirs, result.dtype)
    assert result.dtype == (np.float32 if isinstance(x, np.float32) else np.float64)


def test_sums_over_all_axes_are_scalars():
    x = sample((2, 3), np.float32)
    assert type(smx.logsumexp(x, axis=None)) is np.float32
    assert type(smx.logsumexp(x[0])) is np.float32
    assert type(smx.softmax(np.float64(3))) is np.float64
    value, sign = smx.logsumexp(x, axis=None, return_sign=True)
    assert type(value) is np.float32 and type(sign) is np.float32 and sign == 1
    assert smx.logsumexp(x, axis=None, keepdims=True).shape == (1, 1)


def test_no_axes_are_reduced_for_an_empty_tuple():
    x = sample((2, 3), np.float64)
    assert (smx.softmax(x, axis=()) == 1).all()
    assert (smx.log_softmax(x, axis=()) == 0).all()
    assert (smx.logsumexp(x, axis=()) == x).all()


def test_better_than_scipy_for_a_dominant_class():
    x = np.array([0, -20], np.float32)
    assert smx.log_softmax(x)[0] == np.float32(-2.0611537e-09)
    assert smx.logsumexp(x) == np.float32(2.0611537e-09)


def test_weights_and_sums_beyond_the_largest_number():
    # As SciPy has them, in any order.
    for b in ([np.inf, 1, 1], [1, 1, np.inf], [1, np.inf, np.inf]):
        assert smx.logsumexp([1.0, 2, 3], b=b) == np.inf
    assert smx.logsumexp([1.0, 2, 3], b=[-np.inf, 1, 1], return_sign=True) == (np.inf, -1)
    assert np.isnan(smx.logsumexp([1.0, 2, 3], b=[-np.inf, 1, np.inf]))
    assert smx.logsumexp([0.0, 0.0], b=[1e308, 1e308]) == np.inf
    long = np.zeros(9000)
    b = np.ones(9000)
    b[5000] = np.inf
    assert smx.logsumexp(long, b=b) == np.inf
