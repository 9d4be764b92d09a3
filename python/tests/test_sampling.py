"""sample and filtered_softmax against the definition (sampling_reference.py), and its edges."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import DTYPES, assert_same_bits
from sampling_reference import LOG2E, draw_from, left, normal, philox, random_of_draw

import swiftmax as smx
from swiftmax import _core

INF, NAN = np.inf, np.nan


# -- Philox ----------------------------------------------------------------------------------------

# kat_vectors of Random123 (D. E. Shaw Research), lines "philox4x32 10": counter, key, result.
KNOWN = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_philox_has_the_known_answers(counter, key, result):
    library = ctypes.CDLL(_core._library_path())
    out = (ctypes.c_uint32 * 4)()
    status = library.smx_philox((ctypes.c_uint32 * 4)(*counter), (ctypes.c_uint32 * 2)(*key), out)
    assert status == 0
    assert tuple(out) == result
    assert tuple(philox(counter, key)) == result


# -- the definition --------------------------------------------------------------------------------


@st.composite
def problems(draw):
    """A row with ties, -inf and masked elements, and filters."""
    n = draw(st.integers(1, 40))
    dtype = draw(st.sampled_from(DTYPES))
    numbers = st.one_of(
        st.floats(-30, 30, width=16), st.sampled_from([0.0, -0.0, 1.0, 2.0, -INF, 5.0])
    )
    x = np.array(draw(st.lists(numbers, min_size=n, max_size=n))).astype(dtype)
    mask = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    if not np.any(mask & (x > -INF)):
        x[0], mask[0] = 1, True
    share = st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    filters = {
        "temperature": draw(st.sampled_from([0, 0.25, 0.8, 1, 3.0, 1e9])),
        "top_k": draw(st.one_of(st.none(), st.integers(0, n + 2))),
        "top_p": draw(share),
        "min_p": draw(share),
        "mask": draw(st.sampled_from([None, mask])),
    }
    if filters["mask"] is None and not np.any(x > -INF):
        x[0] = 1
    return x, filters, draw(st.integers(0, 2**64 - 1)), draw(st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=400, deadline=None)
@given(problems())
def test_tokens_and_distribution_of_short_rows(problem):
    x, filters, seed, counter = problem
    places, weights = left(x, **filters)
    want = [draw_from(places, weights, random_of_draw(seed, counter, i)) for i in range(4)]
    got = smx.sample(x, seed=seed, counter=counter, size=4, **filters)
    assert got.dtype == np.int64 and got.tolist() == want
    assert_filtered(x, places, filters)


def assert_filtered(x, places, filters):
    kept = np.full(x.shape, -INF).astype(x.dtype)
    kept[places] = x[places]
    # T = 0 has left one element, whose probability is 1 at any temperature.
    want = smx.softmax(kept, temperature=filters.get("temperature") or 1.0)
    assert_same_bits(smx.filtered_softmax(x, **filters), want, f"{filters}")


# Each of these takes another way through the library: a list of candidates, the 256 largest alone,
# histograms by rank and by weight, ties across a cut, a scan of the row.
LONG = [
    {},
    {"top_k": 50, "top_p": 0.9, "temperature": 0.8},
    {"top_k": 1024},
    {"top_k": 1025},
    {"top_k": 3000, "top_p": 0.7},
    {"top_k": 3000, "top_p": 0.01},
    {"top_p": 0.2},
    {"top_p": 0.9},
    {"top_p": 0.999999},
    {"top_p": 1e-30},
    {"min_p": 1e-4},
    {"min_p": 0.5},
    {"min_p": 0.02, "top_p": 0.95},
    {"min_p": 0.3, "top_p": 0.95, "temperature": 1.7},
    {"temperature": INF, "top_p": 0.5},
    {"temperature": 0},
]
ROWS = {
    "normal": lambda n, seed: normal(n, seed),
    "flat": lambda n, seed: normal(n, seed, 0.01),
    "steep": lambda n, seed: normal(n, seed, 30.0),
    "ties": lambda n, seed: np.round(normal(n, seed, 1.0)),
    "equal": lambda n, seed: np.full(n, -1.5),
    "rising": lambda n, seed: np.sort(normal(n, seed)),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("filters", LONG, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=str)
@pytest.mark.parametrize("n", [300, 1000, 5003])
def test_tokens_and_distribution_of_long_rows(n, dtype, filters, kind):
    x = ROWS[kind](n, 11).astype(dtype)
    places, weights = left(x, **filters)
    got = smx.sample(x, seed=99, size=20, **filters)
    want = [draw_from(places, weights, random_of_draw(99, 0, i)) for i in range(20)]
    assert got.tolist() == want
    if filters.get("temperature") != INF:
        assert_filtered(x, places, filters)


def test_rows_of_many_sums():
    """More blocks than there is room for their sums: 1024 of 1024 elements."""
    n = (1 << 20) + 5000
    x = normal(n, 3, 0.5)
    y = (x.astype(float) - float(x.max())) * LOG2E
    sums = np.cumsum(np.rint(np.exp2(y) * 2.0**52).astype(np.int64).astype(object))
    got = smx.sample(x, seed=5, size=12)
    for i, t in enumerate(got):
        target = random_of_draw(5, 0, i) * sums[-1] >> 64
        # exp2 of NumPy is not ours to the last bit, so neighbours may change places at a border.
        assert abs(int(np.searchsorted(sums, target, side="right")) - int(t)) <= 1


# -- edges -----------------------------------------------------------------------------------------


def kept(x, **filters):
    return np.flatnonzero(smx.filtered_softmax(np.asarray(x, float), **filters)).tolist()


def test_ties_at_the_kth_place_go_to_the_first():
    x = [1, 3, 2, 3, 2, 2]
    assert kept(x, top_k=3) == [1, 2, 3]
    assert kept(x, top_k=4) == [1, 2, 3, 4]
    assert kept(x, temperature=0) == [1]
    assert smx.sample(x, temperature=0) == 1
    # -0.0 and 0.0 are equal.
    assert kept([-0.0, 0.0], top_k=1) == [0]


def test_top_k_of_nothing_and_of_all():
    x = np.arange(5.0)
    for k in None, 0, 5, 6, 2**40:
        assert kept(x, top_k=k) == [0, 1, 2, 3, 4]
    assert kept(x, top_k=1) == [4]


def test_the_token_that_crosses_top_p_stays():
    x = np.log([0.5, 0.25, 0.125, 0.125])
    assert kept(x, top_p=0) == [0]
    assert kept(x, top_p=0.49) == [0]
    assert kept(x, top_p=0.51) == [0, 1]
    assert kept(x, top_p=0.76) == [0, 1, 2]
    assert kept(x, top_p=1) == [0, 1, 2, 3]
    # Exactly reached is reached: weights of equal logits are equal.
    assert kept([0, 0, 0, 0], top_p=0.5) == [0, 1]
    assert kept([0, 0, 0, 0], top_p=np.nextafter(0.5, 1)) == [0, 1, 2]
    # Of what top_k leaves: 0.5 of 0.75.
    assert kept(x, top_k=2, top_p=0.6) == [0]


def test_min_p():
    x = np.log([0.5, 0.25, 0.125, 0.125])
    assert kept(x, min_p=0) == [0, 1, 2, 3]
    assert kept(x, min_p=0.3) == [0, 1]
    assert kept(x, min_p=1) == [0]
    assert kept([2, 1, 2], min_p=1) == [0, 2]


def test_min_p_does_not_reach_into_top_p():
    """Shares of top_p are those after top_k alone: here min_p first would leave one token."""
    x = np.log([0.4, 0.3, 0.2, 0.1])
    assert kept(x, top_p=0.65, min_p=0.7) == [0, 1]
    assert kept(x, top_p=0.45, min_p=0.9) == [0]


def test_all_but_one_masked():
    x = np.array([[NAN, 2.0, INF, 1.0]])
    mask = np.array([False, True, False, False])
    assert smx.sample(x, mask=mask, seed=1).tolist() == [1]
    assert_same_bits(smx.filtered_softmax(x, mask=mask), np.array([[0, 1.0, 0, 0]]), "one left")


def test_rows_that_cannot_be_drawn_from():
    x = np.zeros((2, 3, 4), np.float32)
    mask = np.ones(x.shape, bool)
    mask[1, 0] = False
    with pytest.raises(ValueError, match=r"row 3 of logits of shape \(2, 3, 4\) has no element"):
        smx.sample(x, mask=mask)
    x[1, 2] = -INF
    with pytest.raises(ValueError, match="row 5 of logits"):
        smx.sample(x, top_k=1)
    x[0, 1, 2] = NAN
    with pytest.raises(ValueError, match=r"row 1 of logits of shape \(2, 3, 4\) has NaN or \+inf"):
        smx.sample(x, mask=mask)
    x[0, 1, 2] = INF
    with pytest.raises(ValueError, match=r"row 1 .* NaN or \+inf"):
        smx.sample(x, temperature=0)
    with pytest.raises(ValueError, match="row 0 of logits"):
        smx.sample(np.zeros((2, 0)))


@pytest.mark.parametrize("n", [4, 3000])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_special_rows_of_filtered_softmax(n, bad):
    x = np.zeros((3, n))
    x[1, n - 1] = bad
    mask = np.ones(x.shape, bool)
    mask[2] = False
    result = smx.filtered_softmax(x, top_k=2, mask=mask)
    assert np.flatnonzero(result[0]).tolist() == [0, 1]
    assert np.isnan(result[1]).all()
    assert (result[2] == 0).all()


def test_empty():
    assert smx.sample(np.zeros((0, 5))).shape == (0,)
    assert smx.sample(np.zeros((0, 0))).shape == (0,)
    assert smx.sample(np.full((2, 3), NAN), size=0).shape == (2, 0)
    assert smx.filtered_softmax(np.zeros((2, 0))).shape == (2, 0)


def test_extreme_logits():
    """x - max and x / T overflow in float64; their quotient need not."""
    x = np.array([-1.7e308, 1.7e308])
    assert smx.sample(x, seed=1, size=8).tolist() == [1] * 8
    tokens = smx.sample(x, temperature=1e308, seed=1, size=4000)
    # exp(-3.4) beside 1.
    assert tokens.mean() == pytest.approx(1 / (1 + np.exp(-3.4)), abs=0.02)
    tiny = np.array([0, 5e-324])
    assert smx.sample(tiny, temperature=5e-324, seed=1, size=4).tolist() == [1] * 4
