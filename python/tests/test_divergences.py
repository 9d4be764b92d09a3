"""perplexity, entropy, kl_divergence: against scipy.stats, definitions and textbook values."""

import mpmath
import numpy as np
import pytest
import scipy.stats
from reference import DTYPES, assert_same_bits, sample

import swiftmax as smx

INF, NAN = np.inf, np.nan


def test_perplexity_is_exp_of_the_mean():
    rng = np.random.default_rng(1)
    x, t = 3 * rng.standard_normal((40, 9)), rng.integers(0, 9, 40)
    t[3] = -100
    mask = rng.random((40, 9)) < 0.8
    np.put_along_axis(mask, np.maximum(t, 0)[:, None], True, 1)
    for options in ({}, {"weight": np.arange(1.0, 10)}, {"temperature": 2.0}, {"mask": mask}):
        expected = np.exp(smx.cross_entropy(x, t, **options))
        assert np.isclose(smx.perplexity(x, t, **options), expected, rtol=1e-14)
    # Rounded once: the float32 result is the float64 one.
    narrow = x.astype(np.float32)
    exact = smx.perplexity(narrow.astype(float), t)
    assert abs(smx.perplexity(narrow, t) - exact) <= np.spacing(np.float32(exact))
    assert smx.perplexity([[0.0, 5000.0]], [0]) == INF
    assert smx.perplexity([[0.0, 5000.0]], [1]) == 1


def test_textbook_values():
    # Shannon 1948: a fair coin has 1 bit, four equal cases 2; Cover and Thomas, ex. 1.1.2: a race
    # of eight horses with these chances has 2 bits.
    horses = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 64, 1 / 64, 1 / 64, 1 / 64]
    for p, bits in (([0.5, 0.5], 1), ([0.25] * 4, 2), (horses, 2), ([1, 0, 0], 0)):
        assert np.isclose(smx.entropy(p) / np.log(2), bits, rtol=1e-15, atol=0)
    # Cover and Thomas, example 2.3.1 with r = 1/2, s = 1/4: D(p||q) 0.2075 bits, D(q||p) 0.1887.
    p, q = [0.5, 0.5], [0.75, 0.25]
    assert round(float(smx.kl_divergence(p, q) / np.log(2)), 4) == 0.2075
    assert round(float(smx.kl_divergence(q, p) / np.log(2)), 4) == 0.1887


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [1, 2, 7, 8, 100, 4097])
def test_against_scipy(dtype, k):
    x, y = sample((5, k), dtype, 2, 2.0), sample((5, k), dtype, 3, 2.0)
    p, q = smx.softmax(x), smx.softmax(y)
    p64, q64 = p.astype(float), q.astype(float)
    x64, y64 = x.astype(float), y.astype(float)
    of_x, of_y = smx.softmax(x64), smx.softmax(y64)
    tolerance = (
        {"rtol": 1e-13, "atol": 1e-15} if dtype == np.float64 else {"rtol": 2e-7, "atol": 1e-15}
    )
    for got, expected in (
        (smx.entropy(p), scipy.stats.entropy(p64, axis=-1)),
        (smx.entropy(logits=x), scipy.stats.entropy(of_x, axis=-1)),
        (smx.kl_divergence(p, q), scipy.stats.entropy(p64, q64, axis=-1)),
        (smx.kl_divergence(p_logits=x, q=q), scipy.stats.entropy(of_x, q64, axis=-1)),
        (smx.kl_divergence(p, q_logits=y), scipy.stats.entropy(p64, of_y, axis=-1)),
        (smx.kl_divergence(p_logits=x, q_logits=y), scipy.stats.entropy(of_x, of_y, axis=-1)),
    ):
        assert got.dtype == (np.float64 if dtype == np.float64 else np.float32)
        assert np.allclose(got, expected, **tolerance)
        assert (got >= 0).all()


def test_entropy_against_mpmath():
    rng = np.random.default_rng(4)
    for spread in (0.1, 3.0, 30.0, 300.0):
        x = spread * rng.standard_normal(50)
        with mpmath.workdps(50):
            e = [mpmath.exp(mpmath.mpf(v) - mpmath.mpf(x.max())) for v in x]
            total = mpmath.fsum(e)
            exact = mpmath.fsum(-v / total * mpmath.log(v / total) for v in e)
        # 2^-50 of the terms, whose sum this is (swiftmax_training.h).
        assert abs(smx.entropy(logits=x) - exact) <= 2.0**-48 * exact
    for p in ([1e-300, 1.0], [5e-324, 1e-310], [1e300, 3e300], [2.0**-1022, 2.0**-1074]):
        with mpmath.workdps(50):
            total = mpmath.fsum(p)
            exact = mpmath.fsum(
                -mpmath.mpf(v) / total * mpmath.log(mpmath.mpf(v) / total) for v in p
            )
        # Two terms about as large as |log p|.
        assert abs(smx.entropy(p) - exact) <= 2.0**-50 * 2 * abs(np.log(max(p))) + 1e-15 * exact, p


def test_divergence_of_a_row_from_itself_is_0():
    for dtype in DTYPES:
        x = sample((6, 500), dtype, 5, 10.0)
        p = smx.softmax(x)
        assert (smx.kl_divergence(p, p) == 0).all()
        assert (smx.kl_divergence(p_logits=x, q_logits=x) == 0).all()
    assert smx.kl_divergence([2.0, 6.0], [0.25, 0.75]) == 0


@pytest.mark.parametrize("seed", range(20))
def test_divergence_is_not_negative(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((50, 20)).astype(np.float32)
    y = x + 1e-4 * rng.standard_normal(x.shape).astype(np.float32)
    assert (smx.kl_divergence(p_logits=x, q_logits=y) >= 0).all()
    assert (smx.kl_divergence(smx.softmax(x), smx.softmax(y)) >= 0).all()


def test_special_values():
    assert smx.entropy([0.0, 1.0]) == 0 and smx.entropy(logits=[0.0, -INF]) == 0
    assert smx.kl_divergence([0.0, 1.0], [0.5, 0.5]) == np.log(2)
    assert smx.kl_divergence([0.5, 0.5], [0.0, 1.0]) == INF
    assert smx.kl_divergence([0.0, 1.0], [0.0, 1.0]) == 0
    assert smx.kl_divergence(p_logits=[0.0, 0.0], q_logits=[0.0, -INF]) == INF
    assert smx.kl_divergence(p_logits=[0.0, -INF], q_logits=[0.0, -INF]) == 0
    for p in ([NAN, 1], [-0.1, 1.1], [0.0, 0.0], [INF, 1]):
        assert np.isnan(smx.entropy(np.array(p))), p
        assert np.isnan(smx.kl_divergence(np.array(p), [0.5, 0.5])), p
        assert np.isnan(smx.kl_divergence([0.5, 0.5], np.array(p))), p
    for x in ([NAN, 1], [INF, 1], [-INF, -INF]):
        assert np.isnan(smx.entropy(logits=np.array(x))), x
    assert np.isnan(smx.entropy(np.ones((2, 0)))).all()
    assert smx.entropy(np.ones((0, 2))).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layout_and_threads_do_not_show(dtype):
    x, y = sample((30, 700), dtype, 6, 3.0), sample((30, 700), dtype, 7, 3.0)
    p, q = smx.softmax(x), smx.softmax(y)
    for call in (
        lambda a, b, **o: smx.entropy(a, **o),
        lambda a, b, **o: smx.kl_divergence(a, b, **o),
        lambda a, b, **o: smx.kl_divergence(p_logits=a, q=b, **o),
    ):
        expected = call(p, q)
        assert_same_bits(call(np.asfortranarray(p), q), expected)
        assert_same_bits(call(p[:, ::-1][:, ::-1], q[::-1][::-1]), expected)
        assert_same_bits(call(np.ascontiguousarray(p.T), q.T, axis=0), expected)
        assert_same_bits(np.stack([call(a, b) for a, b in zip(p, q, strict=True)]), expected)
        for n in (1, 2, 5):
            with smx.num_threads(n):
                assert_same_bits(call(p, q), expected)


def rows_of_all_kinds(dtype, k, seed):
    """19 rows of logits and of what passes for probabilities; some are special, or want scaling."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 3, (19, k)).round(1).astype(dtype)
    p = np.exp(x.astype(float)).astype(dtype)
    for i, (of_x, of_p) in enumerate([(NAN, NAN), (INF, INF), (-INF, 0), (0, -1), (500, 0)]):
        x[2 * i, seed % k], p[2 * i, seed % k] = of_x, of_p
    x[11], p[11] = -INF, 0
    # At the ends of the range sums may lose digits, and are taken again.
    p[13] *= np.finfo(p.dtype).smallest_normal if p.dtype.kind == "f" else p.dtype.type(1e-38)
    if dtype == np.float64:
        p[15] = 2e307 / k
    return x, p


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [1, 2, 7, 8, 9, 33, 127, 128, 129])
def test_rows_side_by_side_are_rows_alone(dtype, k):
    (x, p), (y, q) = (rows_of_all_kinds(dtype, k, seed) for seed in (5, 6))
    calls = [
        (smx.entropy, {"p": p}),
        (smx.entropy, {"logits": x}),
        (smx.kl_divergence, {"p": p, "q": q}),
        (smx.kl_divergence, {"p": p, "q_logits": y}),
        (smx.kl_divergence, {"p_logits": x, "q": q}),
        (smx.kl_divergence, {"p_logits": x, "q_logits": y}),
    ]
    for function, operands in calls:
        alone = np.stack(
            [function(**{name: a[i] for name, a in operands.items()}) for i in range(19)]
        )
        for layout in (np.ascontiguousarray, np.asfortranarray, lambda a: a.repeat(2, 0)[::2]):
            whole = function(**{name: layout(a) for name, a in operands.items()})
            assert_same_bits(whole, alone, f"{function.__name__} {sorted(operands)}")


def test_operands_are_broadcast_and_promoted():
    p = np.array([[0.5, 0.5], [0.1, 0.9]], np.float32)
    got = smx.kl_divergence(p, [0.5, 0.5])
    assert got.dtype == np.float64 and got[0] == 0
    assert smx.kl_divergence(p.astype(np.float16), p).dtype == np.float32


def test_errors():
    with pytest.raises(ValueError, match="one of p and logits"):
        smx.entropy()
    with pytest.raises(ValueError, match="one of p and logits"):
        smx.entropy([1.0], logits=[1.0])
    with pytest.raises(ValueError, match="one of q and q_logits"):
        smx.kl_divergence([1.0])
    with pytest.raises(ValueError, match="does not broadcast"):
        smx.kl_divergence([1.0, 1.0, 1.0], [0.5, 0.5])
    with pytest.raises(ValueError, match="axis 1 is out of range"):
        smx.entropy([0.5, 0.5], axis=1)
    with pytest.raises(TypeError, match="p has dtype"):
        smx.entropy([1j])
    with pytest.raises(ValueError, match="row 0 is 5"):
        smx.perplexity([[1.0, 2.0]], [5])
