"""fit_temperature and calibration_error, against SciPy's minimiser and NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import DTYPES, assert_same_bits
from scipy.optimize import minimize_scalar

import swiftmax as smx


def sample_rows(rows, classes, factor, seed, dtype=np.float64):
    """Logits and labels drawn from softmax(logits / factor) by the Gumbel trick."""
    random = np.random.default_rng(seed)
    honest = random.standard_normal((rows, classes)) * 2
    labels = (honest + random.gumbel(size=honest.shape)).argmax(axis=1)
    return (factor * honest).astype(dtype), labels


def mean_loss(logits, labels, temperature):
    x = np.asarray(logits, np.float64)
    return -smx.log_softmax(x, temperature=temperature)[np.arange(len(x)), labels].mean()


def numpy_calibration_error(p, labels, bins):
    """Guo et al. 2017: bins (a, b] of equal width over the confidence."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    edges = np.arange(bins + 1) / bins
    place = np.searchsorted(edges, confidence, side="left") - 1
    error = 0.0
    for b in range(bins):
        inside = place == b
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


# -- the temperature -----------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 300),
    st.integers(2, 30),
    st.sampled_from([0.01, 0.3, 1.0, 5.0, 200.0]),
    st.integers(0, 99),
)
def test_fit_is_the_minimum(rows, classes, factor, seed):
    logits, labels = sample_rows(rows, classes, factor, seed)
    fit = smx.fit_temperature(logits, labels)
    found = minimize_scalar(
        lambda u: mean_loss(logits, labels, np.exp(u)), bounds=np.log([0.001, 1000]),
        method="bounded", options={"xatol": 1e-9})
    # The loss is flat at its minimum: it is compared closely, its place less so.
    assert fit.nll_after <= found.fun * (1 + 1e-12), (rows, classes, factor, seed)
    if fit.bound == 0 and rows > 50:
        assert fit.temperature == pytest.approx(np.exp(found.x), rel=1e-4)
    assert fit.nll_after == pytest.approx(mean_loss(logits, labels, fit.temperature), rel=1e-12)
    assert fit.nll_before == pytest.approx(mean_loss(logits, labels, 1.0), rel=1e-12)
    assert fit.nll_after <= fit.nll_before and fit.iterations < 60
    if fit.bound == 0:
        p = smx.softmax(logits, temperature=fit.temperature)
        of_rows = (p * logits).sum(axis=1) - logits[np.arange(rows), labels]
        assert abs(of_rows.sum()) <= 1e-9 * np.abs(of_rows).sum(), "the derivative is 0"


def test_fit_of_a_known_temperature():
    """Two in three answers right, with logits (z, 0): the best p is 2/3, so T = z / log 2."""
    for z in 1e-2, 1.0, 30.0, 600.0:
        fit = smx.fit_temperature(np.full((3, 2), [z, 0.0]), [0, 0, 1])
        assert fit.temperature == pytest.approx(z / np.log(2), rel=1e-12)
        assert fit.bound == 0 and fit.calibration_error_after == pytest.approx(0, abs=1e-12)
        assert fit.nll_after == pytest.approx(np.log(3) - 2 / 3 * np.log(2), rel=1e-12)


def test_fit_at_the_bounds():
    x = np.random.default_rng(1).standard_normal((200, 5))
    sure = smx.fit_temperature(x, x.argmax(axis=1))
    assert (sure.temperature, sure.bound) == (0.001, -1)
    against = smx.fit_temperature(x, x.argmin(axis=1))
    assert (against.temperature, against.bound) == (1000.0, 1)
    assert smx.fit_temperature(x, x.argmax(axis=1), bounds=(0.2, 3)).temperature == 0.2
    assert smx.fit_temperature(x, x.argmin(axis=1), bounds=(0.2, 3)).temperature == 3
    # A range that leaves 1 out, with the optimum on either side and within.
    logits, labels = sample_rows(500, 4, 5.0, seed=3)
    free = smx.fit_temperature(logits, labels)
    assert 4 < free.temperature < 6 and free.bound == 0
    assert smx.fit_temperature(logits, labels, bounds=(7, 9))[:1] == (7.0,)
    assert smx.fit_temperature(logits, labels, bounds=(2, 3)).bound == 1
    within = smx.fit_temperature(logits, labels, bounds=(2, 20))
    assert within.temperature == pytest.approx(free.temperature, rel=1e-11)
    assert smx.fit_temperature(logits, labels, bounds=(2, 2)).temperature == 2


def test_fit_where_temperature_does_not_matter():
    fit = smx.fit_temperature(np.zeros((4, 3)), [0, 1, 2, 0])
    assert (fit.temperature, fit.bound, fit.iterations) == (1.0, 0, 0)
    assert fit.nll_before == fit.nll_after == pytest.approx(np.log(3), rel=1e-15)
    assert smx.fit_temperature(np.zeros((2, 1)), [0, 0]).nll_after == 0
    # So certain that exp underflows: nothing can be told from T = 1.
    assert smx.fit_temperature([[2000.0, 0.0]], [0]).temperature == 1


def test_fit_of_logits_of_any_size():
    """No square overflows, and no loss of an easy row is lost beside 1."""
    logits, labels = sample_rows(300, 6, 3.0, seed=9)
    fit = smx.fit_temperature(logits, labels)
    for exponent in -12, 12:
        scaled = smx.fit_temperature(
            np.ldexp(logits, exponent), labels, bounds=(2.0**-30, 2.0**30))
        assert scaled.temperature == pytest.approx(np.ldexp(fit.temperature, exponent), rel=1e-11)
    huge = smx.fit_temperature(logits * 1e200, labels, bounds=(1e190, 1e210))
    assert huge.temperature == pytest.approx(fit.temperature * 1e200, rel=1e-11)
    easy = smx.fit_temperature([[40.0, 0.0], [50.0, 0.0]], [0, 0])
    assert easy.nll_before == pytest.approx((np.exp(-40) + np.exp(-50)) / 2, rel=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [2, 7, 8, 100, 9000])
def test_same_bits_in_any_dtype_layout_and_number_of_threads(dtype, classes):
    rows = 40 if classes > 1000 else 300
    logits, labels = sample_rows(rows, classes, 2.0, classes, dtype)
    expected = smx.fit_temperature(logits.astype(np.float64), labels)
    wide = np.zeros((rows, 2 * classes), dtype)
    wide[:, ::2] = logits
    calls = {
        "as it is": (logits, labels),
        "first axis fastest": (np.asfortranarray(logits), labels.astype(np.int32)),
        "strided": (wide[:, ::2], labels),
        "more axes": (logits.reshape(2, -1, classes), labels.reshape(2, -1)),
    }
    for name, call in calls.items():
        for n in 1, 3:
            with smx.num_threads(n):
                fit = smx.fit_temperature(*call)
            assert fit[:7] == expected[:7], (name, n)
            for got, due in zip(fit.diagram_after, expected.diagram_after, strict=True):
                assert_same_bits(got, due, f"{name}, {n} threads")


# -- the calibration error -----------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 400), st.integers(1, 12), st.integers(1, 30), st.integers(0, 99))
def test_calibration_error_is_that_of_guo(rows, classes, bins, seed):
    logits, labels = sample_rows(rows, classes, 2.0, seed)
    for temperature in 1.0, 2.5:
        p = smx.softmax(logits, temperature=temperature)
        exact = numpy_calibration_error(p, labels, bins)
        error = smx.calibration_error(logits, labels, temperature=temperature, bins=bins)
        assert error == pytest.approx(exact, rel=1e-9, abs=1e-12), (rows, classes, bins, seed)
    error = smx.calibration_error(p, labels, bins=bins, from_probabilities=True)
    assert error == pytest.approx(exact, rel=1e-12, abs=1e-15)


def test_bins_are_closed_above():
    """With two classes and dyadic p nothing is rounded: 0.5 falls into (0.25, 0.5]."""
    p = np.array([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [1.0, 0.0], [0.875, 0.125]])
    error, diagram = smx.calibration_error(
        p, [0, 0, 0, 0, 1], bins=4, from_probabilities=True, return_diagram=True)
    assert diagram.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert diagram.counts.tolist() == [0, 1, 2, 2]
    assert diagram.confidence.tolist() == [0, 0.5, 0.75, 0.9375]
    assert diagram.accuracy.tolist() == [0, 1, 0.5, 0.5]
    assert error == (0.5 + 0.5 + 0.875) / 5


def test_the_first_of_equal_logits_is_the_answer():
    for classes in 3, 40, 5000:
        x = np.zeros((classes, classes), np.float32)
        _, diagram = smx.calibration_error(x, np.arange(classes), return_diagram=True)
        assert (diagram.accuracy * diagram.counts).sum() == pytest.approx(1)


def test_calibration_refuses():
    x, labels = np.zeros((3, 4)), [0, 1, 2]
    nan, inf = x.copy(), x.copy()
    nan[1, 3], inf[2, 2] = np.nan, -np.inf
    for change, words in (
        ({"labels": [0, 1, 4]}, r"labels\[2\] is 4, but logits of shape \(3, 4\) .* 0 to 3"),
        ({"labels": [0, -1, 1]}, r"labels\[1\] is -1"),
        ({"labels": [0, 1]}, r"labels of shape \(2,\)"),
        ({"logits": nan}, r"logits\[1\] holds a NaN"),
        ({"logits": inf}, r"logits\[2\].*-inf for its label 2"),
        ({"logits": np.zeros((0, 4)), "labels": np.zeros(0, int)}, "no row"),
        ({"bins": 0}, "bins"),
        ({"bins": 1 << 21}, "bins"),
    ):
        for function in smx.fit_temperature, smx.calibration_error:
            with pytest.raises(ValueError, match=words):
                function(**({"logits": x, "labels": labels} | change))
    for value in 0.0, -1.0, np.nan, np.inf, 5e-324:
        with pytest.raises(ValueError, match="temperature"):
            smx.calibration_error(x, labels, temperature=value)
        with pytest.raises(ValueError, match="lowest"):
            smx.fit_temperature(x, labels, bounds=(value, 10.0))
    with pytest.raises(ValueError, match=r"lowest of bounds.*more than the highest"):
        smx.fit_temperature(x, labels, bounds=(3, 2))
    with pytest.raises(ValueError, match="bounds"):
        smx.fit_temperature(x, labels, bounds=(1, 2, 3))
    for p in [[1.5, 0.0]], [[np.nan, 0.5]], [[0.5, -0.5]]:
        with pytest.raises(ValueError, match=r"logits\[0\].*no probabilities"):
            smx.calibration_error(p, [1], from_probabilities=True)
    with pytest.raises(ValueError, match="temperature is of logits"):
        smx.calibration_error(x, labels, temperature=2.0, from_probabilities=True)
    for change in {"labels": [0.0, 1.0, 2.0]}, {"labels": None}, {"logits": "abc"}, {"bins": 1.5}:
        with pytest.raises(TypeError):
            smx.fit_temperature(**({"logits": x, "labels": labels} | change))
