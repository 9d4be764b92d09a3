"""cross_entropy and nll_from_log_probs: bits, and arguments."""

import numpy as np
import pytest
from losses_reference import case
from reference import DTYPES, assert_same_bits

import swiftmax as smx

INF, NAN = np.inf, np.nan


# -- bits ------------------------------------------------------------------------------------------


def everything(x, targets, **options):
    return smx.cross_entropy(
        x, targets, reduction="none", return_lse=True, return_grad=True, **options
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [1, 9, 130, 4100])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"temperature": 0.5}], ids=str)
def test_layout_and_threads_do_not_show(dtype, k, options):
    _rng, x, t, options = case(8, (9, k), options, dtype, 4.0)
    x[3] = x[3] - np.asarray(30, dtype)
    x[4, 0] = x[4].max() + np.asarray(12, dtype)
    expected = everything(x, t, **options)

    def same(got):
        for a, b in zip(got, expected, strict=True):
            assert_same_bits(a, b)

    wide = np.empty((9, 2 * k + 3), dtype)
    wide[:, 3::2] = x
    same(everything(wide[:, 3::2], t, **options))
    same(everything(np.asfortranarray(x), t, **options))
    same(everything(x[::-1], t[::-1].copy(), **options)[i][::-1] for i in range(3))
    loss, lse, grad = everything(np.ascontiguousarray(x.T), t, axis=0, **options)
    same((loss, lse, grad.T))
    loss, lse, grad = everything(x.reshape(3, 3, k), t.reshape(3, 3).astype(np.int32), **options)
    same((loss.ravel(), lse.ravel(), grad.reshape(9, k)))
    same(tuple(np.concatenate(p) for p in zip(*(
        everything(x[i : i + 1], t[i : i + 1], **options) for i in range(9)), strict=True)))
    with smx.num_threads(1):
        same(everything(x, t, **options))
    place = x.copy()
    got = everything(place, t, out=place, **options)
    assert got[2] is place
    same(got)
    out = np.empty((2, 9, k), dtype)[0]
    same(everything(x, t, out=out, **options))
    # Masked classes behind the others, of any value.
    more = np.concatenate([x, np.full((9, 5), NAN).astype(dtype)], 1)
    mask = np.arange(k + 5) < k
    loss, lse, grad = everything(more, t, mask=mask, **options)
    same((loss, lse, grad[:, :k]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [1, 2, 5, 16, 17, 33, 130, 1000])
@pytest.mark.parametrize("z_loss", [0, 0.125])
@pytest.mark.parametrize("scale", [1, 1e-30, 1e38])
def test_rows_together_are_rows_alone(dtype, k, z_loss, scale):
    """A mask, here one that hides nothing, sends every row its own way."""
    rng = np.random.default_rng(15)
    n = 53
    x = (rng.standard_normal((n, k)) * rng.choice([0.01, 1, 20], (n, 1))).astype(dtype)
    t = rng.integers(0, k, n)
    x[3, t[3]], x[5, t[5]], x[17, 0], x[18, k // 2], x[19] = -INF, INF, NAN, 60000, -INF
    x[40:, t[40]] += np.asarray(90, dtype)
    t[[9, 33, 34, 52]] = -100
    weight = rng.choice([0, 0.5, 1, 7], k)
    weight[t[0]] = 0
    # A gradient of inf, of classes without a share 0.
    weight[t[3]], x[3, 0] = 1e300 if dtype == np.float64 else 1e38, -INF
    grad_scale = (rng.choice([0, -0.3, 1, 2.5], n) * scale).astype(np.float32)
    grad_scale[[3, 6, 20]] = scale, INF, NAN
    all_options = {
        "weight": weight, "grad_scale": grad_scale, "label_smoothing": 0.1, "temperature": 0.7,
    }
    soft = rng.random((n, k)) * (rng.random((n, k)) < 0.8)
    soft[2], soft[6, k // 2], soft[8, 0] = 0, NAN, 1e30
    with np.errstate(over="ignore"):
        narrow = soft.astype(dtype)
    for targets, names in (
        (t, ""), (t, "weight"), (t, "weight grad_scale"), (t, "label_smoothing"),
        (t, "label_smoothing weight grad_scale"), (narrow, ""), (soft[:, ::-1], "weight"),
        (np.asfortranarray(narrow), "label_smoothing weight grad_scale"),
        (t, "temperature"), (t, "temperature weight grad_scale"),
        (narrow, "temperature label_smoothing grad_scale"),
    ):
        options = {name: all_options[name] for name in names.split()}
        expected = everything(x, targets, z_loss=z_loss, mask=np.ones(k, bool), **options)
        place = x.copy()
        got = everything(place, targets, z_loss=z_loss, out=place, **options)
        apart = np.empty((n, k + 1), dtype)[:, :k]
        for a, b, c in zip(
            got, expected, everything(x, targets, z_loss=z_loss, out=apart, **options), strict=True
        ):
            assert_same_bits(a, b, names)
            assert_same_bits(c, b, names)
    assert_same_bits(
        smx.cross_entropy(x, t, z_loss=z_loss, weight=weight, reduction="none"),
        everything(x, t, z_loss=z_loss, weight=weight)[0],
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("weight", [None, True])
def test_one_hot_probabilities_are_classes(dtype, weight):
    _, x, t, options = case(9, (7, 50), {"weight": True} if weight else {}, dtype)
    soft = np.eye(50)[t]
    a = everything(x, t, **options)
    b = everything(x, soft, **options)
    assert_same_bits(a[0], b[0])
    assert_same_bits(a[1], b[1])
    # All classes but the row's own, where classes take expm1.
    own = np.eye(50, dtype=bool)[t]
    assert_same_bits(a[2][~own], b[2][~own])


def test_sum_does_not_depend_on_threads():
    rng = np.random.default_rng(12)
    x, t = rng.standard_normal((3000, 40)), rng.integers(0, 40, 3000)
    results = set()
    for n in (1, 2, 3, 7):
        with smx.num_threads(n):
            mean, total = (smx.cross_entropy(x, t, reduction=r) for r in ("mean", "sum"))
            results.add((float(mean), float(total)))
    assert len(results) == 1


# -- arguments -------------------------------------------------------------------------------------


def test_nll_is_what_remains_of_cross_entropy():
    _, x, t, _ = case(13, (6, 9), {})
    log_p = smx.log_softmax(x)
    for options in ({}, {"weight": np.arange(9.0)}, {"label_smoothing": 0.2}):
        for reduction in ("mean", "sum", "none"):
            a = smx.nll_from_log_probs(log_p, t, reduction=reduction, **options)
            b = smx.cross_entropy(x, t, reduction=reduction, **options)
            assert np.allclose(a, b, rtol=1e-14)
    assert smx.nll_from_log_probs([[-INF, 0.0]], [1]) == 0
    assert smx.nll_from_log_probs([[-INF, 0.0]], [0]) == INF


def test_axes_of_images():
    rng = np.random.default_rng(14)
    x, t = rng.standard_normal((2, 5, 3, 4)), rng.integers(0, 5, (2, 3, 4))
    loss, grad = smx.cross_entropy(x, t, axis=1, reduction="none", return_grad=True)
    last, last_grad = smx.cross_entropy(
        np.moveaxis(x, 1, -1), t, reduction="none", return_grad=True
    )
    assert_same_bits(loss, last)
    assert_same_bits(grad, np.moveaxis(last_grad, -1, 1))


def test_array_likes_and_dtypes():
    assert smx.cross_entropy([[1, 2], [3, 4]], [0, 1]).dtype == np.float64
    for dtype in DTYPES:
        x = np.ones((2, 3), dtype)
        wide = np.float64 if dtype == np.float64 else np.float32
        loss, lse, grad = smx.cross_entropy(x, [0, 1], return_lse=True, return_grad=True)
        assert loss.dtype == lse.dtype == wide and grad.dtype == dtype
    for kind in (np.int8, np.uint8, np.int16, np.uint32, np.uint64, np.int32):
        assert smx.cross_entropy(np.eye(3), np.arange(3).astype(kind)) > 0


X = np.zeros((3, 4), np.float32)
T = np.array([0, 1, 2])
WRONG = [
    (ValueError, r"row 1 is 4, but logits of shape \(3, 4\) has 4 classes", {"targets": [0, 4, 1]}),
    (ValueError, "row 2 is -1", {"targets": [0, 1, -1]}),
    (ValueError, r"targets of shape \(2,\) must have the shape of logits", {"targets": [0, 1]}),
    (ValueError, "targets of shape", {"targets": np.ones((3, 3), np.float32)}),
    (TypeError, "targets has dtype bool", {"targets": [True, False, True]}),
    (TypeError, "targets has dtype <U1", {"targets": ["a", "b", "c"]}),
    (ValueError, "axis 2 is out of range", {"axis": 2}),
    (TypeError, "axis", {"axis": 1.5}),
    (ValueError, "weight of shape", {"weight": np.ones(3)}),
    (ValueError, "label_smoothing", {"label_smoothing": 1.5}),
    (ValueError, "z_loss", {"z_loss": INF}),
    (ValueError, "reduction", {"reduction": "avg"}),
    (ValueError, "mask of shape", {"mask": np.ones(3, bool)}),
    (TypeError, "mask has dtype", {"mask": np.ones(4)}),
    (ValueError, "grad_scale of shape", {"grad_scale": np.ones(2)}),
    (ValueError, "out of shape", {"out": np.zeros((3, 5), np.float32)}),
    (TypeError, "out has dtype", {"out": np.zeros((3, 4))}),
    (TypeError, "out must be a NumPy array", {"out": [0]}),
    (ValueError, "ignore_index", {"targets": np.ones((3, 4), np.float32), "ignore_index": 2}),
    (TypeError, "ignore_index must be an integer", {"ignore_index": 1.0}),
    (ValueError, "ignore_index is 9223372036854775808", {"ignore_index": 2**63}),
    (ValueError, "targets holds 18446744073709551615", {"targets": np.full(3, 2**64 - 1, "u8")}),
    (TypeError, "swiftmax.Mask", {"mask": smx.Mask.causal()}),
    (TypeError, "logits has dtype", {"logits": np.zeros((3, 4), complex)}),
]


@pytest.mark.parametrize("kind, sentence, wrong", WRONG, ids=[str(w[1]) for w in WRONG])
def test_errors_say_what_is_wrong_and_write_nothing(kind, sentence, wrong):
    out = np.full((3, 4), 7, np.float32)
    given = {"logits": X, "targets": T, "out": out, "return_grad": True, **wrong}
    with pytest.raises(kind, match=sentence):
        smx.cross_entropy(given.pop("logits"), given.pop("targets"), **given)
    assert (out == 7).all()


def test_out_needs_return_grad():
    with pytest.raises(ValueError, match="return_grad"):
        smx.cross_entropy(X, T, out=X.copy())


def test_out_that_overlaps_is_written_last():
    base = np.linspace(-1, 1, 13).astype(np.float32)
    x = base[:12].reshape(3, 4)
    expected = smx.cross_entropy(x.copy(), T, return_grad=True)
    got = smx.cross_entropy(x, T, out=base[1:].reshape(3, 4), return_grad=True)
    assert got[0] == expected[0]
    assert_same_bits(got[1], expected[1])
