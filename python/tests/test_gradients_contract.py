"""Gradients: masks, special values, in place, arguments and errors."""

import inspect

import ml_dtypes
import numpy as np
import pytest
from reference import BF16, DTYPES, assert_same_bits, bits, sample

import swiftmax as smx

NAN, INF = np.nan, np.inf
NAMES = ["softmax_vjp", "log_softmax_vjp"]
ALL = [*NAMES, "softmax_jvp", "logsumexp_vjp", "softmax_jacobian"]
FORWARD = {"softmax_vjp": smx.softmax, "log_softmax_vjp": smx.log_softmax}


def operands(name, shape=(4, 6), dtype=np.float64, **options):
    y = FORWARD[name](sample(shape, dtype, 1), **options)
    return y, sample(shape, dtype, 2, 1.0)


# -- masks -----------------------------------------------------------------------------------

MASKS = {
    "causal": smx.Mask.causal(),
    "window": smx.Mask.window(1, 2),
    "lengths": smx.Mask.lengths(np.array([3, 0])),
    "queries": smx.Mask.lengths(np.array([3, 5]), np.array([4, 2])),
    "segments": smx.Mask.segments([0, 0, 1, 1], [0, 1, 1, 0, 0, 2]),
    "both": smx.Mask.causal() & (np.arange(6) % 2 == 0),
}


@pytest.mark.parametrize("axis", [-1, 1, 0, None], ids=str)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("name", NAMES)
def test_structured_masks_are_boolean_ones(name, mask, axis):
    y, dy = operands(name, (2, 4, 6))
    array = np.broadcast_to(mask.to_array(4, 6), (2, 4, 6))
    function = getattr(smx, name)
    expected = function(y, dy, axis, mask=array)
    assert_same_bits(function(y, dy, axis, mask=mask), expected)
    assert (expected[~array] == 0).all() and not np.signbit(expected[~array]).any()
    jacobian = smx.softmax_jacobian(y, axis, mask=mask)
    assert_same_bits(jacobian, smx.softmax_jacobian(y, axis, mask=array))
    sums = smx.logsumexp(y, axis)
    got = smx.logsumexp_vjp(y, np.ones_like(sums), axis, mask=mask)
    assert_same_bits(got, smx.logsumexp_vjp(y, np.ones_like(sums), axis, mask=array))
    assert_same_bits(got, smx.softmax(y, axis, mask=array))


@pytest.mark.parametrize("poison", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_masked_is_used(name, dtype, poison):
    mask = np.arange(5000) % 3 != 1
    y, dy = operands(name, (2, 5000), dtype, mask=mask)
    clean = getattr(smx, name)(y, dy, mask=mask)
    assert np.isfinite(clean.astype(float)).all() and (clean[:, ~mask] == 0).all()
    y[:, ~mask], dy[:, ~mask] = poison, poison
    assert_same_bits(getattr(smx, name)(y, dy, mask=mask), clean)
    # An infinite sum comes of visible elements alone, and reaches visible ones alone.
    dy[0, 0] = NAN
    got = getattr(smx, name)(y, dy, mask=mask)
    assert np.isnan(got[0, mask].astype(float)).all() and (got[0, ~mask] == 0).all()
    assert_same_bits(got[1], clean[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_masked_is_used_by_logsumexp(dtype):
    x, mask = sample((2, 5000), dtype, 3), np.arange(5000) % 3 != 1
    dy = np.array([2, -3], dtype)
    clean = smx.logsumexp_vjp(x, dy, mask=mask)
    x[:, ~mask] = NAN
    assert_same_bits(smx.logsumexp_vjp(x, dy, mask=mask), clean)
    x[0, 0] = NAN
    got = smx.logsumexp_vjp(x, dy, mask=mask)
    assert np.isnan(got[0, mask].astype(float)).all() and (got[0, ~mask] == 0).all()
    assert_same_bits(got[1], clean[1])
    causal = smx.logsumexp_vjp(np.full((2, 2), NAN), [1, 1], mask=smx.Mask.causal())
    assert np.isnan(causal[[0, 1, 1], [0, 0, 1]]).all() and causal[0, 1] == 0


def test_jacobian_with_a_mask():
    p = np.array([0.25, NAN, 0.75, 0.0])
    got = smx.softmax_jacobian(p, mask=[True, False, True, True])
    expected = [[0.1875, 0, -0.1875, 0], [0] * 4, [-0.1875, 0, 0.1875, 0], [0] * 4]
    np.testing.assert_array_equal(got, expected)
    assert not np.signbit(got[1]).any() and not np.signbit(got[:, 1]).any()
    p[2] = NAN
    got = smx.softmax_jacobian(p, mask=[True, False, True, True])
    nan = np.isnan(got)
    assert nan[2, [0, 2, 3]].all() and nan[[0, 2, 3], 2].all() and nan.sum() == 5


@pytest.mark.parametrize("name", NAMES)
def test_appended_masked_elements_do_not_show(name):
    y, dy = operands(name, (3, 4090), np.float32)
    wider = [np.concatenate([a, np.full((3, 30), NAN, np.float32)], 1) for a in (y, dy)]
    got = getattr(smx, name)(*wider, mask=np.arange(4120) < 4090)
    assert_same_bits(got[:, :4090].copy(), getattr(smx, name)(y, dy))


def test_fully_masked_rows_are_0():
    nothing = np.full((2, 3), NAN)
    for name in NAMES:
        got = getattr(smx, name)(nothing, nothing, mask=False)
        assert_same_bits(got, np.zeros((2, 3)))
    assert_same_bits(smx.logsumexp_vjp(nothing, [NAN, INF], mask=False), np.zeros((2, 3)))
    # A bias that closes the row does the same.
    closed = smx.logsumexp_vjp(np.zeros((1, 3)), [NAN], bias=np.full(3, -INF))
    assert_same_bits(closed, np.zeros((1, 3)))
    assert_same_bits(smx.softmax_jacobian(nothing, mask=False), np.zeros((2, 3, 3)))


# -- special values ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("where", ["y", "dy"])
@pytest.mark.parametrize("cols", [5, 40, 5000])
def test_nan_of_softmax_fills_its_row(dtype, where, cols):
    y, dy = operands("softmax_vjp", (3, cols), dtype)
    clean = smx.softmax_vjp(y, dy)
    for poison in NAN, INF, -INF:
        a, b = y.copy(), dy.copy()
        (a if where == "y" else b)[1, cols // 2] = poison
        got = smx.softmax_vjp(a, b)
        nan = bits(np.array(NAN).astype(dtype)) & ~bits(np.array(-0.0).astype(dtype))
        assert (bits(got[1]) == nan).all(), "the positive quiet NaN"
        assert_same_bits(got[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_of_log_softmax(dtype):
    y, dy = operands("log_softmax_vjp", (3, 50), dtype)
    clean = smx.log_softmax_vjp(y, dy)
    for poison in NAN, -NAN, INF, 33:
        a = y.copy()
        a[1, 7] = poison
        got = smx.log_softmax_vjp(a, dy)
        nan = bits(np.array(NAN).astype(dtype)) & ~bits(np.array(-0.0).astype(dtype))
        assert bits(got[1, 7]) == nan
        got[1, 7] = clean[1, 7]
        assert_same_bits(got, clean)
    for poison in NAN, INF:
        b = dy.copy()
        b[1, 7] = poison
        got = smx.log_softmax_vjp(y, b)
        assert np.isnan(got[1].astype(float)).all()
        assert_same_bits(got[[0, 2]], clean[[0, 2]])


def test_probabilities_of_0():
    # y = 0 gives 0, also beside the largest numbers of either sign.
    for dtype in np.float32, np.float64:
        largest = np.finfo(dtype).max
        y = np.array([0, 0, 1], dtype)
        dy = np.array([largest, -largest, -largest], dtype)
        np.testing.assert_array_equal(smx.softmax_vjp(y, dy), [0, 0, 0])
        log = np.array([-INF, -INF, 0], dtype)
        np.testing.assert_array_equal(smx.log_softmax_vjp(log, dy), [largest, -largest, 0])
    np.testing.assert_array_equal(smx.log_softmax_vjp([-INF, 0.0], [2, 3]), [2, -2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_large_gradients_do_not_overflow_on_the_way(dtype, temperature):
    # dy - sum is beyond the range here, y times it is not.
    largest = np.finfo(dtype).max
    y, dy = np.array([0.25, 0.75], dtype), np.array([largest, -largest], dtype)
    got = smx.softmax_vjp(y, dy, temperature=temperature)
    goal = np.array([0.375, -0.375]) * largest / temperature
    np.testing.assert_allclose(got, goal, rtol=4 * np.finfo(dtype).eps)
    # A sum of float32 beyond its range too.
    if dtype == np.float32:
        got = smx.log_softmax_vjp(np.log(y), np.abs(dy))
        np.testing.assert_allclose(got, [0.5 * largest, -0.5 * largest], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.0, INF])
def test_flat_temperatures(name, temperature):
    y = FORWARD[name](sample((3, 9), np.float64, 4), temperature=temperature)
    dy = sample((3, 9), np.float64, 5)
    got = getattr(smx, name)(y, dy, temperature=temperature)
    assert_same_bits(got, np.zeros((3, 9)))
    dy[1, 2] = NAN
    assert np.isnan(getattr(smx, name)(y, dy, temperature=temperature)[1]).all()
    p = np.array([0.5, 0.5, NAN])
    jacobian = smx.softmax_jacobian(p, temperature=temperature)
    assert_same_bits(jacobian[:2, :2].copy(), np.zeros((2, 2)))
    assert np.isnan(jacobian[2]).all() and np.isnan(jacobian[:, 2]).all()


def test_extreme_temperatures():
    y, dy = np.float32([0.25, 0.75]), np.float32([1, -1])
    np.testing.assert_allclose(
        smx.softmax_vjp(y, dy, temperature=2.0**100), np.ldexp([0.375, -0.375], -100), rtol=1e-7)
    np.testing.assert_array_equal(smx.softmax_vjp(y, dy, temperature=2.0**-140), [INF, -INF])
    np.testing.assert_array_equal(smx.softmax_vjp(y, dy, temperature=2.0**-200), [0, 0])
    tiny = np.float64([2.0**-1000, 1])
    got = smx.softmax_vjp(tiny, [1.0, 0.0], temperature=2.0**-1060)
    np.testing.assert_allclose(got, [2.0**60, -(2.0**60)])


def test_special_values_of_logsumexp():
    x = np.array([[0, 1, NAN], [0, INF, 1], [-INF, 0, 0], [-INF] * 3])
    got = smx.logsumexp_vjp(x, [1, 1, 4, 1])
    assert np.isnan(got[[0, 1, 3]]).all()
    np.testing.assert_array_equal(got[2], [0, 2, 2])
    got = smx.logsumexp_vjp([[0.0, -INF], [0.0, 0.0]], [INF, NAN])
    assert got[0, 0] == INF and np.isnan(got[0, 1]) and np.isnan(got[1]).all()
    assert not np.signbit(got).any()


@pytest.mark.parametrize("name", NAMES)
def test_subnormals_are_kept(name):
    tiny = np.float32(2.0**-149)
    y = np.float32([1, 0] if name == "softmax_vjp" else [-INF, -INF])
    dy = np.float32([tiny, 3 * tiny])
    if name == "softmax_vjp":
        y = np.float32([0.5, 0.5])
        np.testing.assert_array_equal(smx.softmax_vjp(y, 4 * dy), [-2 * tiny, 2 * tiny])
    else:
        np.testing.assert_array_equal(smx.log_softmax_vjp(y, dy), dy)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
def test_empty(name, shape):
    empty = np.empty(shape, np.float32)
    for axis in 0, -1, None:
        assert getattr(smx, name)(empty, empty, axis).shape == shape
    assert smx.softmax_jacobian(empty).shape == (*shape[:-1], shape[-1], shape[-1])
    dy = np.ones(shape[:-1], np.float32)
    assert smx.logsumexp_vjp(empty, dy).shape == shape


@pytest.mark.parametrize("name", NAMES)
def test_one_number(name):
    got = getattr(smx, name)(0.5 if name == "softmax_vjp" else -1.0, 2.0)
    assert isinstance(got, np.float64)
    expected = 0.5 * (2 - 1.0) if name == "softmax_vjp" else 2 - np.exp(-1) * 2
    np.testing.assert_allclose(got, expected, rtol=1e-15)
    assert smx.logsumexp_vjp(3.0, 2.0, None) == 2.0
    assert smx.softmax_jacobian(0.25).tolist() == [[0.1875]]


# -- arguments ---------------------------------------------------------------------------------


def test_array_likes_take_the_dtype_of_y():
    y = np.float32([0.25, 0.75])
    for dy in [1, 0], (True, False), np.array([1, 0]), [1.0, 0.0]:
        got = smx.softmax_vjp(y, dy)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, [0.1875, -0.1875])
    assert smx.softmax_vjp([1, 0], [1, 1]).dtype == np.float64
    assert smx.logsumexp_vjp(y, 1).dtype == np.float32
    swapped = y.astype(">f4")
    np.testing.assert_array_equal(smx.softmax_vjp(swapped, swapped), smx.softmax_vjp(y, y))
    narrow = y.astype(BF16)
    assert smx.softmax_vjp(narrow, [1, 0]).dtype == ml_dtypes.bfloat16


def test_out_that_overlaps():
    y, dy = operands("softmax_vjp", (4, 6))
    expected = smx.softmax_vjp(y, dy)
    both = np.concatenate([y.ravel(), np.zeros(3)])
    out = both[3:].reshape(4, 6)
    smx.softmax_vjp(both[:24].reshape(4, 6), dy, out=out)
    assert_same_bits(out.copy(), expected)
    x, ones = sample((4, 6), np.float64, 6), np.ones(4)
    expected = smx.logsumexp_vjp(x, ones)
    assert smx.logsumexp_vjp(x, ones, out=x) is x
    assert_same_bits(x, expected)


ERRORS = [
    (ValueError, "softmax_vjp", ((2, 3), (3, 2)), {}, r"dy of shape \(3, 2\).*y of shape \(2, 3\)"),
    (ValueError, "softmax_jvp", ((2, 3), (3,)), {}, r"dx of shape \(3,\).*y of shape \(2, 3\)"),
    (ValueError, "log_softmax_vjp", ((2, 3), (2, 3)), {"axis": 2}, r"axis 2.*y of shape \(2, 3\)"),
    (ValueError, "softmax_vjp", ((2, 3), (2, 3)), {"axis": (0, -2)}, "given twice"),
    (ValueError, "softmax_vjp", ((2, 3), (2, 3)), {"temperature": -1.0}, "temperature"),
    (ValueError, "softmax_vjp", ((2, 3), (2, 3)), {"temperature": NAN}, "temperature"),
    (ValueError, "softmax_vjp", ((2, 3), (2, 3)), {"temperature": [1.0] * 4},
     r"temperature of shape \(4,\).*y of shape \(2, 3\)"),
    (ValueError, "softmax_vjp", ((2, 3), (2, 3)), {"mask": np.ones(4, bool)},
     r"mask of shape \(4,\).*y of shape \(2, 3\)"),
    (ValueError, "softmax_vjp", ((2, 3), (2, 3)), {"out": np.full((3, 2), 7.0)},
     r"out of shape \(3, 2\).*y of shape \(2, 3\)"),
    (ValueError, "softmax_jacobian", ((2, 3),), {"out": np.full((2, 3), 7.0)},
     r"out of shape \(2, 3\).*p of shape \(2, 3\)"),
    (ValueError, "logsumexp_vjp", ((2, 3), (3,)), {}, r"dy of shape \(3,\).*x of shape \(2, 3\)"),
    (ValueError, "logsumexp_vjp", ((2, 3), (2, 1)), {}, r"dy of shape \(2, 1\).*keepdims=False"),
    (ValueError, "logsumexp_vjp", ((2, 3), (2,)), {"keepdims": True}, "keepdims=True"),
    (TypeError, "softmax_vjp", ((2, 3), (2, 3)), {"out": np.full((2, 3), 7, np.float32)},
     "out has dtype float32, but y has float64"),
    (TypeError, "softmax_vjp", ((2, 3), (2, 3)), {"mask": np.ones((2, 3))}, "mask has dtype"),
    (TypeError, "softmax_vjp", ((2, 3), (2, 3)), {"axis": 1.5}, "axis must be"),
]


@pytest.mark.parametrize(("kind", "name", "shapes", "options", "words"), ERRORS)
def test_errors(kind, name, shapes, options, words):
    out = options.get("out")
    with pytest.raises(kind, match=words):
        getattr(smx, name)(*map(np.ones, shapes), **options)
    assert out is None or (out == 7).all()


def test_dtypes_must_agree():
    y = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="dy has dtype float64, but must have float32"):
        smx.softmax_vjp(y, np.ones((2, 3)))
    with pytest.raises(TypeError, match="dy has dtype float16, but must have float32"):
        smx.logsumexp_vjp(y, np.ones(2, np.float16))
    for name in NAMES:
        with pytest.raises(TypeError, match="y has dtype complex64"):
            getattr(smx, name)(y * 1j, y)


@pytest.mark.parametrize("name", ALL)
def test_docstring_has_its_sections(name):
    function = getattr(smx, name)
    text = inspect.getdoc(function)
    for section in "Parameters", "Returns", "Raises", "Notes", "Examples":
        assert f"{section}\n{'-' * len(section)}\n" in text, section
    for parameter in inspect.signature(function).parameters:
        assert f"\n{parameter} : " in text, parameter
