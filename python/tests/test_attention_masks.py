"""CONTRACT, section 1, S10 to S12 and S17: which query sees which key, however it is said."""

import numpy as np
import pytest
from attention_reference import assert_attention, given_axes, visible_keys
from reference import assert_same_bits, sample
from test_attention_contract import (
    BATCH,
    FLAGS,
    HEADS,
    INF,
    LK,
    LQ,
    SCORES,
    assert_shows_nothing,
    tensors,
)

import swiftmax as smx


def sees(query, key, value, **options):
    """Which weights are above 0: with moderate scores, what each query sees."""
    return smx.attention(query, key, value, **options, return_weights=True)[1] > 0


OFFSETS = [None, 0, 5, -4, LK, -LQ, -1000, 2**62, -(2**62), [3, -6], [[0, 1, -2, 40]] * 2]


@pytest.mark.parametrize("offset", OFFSETS, ids=str)
def test_s10_causal(offset):
    for lq, lk in (LQ, LK), (LK, LQ), (17, 16), (16, 17), (1, 50), (50, 1):
        i, j = np.arange(lq)[:, None], np.arange(lk)
        given = lk - lq if offset is None else offset
        place = i + np.clip(np.asarray(given), -(10**6), 10**6)[..., None, None]
        rule = j <= (place[:, None] if place.ndim == 3 else place)
        rule = np.broadcast_to(rule, (BATCH, HEADS, lq, lk))
        case = tensors(12, lq=lq, lk=lk)
        seen = sees(*case, causal=True, query_offset=offset)
        assert (seen == rule).all(), (lq, lk, np.argwhere(seen != rule)[:3])
        assert_attention(*case, f"Lq {lq}, Lk {lk}, seed 12", causal=True, query_offset=offset)


def test_s10_leading_rows_that_see_nothing():
    query, key, value = tensors(13, lq=LK, lk=30)  # the first 40 queries
    results = assert_attention(query, key, value, "seed 13", causal=True)
    rows = np.zeros((BATCH, HEADS, LK), bool)
    rows[:, :, :40] = True
    assert_shows_nothing(results, rows)


@pytest.mark.parametrize("offset", [None, 0, -9, [4, 30]], ids=str)
@pytest.mark.parametrize("sides", [(0, 0), (3, 0), (0, 5), (10, 20), (None, 2), (6, -1), (-1, None),
                                   (2**62, 0), (64, 64)], ids=str)
def test_s11_window(sides, offset):
    i, j = np.arange(LQ)[:, None], np.arange(LK)
    place = i + np.reshape(LK - LQ if offset is None else offset, (-1, 1, 1, 1))
    left, right = (10**6 if side in (None, -1, 2**62) else side for side in sides)
    rule = np.broadcast_to((place - left <= j) & (j <= place + right), SCORES)
    for causal in False, True:
        seen = sees(*tensors(14), window=sides, query_offset=offset, causal=causal)
        assert (seen == (rule & (j <= place) if causal else rule)).all()


@pytest.mark.parametrize("heads, key_heads", [(6, 1), (6, 2), (6, 3), (6, 6), (32, 8)])
def test_s12_grouped_heads(heads, key_heads):
    query = sample((2, heads, 5, 8), seed=15)
    key, value = (sample((2, key_heads, 20, 8), seed=i) for i in (16, 17))
    out = smx.attention(query, key, value)
    for h in range(heads):
        own = h // (heads // key_heads)
        alone = smx.attention(query[:, h : h + 1], key[:, own : own + 1], value[:, own : own + 1])
        assert_same_bits(out[:, h : h + 1], alone, f"head {h}")


@pytest.mark.parametrize("layout", ["BHLD", "BLHD"])
def test_s17_all_masks_together(layout):
    rng = np.random.default_rng(22)
    array, other = rng.random((BATCH, 1, LQ, LK)) < 0.9, rng.random((HEADS, LQ, 1)) < 0.9
    parts = [
        {"causal": True, "query_offset": [25, 30]},
        {"window": (45, None), "query_offset": [25, 30]},
        {"key_lengths": [[70, 64, 3, 50], [69, 0, 17, 60]]},
        {"query_lengths": [50, 33]},
        {"segment_ids": (np.arange(LQ) // 30, np.arange(LK) // 40)},
        {"mask": array & other},
        {"mask": smx.Mask.lengths(66)},
    ]
    together = {name: x for part in parts for name, x in part.items()}
    together["mask"] = smx.Mask.lengths(66) & array & other
    rules = [visible_keys(SCORES, 4, **part) for part in parts]
    rule = np.logical_and.reduce(rules)
    for k in range(len(rules)):  # each of them counts
        assert (np.logical_and.reduce(rules[:k] + rules[k + 1 :]) != rule).any(), parts[k]
    case = [given_axes(x, 4, layout) for x in tensors(22)]
    bias = np.where(rng.random(SCORES) < 0.1, -INF, 1).astype(np.float32)
    for extra in {}, {"bias": bias}:
        everything = smx.attention(*case, **together, **extra, **FLAGS, layout=layout)
        dense = smx.attention(*case, mask=rule, **extra, **FLAGS, layout=layout)
        for name, got, expected in zip(("out", "lse", "weights"), everything, dense, strict=True):
            assert_same_bits(got, expected, f"{name}, seed 22")


IDS = np.sort(np.random.default_rng(23).integers(0, 4, (BATCH, LK)))
# The same thing by options and by a Mask.
SAME = {
    "causal": ({"causal": True}, smx.Mask.causal()),
    "causal with an offset": ({"causal": True, "query_offset": -5}, smx.Mask.causal(-5)),
    "causal with two offsets": ({"causal": True, "query_offset": [30, 3]},
                                smx.Mask.causal([30, 3])),
    "window": ({"window": (9, 4)}, smx.Mask.window(9, 4)),
    "window with an offset": ({"window": (None, 4), "query_offset": 8},
                              smx.Mask.window(None, 4, 8)),
    "lengths": ({"key_lengths": [66, 0], "query_lengths": 40}, smx.Mask.lengths([66, 0], 40)),
    "segments": ({"segment_ids": (IDS[:, 19:], IDS)}, smx.Mask.segments(IDS[:, 19:], IDS)),
    "segments of one row": ({"segment_ids": (IDS[0, 19:], IDS[1])},
                            smx.Mask.segments(IDS[0, 19:], IDS[1])),
    "causal and window": ({"causal": True, "window": (20, None), "query_offset": [30, 3]},
                          smx.Mask.causal([30, 3]) & smx.Mask.window(20, -1, [30, 3])),
}


@pytest.mark.parametrize("softmax_options", [{}, {"sinks": np.ones(HEADS, np.float32)}],
                         ids=["plain", "sinks"])
@pytest.mark.parametrize("case", SAME)
def test_an_option_is_its_mask_and_its_array(case, softmax_options):
    options, mask = SAME[case]
    given = tensors(24)
    expected = smx.attention(*given, **options, **softmax_options, **FLAGS)
    array = visible_keys(SCORES, 4, **options)
    for kind in mask, array, mask & array:
        results = smx.attention(*given, mask=kind, **softmax_options, **FLAGS)
        for name, got, x in zip(("out", "lse", "weights"), results, expected, strict=True):
            assert_same_bits(got, x, f"{name}, {case} as {type(kind).__name__}, seed 24")


def test_one_row_of_segments_is_for_queries_and_keys():
    given, ids = tensors(25, lq=LK), IDS[0]
    expected = smx.attention(*given, segment_ids=(ids, ids))
    assert_same_bits(smx.attention(*given, segment_ids=ids), expected, "seed 25")


def test_a_mask_that_hides_nothing_changes_nothing():
    given = tensors(26)
    plain = smx.attention(*given)
    for options in ({"mask": np.ones((), bool)}, {"mask": smx.Mask()}, {"key_lengths": LK},
                    {"window": (None, None)}, {"window": (LK, LK)}, {"query_lengths": [LQ, LQ]},
                    {"causal": True, "query_offset": LK}):
        assert_same_bits(smx.attention(*given, **options), plain, f"{options}, seed 26")


@pytest.mark.parametrize("axes", ["1111", "b111", "1h11", "11q1", "111k", "bh11", "b11k", "1hqk"])
def test_mask_and_bias_broadcast(axes):
    shape = tuple(n if axis != "1" else 1 for n, axis in zip(SCORES, axes, strict=True))
    mask, bias = np.random.default_rng(27).random(shape) < 0.6, sample(shape, seed=28)
    whole = {"mask": np.array(np.broadcast_to(mask, SCORES)),
             "bias": np.array(np.broadcast_to(bias, SCORES))}
    given = tensors(29)
    for name, x in ("mask", mask), ("bias", bias):
        expected = smx.attention(*given, **{name: whole[name]})
        lead = next((i for i, n in enumerate(shape) if n > 1), 4)
        for same in x, x.reshape(shape[lead:]), np.broadcast_to(x, SCORES):
            assert_same_bits(smx.attention(*given, **{name: same}), expected, f"{name} {x.shape}")
