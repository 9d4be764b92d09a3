"""sample and filtered_softmax: what must not show, the distribution of draws, errors."""

import numpy as np
import pytest
from reference import BF16, DTYPES, assert_same_bits
from sampling_reference import normal, token

import swiftmax as smx

INF, NAN = np.inf, np.nan


# -- what must not show ----------------------------------------------------------------------------

FILTERS = [{}, {"top_k": 7, "top_p": 0.9}, {"top_p": 0.8}, {"min_p": 0.01, "temperature": 0.7}]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_size_is_a_row_of_draws(filters):
    x = normal((3, 700), 1)
    tokens = smx.sample(x, seed=3, size=9, **filters)
    for i in range(9):
        assert_same_bits(smx.sample(x, seed=3, draw=i, **filters), tokens[:, i], f"draw {i}")
    shifted = smx.sample(x, seed=3, draw=[4, 0, 2], size=5, **filters)
    assert_same_bits(shifted[0], tokens[0, 4:], "from draw 4")
    assert_same_bits(shifted[2], tokens[2, 2:7], "from draw 2")


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_a_row_alone_with_its_counter(filters):
    x = normal((2, 3, 5000), 2)
    tokens = smx.sample(x, seed=4, **filters)
    assert tokens.shape == (2, 3)
    for row in range(6):
        alone = smx.sample(x.reshape(6, -1)[row], seed=4, counter=row, **filters)
        assert alone == tokens.ravel()[row]
    others = smx.sample(x[::-1], seed=4, counter=[[3, 4, 5], [0, 1, 2]], **filters)
    assert_same_bits(others[::-1], tokens, "in another order")


def test_parameters_of_each_row():
    x = normal((6, 800), 5)
    each = {
        "temperature": np.array([1, 0.5, 0, 2, 1, 1]),
        "top_k": np.array([0, 5, 3, 900, 2, 1]),
        "top_p": np.array([0.9, 1, 0.5, 0.3, 0, 1], np.float32),
        "min_p": np.array([0, 0.1, 0, 0, 0.5, 1]),
    }
    tokens = smx.sample(x, seed=6, size=3, **each)
    filtered = smx.filtered_softmax(x, **each)
    for row in range(6):
        own = {name: values[row] for name, values in each.items()}
        assert_same_bits(
            smx.sample(x[row], seed=6, counter=row, size=3, **own), tokens[row], f"row {row}"
        )
        assert_same_bits(smx.filtered_softmax(x[row], **own), filtered[row], f"row {row}")
    # Broadcast, and with the last axis kept.
    spread = smx.sample(x.reshape(2, 3, 800), seed=6, top_k=np.array([[1], [3]]))
    kept = smx.sample(x.reshape(2, 3, 800), seed=6, top_k=np.array([1, 3]).reshape(2, 1, 1))
    assert_same_bits(spread, kept, "top_k with the last axis")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_layout_and_threads(dtype, filters):
    x = normal((9, 4500), 7, dtype=dtype)
    mask = np.random.default_rng(8).random(x.shape) < 0.9
    spaced = np.zeros((9, 9000), dtype)[:, ::-2]
    spaced[...] = x
    for m in None, mask:
        with smx.num_threads(1):
            tokens = smx.sample(x, seed=9, mask=m, **filters)
            filtered = smx.filtered_softmax(x, mask=m, **filters)
        for threads in 2, 3, 7:
            with smx.num_threads(threads):
                for y in x, spaced, np.asfortranarray(x):
                    assert_same_bits(smx.sample(y, seed=9, mask=m, **filters), tokens, "sample")
                    got = smx.filtered_softmax(y, mask=m, **filters)
                    assert_same_bits(got, filtered, "filtered_softmax")
    inside = x.copy()
    assert smx.filtered_softmax(inside, out=inside, **filters) is inside
    assert_same_bits(inside, smx.filtered_softmax(x, **filters), "in place")
    assert_same_bits(
        smx.filtered_softmax(np.append(x, np.full((9, 50), NAN, dtype), 1),
                             mask=np.append(np.ones(x.shape, bool), np.zeros((9, 50), bool), 1),
                             **filters)[:, :4500],
        smx.filtered_softmax(x, **filters), "masked elements appended")


def test_broadcast_logits():
    row = normal(64, 10)
    many = np.broadcast_to(row, (1000, 64))
    assert_same_bits(
        smx.sample(many, seed=1), smx.sample(np.array(many), seed=1), "rows that share memory"
    )


def test_seed():
    x = np.zeros((40, 1000))
    assert (smx.sample(x, seed=1) == smx.sample(x, seed=1)).all()
    assert (smx.sample(x, seed=1) != smx.sample(x, seed=2)).any()
    assert (smx.sample(x, seed=1) != smx.sample(x, seed=1 << 32 | 1)).any()
    assert (smx.sample(x) != smx.sample(x)).any()
    assert smx.sample(x[0], seed=2**64 - 1, counter=-1) == token(x[0], 2**64 - 1, -1)


# -- the distribution ------------------------------------------------------------------------------


def chi_square(counts, probabilities):
    """The statistic less its mean, in standard deviations; 0 where a token cannot be drawn."""
    possible = probabilities > 0
    assert not counts[~possible].any()
    expected = probabilities[possible] * counts.sum()
    freedom = possible.sum() - 1
    return (((counts[possible] - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize(
    ("n", "filters"),
    [
        (10, {}),
        (10, {"temperature": 2.0, "mask": np.arange(10) % 3 > 0}),
        (60, {"top_k": 20, "top_p": 0.9, "temperature": 0.8}),
        (3000, {"temperature": 3.0}),
        (3000, {"temperature": 3.0, "top_p": 0.9}),
        (3000, {"min_p": 0.05, "temperature": 2.0}),
    ],
    ids=str,
)
def test_counts_follow_the_filtered_distribution(n, filters):
    x = normal(n, 12, 1.5, np.float64)
    draws = 200_000
    counts = np.bincount(smx.sample(x, seed=13, size=draws, **filters), minlength=n)
    # A fixed seed: within 4 standard deviations now and ever.
    assert abs(chi_square(counts, smx.filtered_softmax(x, **filters))) < 4
    # Rows of their own are as independent as draws of one row.
    if n < 100:
        rows = smx.sample(np.broadcast_to(x, (draws // 2, n)), seed=14, **filters)
        counts = np.bincount(rows, minlength=n)
        assert abs(chi_square(counts, smx.filtered_softmax(x, **filters))) < 4


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_log_probs(filters):
    x = normal((3, 4000), 15, dtype=np.float64)
    tokens, log_probs = smx.sample(x, seed=16, size=10, return_log_probs=True, **filters)
    assert log_probs.dtype == np.float64
    assert_same_bits(tokens, smx.sample(x, seed=16, size=10, **filters), "tokens")
    want = np.log(np.take_along_axis(smx.filtered_softmax(x, **filters), tokens, 1))
    assert np.allclose(log_probs, want, rtol=0, atol=1e-12)
    assert smx.sample(x, temperature=0, return_log_probs=True)[1].tolist() == [0, 0, 0]


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ({"temperature": -1}, ValueError, "temperature must be 0 or more"),
        ({"temperature": NAN}, ValueError, "temperature"),
        ({"temperature": [1.0] * 3}, ValueError, r"temperature of shape \(3,\) .* rows of logits"),
        ({"top_k": -1}, ValueError, "top_k holds -1"),
        ({"top_k": 1.5}, TypeError, "top_k must be an integer"),
        ({"top_k": [1, 2, 3]}, ValueError, r"top_k of shape \(3,\) .* logits of shape \(2, 4\)"),
        ({"top_p": 1.1}, ValueError, "top_p must be from 0 to 1"),
        ({"top_p": NAN}, ValueError, "top_p"),
        ({"min_p": -0.1}, ValueError, "min_p must be from 0 to 1"),
        ({"min_p": "a"}, TypeError, "min_p"),
        ({"mask": [1, 0, 1, 1]}, TypeError, "mask has dtype"),
        ({"mask": smx.Mask.causal()}, TypeError, "Mask"),
        ({"mask": [True] * 3}, ValueError, r"mask of shape \(3,\)"),
        ({"size": -1}, ValueError, "size"),
        ({"size": 2.0}, TypeError, "size"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 2**64}, ValueError, "seed"),
        ({"seed": "a"}, TypeError, "seed"),
        ({"counter": 0.5}, TypeError, "counter"),
        ({"counter": [1, 2, 3]}, ValueError, "counter"),
        ({"draw": -1}, ValueError, "draw holds -1"),
        ({"draw": 2**63 - 1, "size": 2}, ValueError, "draw holds"),
    ],
    ids=str,
)
def test_errors(arguments, kind, sentence):
    with pytest.raises(kind, match=sentence):
        smx.sample(np.zeros((2, 4), np.float32), **arguments)


def test_errors_of_logits_and_out():
    with pytest.raises(ValueError, match="logits must have an axis"):
        smx.sample(1.0)
    with pytest.raises(TypeError, match="logits has dtype complex128"):
        smx.sample([1j])
    x, out = np.zeros((2, 4)), np.full((2, 4), 7.0)
    with pytest.raises(ValueError, match="top_p"):
        smx.filtered_softmax(x, top_p=2, out=out)
    with pytest.raises(TypeError, match="out has dtype"):
        smx.filtered_softmax(x, out=out.astype(np.float32))
    with pytest.raises(ValueError, match="out of shape"):
        smx.filtered_softmax(x, out=out[:1])
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        smx.filtered_softmax(x, out=[1])
    assert (out == 7).all()


def test_overlapping_out():
    x = normal((5, 40), 17)
    want = smx.filtered_softmax(x[:, ::-1], top_k=3)
    assert_same_bits(smx.filtered_softmax(x[:, ::-1], top_k=3, out=x), want, "over its own mirror")


def test_integers_and_bfloat16():
    assert smx.sample([0, 50, 0], seed=1) == 1
    assert smx.filtered_softmax(np.array([1, 2, 2], BF16), top_k=2).dtype == BF16
