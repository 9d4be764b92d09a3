"""Biases, weights and soft targets beside their rows: the same bits however each of them lies.

Contiguous operands are read where they are, a vector at a time, and others gathered, on ways of
their own; lengths are around a vector, a batch of 64 weights, and a chunk of 4096 elements.
"""

import numpy as np
import pytest
from reference import DTYPES, assert_same_bits

import swiftmax as smx

LENGTHS = (1, 7, 16, 63, 65, 200, 4096, 4097, 9000)


def spread_out(x):
    """Every other element along the last axis of a larger array."""
    large = np.full((*x.shape[:-1], 2 * x.shape[-1]), 77, x.dtype)
    large[..., ::2] = x
    return large[..., ::2]


def reversed_twice(x):
    return np.copy(x[..., ::-1])[..., ::-1]


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


LAYOUTS = (np.copy, spread_out, reversed_twice, unaligned)


def rows(cols, dtype, seed):
    """Ordinary rows, and some with equal maxima, infinities, large numbers and NaN."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((8, cols)) * 4
    x[1] = np.round(x[1])
    x[2, rng.integers(cols)] = -np.inf
    x[3] = np.repeat(rng.standard_normal(), cols)
    x[4] *= 2.0**14
    x[5, rng.integers(cols)] = np.nan
    x[6, cols // 2 :] = 3
    x[7] = 100 + x[7] * 2.0**-20
    with np.errstate(over="ignore"):
        return x.astype(dtype)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("cols", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bias(name, cols, dtype):
    function = getattr(smx, name)
    x = rows(cols, dtype, cols)
    bias = rows(cols, np.float32 if np.dtype(dtype).itemsize < 4 else dtype, cols + 1)[::-1].copy()
    bias[0] = 0
    want = function(x, bias=bias)
    for of_x in LAYOUTS:
        for of_bias in LAYOUTS:
            assert_same_bits(function(of_x(x), bias=of_bias(bias)), want, (of_x, of_bias))
    open_mask = np.ones(x.shape, bool)
    assert_same_bits(function(x, bias=bias, mask=open_mask), want, "a mask that hides nothing")
    alone = [function(x[r], bias=bias[r]) for r in range(len(x))]
    assert_same_bits(np.array(alone), want, "alone")
    with smx.num_threads(3):
        assert_same_bits(function(x, bias=bias), want, "3 threads")
        assert_same_bits(function(x[:1], bias=bias[:1]), want[:1], "one row, 3 threads")
    if name != "logsumexp":
        for out in (np.copy(x), spread_out(x)):
            assert_same_bits(function(out, bias=bias, out=out), want, "in place")
        out = spread_out(np.zeros_like(x))
        assert_same_bits(function(x, bias=bias, out=out), want, "to places apart")
    shared = function(x, bias=bias[1])
    assert_same_bits(shared, function(x, bias=np.tile(bias[1], (8, 1))), "one bias for all rows")
    if name != "logsumexp":
        warm = function(x, bias=bias, temperature=1.5)
        apart = function(x, bias=spread_out(bias), temperature=1.5)
        assert_same_bits(apart, warm, "with a temperature")


@pytest.mark.parametrize("cols", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_of_logsumexp(cols, dtype):
    x = rows(cols, dtype, cols + 2)
    b = np.random.default_rng(cols).standard_normal((8, cols)).astype(dtype)
    b[:, ::5] = 0
    want = smx.logsumexp(x, b=b, return_sign=True)
    for of_x in LAYOUTS:
        for of_b in LAYOUTS:
            got = smx.logsumexp(of_x(x), b=of_b(b), return_sign=True)
            for part in range(2):
                assert_same_bits(got[part], want[part], (of_x, of_b, part))
    with smx.num_threads(3):
        for part, each in enumerate(smx.logsumexp(x[:1], b=b[:1], return_sign=True)):
            assert_same_bits(each, want[part][:1], "3 threads")
    # Positive weights against long double.
    if np.dtype(dtype).itemsize < 4:
        return
    plain = [0, 1, 3, 6, 7]
    b = np.abs(b)
    b[:, 0] = 1
    got = smx.logsumexp(x[plain], b=b[plain]).astype(np.longdouble)
    wide = x[plain].astype(np.longdouble)
    largest = wide.max(-1)
    exact = np.log((b[plain] * np.exp(wide - largest[:, None])).sum(-1)) + largest
    unit = np.spacing(np.maximum(abs(exact), abs(largest)).astype(dtype))
    # The logarithm turns a relative error of the sum, 1.31 units of 2^-24 (2^-53), into an
    # absolute one; the result is rounded in units of the larger of it and the maximum.
    assert (abs(got - exact) <= 1.5 * unit + 1.31 * np.finfo(dtype).eps / 2).all()


@pytest.mark.parametrize(
    "options",
    [{}, {"label_smoothing": 0.1}, {"weight": 1}, {"label_smoothing": 0.3, "weight": 1}],
    ids=str,
)
@pytest.mark.parametrize("cols", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_soft_targets(options, cols, dtype):
    x = rows(cols, dtype, cols + 3)
    rng = np.random.default_rng(cols)
    y = rng.dirichlet(np.ones(cols), 8).astype(dtype)
    y[:, ::3] = 0
    options = dict(options)
    if "weight" in options:
        options["weight"] = rng.choice([0.0, 0.5, 2.0], cols).astype(smx.cross_entropy(x, y).dtype)

    def call(x, y, **others):
        return smx.cross_entropy(x, y, reduction="none", return_grad=True, **(options | others))

    want = call(x, y)
    for of_x in LAYOUTS:
        for of_y in LAYOUTS:
            for part, each in enumerate(call(of_x(x), of_y(y))):
                assert_same_bits(each, want[part], (of_x, of_y, part))
    out = np.copy(x)
    assert_same_bits(call(out, y, out=out)[1], want[1], "in place")
    assert_same_bits(call(x, y, mask=np.ones(cols, bool))[1], want[1], "a mask that hides nothing")
    for r in range(8):
        for part, each in enumerate(call(x[r : r + 1], y[r : r + 1])):
            assert_same_bits(each, want[part][r : r + 1], (r, part))
    if "weight" in options:
        apart = spread_out(options["weight"])
        for part, each in enumerate(call(x, y, weight=apart)):
            assert_same_bits(each, want[part], "weights apart")
