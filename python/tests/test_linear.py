"""Cross-entropy of a linear layer: its formula, its gradients by differences, special values,
arguments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_reference import RESULTS, everything, problem, reference
from reference import BF16, DTYPES, WIDE, assert_same_bits

import swiftmax as smx

NAN, INF = np.nan, np.inf


# -- the formula -----------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(DTYPES), st.integers(1, 200), st.integers(1, 150),
    st.sampled_from([1, 2, 7, 128, 129, 300, 2048, 2500]), st.booleans(),
    st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from([0.0, 1e-2]),
    st.sampled_from(["mean", "sum", "none"]), st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([1.0, -3.0]), st.integers(0, 2**32 - 1),
)
def test_formula(dtype, tokens, columns, classes, biased, smoothing, z, reduction, ignored, scale,
                 seed):
    hidden, weight, bias, targets = problem(tokens, columns, classes, dtype, seed, ignored)
    options = {"bias": bias if biased else None, "label_smoothing": smoothing, "z_loss": z,
               "reduction": reduction, "grad_scale": scale}
    got = everything(hidden, weight, targets, **options)
    expected = reference(hidden, weight, targets, **options)
    assert len(got) == 4 + biased
    # Of a logit the error is that of a sum of D products, each below 10; of a gradient that much of
    # what its terms come to without their signs.
    unit = (2.0**-52 if dtype == np.float64 else 2.0**-23) * (10 + columns**0.5)
    largest = 1 + abs(expected[1]).max()
    weights = abs(weight.astype(float)).max(initial=1), abs(hidden.astype(float)).max(initial=1)
    sizes = [largest**2 * (tokens if reduction == "sum" else 1), largest,
             2 * abs(scale) * largest * weights[0],
             2 * abs(scale) * largest * weights[1] * tokens**0.5, 2 * abs(scale) * tokens**0.5]
    for name, x, y, size in zip(RESULTS, got, expected, sizes, strict=False):
        narrow = name in RESULTS[2:4] and dtype.itemsize == 2
        assert x.dtype == (dtype if name in RESULTS[2:4] else single(dtype)), name
        assert x.shape == np.shape(y), name
        np.testing.assert_allclose(
            np.asarray(x, float), y, rtol=unit + 2.0**-8 * narrow, err_msg=name,
            atol=unit * size + 2.0**-24 * narrow)


def single(dtype):
    return np.float64 if dtype == np.float64 else np.float32


def test_gradients_by_differences():
    # Central differences of the package's own loss: an error of h**2 and of 2**-52 / h.
    hidden, weight, bias, targets = problem(7, 4, 6, np.float64, 1)
    options = {"label_smoothing": 0.2, "z_loss": 0.05}
    _, _, *gradients = everything(hidden, weight, targets, bias=bias, **options)
    h = 1e-5
    for array, gradient in zip((hidden, weight, bias), gradients, strict=True):
        for at in np.ndindex(array.shape):
            value, losses = array[at], []
            for step in h, -h:
                array[at] = value + step
                losses.append(
                    smx.linear_cross_entropy(hidden, weight, targets, bias=bias, **options))
            array[at] = value
            np.testing.assert_allclose(
                (losses[0] - losses[1]) / (2 * h), gradient[at], atol=1e-9, rtol=1e-7)


def test_textbook():
    # Equal logits: the loss is the logarithm of the number of classes.
    for classes in 2, 10, 5000:
        weight = np.ones((classes, 3))
        loss, lse, gradients = smx.linear_cross_entropy(
            np.ones((4, 3)), weight, [0, 1, 0, 1], return_lse=True, return_grad=True)
        np.testing.assert_allclose(loss, np.log(classes), rtol=1e-15)
        np.testing.assert_allclose(lse, 3 + np.log(classes), rtol=1e-15)
        # The mean of d_logits is 0; NumPy adds the classes one after the other.
        np.testing.assert_allclose(gradients[1].sum(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("dtype", WIDE, ids=str)
@pytest.mark.parametrize("logit", [12.0, 1000.0, 2.0**19])
def test_a_sure_class_keeps_its_digits(dtype, logit):
    # Of 12 the other class counts exp(-12) = 6.1e-6. An error relative to lse would be larger: that
    # of float32's log2(e) came to -0.007 at 2**19.
    weight = np.array([[1.0], [0.0]], dtype)
    loss = smx.linear_cross_entropy(np.array([[logit]], dtype), weight, [0])
    unit = 2.0**-23 if dtype == np.float32 else 2.0**-53 * logit
    np.testing.assert_allclose(loss, np.log1p(np.exp(-logit)), atol=2 * unit, rtol=0)


# -- special values ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("index", [-100, 3, 2**40, -(2**63)])
def test_ignored_tokens_are_not_read(dtype, index):
    hidden, weight, bias, targets = problem(60, 20, 200, dtype, 2)
    targets[targets == 3] = 4
    ignored = targets == -100
    targets[ignored] = index
    options = {"bias": bias, "ignore_index": index, "label_smoothing": 0.1, "z_loss": 0.01}
    expected = everything(hidden, weight, targets, **options)
    for poison in NAN, INF:
        hidden[ignored] = poison
        got = everything(hidden, weight, targets, **options)
        for name, x, y in zip(RESULTS, got, expected, strict=True):
            assert_same_bits(x, y, name)
    assert ignored.any() and (got[1][ignored] == 0).all() and (got[2][ignored] == 0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("tokens", [0, 1, 60])
def test_nothing_to_learn_is_0(reduction, tokens):
    for poison in 1.0, NAN, -INF:
        hidden, weight, bias, targets = problem(tokens, 20, 200, np.float32, 3)
        targets[:] = -100
        weight[7], bias[8] = poison, poison
        got = everything(hidden, weight, targets, bias=bias, reduction=reduction)
        for name, x in zip(RESULTS, got, strict=True):
            assert_same_bits(x, np.zeros_like(x), name)


def test_no_classes():
    got = everything(
        np.ones((60, 5)), np.ones((0, 5)), np.full(60, -100), bias=np.ones(0), reduction="none")
    for x, shape in zip(got, [(60,), (60,), (60, 5), (0, 5), (0,)], strict=True):
        assert_same_bits(x, np.zeros(shape))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_shut_class(dtype):
    hidden, weight, bias, targets = problem(60, 20, 2200, dtype, 4)
    targets[targets % 5 == 0] = 1
    bias[::5] = -INF
    loss, lse, d_hidden, d_weight, d_bias = everything(
        hidden, weight, targets, bias=bias, reduction="none")
    assert np.isfinite(loss).all() and (d_weight[::5] == 0).all() and (d_bias[::5] == 0).all()
    # As if it were not there, but for the order of the sums.
    open_ = np.arange(2200) % 5 != 0
    place = np.cumsum(open_) - 1
    targets = np.where(targets >= 0, place[targets], -100)
    expected = reference(hidden, weight[open_], targets, bias[open_], reduction="none")
    unit = 2.0**-7 if dtype.itemsize == 2 else 1e-5
    np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
    np.testing.assert_allclose(lse, expected[1], rtol=1e-5)
    np.testing.assert_allclose(d_hidden.astype(float), expected[2], rtol=unit, atol=1e-6)
    np.testing.assert_allclose(d_weight[open_].astype(float), expected[3], rtol=unit, atol=1e-6)


def test_a_shut_target():
    loss, (d_hidden, _, d_bias) = smx.linear_cross_entropy(
        np.ones((2, 1)), np.ones((3, 1)), [1, 0], bias=[0, -INF, 0.0], reduction="none",
        return_grad=True)
    np.testing.assert_array_equal(loss[0], INF)
    np.testing.assert_allclose(loss[1], np.log(2))
    np.testing.assert_allclose(d_bias, [0.5 - 0.5, -1, 0.5 + 0.5], atol=1e-15)
    np.testing.assert_allclose(d_hidden, 0, atol=1e-15)
    # With every class shut there is no distribution.
    loss, lse = smx.linear_cross_entropy(
        [[1.0]], [[1.0], [2.0]], [0], bias=[-INF, -INF], return_lse=True)
    assert np.isnan(loss) and lse == -INF


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_reaches_what_depends_on_it(dtype):
    hidden, weight, bias, targets = problem(120, 20, 2200, dtype, 5)
    options = {"bias": bias, "reduction": "none"}
    clean = everything(hidden, weight, targets, **options)
    counted = targets != -100
    bad = hidden.copy()
    bad[0, 3] = NAN
    got = everything(bad, weight, targets, **options)
    for name, x, y in zip(RESULTS[:3], got, clean, strict=False):
        assert np.isnan(x[0].astype(float)).all(), name
        assert_same_bits(x[1:].copy(), y[1:].copy(), name)
    assert np.isnan(got[3].astype(float)).all() and np.isnan(got[4]).all()
    assert np.isnan(smx.linear_cross_entropy(bad, weight, targets))
    for row in 0, 2199:
        for array in weight, bias:
            kept = array[row].copy()
            array[row] = NAN
            got = everything(hidden, weight, targets, **options)
            array[row] = kept
            for name, x in zip(RESULTS[:3], got, strict=False):
                assert np.isnan(x[counted].astype(float)).all(), name
                assert (x[~counted] == 0).all(), name
            assert np.isnan(got[3].astype(float)).all() and np.isnan(got[4]).all()


def test_large_logits():
    weight = np.float32([[1], [-1], [0]])
    loss, lse = smx.linear_cross_entropy(
        np.float32([[2.0**19], [-(2.0**19)]]), weight, [0, 0], reduction="none", return_lse=True)
    assert loss[1] == 2.0**20 and lse.tolist() == [2.0**19] * 2


# -- arguments ---------------------------------------------------------------------------------


def test_what_is_returned():
    hidden, weight, bias, targets = problem(6, 4, 5)
    plain = smx.linear_cross_entropy(hidden, weight, targets)
    assert type(plain) is np.float32
    loss, lse = smx.linear_cross_entropy(hidden, weight, targets, return_lse=True)
    assert loss == plain and lse.shape == (6,)
    loss, gradients = smx.linear_cross_entropy(hidden, weight, targets, return_grad=True)
    assert loss == plain and [g.shape for g in gradients] == [(6, 4), (5, 4)]
    _, _, gradients = smx.linear_cross_entropy(
        hidden, weight, targets, bias=bias, return_lse=True, return_grad=True)
    assert [g.shape for g in gradients] == [(6, 4), (5, 4), (5,)]


def test_array_likes():
    loss = smx.linear_cross_entropy([[1, 0], [0, 2]], [[2, 0], [0, 1], [0, 0]], [0, 2])
    assert type(loss) is np.float64
    np.testing.assert_allclose(loss, reference(np.eye(2) * [1, 2], np.array(
        [[2, 0], [0, 1], [0, 0]]), np.array([0, 2]))[0], rtol=1e-15)
    hidden = np.float32([[1, 0]])
    assert smx.linear_cross_entropy(hidden, [[2, 0], [0, 1]], [0], bias=[0, 1]).dtype == np.float32
    narrow = smx.linear_cross_entropy(
        hidden.astype(BF16), [[2, 0], [0, 1]], [0], return_grad=True)[1]
    assert [g.dtype for g in narrow] == [BF16, BF16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scale_of_the_gradients(dtype):
    arguments = problem(20, 8, 30, dtype, 9)
    hidden, weight, bias, targets = arguments
    plain = everything(hidden, weight, targets, bias=bias, reduction="sum")
    for scale in 1024.0, -0.5, 0.0:
        got = everything(hidden, weight, targets, bias=bias, reduction="sum", grad_scale=scale)
        assert_same_bits(got[0], plain[0])
        for name, x, y in zip(RESULTS[2:], got[2:], plain[2:], strict=True):
            # Powers of two are exact where nothing is subnormal.
            np.testing.assert_allclose(
                x.astype(float), y.astype(float) * scale, err_msg=name, rtol=1e-6,
                atol=2.0**-15 * abs(scale) if dtype == np.float16 else 0)


ERRORS = [
    (ValueError, {"targets": [0] * 5}, r"targets of shape \(5,\).*hidden of shape \(4, 3\)"),
    (ValueError, {"targets": 0}, r"targets of shape \(\).*hidden"),
    (ValueError, {"hidden": 1.0}, r"hidden.*\(\)"),
    (ValueError, {"weight": [[1] * 4]}, r"weight of shape \(1, 4\).*hidden of shape \(4, 3\)"),
    (ValueError, {"weight": np.ones(3)}, r"weight.*\(3,\)"),
    (ValueError, {"weight": 1.0}, r"weight.*\(\)"),
    (ValueError, {"bias": np.ones(4)}, r"bias of shape \(4,\).*weight of shape \(5, 3\)"),
    (ValueError, {"targets": [0, 1, 5, 0]}, "targets holds 5 at 2, but there are 5 classes"),
    (ValueError, {"targets": [0, -1, 2, 0]}, "targets holds -1 at 1"),
    (ValueError, {"targets": [0, -100, 2, 0], "ignore_index": 2}, "targets holds -100 at 1"),
    (ValueError, {"targets": np.full(4, 2**64 - 1, "u8")}, "targets holds 18446744073709551615"),
    (ValueError, {"ignore_index": 2**63}, "ignore_index"),
    (ValueError, {"reduction": "average"}, "'mean', 'sum' or 'none'.*'average'"),
    (ValueError, {"label_smoothing": 1.5}, "label_smoothing must be from 0 to 1"),
    (ValueError, {"label_smoothing": NAN}, "label_smoothing"),
    (ValueError, {"z_loss": -1.0}, "z_loss"),
    (ValueError, {"grad_scale": INF}, "grad_scale"),
    (TypeError, {"z_loss": "1"}, "z_loss must be a real number"),
    (TypeError, {"ignore_index": 1.0}, "ignore_index must be an integer"),
    (TypeError, {"targets": np.zeros(4)}, "targets has dtype float64.*integers"),
    (TypeError, {"targets": [True] * 4}, "targets has dtype bool"),
    (TypeError, {"hidden": np.ones((4, 3), complex)}, "hidden has dtype complex128"),
    (TypeError, {"weight": np.ones((5, 3), np.float32)}, "weight has dtype float32.*float64"),
    (TypeError, {"bias": np.ones(5, np.float16)}, "bias has dtype float16.*float64"),
    (TypeError, {"hidden": np.ma.array(np.ones((4, 3)))}, "hidden is a masked array"),
]


@pytest.mark.parametrize("error, change, sentence", ERRORS, ids=[e[2][:40] for e in ERRORS])
def test_errors(error, change, sentence):
    arguments = {"hidden": np.ones((4, 3)), "weight": np.ones((5, 3)), "targets": [0, 1, 2, 4]}
    arguments |= change
    hidden, weight, targets = (arguments.pop(k) for k in ("hidden", "weight", "targets"))
    with pytest.raises(error, match=sentence):
        smx.linear_cross_entropy(hidden, weight, targets, return_grad=True, **arguments)
