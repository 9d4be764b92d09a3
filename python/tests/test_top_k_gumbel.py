"""top_k and gumbel_softmax."""

import numpy as np
import pytest
from reference import BF16, DTYPES, assert_same_bits
from sampling_reference import gumbel_noise, normal

import swiftmax as smx

INF, NAN = np.inf, np.nan



def ranked(x, k):
    """Places of the k largest, of equal ones the first."""
    return np.argsort(-x.astype(float), axis=-1, kind="stable")[..., :k]


# -- top_k -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (10, 10), (50, 7), (5000, 3), (5000, 1024), (5000, 2500)]
)
def test_top_k(dtype, n, k):
    x = normal((3, n), 1, dtype=dtype)
    for log, function in ((False, smx.softmax), (True, smx.log_softmax)):
        for temperature in 1.0, 0.3, np.array([1, 0.5, 4]):
            found, indices = smx.top_k(x, k, temperature=temperature, log=log)
            assert indices.dtype == np.int64 and np.array_equal(indices, ranked(x, k))
            want = np.take_along_axis(function(x, temperature=temperature), indices, 1)
            assert_same_bits(found, want, f"log {log}, T {temperature}")


def short_rows(rng, n):
    """Rows with ties, elements that are hidden, -inf, and a NaN and an inf in two of them."""
    x = np.round(rng.normal(0, 2, (23, n)), int(rng.integers(0, 3)))
    x[rng.random(x.shape) < 0.1] = -INF
    x[3] = -INF
    x[5, rng.integers(n)] = NAN
    x[7, rng.integers(n)] = INF
    mask = rng.random(x.shape) < 0.8
    mask[9] = False
    return x, mask


# Around vectors, what is counted at once, a block, and the longest row that is taken as a whole.
@pytest.mark.parametrize("n", [1, 2, 7, 8, 16, 17, 40, 63, 64, 65, 128, 300, 1024, 1025, 2049])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_top_k_of_short_rows(dtype, n):
    rng = np.random.default_rng(n)
    ks = sorted({k for k in (1, 2, 8, 9, 16, 50, 64, 65, n) if k <= n})
    for use_mask, log in (False, False), (True, False), (True, True):
        x, mask = short_rows(rng, n)
        x = x.astype(dtype)
        mask = mask if use_mask else np.ones_like(mask)
        options = {"mask": mask} if use_mask else {}
        seen = np.where(mask, x.astype(float), -INF)
        is_bad = ~(seen < INF).all(1)
        whole = (smx.log_softmax if log else smx.softmax)(x, **options)
        rest = dtype.type(-INF if log else 0)
        for k in ks:
            places = ranked(seen, k)
            is_there = np.take_along_axis(seen, places, 1) > -INF
            want = np.where(is_there, np.take_along_axis(whole, places, 1), rest)
            for y in x, np.asfortranarray(x):
                found, indices = smx.top_k(y, k, log=log, **options)
                assert np.array_equal(indices, np.where(is_bad[:, None] | ~is_there, -1, places))
                assert np.isnan(found[is_bad]).all()
                assert_same_bits(found[~is_bad], want[~is_bad], f"k {k}, mask {use_mask}")


def test_top_k_of_ties_and_masks():
    x = np.array([[2.0, NAN, 3, 2, -INF, 3]])
    mask = np.array([True, False, True, True, True, True])
    found, indices = smx.top_k(x, 6, mask=mask)
    assert indices.tolist() == [[2, 5, 0, 3, -1, -1]]
    whole = smx.softmax(x, mask=mask)[0]
    assert_same_bits(found[0], np.append(whole[[2, 5, 0, 3]], [0, 0]), "behind what is visible")
    assert smx.top_k(x, 6, mask=mask, log=True)[0][0, 4:].tolist() == [-INF, -INF]


@pytest.mark.parametrize("bad", [NAN, INF])
def test_top_k_of_special_rows(bad):
    x = np.zeros((3, 5), np.float32)
    x[0, 3] = bad
    x[1] = -INF
    found, indices = smx.top_k(x, 2)
    assert indices.tolist() == [[-1, -1], [-1, -1], [0, 1]]
    assert np.isnan(found[0]).all()
    assert (found[1] == 0).all()
    assert (found[2] == np.float32(0.2)).all()
    assert (smx.top_k(x, 2, log=True)[0][1] == -INF).all()


def test_top_k_of_layouts_and_threads():
    x = normal((7, 6000), 2, dtype=np.float64)
    with smx.num_threads(1):
        found, indices = smx.top_k(x, 2000)
    for threads in 2, 5:
        with smx.num_threads(threads):
            for y in np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2]:
                others = smx.top_k(y, 2000)
                assert_same_bits(others[0], found, "probabilities")
                assert np.array_equal(others[1], indices)


def test_top_k_errors():
    x = np.zeros((2, 4))
    assert smx.top_k(x, 0)[0].shape == (2, 0)
    with pytest.raises(ValueError, match=r"k is 5, but logits of shape \(2, 4\) has rows of 4"):
        smx.top_k(x, 5)
    with pytest.raises(ValueError, match="k must be from 0"):
        smx.top_k(x, -1)
    with pytest.raises(TypeError, match="k must be an integer"):
        smx.top_k(x, 1.0)
    with pytest.raises(ValueError, match="logits must have an axis"):
        smx.top_k(1.0, 1)


# -- gumbel_softmax --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 1023, 1025, 5000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=str)
def test_noise_is_the_defined_one(n, dtype):
    """softmax with NumPy's own noise as bias; its logarithms may differ in the last place."""
    x = normal(n, 3, dtype=dtype)
    g = gumbel_noise(n, 11, 5, draw=2).astype(dtype)
    want = smx.softmax(x, temperature=0.5, bias=g)
    got = smx.gumbel_softmax(x, temperature=0.5, seed=11, counter=5, draw=2)
    assert np.allclose(got, want, rtol=40 * np.finfo(dtype).eps, atol=0)
    hard = smx.gumbel_softmax(x, temperature=0.5, hard=True, seed=11, counter=5, draw=2)
    assert np.flatnonzero(hard).tolist() == [np.argmax(x + g)] and hard.max() == 1


def test_gumbel_softmax_of_narrow_types():
    for dtype in np.float16, BF16:
        x = normal((2, 300), 4, dtype=dtype)
        wide = smx.gumbel_softmax(x.astype(np.float32), seed=1)
        assert_same_bits(smx.gumbel_softmax(x, seed=1), wide.astype(dtype), "rounded once")


def test_gumbel_softmax_special_rows():
    x = np.array([[0.0, NAN], [-INF, INF], [0, 1], [-INF, 2]])
    mask = np.array([[True, True], [True, True], [False, False], [True, True]])
    for hard in False, True:
        y = smx.gumbel_softmax(x, mask=mask, hard=hard, seed=1)
        assert np.isnan(y[:2]).all() and (y[2] == 0).all() and y[3].tolist() == [0, 1]


@pytest.mark.parametrize("dtype, word", [(np.float32, 0xFFC01234), (np.float64, 0xFFF8 << 48 | 5)])
@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax_has_one_nan(dtype, word, hard):
    """The positive quiet one, whatever the sign and the payload of the NaN among the logits."""
    x = np.zeros((1, 5), dtype)
    unsigned = np.uint32 if dtype is np.float32 else np.uint64
    x.view(unsigned)[0, 2] = word
    y = smx.gumbel_softmax(x, hard=hard, seed=1)
    assert (y.view(unsigned) == np.array(np.nan, dtype).view(unsigned)).all()


def test_gumbel_softmax_rows_do_not_depend_on_the_batch():
    x = normal((5, 2000), 6)
    for hard in False, True:
        with smx.num_threads(1):
            y = smx.gumbel_softmax(x, seed=2, hard=hard)
        for threads in 2, 7:
            with smx.num_threads(threads):
                z = smx.gumbel_softmax(np.asfortranarray(x), seed=2, hard=hard)
                assert_same_bits(z, y, f"{threads} threads")
        for row in range(5):
            alone = smx.gumbel_softmax(x[row], seed=2, counter=row, hard=hard)
            assert_same_bits(alone, y[row], f"row {row} alone")
        inside = x.copy()
        smx.gumbel_softmax(inside, seed=2, hard=hard, out=inside)
        assert_same_bits(inside, y, "in place")
    assert (smx.gumbel_softmax(x, seed=2, draw=1) != smx.gumbel_softmax(x, seed=2)).any()


def test_hard_draws_follow_softmax():
    """The Gumbel-max trick (Gumbel 1954): a fixed seed, 4 standard deviations."""
    x = np.log([0.5, 0.3, 0.15, 0.05])
    rows = 100_000
    counts = smx.gumbel_softmax(np.broadcast_to(x, (rows, 4)), hard=True, seed=3).sum(0)
    expected = rows * np.exp(x)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - 3) < 4 * np.sqrt(6)


def test_gumbel_softmax_errors():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="draw holds 2147483648"):
        smx.gumbel_softmax(x, draw=2**31)
    with pytest.raises(ValueError, match="counter of shape"):
        smx.gumbel_softmax(x, counter=[1, 2, 3])
    with pytest.raises(ValueError, match="temperature must be 0 or more"):
        smx.gumbel_softmax(x, temperature=-1)
