"""cross_entropy and nll_from_log_probs: values, gradients, what torch defines, special rows, bits.

Expected values come from the definitions in float64 (`loss_of`), from mpmath where a bound is
claimed, and from torch's documentation of cross_entropy, quoted where it decides.
"""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from losses_reference import asked, case, log_softmax_of, loss_of, reduced, softmax_of
from reference import BF16, DTYPES

import swiftmax as smx

INF, NAN = np.inf, np.nan


# -- textbook --------------------------------------------------------------------------------------


def test_four_words():
    # By hand: exp of the scores is 403.43, 20.09, 1.65, 1.65, the sum 426.81, the first p 0.9452.
    x = np.array([6, 3, 0.5, 0.5])
    p = np.exp(x) / np.exp(x).sum()
    for word in range(4):
        loss, grad = smx.cross_entropy(x, word, return_grad=True)
        assert np.isclose(loss, -np.log(p[word]), rtol=1e-14)
        assert np.allclose(grad, p - np.eye(4)[word], rtol=1e-13, atol=1e-16)
    assert round(float(smx.cross_entropy(x, 0)), 4) == 0.0563


@pytest.mark.parametrize("classes", [2, 7, 50])
def test_equal_logits_cost_the_logarithm_of_their_number(classes):
    loss, grad = smx.cross_entropy(np.zeros((3, classes)), [0, 1, 1], return_grad=True)
    assert loss == np.log(classes)
    share = 1 / (3 * classes)
    assert np.allclose(grad[0, 1:], share, rtol=0, atol=5 * np.spacing(share))
    assert np.allclose(grad.sum(-1), 0, atol=5 * np.spacing(1 / 3))


def test_torch_documentation_of_smoothing_and_weights():
    # loss = (1 - e) * nll + e / K * sum of -w_k log p_k; "mean" divides by the sum of w[target].
    rng = np.random.default_rng(3)
    x, t, w = rng.standard_normal((5, 4)), np.array([0, 3, 1, 1, 2]), np.array([0.5, 2, 1, 3])
    log_p = log_softmax_of(x)
    nll, smooth = -w[t] * log_p[np.arange(5), t], -(w * log_p).sum(-1)
    expected = (0.9 * nll + 0.1 / 4 * smooth).sum() / w[t].sum()
    got = smx.cross_entropy(x, t, weight=w, label_smoothing=0.1)
    assert np.isclose(got, expected, rtol=1e-14)


# -- against the definition ------------------------------------------------------------------------

OPTIONS = [
    {},
    {"weight": True},
    {"label_smoothing": 0.1},
    {"label_smoothing": 1.0, "weight": True},
    {"z_loss": 1e-2},
    {"temperature": 0.3},
    {"temperature": 1e6},
    {"mask": True},
    {"mask": True, "label_smoothing": 0.2, "weight": True, "z_loss": 0.5, "temperature": 2.0},
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(3,), (4, 1), (5, 10), (3, 2, 33), (2, 4096), (3, 9001)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_loss_is_its_definition(options, shape, reduction):
    rng, x, targets, options = case(1, shape, options)
    targets[rng.random(targets.shape) < 0.3] = -100
    got = smx.cross_entropy(x, targets, reduction=reduction, **options)
    expected = reduced(x, targets, reduction, **options)
    assert np.shape(got) == np.shape(expected)
    assert np.allclose(got, expected, rtol=1e-12, atol=1e-13)
    soft = rng.dirichlet(np.full(shape[-1], 0.5), shape[:-1])
    if "mask" in options:
        soft = np.where(options["mask"], soft, 0)
    got = smx.cross_entropy(x, soft, reduction=reduction, **options)
    assert np.allclose(got, reduced(x, soft, reduction, **options), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", ["classes", "probabilities"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradient_by_central_differences(options, reduction, kind):
    rng, x, targets, options = case(2, (4, 6), options, spread=1.0)
    targets[1] = -100
    if kind == "probabilities":
        targets = rng.dirichlet(np.ones(6), 4)
        if "mask" in options:
            targets = np.where(options["mask"], targets, 0)
    upstream = rng.uniform(0.5, 2, 4) if reduction == "none" else 1.7

    def objective(x):
        return np.sum(upstream * reduced(x, targets, reduction, **options))

    _, grad = smx.cross_entropy(
        x, targets, reduction=reduction, grad_scale=upstream, return_grad=True, **options
    )
    step = 1e-5
    for i in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[i] = step
        slope = (objective(x + d) - objective(x - d)) / (2 * step)
        assert np.isclose(grad[i], slope, rtol=1e-6, atol=1e-9), (i, grad[i], slope, "seed 2")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [5, 300, 5000])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradient_is_its_formula(options, k, dtype):
    _rng, x, targets, options = case(4, (6, k), options, dtype)
    c, _ = asked(
        x,
        targets,
        **{n: v for n, v in options.items() if n in ("weight", "label_smoothing", "mask")},
    )
    t = options.get("temperature", 1.0)
    exact = np.asarray(x, float) / t
    p = softmax_of(exact, options.get("mask"))
    _, lse, grad = smx.cross_entropy(
        x, targets, reduction="sum", return_lse=True, return_grad=True, **options
    )
    assert grad.dtype == x.dtype
    z = 2 * options.get("z_loss", 0) * np.asarray(lse, float)[:, None]
    expected = ((c.sum(-1, keepdims=True) + z) * p - c) / t
    size = ((c.sum(-1, keepdims=True) + abs(z)) * p + abs(c)) / t
    # 4 units of the terms (swiftmax_training.h), a narrow result half a unit of its own and, where
    # it is subnormal, half the smallest number. float64 references are themselves off by a few.
    unit = {np.dtype(np.float64): 2.0**-46, np.dtype(np.float32): 2.0**-22}.get(
        np.dtype(dtype), 2.0**-22 + (2.0**-8 if dtype == BF16 else 2.0**-11)
    )
    tiny = 2.0**-25 if np.dtype(dtype) == np.float16 else 2.0**-149
    error = abs(np.asarray(grad, float) - expected)
    assert (error <= unit * size + tiny).all(), (error / (size + 1e-300)).max()


# -- accuracy --------------------------------------------------------------------------------------


def exact_losses(row, targets):
    """log(sum of exp(x - x_target)) of each target, and lse, with enough digits for any row."""
    with mpmath.workdps(60):
        x = [mpmath.mpf(float(v)) for v in row]
        m = max(x)
        top = x.index(m)
        # Behind 60 digits of the largest other term nothing shows.
        second = max((v for i, v in enumerate(x) if i != top), default=m)
        near = (v for i, v in enumerate(x) if i != top and v > second - 140)
        relative = mpmath.log1p(mpmath.fsum(mpmath.exp(v - m) for v in near))
        return [relative + (m - x[target]) for target in targets], relative + m


ROWS = [
    [0, -20],
    [0, -1],
    [0, -60],
    [0, 0],
    [3, 2.5],
    [1e-3, -1e-3, 0],
    [1000, 980, 979.5],
    [65000, 64990, 64999.5],
    [1e6, 1e6 - 3, 1e6 - 2],
    [-3e5, -3e5 - 2, -3e5 + 1],
    [-5, -100, -99],
    [50, -60, -61.5],
    [-70, -70.5, -90],
    [0.25, -3.5, -3.5, -3.5],
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_within_2_ulp_and_lse_within_1(dtype):
    rng = np.random.default_rng(11)
    rows = [np.array(r, dtype) for r in ROWS]
    for k in (2, 3, 5, 17, 100, 4500):
        for spread in (0.05, 0.5, 2, 8, 40):
            for offset in (0, 7, -300, 40000, 3e6) if k < 4500 else (0, 3e6):
                rows.append((spread * rng.standard_normal(k) + offset).astype(dtype))
    worst = 0.0
    for row in rows:
        targets = [0, int(row.argmax()), len(row) - 1]
        exacts, exact_lse = exact_losses(row, targets)
        for target, exact in zip(targets, exacts, strict=True):
            loss, lse = smx.cross_entropy(row, target, return_lse=True)
            if exact < np.finfo(dtype).tiny:
                assert abs(loss - exact) <= np.finfo(dtype).tiny
                continue
            error = abs(mpmath.mpf(float(loss)) - exact) / float(np.spacing(dtype(exact)))
            worst = max(worst, float(error))
            assert error <= 2, (row[:5], target, loss, exact)
            size = max(abs(float(exact_lse)), abs(float(row.max())))
            error = abs(mpmath.mpf(float(lse)) - exact_lse) / float(np.spacing(dtype(size)))
            assert error <= 1, (row[:5], lse, exact_lse)
    print(f"worst {worst} ulp")


@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=9), st.data())
@settings(max_examples=300, deadline=None)
def test_short_rows_within_2_ulp(values, data):
    row = np.array(values, np.float32)
    target = data.draw(st.integers(0, len(values) - 1))
    loss = smx.cross_entropy(row, target)
    (exact,), _ = exact_losses(row, [target])
    assert abs(mpmath.mpf(float(loss)) - exact) <= 2 * float(np.spacing(np.float32(exact)))


@pytest.mark.parametrize("classes", [2, 3, 10, 33, 64])
def test_few_classes_within_bounds(classes):
    """Many rows whose lse is near zero, where the rounding of their sum could show."""
    rng = np.random.default_rng(13)
    rows = 40_000
    spread = 10 ** rng.uniform(-1.5, 0.8, (rows, 1))
    offset = rng.uniform(-np.log(classes), 1, (rows, 1))
    x = (rng.standard_normal((rows, classes)) * spread + offset).astype(np.float32)
    targets = rng.integers(0, classes, rows)
    loss, lse = smx.cross_entropy(x, targets, reduction="none", return_lse=True)
    # By the definition in float64, which has 29 bits more.
    wide = np.sort(x.astype(np.float64))
    top = wide[:, -1]
    relative = np.log1p(np.exp(wide[:, :-1] - top[:, None]).sum(1))
    exact = relative + (top - x[np.arange(rows), targets].astype(np.float64))
    ulp = np.spacing(exact.astype(np.float32))
    assert (np.abs(loss - exact) / ulp).max() <= 2, "seed 13"
    ulp = np.spacing(np.maximum(np.abs(top + relative), np.abs(top)).astype(np.float32))
    assert (np.abs(lse - (top + relative)) / ulp).max() <= 1, "seed 13"


@pytest.mark.parametrize("temperature, reduction", [(1.0, "sum"), (0.7, "sum"), (2.9, "mean")])
def test_gradient_of_float64_within_6_ulp(temperature, reduction):
    """Sums whose logarithm is a number of 2, 4 and 8, where half an ulp of it would show."""
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("no wider numbers to compare with")
    rng = np.random.default_rng(17)
    worst = 0.0
    for classes in (2, 5, 8, 60, 200, 1000, 20_000):
        for spread in (0.01, 0.3, 1, 3):
            x = rng.normal(3, spread, (40_000 // classes, classes))
            targets = rng.integers(0, classes, len(x))
            _, grad = smx.cross_entropy(
                x, targets, temperature=temperature, reduction=reduction, return_grad=True)
            rows = np.longdouble(len(x) if reduction == "mean" else 1)
            wide = x.astype(np.longdouble)
            e = np.exp((wide - wide.max(1, keepdims=True)) / np.longdouble(temperature))
            exact = e / e.sum(1, keepdims=True) / np.longdouble(temperature) / rows
            error = np.abs(grad - exact) / np.spacing(exact.astype(np.float64))
            error[np.arange(len(x)), targets] = 0
            worst = max(worst, float(error.max()))
    print(f"worst {worst} ulp")
    assert worst <= (5 if reduction == "sum" else 6), "seed 17"


def test_gradient_of_a_certain_class_does_not_cancel():
    for gap in (1.0, 5.0, 15.0, 40.0, 80.0):
        row = np.array([gap, 0, -1], np.float32)
        _, grad = smx.cross_entropy(row, 0, return_grad=True)
        exact = np.expm1(-np.log1p(np.exp(-gap) + np.exp(-gap - 1)))
        assert abs(grad[0] - exact) <= 2 * np.spacing(np.float32(abs(exact))), gap


def test_sums_over_many_rows_are_rounded_once():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((5000, 7)).astype(np.float32)
    t = rng.integers(0, 7, 5000)
    rows, _ = loss_of(x, t)
    for reduction, exact in (("sum", rows.sum()), ("mean", rows.mean())):
        got = smx.cross_entropy(x, t, reduction=reduction)
        assert abs(got - exact) <= np.spacing(np.float32(exact))


# -- special values --------------------------------------------------------------------------------


def test_all_ignored():
    x = np.ones((3, 4))
    t = np.full(3, -100)
    for reduction in ("mean", "sum"):
        loss, lse, grad = smx.cross_entropy(
            x, t, reduction=reduction, return_lse=True, return_grad=True
        )
        assert loss == 0 and not grad.any() and np.allclose(lse, 1 + np.log(4))
    assert not smx.cross_entropy(x, t, reduction="none").any()
    assert smx.perplexity(x, t) == 1


def test_ignored_rows_are_not_looked_at():
    x = np.array([[1.0, 2.0], [NAN, INF]])
    loss, grad = smx.cross_entropy(x, [0, 7], ignore_index=7, return_grad=True)
    assert loss == smx.cross_entropy(x[:1], [0]) and not grad[1].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_special_rows(dtype):
    rows = np.array(
        [[0, NAN, 1], [0, INF, 1], [-INF, -INF, -INF], [-INF, 0, 0], [INF, NAN, 0], [0, 0, -INF]]
    ).astype(dtype)
    loss, lse, grad = smx.cross_entropy(
        rows, [0, 1, 0, 0, 1, 2], reduction="none", return_lse=True, return_grad=True
    )
    assert np.isnan(loss[[0, 1, 2, 4]]).all() and loss[3] == INF and loss[5] == INF
    assert np.isnan(lse[[0, 4]]).all() and lse[1] == INF and lse[2] == -INF
    grad = grad.astype(float)
    assert np.isnan(grad[[0, 1, 2, 4]]).all()
    assert (grad[3] == [-1, 0.5, 0.5]).all() and (grad[5] == [0.5, 0.5, -1]).all()


def test_logits_far_below_the_others():
    # As masks by addition leave them: finite, and beyond what the fast form counts with.
    far = np.float32([-1e4, -65537, -1e9, -3.4e38, -1e30])
    x = np.concatenate([np.float32([1, 2]), far, np.full(5000, -1e38, np.float32)])
    assert smx.cross_entropy(x, 0) == smx.cross_entropy(x[:2], 0)
    y = np.concatenate([np.full(5000, -70000, np.float32), np.float32([1, 2])])
    assert smx.cross_entropy(y, 5000) == smx.cross_entropy(x[:2], 0)
    z = np.concatenate([np.full(4096, -65540, np.float32), np.float32([-65530, -65541])])
    others = 4096 * np.exp(-10.0) + np.exp(-11.0)
    assert np.isclose(smx.cross_entropy(z, 4096), np.log1p(others), rtol=1e-6)
    y[3] = NAN
    assert np.isnan(smx.cross_entropy(y, 5000))


def test_masked_classes():
    x = np.array([[1.0, NAN, 3.0, INF]])
    mask = np.array([True, False, True, False])
    loss, lse, grad = smx.cross_entropy(x, [2], mask=mask, return_lse=True, return_grad=True)
    plain, plain_lse, plain_grad = smx.cross_entropy(
        x[:, ::2].copy(), [1], return_lse=True, return_grad=True
    )
    assert loss == plain and lse == plain_lse
    assert (grad == [[plain_grad[0, 0], 0, plain_grad[0, 1], 0]]).all()
    # A masked target: inf, and the visible classes keep their p.
    loss, grad = smx.cross_entropy(x, [1], mask=mask, return_grad=True)
    assert loss == INF and np.allclose(
        grad, [[softmax_of(np.r_[1.0, 3.0])[0], 0, *(softmax_of(np.r_[1.0, 3.0])[1:]), 0]]
    )
    loss, lse, grad = smx.cross_entropy(x, [1], mask=False, return_lse=True, return_grad=True)
    assert loss == INF and lse == -INF and not grad.any()
    # Nothing is asked of a hidden class of probability 0.
    soft = np.array([[0.25, 0, 0.75, 0]])
    assert np.isfinite(smx.cross_entropy(x, soft, mask=mask, label_smoothing=0.1))


def test_nothing_asked_of_an_impossible_class():
    x = np.array([[0.0, -INF, 0.0]])
    assert smx.cross_entropy(x, [[0.5, 0.0, 0.5]]) == np.log(2)
    assert smx.cross_entropy(x, [[0.5, 0.25, 0.25]]) == INF


def test_empty():
    assert smx.cross_entropy(np.ones((0, 4)), np.ones(0, int)) == 0
    assert smx.cross_entropy(np.ones((0, 4)), np.ones((0, 4)), reduction="sum") == 0
    loss, grad = smx.cross_entropy(
        np.ones((0, 4)), np.ones(0, int), reduction="none", return_grad=True
    )
    assert loss.shape == (0,) and grad.shape == (0, 4)
    loss, lse = smx.cross_entropy(np.ones((2, 0)), [-100, -100], return_lse=True)
    assert loss == 0 and (lse == -INF).all()


def test_temperatures_at_the_edge():
    x = np.float32([[1, 2, 3]])
    assert smx.cross_entropy(x, [2], temperature=2.0**-126) == 0
    assert np.isclose(smx.cross_entropy(x, [0], temperature=2.0**126), np.log(3))
    for t in (2.0**-127, 2.0**127, 0, -1, NAN, INF):
        with pytest.raises(ValueError, match="temperature"):
            smx.cross_entropy(x, [2], temperature=t)


@pytest.mark.parametrize("dtype, exponents", [
    (np.float32, (-100, -40, 20, 100)), (np.float64, (-1000, -600, -300, 300, 600, 1000)),
])
@pytest.mark.parametrize("rows", [1, 40])
def test_tiny_and_huge_factors_of_the_gradient(dtype, exponents, rows):
    """Powers of two, which change no digit, of one row and of rows together."""
    x, y = np.linspace(-3, 3, 100 * rows).reshape(rows, 100).astype(dtype), np.full(rows, 7)
    _, plain = smx.cross_entropy(x, y, reduction="sum", return_grad=True)
    for exponent in exponents:
        scale = dtype(2.0**exponent)
        options = {"reduction": "sum", "return_grad": True, "grad_scale": scale}
        _, grad = smx.cross_entropy(x, y, **options)
        assert (grad == plain * scale).all(), exponent
    _, grad = smx.cross_entropy(x, y, reduction="sum", grad_scale=0.0, return_grad=True)
    assert not grad.any()
