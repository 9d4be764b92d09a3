"""Gradients: formulas and their bounds, derivatives by differences, textbook examples."""

from fractions import Fraction

import numpy as np
import pytest
from gradients_reference import (
    OF_SUM,
    UNIT,
    exact,
    formula,
    log_softmax_vjp_row,
    softmax_vjp_row,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import BF16, DTYPES, WIDE, assert_same_bits, sample

import swiftmax as smx

NAMES = ["softmax_vjp", "log_softmax_vjp"]
FORWARD = {"softmax_vjp": smx.softmax, "log_softmax_vjp": smx.log_softmax}
# The header's bounds, and for the narrow types one rounding more.
ROUNDING = {2: 2.0**-7, 4: 2.0**-21, 8: 2.0**-50}


def close(got, expected, size):
    """Within the roundings of the dtype, of the result and of what it is a difference of."""
    unit = ROUNDING[got.dtype.itemsize]
    np.testing.assert_allclose(
        np.asarray(got, float), np.asarray(expected, float), rtol=unit, atol=unit * float(size))


# -- the formulas --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), (2, 0), (), None], ids=str)
def test_formula(name, dtype, axis):
    x, dy = sample((3, 5, 18), dtype, 1, 2.0), sample((3, 5, 18), dtype, 2, 1.0)
    mask = np.random.default_rng(3).random((5, 18)) < 0.7
    for temperature in 1.0, 0.7, 3.0:
        y = FORWARD[name](x, axis, temperature=temperature, mask=mask)
        got = getattr(smx, name)(y, dy, axis, temperature=temperature, mask=mask)
        assert got.dtype == dtype and got.shape == x.shape
        close(got, formula(name, y, dy, axis, temperature, mask), 10)


@pytest.mark.parametrize("name", NAMES)
def test_temperature_of_each_row(name):
    x, dy = sample((4, 6), np.float64, 4), sample((4, 6), np.float64, 5)
    temperature = np.array([[0.5], [1.0], [2.0], [7.0]])
    y = FORWARD[name](x, temperature=temperature)
    got = getattr(smx, name)(y, dy, temperature=temperature)
    close(got, formula(name, y, dy, -1, temperature), 1)
    for row in range(4):
        one = getattr(smx, name)(y[row], dy[row], temperature=temperature[row, 0])
        assert_same_bits(got[row], one, f"row {row}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("axis", [-1, 0, (0, 2), None], ids=str)
def test_logsumexp(dtype, axis):
    x, bias = sample((3, 5, 18), dtype, 6, 2.0), sample((5, 18), dtype, 7, 1.0)
    mask = np.random.default_rng(8).random((5, 18)) < 0.7
    for keepdims in False, True:
        shape = smx.logsumexp(x, axis, keepdims=keepdims).shape
        dy = np.asarray(sample(shape, np.float64, 9)).astype(dtype)
        got = smx.logsumexp_vjp(x, dy, axis, mask=mask, bias=bias, keepdims=keepdims)
        assert got.dtype == dtype and got.shape == x.shape
        wide = np.broadcast_to(bias.astype(float), x.shape)
        p = smx.softmax(x.astype(float), axis, mask=mask, bias=wide)
        spread = dy.astype(float)
        if not keepdims and axis is not None:
            spread = np.expand_dims(spread, axis)
        close(got, spread * p, 1e-9)


def test_logsumexp_is_as_accurate_as_softmax():
    # exp(x - lse) loses what lse has before its point: here 15 bits.
    x = np.float32([40000.25, 39999.5, 39998.125])
    p = smx.softmax(x.astype(np.float64))
    bound = 3 * 2.0**-24 + 2 * 2.0**-23
    assert (abs(smx.logsumexp_vjp(x, np.float32(3)) / (3 * p) - 1) <= bound).all()
    assert (abs(np.exp(x - smx.logsumexp(x)) / p - 1) > 10 * bound).any()


# -- the bounds of the header --------------------------------------------------------------


def hard_rows(dtype, seed):
    """Rows of y and dy whose differences cancel, whose terms do, and ordinary ones."""
    random = np.random.default_rng(seed)
    for n in 1, 2, 17, 300, 4097, 9000:
        x = random.standard_normal(n) * random.choice([0.1, 3, 20])
        y = smx.softmax(x.astype(dtype))
        dy = random.standard_normal(n).astype(dtype)
        yield y, dy
        # All but equal: dy - sum has a few last bits of dy.
        yield y, (1 + dy * np.dtype(dtype).type(np.finfo(dtype).eps * 4)).astype(dtype)
        # Large terms of both signs, with a small sum.
        large = np.where(np.arange(n) % 2, 1e6, -1e6) * np.repeat(random.random(n), 2)[:n]
        yield y, (large / np.maximum(y, 1e-20) / n).astype(dtype)


@pytest.mark.parametrize("dtype", WIDE, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_softmax_is_within_its_bound(dtype, temperature):
    u, c = UNIT[dtype.itemsize], OF_SUM[dtype.itemsize]
    units = 3 if temperature == 1 else 4
    for i, (y, dy) in enumerate(hard_rows(dtype, 11)):
        got = smx.softmax_vjp(y, dy, temperature=temperature)
        goal, size = softmax_vjp_row(y, dy, temperature)
        for j, (a, b) in enumerate(zip(got, goal, strict=True)):
            if abs(b) < float(np.finfo(dtype).tiny):
                continue
            bound = units * u * abs(b) + c * exact(y[j]) * size / exact(temperature)
            error = abs(exact(a) - b)
            assert error <= bound, f"row {i} of {len(y)}, {j}: {float(error / bound)} of the bound"


@pytest.mark.parametrize("dtype", WIDE, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_log_softmax_is_within_its_bound(dtype, temperature):
    u, c, t = UNIT[dtype.itemsize], OF_SUM[dtype.itemsize], exact(temperature)
    units = 3 if temperature == 1 else 4
    for i, (y, dy) in enumerate(hard_rows(dtype, 12)):
        with np.errstate(divide="ignore"):
            log = np.log(y.astype(np.float64)).astype(dtype)
        got = smx.log_softmax_vjp(log, dy, temperature=temperature)
        goal, p, total, size = log_softmax_vjp_row(log, dy, temperature)
        for j in range(0, len(y), 1 + len(y) // 300):
            bound = units * u * abs(goal[j]) + 2 * u * p[j] * abs(total) / t
            bound += c * p[j] * size / t
            error = abs(exact(got[j]) - goal[j])
            assert error <= bound, f"row {i} of {len(y)}, {j}: {float(error / bound)} of the bound"


def test_a_float32_sum_would_not_do():
    # What peers do: the same bound with a dot product of float32 fails by a factor of hundreds.
    y, dy = list(hard_rows(np.float32, 11))[13]
    dot = np.float32(0)
    for a, b in zip(y, dy, strict=True):
        dot = np.float32(dot + a * b)
    goal, size = softmax_vjp_row(y, dy)
    u = UNIT[4]
    worst = max(
        abs(exact(a * (b - dot)) - g) / (3 * u * abs(g) + OF_SUM[4] * exact(a) * size)
        for a, b, g in zip(y, dy, goal, strict=True)
        if a > 0)
    assert worst > 100


# -- derivatives -----------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.4, 5.0])
@pytest.mark.parametrize("axis", [-1, 0, None], ids=str)
def test_finite_differences(axis, temperature):
    # Central differences: h² from the third derivative and 2^-53 / h from rounding, 1e-10 at 1e-5.
    x, dx = sample((4, 6), np.float64, 13, 2.0), sample((4, 6), np.float64, 14, 1.0)
    dy, h = sample((4, 6), np.float64, 15, 1.0), 1e-5
    for name, forward in FORWARD.items():
        def call(x, forward=forward):
            return forward(x, axis, temperature=temperature)

        change = (call(x + h * dx) - call(x - h * dx)) / (2 * h)
        gradient = getattr(smx, name)(call(x), dy, axis, temperature=temperature)
        np.testing.assert_allclose((gradient * dx).sum(), (dy * change).sum(), atol=1e-7)
        if name == "softmax_vjp":
            jvp = smx.softmax_jvp(call(x), dx, axis, temperature=temperature)
            np.testing.assert_allclose(jvp, change, atol=1e-7)
    lse = (smx.logsumexp(x + h * dx, axis) - smx.logsumexp(x - h * dx, axis)) / (2 * h)
    weights = np.asarray(sample(np.shape(lse), np.float64, 16))
    gradient = smx.logsumexp_vjp(x, weights, axis)
    np.testing.assert_allclose((gradient * dx).sum(), (weights * lse).sum(), atol=1e-7)


def test_textbook_jacobian():
    # diag(p) - p pᵀ at p = softmax(2, 1, 0) = (0.665, 0.245, 0.090): Goodfellow, Bengio, Courville,
    # Deep Learning, 6.2.2.3, give the derivative p_i (δij - p_j); the numbers are worked by hand.
    jacobian = smx.softmax_jacobian(smx.softmax([2.0, 1.0, 0.0]))
    expected = [[0.2227, -0.1628, -0.0599], [-0.1628, 0.1848, -0.0220], [-0.0599, -0.0220, 0.0819]]
    np.testing.assert_allclose(jacobian, expected, atol=5e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_jacobian_times_vectors(dtype, temperature):
    p = smx.softmax(sample((2, 3, 11), dtype, 17), 1, temperature=temperature)
    v = sample((2, 3, 11), dtype, 18, 1.0)
    jacobian = smx.softmax_jacobian(p, 1, temperature=temperature)
    assert jacobian.shape == (2, 11, 3, 3) and jacobian.dtype == dtype
    wide, vectors = jacobian.astype(float), v.astype(float).transpose(0, 2, 1)
    forward = np.einsum("abij,abj->abi", wide, vectors).transpose(0, 2, 1)
    backward = np.einsum("abij,abi->abj", wide, vectors).transpose(0, 2, 1)
    close(smx.softmax_jvp(p, v, 1, temperature=temperature), forward, 2)
    close(smx.softmax_vjp(p, v, 1, temperature=temperature), backward, 2)
    assert_same_bits(jacobian, jacobian.transpose(0, 1, 3, 2).copy(), "it is symmetric")


def test_jacobian_of_several_axes():
    p = smx.softmax(sample((3, 4, 5), np.float64, 19), (0, 2))
    flat = p.transpose(1, 0, 2).reshape(4, 15)
    assert_same_bits(smx.softmax_jacobian(p, (0, 2)), smx.softmax_jacobian(flat))
    assert smx.softmax_jacobian(p, None).shape == (60, 60)
    assert_same_bits(smx.softmax_jacobian(p, ()), (p * (1 - p))[..., None, None])


def test_jacobian_is_within_its_bound():
    u = UNIT[4]
    p = smx.softmax(sample((70,), np.float32, 20))
    for i, row in enumerate(smx.softmax_jacobian(p)):
        for j, entry in enumerate(row):
            goal = exact(p[i]) * ((i == j) - exact(p[j]))
            assert abs(exact(entry) - goal) <= 3 * u * abs(goal) + Fraction(1, 2**149)


def test_gradient_of_softmax_sums_to_nothing():
    # The results sum to 1 whatever x is, so no change of x changes their sum.
    y = smx.softmax(sample((20, 1000), np.float64, 21))
    dx = smx.softmax_vjp(y, sample((20, 1000), np.float64, 22))
    assert (abs(dx.sum(-1)) < 1e-14).all()


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_cross_entropy_is_p_minus_y(dtype):
    # Textbook: the gradient of -log p_k by the scores is p - y, y being 1 at k. A logarithm of
    # -30 has an ulp that is 30 of its exponential.
    x, classes = sample((7, 33), dtype, 23), np.arange(7) * 4
    one_hot = np.zeros((7, 33), dtype)
    one_hot[np.arange(7), classes] = 1
    got = smx.log_softmax_vjp(smx.log_softmax(x), one_hot)
    np.testing.assert_allclose(
        got, one_hot - smx.softmax(x.astype(float)), rtol=100 * np.finfo(dtype).eps)
    dx = smx.log_softmax_vjp(smx.log_softmax(x), -one_hot)
    assert_same_bits(dx, -got)


def test_chain_of_log_and_softmax():
    # log_softmax is log of softmax, so its gradient is softmax_vjp of dy / y.
    x, dy = sample((5, 9), np.float64, 24, 1.0), sample((5, 9), np.float64, 25, 1.0)
    y = smx.softmax(x)
    np.testing.assert_allclose(
        smx.log_softmax_vjp(np.log(y), dy), smx.softmax_vjp(y, dy / y), rtol=1e-12, atol=1e-14)


# -- properties --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    cols=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
    name=st.sampled_from(NAMES),
    seed=st.integers(0, 2**32 - 1),
)
def test_layout_axis_and_batch_do_not_show(shape, cols, dtype, name, seed):
    function, shape = getattr(smx, name), (*shape, cols)
    y = FORWARD[name](sample(shape, dtype, seed))
    dy = sample(shape, dtype, seed + 1, 1.0)
    plain = function(y, dy)
    moved = function(np.moveaxis(y, -1, 0), np.moveaxis(dy, -1, 0), 0)
    assert_same_bits(np.moveaxis(moved, 0, -1), plain, f"seed {seed}")
    spread = np.zeros((*shape[:-1], 2 * cols), dtype)[..., ::-2]
    other = spread.copy()[..., ::-1]
    spread[...], other[...] = y, dy
    out = np.zeros((cols, *shape[:-1]), dtype).transpose(*range(1, len(shape)), 0)
    assert function(spread, other, out=out) is out
    assert_same_bits(out, plain, f"seed {seed}, strides")
    first = (0,) * (len(shape) - 1)
    assert_same_bits(function(y[first], dy[first]), plain[first], f"seed {seed}, one row")
    for into in 0, 1:
        operands = [y.copy(), dy.copy()]
        assert function(*operands, out=operands[into]) is operands[into]
        assert_same_bits(operands[into], plain, f"seed {seed}, in place of operand {into}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, BF16], ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 50_000), (3, 9000), (300, 257)])
def test_threads_do_not_show(name, dtype, shape):
    function = getattr(smx, name)
    y, dy = FORWARD[name](sample(shape, dtype, 26)), sample(shape, dtype, 27)
    mask = np.random.default_rng(28).random(shape) < 0.9
    with smx.num_threads(1):
        plain, masked = function(y, dy), function(y, dy, mask=mask)
        sums = smx.logsumexp_vjp(y, dy[:, 0])
    for threads in 2, 3, 7:
        with smx.num_threads(threads):
            assert_same_bits(function(y, dy), plain, f"{threads} threads")
            assert_same_bits(function(y, dy, mask=mask), masked, f"{threads} threads, masked")
            assert_same_bits(smx.logsumexp_vjp(y, dy[:, 0]), sums, f"{threads} threads, logsumexp")
