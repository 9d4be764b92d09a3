"""Rows that are computed several at a time: of few elements, and of numbers near one another.

What they are compared with is the same rows one by one through a mask that shows everything, which
takes the general way, and mpmath.
"""

import ml_dtypes
import mpmath
import numpy as np
import pytest
from reference import assert_same_bits

import swiftmax as smx

mpmath.mp.prec = 200
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
OPERATIONS = [smx.softmax, smx.log_softmax, smx.logsumexp]


def rows_of(count, cols, dtype, seed):
    """Rows of all kinds: usual, near one another, equal, dominated, and special ones."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, cols)) * rng.choice([1e-7, 1e-3, 1, 8, 60], (count, 1))
    x += rng.choice([0, 0, 0.3, -1.7, 900], (count, 1))
    x[::11] = x[::11, :1]
    x[3::17, 0] = np.nan
    x[4::17, -1] = np.inf
    x[5::17] = -np.inf
    x[6::17, 0] = -np.inf
    x[7::17, -1] = 1e30
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def one_by_one(operation, x, **options):
    shown = np.ones(x.shape[1:], bool)
    return np.stack([operation(row, mask=shown, **options) for row in x])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cols", [1, 2, 3, 5, 8, 9, 15, 16, 17, 24, 32, 33, 48, 49, 64, 65])
def test_rows_of_few_elements(cols, dtype):
    x = rows_of(83, cols, dtype, seed=cols)
    for operation in OPERATIONS:
        want = one_by_one(operation, x)
        assert_same_bits(operation(x), want, f"{operation.__name__}, rows")
        side = operation(np.ascontiguousarray(x.T), axis=0)
        assert_same_bits(side if side.ndim == 1 else side.T, want, f"{operation.__name__}, columns")
        if operation is not smx.logsumexp:
            again = x.copy()
            assert_same_bits(operation(again, out=again), want, f"{operation.__name__}, in place")
            again = np.ascontiguousarray(x.T)
            operation(again, axis=0, out=again)
            assert_same_bits(again.T, want, f"{operation.__name__}, columns in place")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cols", [2, 3, 8, 10, 16, 17, 20, 32, 33, 50, 64, 65])
def test_cross_entropy_of_few_classes(cols, dtype):
    x = rows_of(83, cols, dtype, seed=100 + cols)
    targets = np.random.default_rng(cols).integers(0, cols, len(x))
    targets[::13] = -100
    kept = {"reduction": "none", "return_lse": True, "return_grad": True}
    for smoothing, temperature in (0, 1), (0.3, 1), (0, 2), (0.3, 0.01):
        kept |= {"label_smoothing": smoothing, "temperature": temperature}
        every = smx.cross_entropy(x, targets, **kept)
        side = smx.cross_entropy(np.ascontiguousarray(x.T), targets, axis=0, **kept)
        # Rows that lie evenly, but not their targets.
        apart = np.zeros((41, 3), np.int64)
        apart[:, :2] = targets[:82].reshape(41, 2)
        others = smx.cross_entropy(x[:82].reshape(41, 2, cols), apart[:, :2], **kept)
        for got, want in zip(others, every, strict=True):
            assert_same_bits(got.reshape(want[:82].shape), want[:82], "targets apart")
        for i in range(len(x)):
            shown = np.ones((1, cols), bool)
            one = smx.cross_entropy(x[i : i + 1], targets[i : i + 1], mask=shown, **kept)
            for j in range(3):
                assert_same_bits(every[j][i : i + 1], one[j], f"row {i}: {x[i]}")
                beside = side[j][..., i] if j == 2 else side[j][i]
                assert_same_bits(beside, one[j][0], f"row {i}, beside: {x[i]}")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("cols", [4095, 4097, 9001])
def test_long_narrow_rows(cols, dtype):
    x = rows_of(23, cols, dtype, seed=cols)
    for operation in OPERATIONS:
        want = one_by_one(operation, x)
        assert_same_bits(operation(x), want, operation.__name__)
        if operation is not smx.logsumexp:
            again = x.copy()
            assert_same_bits(operation(again, out=again), want, f"{operation.__name__}, in place")


def worst_ulp(got, x):
    """The largest error of softmax's results, in units in the last place of the exact ones."""
    terms = [mpmath.exp(mpmath.mpf(float(v))) for v in x]
    exact = [term / sum(terms) for term in terms]
    return max(
        abs(mpmath.mpf(float(p)) - e) / mpmath.mpf(float(np.spacing(x.dtype.type(float(e)))))
        for p, e in zip(got, exact, strict=True)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cols", [2, 3, 4, 8, 17, 32, 2500])
def test_near_ties(cols, dtype):
    # Below 2 numbers lie closer together than their exponentials can be told apart: elements
    # beside the maximum have its term, and must not have its share.
    rng = np.random.default_rng(cols)
    unit = np.finfo(dtype).eps
    for near in (0.0, 0.1, 0.7, 1.4, 1.99):
        x = (near + unit * rng.standard_normal((2 if cols > 100 else 12, cols))).astype(dtype)
        # Of long rows ten elements share everything.
        seen = 10 if cols > 100 else cols
        x[:, seen:] -= 900
        if cols > 20:
            x[:, 10:] -= 40
        in_place, side = x.copy(), np.ascontiguousarray(x.T)
        smx.softmax(in_place, out=in_place)
        ways = [
            smx.softmax(x), in_place, one_by_one(smx.softmax, x), smx.softmax(side, axis=0).T,
            smx.softmax(side, axis=0, out=side).T,
        ]
        for got in ways:
            assert_same_bits(got, ways[0])
            for p, row in zip(got, x, strict=True):
                assert worst_ulp(p[:seen], row[:seen]) < 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_few_equal_elements_share_exactly(dtype):
    x = np.random.default_rng(0).standard_normal((1000, 1)).astype(dtype) * 3
    for count in (2, 4, 8, 16):
        p = smx.softmax(np.repeat(x, count, 1))
        assert (p == 1 / count).all()


@pytest.mark.parametrize("dtype, row", [
    (np.float32, "0x1.7ea428p-23 0x1.5eb45cp-23 0x1.2bce00p-24 0x1.019058p-24"),
    (np.float32, "0x1.673652p-13 0x1.67581cp-13 0x1.67324cp-13 -0x1.2c71c4p+4 -0x1.2c216ap+4 "
                 "0x1.671822p-13"),
    (np.float64, "0x1.3f871b47b2726p-8 -0x1.307158411934fp+5 -0x1.2adcb0b1384d7p+5 "
                 "-0x1.306fb630f455fp+5 0x1.3f871b47b27ebp-8 0x1.3f871b47b26ecp-8 "
                 "0x1.3f871b47b2725p-8"),
])
def test_the_worst_near_ties_known(dtype, row):
    # Found by a search; with the maximum's share for all that have its term 2.97 to 3.00 ulp.
    x = np.array([float.fromhex(number) for number in row.split()], dtype)
    # Longer rows go other ways, and elements far below change nothing.
    for more in (0, 20, 3000):
        longer = np.r_[x, np.full(more, -900, dtype)]
        for got in (smx.softmax(longer), smx.softmax(np.stack([longer] * 3, 1), axis=0)[:, 1]):
            assert worst_ulp(got[: len(x)], x) < 2
