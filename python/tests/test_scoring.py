"""sigmoid, log_sigmoid, sequence_log_prob and plackett_luce_log_prob."""

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import (
    BF16,
    DTYPES,
    WIDE,
    assert_same_bits,
    assert_within_ulp,
    bits,
    bound_of,
    mpf,
    reference,
    sample,
)

import swiftmax as smx

ELEMENTWISE = [smx.sigmoid, smx.log_sigmoid]


# -- sigmoid -------------------------------------------------------------------------------


def exact_sigmoid(function, x):
    with mpmath.workprec(1400):
        e = [mpmath.exp(-mpf(float(v))) for v in np.ravel(x)]
        made = [1 / (1 + v) if function is smx.sigmoid else -mpmath.log1p(v) for v in e]
    exact = np.empty(np.shape(x), object)
    exact.ravel()[:] = made
    return exact


def whole_range(dtype, count=700):
    """All magnitudes, and most densely where results are subnormal and where they turn."""
    end = 745.2 if dtype == np.float64 else 104.0
    limit = float(min(end * 1.02, np.finfo(np.float32).max))
    random = np.random.default_rng(5)
    parts = (
        random.uniform(-limit, limit, count),
        random.uniform(-2, 2, count),
        random.uniform(-end, -0.83 * end, count),
        random.uniform(0.83 * end, end, count),
        10.0 ** random.uniform(-40, 2, count) * random.choice([-1, 1], count),
        [0.0, -0.0, -end, end, 1e-300, -0.5, 0.5],
    )
    return np.concatenate(parts).astype(dtype)


@pytest.mark.parametrize("function", ELEMENTWISE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sigmoid_is_within_two_ulp(function, dtype):
    x = whole_range(dtype)
    x = x[np.isfinite(x.astype(np.float64))]
    assert_within_ulp(function(x), exact_sigmoid(function, x), bound_of(dtype), str(dtype))


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_sigmoid_keeps_subnormal_results(dtype):
    """At the end of the range the result is the smallest subnormal number, then 0."""
    last, beyond = (-744.9, -745.2) if dtype == np.float64 else (-103.8, -104.0)
    smallest = np.finfo(dtype).smallest_subnormal
    assert smx.sigmoid(dtype.type(last)) == smallest
    assert smx.sigmoid(dtype.type(beyond)) == 0
    assert smx.log_sigmoid(dtype.type(-last)) == -smallest
    assert smx.log_sigmoid(dtype.type(-beyond)) == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sigmoid_of_special_values(dtype):
    largest = 3e38 if dtype != np.float16 else 65504.0
    x = np.array([np.inf, -np.inf, np.nan, -np.nan, largest, -largest, 0.0], dtype)
    assert_same_bits(
        smx.sigmoid(x), np.array([1, 0, np.nan, np.nan, 1, 0, 0.5], dtype), str(dtype)
    )
    log = smx.log_sigmoid(x)
    assert_same_bits(log[:6], np.array([0, -np.inf, np.nan, np.nan, 0, x[5]], dtype), str(dtype))
    assert float(log[6]) == pytest.approx(-np.log(2), rel=float(1e-2 if dtype == BF16 else 1e-3))


@pytest.mark.parametrize("function", ELEMENTWISE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 7, 15, 16, 17, 33, 4095, 4097, 40_000])
def test_sigmoid_in_any_layout(function, dtype, count):
    x = sample(count, dtype, seed=count)
    expected = function(x)
    assert expected.dtype == dtype and expected.shape == x.shape
    for i in range(0, count, max(1, count // 5)):
        assert_same_bits(function(x[i]), expected[i], f"element {i} alone")
    spread = np.zeros((count, 3), dtype)
    spread[:, 1] = x
    assert_same_bits(function(spread[:, 1]), expected, "strided")
    assert_same_bits(function(x[::-1])[::-1], expected, "backwards")
    out = np.zeros((count, 3), dtype)
    returned = function(x, out=out[:, 2])
    assert_same_bits(out[:, 2], expected, "strided out")
    assert returned.base is out and not out[:, :2].any()
    for n in 1, 3:
        with smx.num_threads(n):
            assert_same_bits(function(x), expected, f"{n} threads")
    function(x, out=x)
    assert_same_bits(x, expected, "in place")


def test_sigmoid_of_axes_in_any_order():
    x = sample((3, 5, 7, 11), np.float32, seed=1)
    expected = smx.sigmoid(x.ravel()).reshape(x.shape)
    for axes in itertools.permutations(range(4)):
        assert_same_bits(smx.sigmoid(x.transpose(axes)), expected.transpose(axes), f"axes {axes}")
    assert_same_bits(smx.sigmoid(np.broadcast_to(x[0], x.shape))[2], smx.sigmoid(x[0]), "stride 0")
    buffer = np.arange(8.0)
    assert_same_bits(smx.sigmoid(buffer[:-1], out=buffer[1:])[3], smx.sigmoid(3.0), "overlap")


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_sigmoid_is_softmax_of_two_classes(dtype):
    """Numbers of few bits, so that a - b is exact."""
    random = np.random.default_rng(3)
    a, b = random.integers(-200, 200, (2, 4000)) / 8
    pair = np.stack([a, b], axis=-1).astype(dtype)
    difference = (a - b).astype(dtype)
    for two, one in (smx.softmax, smx.sigmoid), (smx.log_softmax, smx.log_sigmoid):
        distance = bits(two(pair)[:, 0]).astype(np.int64) - bits(one(difference)).astype(np.int64)
        assert np.abs(distance).max() <= 2, (dtype, one.__name__)


def test_sigmoid_refuses():
    x = np.zeros(3)
    for arguments, words in (
        ({"x": "abc"}, "x"),
        ({"x": x, "out": [0.0] * 3}, "out"),
        ({"x": x, "out": np.zeros(3, np.float32)}, "float64"),
        ({"x": np.ma.array(x)}, "masked"),
    ):
        with pytest.raises(TypeError, match=words):
            smx.sigmoid(**arguments)
    out = np.full(4, 9.0)
    with pytest.raises(ValueError, match=r"out of shape \(4,\) differs from x of shape \(3,\)"):
        smx.log_sigmoid(x, out=out)
    assert (out == 9).all()
    with pytest.raises(TypeError):
        smx.sigmoid(x, out)


# -- sequences -----------------------------------------------------------------------------


def picks(logits, tokens, **options):
    """log_softmax at the tokens, in the precision that sums have."""
    wide = logits if logits.dtype == np.float64 else logits.astype(np.float32)
    log_p = smx.log_softmax(wide, **options)
    return np.take_along_axis(log_p, np.asarray(tokens)[..., None], -1)[..., 0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [1, 2, 17, 300, 5000, 33_000])
def test_sequence_has_the_bits_of_log_softmax(dtype, classes):
    shape = (3, 4) if classes > 1000 else (3, 40)
    logits = sample((*shape, classes), dtype, seed=classes)
    tokens = np.random.default_rng(classes).integers(0, classes, shape)
    expected = picks(logits, tokens)
    total, each = smx.sequence_log_prob(logits, tokens, return_token_log_probs=True)
    assert_same_bits(each, expected, f"{dtype}, {classes} classes")
    assert total.dtype == np.float64
    assert_same_bits(total, np.cumsum(expected.astype(np.float64), axis=-1)[:, -1], "sums in order")
    for n in 1, 3:
        with smx.num_threads(n):
            assert_same_bits(smx.sequence_log_prob(logits, tokens), total, f"{n} threads")
    swapped = np.asfortranarray(logits)
    assert_same_bits(smx.sequence_log_prob(swapped, tokens.T.copy().T), total, "another layout")
    wide = np.zeros((*shape, 2 * classes), dtype)
    wide[..., ::2] = logits
    assert_same_bits(smx.sequence_log_prob(wide[..., ::2], tokens), total, "strided")
    assert_same_bits(smx.sequence_log_prob(logits[1], tokens[1]), total[1], "alone")


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_sequence_is_within_two_ulp(dtype):
    logits = sample((6, 9), dtype, seed=8, spread=12.0) + dtype.type(1000)
    logits[0, 3] += 60  # a dominant class
    tokens = [3, 1, 2, 3, 4, 5]
    exact = reference("log_softmax", logits)[np.arange(6), tokens]
    _, each = smx.sequence_log_prob(logits, tokens, return_token_log_probs=True)
    assert each[0] < 0
    assert_within_ulp(each, exact, context="offset and dominant class")


def test_sequence_does_not_underflow():
    """A thousand tokens of p = 0.1: the product is 0 in float64, the sum 1000 log 0.1."""
    logits, tokens = np.zeros((1000, 10)), np.arange(1000) % 10
    assert smx.softmax(logits)[np.arange(1000), tokens].prod() == 0
    assert smx.sequence_log_prob(logits, tokens) == pytest.approx(1000 * np.log(0.1), rel=1e-13)
    mean = smx.sequence_log_prob(logits, tokens, normalize=True)
    assert mean == pytest.approx(np.log(0.1), rel=1e-13)


@pytest.mark.parametrize("integer", [np.int8, np.int32, np.int64, np.uint64])
def test_sequence_stops_at_its_length(integer):
    logits = sample((2, 3, 5, 7), np.float32, seed=2)
    tokens = np.random.default_rng(2).integers(0, 7, (2, 3, 5))
    lengths = np.array([[5, 0, 3], [1, 4, 2]])
    behind = np.arange(5) >= lengths[..., None]
    expected = np.where(behind, np.float32(0), picks(logits, tokens))
    padded, logits = tokens.astype(np.int64), logits.copy()
    padded[behind] = 99
    logits[behind] = np.nan
    found, each = smx.sequence_log_prob(
        logits, padded.astype(integer), lengths.astype(integer), return_token_log_probs=True)
    assert_same_bits(each, expected)
    assert_same_bits(found, np.cumsum(expected.astype(np.float64), axis=-1)[..., -1])
    mean = smx.sequence_log_prob(logits, padded, lengths, normalize=True)
    assert_same_bits(mean, found / np.maximum(lengths, 1))
    assert found[0, 1] == mean[0, 1] == 0


def test_sequence_with_temperature_and_mask():
    logits = sample((4, 6, 11), np.float32, seed=4)
    tokens = np.random.default_rng(4).integers(0, 11, (4, 6))
    mask = np.random.default_rng(5).random((6, 11)) < 0.7
    for temperature in 0.0, 0.3, 2.5, np.inf, np.full((4, 6, 1), 1.7), np.linspace(0, 3, 6):
        for options in {}, {"mask": mask}:
            expected = picks(logits, tokens, temperature=temperature, **options)
            _, each = smx.sequence_log_prob(
                logits, tokens, temperature=temperature, return_token_log_probs=True, **options)
            assert_same_bits(each, expected, f"{temperature}, {list(options)}")
    assert (smx.sequence_log_prob(logits, tokens, mask=np.zeros(11, bool)) == -np.inf).all()


def test_sequence_of_special_rows():
    rows = np.array([[0, np.nan], [0, np.inf], [-np.inf, -np.inf], [0, -np.inf], [-np.inf, 0.0]])
    expected = [np.nan, np.nan, np.nan, 0, -np.inf]
    assert_same_bits(smx.sequence_log_prob(rows[:, None], np.zeros((5, 1), int)), expected)
    assert smx.sequence_log_prob(np.zeros((0, 5)), np.zeros(0, int)) == 0
    assert smx.sequence_log_prob(np.zeros((3, 0, 5)), np.zeros((3, 0), int)).tolist() == [0] * 3
    assert smx.sequence_log_prob(np.zeros((0, 2, 5)), np.zeros((0, 2), int)).shape == (0,)


def test_sequence_refuses():
    logits, tokens = np.zeros((2, 3, 5)), np.zeros((2, 3), int)
    wrong = tokens.copy()
    wrong[1, 2] = 5
    for change, words in (
        ({"tokens": wrong}, r"tokens\[1, 2\] is 5, but logits of shape \(2, 3, 5\) have classes 0"),
        ({"tokens": tokens - 1}, r"tokens\[0, 0\] is -1"),
        ({"tokens": tokens[:, :2]}, r"tokens of shape \(2, 2\).*logits of shape \(2, 3, 5\)"),
        ({"lengths": [3, 4]}, r"lengths\[1\] is 4.*0 to 3"),
        ({"lengths": [-1, 3]}, r"lengths\[0\] is -1"),
        ({"lengths": [3]}, r"lengths of shape \(1,\)"),
        ({"temperature": -1.0}, "temperature"),
        ({"mask": np.ones(4, bool)}, r"mask of shape \(4,\)"),
        ({"logits": np.zeros(5)}, "at least 2 axes"),
    ):
        with pytest.raises(ValueError, match=words):
            smx.sequence_log_prob(**({"logits": logits, "tokens": tokens} | change))
    for change, words in (
        ({"tokens": tokens * 1.0}, "tokens"),
        ({"tokens": None}, "tokens"),
        ({"lengths": [1.0, 2.0]}, "lengths"),
        ({"mask": smx.Mask.causal()}, "mask"),
        ({"mask": np.ones(5)}, "mask"),
    ):
        with pytest.raises(TypeError, match=words):
            smx.sequence_log_prob(**({"logits": logits, "tokens": tokens} | change))


# -- rankings ------------------------------------------------------------------------------


def exact_ranking(scores, ranking):
    with mpmath.workprec(600):
        left = {i: mpmath.exp(mpf(float(s))) for i, s in enumerate(scores)}
        total = mpf(0)
        for item in ranking:
            others = mpmath.fsum(v for i, v in left.items() if i != item)
            total -= mpmath.log1p(others / left.pop(item))
        return total


def test_rankings_of_four_sum_to_one():
    rankings = np.array(list(itertools.permutations(range(4))))
    for seed in range(5):
        scores = sample(4, np.float64, seed=seed, spread=3.0)
        p = np.exp(smx.plackett_luce_log_prob(scores, rankings))
        assert p.shape == (24,) and p.sum() == pytest.approx(1, rel=1e-14), seed
        for k in 1, 2, 3:
            first = np.unique(rankings[:, :k], axis=0)
            p = np.exp(smx.plackett_luce_log_prob(scores, first))
            assert p.sum() == pytest.approx(1, rel=1e-14), (seed, k)


@given(st.integers(1, 40), st.data())
def test_ranking_is_exact(n, data):
    seed, spread = data.draw(st.integers(0, 1000)), data.draw(st.sampled_from([0, 0.1, 3, 80, 400]))
    k = data.draw(st.integers(0, n))
    scores = sample(n, np.float64, seed=seed, spread=spread)
    orders = [np.random.default_rng(seed).permutation(n), np.argsort(-scores), np.argsort(scores)]
    for order in orders:
        found, exact = smx.plackett_luce_log_prob(scores, order[:k]), exact_ranking(
            scores, order[:k])
        error = abs(mpf(float(found)) - exact)
        # The bound of the docstring.
        assert error <= (n + 4) * mpf(2) ** -52 * abs(exact), (seed, spread, n, k)


def test_ranking_that_is_nearly_certain():
    """log p is about -exp(-50) - exp(-60); a plain logsumexp gives 0."""
    found = smx.plackett_luce_log_prob([110.0, 60.0, 0.0], [0, 1, 2])
    exact = exact_ranking([110.0, 60.0, 0.0], [0, 1, 2])
    assert abs(mpf(float(found)) - exact) <= 4 * mpf(2) ** -52 * abs(exact) and found < 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ranking_in_any_dtype_and_layout(dtype):
    scores = sample((6, 50), dtype, seed=6)
    rankings = np.array([np.random.default_rng(i).permutation(50)[:20] for i in range(6)])
    expected = smx.plackett_luce_log_prob(scores.astype(np.float64), rankings)
    assert expected.dtype == np.float64
    assert_same_bits(smx.plackett_luce_log_prob(scores, rankings), expected, "dtype")
    assert_same_bits(smx.plackett_luce_log_prob(scores[:, ::-1], 49 - rankings), smx.
                     plackett_luce_log_prob(scores[:, ::-1].copy(), 49 - rankings), "backwards")
    swapped = np.asfortranarray(scores), np.asfortranarray(rankings.astype(np.int32))
    assert_same_bits(smx.plackett_luce_log_prob(*swapped), expected, "first axis fastest")
    for n in 1, 3:
        with smx.num_threads(n):
            many = smx.plackett_luce_log_prob(
                np.tile(scores, (300, 1)), np.tile(rankings, (300, 1)))
            assert_same_bits(many, np.tile(expected, 300), f"{n} threads")


def test_ranking_of_special_scores():
    inf, nan = np.inf, np.nan
    for scores, ranking, expected in (
        ([3.0], [0], 0),
        ([3.0, 2.0], [], 0),
        ([-inf], [0], 0),
        ([1.0, -inf], [0, 1], 0),
        ([1.0, -inf], [1, 0], -inf),
        ([1.0, -inf, -inf], [0], 0),
        ([1.0, -inf, -inf], [0, 1, 2], nan),
        ([1.0, inf], [0, 1], nan),
        ([1.0, nan], [0], nan),
        ([nan, 1.0, 2.0], [1, 2], nan),
        ([0.0, 0.0, 0.0], [2, 1, 0], -np.log(6)),
        ([1.7e308, -1.7e308], [1, 0], -inf),
        ([1.7e308, -1.7e308], [0, 1], 0),
    ):
        found = smx.plackett_luce_log_prob(scores, ranking if ranking else np.zeros(0, int))
        np.testing.assert_allclose(found, expected, rtol=1e-15, err_msg=f"{scores}, {ranking}")


def test_ranking_refuses():
    scores = np.zeros((2, 4))
    for ranking, words in (
        ([[0, 1], [2, 4]], r"ranking\[1, 1\] is 4, but scores of shape \(2, 4\) have items 0 to 3"),
        ([[0, 1], [-1, 3]], r"ranking\[1, 0\] is -1"),
        ([[0, 1], [2, 2]], r"ranking\[1, 1\] is 2, which has a place before it"),
        ([[0, 1, 2, 3, 0]] * 2, r"more places.*\(2, 4\)"),
        ([[0]] * 3, r"ranking of shape \(3, 1\) does not broadcast .* \(2, 4\)"),
        (0, "ranking must have at least 1 axis"),
    ):
        with pytest.raises(ValueError, match=words):
            smx.plackett_luce_log_prob(scores, ranking)
    with pytest.raises(TypeError, match="ranking"):
        smx.plackett_luce_log_prob(scores, [[0.0, 1.0]])
