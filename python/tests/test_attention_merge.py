"""merge_attention: results over parts of the keys are joined to those over all."""

import itertools

import numpy as np
import pytest
from reference import BF16, DTYPES, assert_same_bits, sample

import swiftmax as smx

INF, NAN = np.inf, np.nan
HEADS, KEY_HEADS, SIZE, VALUE_SIZE = 4, 2, 33, 20



def parts(seed, dtype=np.float32, cut=90, layout="BHLD", offset=None):
    """Attention over all keys, over the first, over the rest, and the size of the values.

    Causal with an offset.
    """
    lq, lk, heads_first = 37, 200, layout == "BHLD"
    query = sample((2, HEADS, lq, SIZE), dtype, seed, 2.0)
    key = sample((2, KEY_HEADS, lk, SIZE), dtype, seed + 1, 1.0)
    value = sample((2, KEY_HEADS, lk, VALUE_SIZE), dtype, seed + 2, 1.0)

    def call(first, last):
        given = [x if heads_first else np.copy(x.swapaxes(1, 2))
                 for x in (query, key[:, :, first:last], value[:, :, first:last])]
        # Places of queries among the keys count from the first key of the call.
        rule = {} if offset is None else {"causal": True, "query_offset": offset - first}
        return smx.attention(*given, layout=layout, **rule, return_lse=True)

    return call(0, lk), call(0, cut), call(cut, lk), float(abs(value.astype(float)).max())


@pytest.mark.parametrize("layout", ["BHLD", "BLHD"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_merged_parts_are_attention_over_all_keys(dtype, layout):
    whole, first, rest, size = parts(100, dtype, layout=layout)
    out, lse = smx.merge_attention(*first, *rest, layout=layout)
    assert out.dtype == whole[0].dtype and lse.dtype == whole[1].dtype
    # The scores have the same bits in all three calls. What differs are sums over keys, chains of
    # n = 64 + 200 / 64 + 1 = 68: 2 sqrt(n) u (attention_reference.tolerances) is 1e-6 in float32
    # and 2e-15 in float64, of out relative to max|v|, of lse absolute; shares and lse add an ulp of
    # their own. Narrow outs are rounded in both parts, in the whole and when merged: the shares
    # have the sum 1, so by 3 half units in the last place.
    sums = 1e-14 if dtype == np.float64 else 1e-6
    rounding = 3 * {np.dtype(np.float16): 2.0**-11, BF16: 2.0**-8}.get(dtype, 0)
    error = abs(out.astype(float) - whole[0].astype(float)).max()
    assert error <= (sums + rounding) * size, (error, (sums + rounding) * size, "seed 100")
    error, bound = abs(lse - whole[1]).max(), sums + 2 * np.spacing(abs(whole[1]).max())
    assert error <= bound, (error, bound, "seed 100")


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("layout", ["BHLD", "BLHD"])
def test_merge_is_its_formula(rank, layout):
    rng = np.random.default_rng(5)
    is_swapped = rank > 2 and layout == "BLHD"
    a, b = rng.standard_normal((2, *(3, 4, 5, 7)[4 - rank :]))
    shape = (3, 5, 4) if is_swapped else (3, 4, 5)
    lse_a, lse_b = 20 * rng.standard_normal((2, *shape[4 - rank :]))
    out, lse = smx.merge_attention(a, lse_a, b, lse_b, layout=layout)
    exact = np.logaddexp(lse_a, lse_b)
    share_a, share_b = np.exp(lse_a - exact), np.exp(lse_b - exact)
    if is_swapped:
        share_a, share_b = share_a.swapaxes(-1, -2), share_b.swapaxes(-1, -2)
    assert np.allclose(lse, exact, rtol=1e-14, atol=1e-14)
    assert np.allclose(out, a * share_a[..., None] + b * share_b[..., None], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("spread", [0.1, 1, 10, 100])
def test_accuracy_of_merge(spread):
    # In units in the last place of the larger term: 1 for each share, rounded to float32 (u times a
    # term is up to 1 unit), 0.5 for the first product, 1 for the sum, which may be twice the term.
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((2, 50_000, 4)).astype(np.float32)
    lse_a, lse_b = (spread * rng.standard_normal((2, 50_000))).astype(np.float32)
    out, lse = smx.merge_attention(a, lse_a, b, lse_b)
    exact = np.logaddexp(lse_a.astype(float), lse_b.astype(float))
    terms = a * np.exp(lse_a - exact)[:, None], b * np.exp(lse_b - exact)[:, None]
    unit = np.spacing(np.maximum(*map(abs, terms)).astype(np.float32))
    assert (abs(out - sum(terms)) / unit).max() <= 3.5, "seed 7"
    unit = np.spacing(np.max([abs(lse_a), abs(lse_b), abs(lse)], axis=0))
    assert (abs(lse - exact) / unit).max() <= 1, "seed 7"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 7])
def test_a_side_without_keys_adds_nothing(dtype, garbage):
    out, lse = parts(110, dtype)[2]
    nothing = np.full_like(out, garbage), np.full_like(lse, -INF)
    for sides in itertools.permutations([(out, lse), nothing]):
        got = smx.merge_attention(*sides[0], *sides[1])
        # -0 may become 0.
        assert_same_bits(got[0] + dtype.type(0), out + dtype.type(0), "seed 110")
        assert_same_bits(got[1], lse, "lse, seed 110")
    for both in (nothing, nothing), (nothing, (out, nothing[1])):
        got = smx.merge_attention(*both[0], *both[1])
        assert (got[0] == 0).all() and (got[1] == -INF).all()


def test_rows_without_keys_among_others():
    whole, first, rest, size = parts(115, cut=20, offset=5)
    assert (rest[1][:, :, :15] == -INF).all() and np.isfinite(rest[1][:, :, 15:]).all()
    out, lse = smx.merge_attention(*first, *rest)
    # As in test_merged_parts_are_attention_over_all_keys.
    assert abs(out - whole[0]).max() <= 1e-6 * size, "seed 115"
    assert abs(lse - whole[1]).max() <= 1e-6 + 2 * np.spacing(abs(whole[1]).max())
    assert_same_bits(lse[:, :, :15], first[1][:, :, :15], "seed 115")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_makes_its_row_nan(dtype):
    _, (a, lse_a), (b, lse_b), _ = parts(120, dtype)
    clean = smx.merge_attention(a, lse_a, b, lse_b)
    for sums in lse_a, lse_b:
        kept = sums[1, 2, 3]
        sums[1, 2, 3] = NAN
        got = smx.merge_attention(a, lse_a, b, lse_b)
        sums[1, 2, 3] = kept
        assert np.isnan(got[0][1, 2, 3]).all() and np.isnan(got[1][1, 2, 3])
        for x, y in zip(got, clean, strict=True):
            x[1, 2, 3] = y[1, 2, 3]
            assert_same_bits(x, y, "the other rows, seed 120")
    a[0, 1, 2, 5] = NAN
    got = smx.merge_attention(a, lse_a, b, lse_b)
    assert np.isnan(got[0]).sum() == 1 and np.isnan(got[0][0, 1, 2, 5])
    assert_same_bits(got[1], clean[1], "seed 120")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_in_place_aside_and_strided(dtype):
    _, (a, lse_a), (b, lse_b), _ = parts(130, dtype)
    expected = smx.merge_attention(a, lse_a, b, lse_b)
    for own in range(2):
        sides = [a.copy(), b.copy()]
        got = smx.merge_attention(sides[0], lse_a, sides[1], lse_b, out=sides[own])
        assert got[0] is sides[own]
        assert_same_bits(got[0], expected[0], f"out is side {own}, seed 130")
        assert_same_bits(got[1], expected[1], "lse, seed 130")
        assert_same_bits(sides[1 - own], (a, b)[1 - own], "the other side, seed 130")
    # One element further than out_a: computed aside.
    memory = np.zeros(a.size + 1, dtype)
    near, out = memory[:-1].reshape(a.shape), memory[1:].reshape(a.shape)
    near[...] = a
    smx.merge_attention(near, lse_a, b, lse_b, out=out)
    assert_same_bits(out, expected[0], "overlapping, seed 130")
    for layout in "BHLD", "BLHD":
        wide = [np.repeat(x, 2, -1)[..., ::2] for x in (a, b)]
        turned = [np.copy(x[::-1, :, ::-1])[::-1, :, ::-1] for x in (lse_a, lse_b)]
        out = np.zeros((*a.shape[:-1], 3 * a.shape[-1]), dtype)[..., 1::3]
        wide = [x if layout == "BHLD" else x.swapaxes(1, 2) for x in (*wide, out)]
        got = smx.merge_attention(wide[0], turned[0], wide[1], turned[1], layout=layout,
                                  out=wide[2])
        assert got[0] is wide[2]
        assert_same_bits(out, expected[0], f"strided, {layout}, seed 130")
        assert_same_bits(got[1], expected[1], f"lse, strided, {layout}, seed 130")


def test_merge_of_packed_results_threads_and_sizes():
    rng = np.random.default_rng(6)
    for rows, columns in (0, 5), (3, 0), (1, 1), (300, 64), (2, 70_000):
        a, b = rng.standard_normal((2, rows, 3, columns)).astype(np.float32)
        lse_a, lse_b = rng.standard_normal((2, 3, rows)).astype(np.float32)
        with smx.num_threads(1):
            expected = smx.merge_attention(a, lse_a, b, lse_b, layout="BLHD")
        with smx.num_threads(3):
            got = smx.merge_attention(a, lse_a, b, lse_b, layout="BLHD")
        for row in range(rows):
            alone = smx.merge_attention(a[row], lse_a[:, row], b[row], lse_b[:, row])
            assert_same_bits(alone[0], expected[0][row], f"row {row} alone, seed 6")
        for x, y in zip(got, expected, strict=True):
            assert_same_bits(x, y, f"{rows} rows of {columns}, seed 6")


def test_kinds_of_inputs():
    a, b = np.float32([[1, 3]]), np.float32([[3, 5]])
    expected = np.float32([[2, 4]])
    for sums in [0], np.zeros(1, np.float16), np.zeros(1), np.zeros(1, ">f8"), np.zeros(1, int):
        out, lse = smx.merge_attention(a, sums, b.astype(">f4"), sums)
        assert_same_bits(out, expected)
        assert_same_bits(lse, np.log(np.float32([2])))
    out, lse = smx.merge_attention([[1, 3]], [0], [[3, 5]], [0])
    assert_same_bits(out, expected.astype(float))
    assert lse.dtype == np.float64


A, LSE = np.zeros((2, 4, 3, 6), np.float32), np.zeros((2, 4, 3), np.float32)
MERGE_ERRORS = [
    ({"out_a": np.zeros(6, "f4")}, ValueError, ["out_a", "(6,)"]),
    ({"out_b": A[:1]}, ValueError, ["out_b", "(1, 4, 3, 6)", "(2, 4, 3, 6)"]),
    ({"out_b": A[0]}, ValueError, ["out_b", "(4, 3, 6)", "(2, 4, 3, 6)"]),
    ({"out_b": A.astype(float)}, TypeError, ["out_b", "float64", "float32"]),
    ({"out_a": A.astype(complex)}, TypeError, ["out_a", "complex128"]),
    ({"out_a": None}, TypeError, ["out_a"]),
    ({"lse_a": None}, TypeError, ["lse_a"]),
    ({"lse_b": None}, TypeError, ["lse_b"]),
    ({"lse_a": LSE[..., None]}, ValueError, ["lse_a", "(2, 4, 3, 1)", "(2, 4, 3, 6)"]),
    ({"lse_b": LSE[:, :1]}, ValueError, ["lse_b", "(2, 1, 3)", "(2, 4, 3, 6)"]),
    ({"lse_b": LSE.astype(complex)}, TypeError, ["lse_b", "complex128"]),
    ({"lse_a": np.ma.masked_array(LSE, LSE > 0)}, TypeError, ["lse_a is a masked array"]),
    ({"layout": "BLHD"}, ValueError, ["lse_a", "(2, 4, 3)", "(2, 4, 3, 6)"]),
    ({"layout": "LBHD"}, ValueError, ["layout", "'LBHD'"]),
    ({"layout": None}, ValueError, ["layout", "None"]),
    ({"out": A.astype(float)}, TypeError, ["out", "float64"]),
    ({"out": np.zeros((2, 4, 3, 5), "f4")}, ValueError, ["out", "(2, 4, 3, 5)", "(2, 4, 3, 6)"]),
    ({"out": [0.0]}, TypeError, ["out", "list"]),
    ({"out": np.broadcast_to(A[:1], A.shape)}, ValueError, ["out is read-only"]),
    ({"mask": None}, TypeError, ["merge_attention", "mask"]),
]


@pytest.mark.parametrize("case", MERGE_ERRORS, ids=lambda c: " ".join([*c[0], *c[2]]))
def test_errors_of_merge(case):
    keywords, kind, words = case
    with pytest.raises(kind) as caught:
        smx.merge_attention(**{"out_a": A, "lse_a": LSE, "out_b": A, "lse_b": LSE, **keywords})
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_arguments_of_merge():
    for count, name in enumerate(["out_a", "lse_a", "out_b", "lse_b"]):
        with pytest.raises(TypeError, match=name):
            smx.merge_attention(*[A, LSE, A, LSE][:count])
    with pytest.raises(TypeError, match="positional"):
        smx.merge_attention(A, LSE, A, LSE, "BHLD")
