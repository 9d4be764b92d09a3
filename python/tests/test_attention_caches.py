"""Entries of many lengths, packed one behind the other, have the bits of each entry alone."""

import numpy as np
import pytest
from reference import DTYPES, assert_same_bits, sample

import swiftmax as smx

INF, NAN = np.inf, np.nan
HEADS, KEY_HEADS, SIZE, VALUE_SIZE = 4, 2, 33, 20

# Lengths of queries and of keys of each entry: none, one, some, more than a tile and a block.
LENGTHS = [(0, 3), (1, 1), (5, 0), (1, 130), (17, 17), (0, 0), (70, 150), (30, 9), (3, 64)]
# Rows in front of the first entry and behind the last.
BEFORE, BEHIND = 2, 3
QUERY_STARTS, KEY_STARTS = (
    BEFORE + np.concatenate([[0], np.cumsum(lengths)]) for lengths in zip(*LENGTHS, strict=True)
)
STARTS = {"query_starts": QUERY_STARTS, "key_starts": KEY_STARTS}
LQ, LK = (max(lengths) for lengths in zip(*LENGTHS, strict=True))
COUNT = len(LENGTHS)
_IDS = np.sort(np.random.default_rng(1).integers(0, 3, (2, COUNT, LK)))


def per_entry(seed, low, high):
    return np.random.default_rng(seed).integers(low, high, COUNT)


# Options of all entries; a function gives those of entry b, of its lengths.
OPTIONS = {
    "plain": ({}, lambda b, lq, lk: {}),
    "causal": ({"causal": True}, lambda b, lq, lk: {"causal": True}),
    "window": ({"window": (9, 2)}, lambda b, lq, lk: {"window": (9, 2)}),
    "offset": ({"causal": True, "query_offset": per_entry(2, -3, 20)},
               lambda b, lq, lk: {"causal": True, "query_offset": per_entry(2, -3, 20)[b]}),
    "Mask": ({"mask": smx.Mask.window(30, 0)}, lambda b, lq, lk: {"mask": smx.Mask.window(30, 0)}),
    "lengths": ({"key_lengths": per_entry(3, 0, LK), "query_lengths": per_entry(4, 0, LQ)},
                lambda b, lq, lk: {"key_lengths": min(per_entry(3, 0, LK)[b], lk),
                                   "query_lengths": min(per_entry(4, 0, LQ)[b], lq)}),
    "segments": ({"segment_ids": (_IDS[0, :, :LQ], _IDS[1])},
                 lambda b, lq, lk: {"segment_ids": (_IDS[0, b, :lq], _IDS[1, b, :lk])}),
    "numbers": ({"softcap": 5.0, "scale": 0.3, "causal": True,
                 "alibi_slopes": np.float32([0.5, 0.1, 0, 0.02]),
                 "sinks": np.float32([-1, 0.5, 3, 20])},
                lambda b, lq, lk: OPTIONS["numbers"][0]),
}


def packed_tensors(seed, dtype=np.float32):
    rows, keys = QUERY_STARTS[-1] + BEHIND, KEY_STARTS[-1] + BEHIND
    query = sample((HEADS, rows, SIZE), dtype, seed, 2.0)
    key = sample((KEY_HEADS, keys, SIZE), dtype, seed + 1, 1.0)
    return query, key, sample((KEY_HEADS, keys, VALUE_SIZE), dtype, seed + 2, 1.0)


def one_by_one(query, key, value, options_of):
    """What a call for each entry gives, where the packed call puts it."""
    sums = np.float64 if query.dtype == np.float64 else np.float32
    out = np.zeros((*query.shape[:2], VALUE_SIZE), query.dtype)
    lse = np.full(query.shape[:2], -INF, sums)
    for b, (lq, lk) in enumerate(LENGTHS):
        rows = slice(QUERY_STARTS[b], QUERY_STARTS[b + 1])
        keys = slice(KEY_STARTS[b], KEY_STARTS[b + 1])
        options = options_of(b, lq, lk)
        out[:, rows], lse[:, rows] = smx.attention(
            query[:, rows], key[:, keys], value[:, keys], **options, return_lse=True)
    return out, lse


def to_layout(x, layout):
    return x if layout == "BHLD" else np.copy(x.swapaxes(0, 1))


def assert_packed(expected, tensors, context, **options):
    """Fresh and into an out whose other rows stay."""
    context = f"{context}, seed of tensors as called"
    layout = options.get("layout", "BHLD")
    out, lse = smx.attention(*tensors, **options, return_lse=True)
    assert_same_bits(out, to_layout(expected[0], layout), f"out, {context}")
    assert_same_bits(lse, expected[1], f"lse, {context}")
    filled = np.full_like(out, 7)
    assert smx.attention(*tensors, **options, out=filled) is filled
    goal = expected[0].copy()
    goal[:, : QUERY_STARTS[0]], goal[:, QUERY_STARTS[-1] :] = 7, 7
    assert_same_bits(filled, to_layout(goal, layout), f"given out, {context}")


@pytest.mark.parametrize("layout", ["BHLD", "BLHD"])
@pytest.mark.parametrize("name", OPTIONS)
def test_packed_entries_are_the_entries_alone(name, layout):
    options, options_of = OPTIONS[name]
    tensors = packed_tensors(10)
    expected = one_by_one(*tensors, options_of)
    laid_out = [to_layout(x, layout) for x in tensors]
    for n in 1, 3:
        with smx.num_threads(n):
            assert_packed(expected, laid_out, f"{name}, {n} threads, seed 10", layout=layout,
                          **STARTS, **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_packed_entries_of_every_dtype(dtype):
    tensors = packed_tensors(20, dtype)
    expected = one_by_one(*tensors, OPTIONS["causal"][1])
    assert_packed(expected, tensors, f"{dtype}, seed 20", causal=True, **STARTS)


@pytest.mark.parametrize("make", [
    np.int32, np.int64, np.uint8, np.uint64, list,
    lambda x: np.repeat(x, 2)[::2],
    lambda x: np.asarray(x, ">i4"),
    lambda x: np.frombuffer(b"?" + x.astype(np.int64).tobytes(), np.uint8)[1:].view(np.int64),
], ids=["int32", "int64", "uint8", "uint64", "list", "strided", "big-endian", "unaligned"])
def test_starts_of_every_kind(make):
    # uint8 holds the starts only of the short entries.
    starts = {name: make(x[:5]) for name, x in STARTS.items()}
    tensors = packed_tensors(30)
    plain = smx.attention(*tensors, query_starts=QUERY_STARTS[:5], key_starts=KEY_STARTS[:5])
    assert_same_bits(smx.attention(*tensors, **starts), plain, "seed 30")


def test_one_entry_none_and_no_rows():
    query, key, value = packed_tensors(40)
    whole = smx.attention(query, key, value, causal=True)
    starts = [0, query.shape[1]], [0, key.shape[1]]
    got = smx.attention(query, key, value, causal=True, query_starts=starts[0],
                        key_starts=starts[1])
    assert_same_bits(got, whole, "seed 40")
    out, lse = smx.attention(query, key, value, query_starts=[5], key_starts=[0], return_lse=True)
    assert (out == 0).all() and (lse == -INF).all()
    got = smx.attention(query[:, :0], key, value, query_starts=[0, 0], key_starts=[0, 9])
    assert got.shape == (HEADS, 0, VALUE_SIZE)


def test_rows_of_no_entry_are_not_used():
    query, key, value = packed_tensors(50)
    expected = smx.attention(query, key, value, **STARTS, return_lse=True)
    for x, starts in (query, QUERY_STARTS), (key, KEY_STARTS), (value, KEY_STARTS):
        x[:, : starts[0]], x[:, starts[-1] :] = NAN, INF
    got = smx.attention(query, key, value, **STARTS, return_lse=True)
    assert_same_bits(got[0], expected[0], "seed 50")
    assert_same_bits(got[1], expected[1], "lse, seed 50")


def test_packed_in_place():
    query, key, value = packed_tensors(60)
    value = np.concatenate([value, value[..., : SIZE - VALUE_SIZE]], axis=-1)
    expected = smx.attention(query, key, value, **STARTS)
    rows = slice(QUERY_STARTS[0], QUERY_STARTS[-1])
    goal = query.copy()
    goal[:, rows] = expected[:, rows]
    assert smx.attention(query, key, value, **STARTS, out=query) is query
    assert_same_bits(query, goal, "rows of no entry keep the query, seed 60")


def changed(starts, at, value):
    starts = starts.copy()
    starts[at] = value
    return starts


PACKED_ERRORS = [
    ({"key_starts": None}, ValueError, ["query_starts and key_starts"]),
    ({"query_starts": None, "key_lengths": [1, 2]}, ValueError, ["query_starts and key_starts"]),
    ({"query_starts": changed(QUERY_STARTS, 4, 0)}, ValueError, ["query_starts", "0", "fall"]),
    ({"key_starts": changed(KEY_STARTS, 4, 0)}, ValueError, ["key_starts", "0", "fall"]),
    ({"query_starts": changed(QUERY_STARTS, 0, -1)}, ValueError, ["query_starts", "-1"]),
    ({"key_starts": changed(KEY_STARTS, -1, 9999)}, ValueError, ["key_starts", "9999", "rows"]),
    ({"query_starts": changed(QUERY_STARTS, -1, 2**62)}, ValueError, ["query_starts", str(2**62)]),
    ({"query_starts": changed(QUERY_STARTS, 0, -(2**63))}, ValueError, ["query_starts"]),
    ({"query_starts": np.array([2**64 - 1, 3], np.uint64)}, ValueError, ["query_starts", "int64"]),
    ({"query_starts": QUERY_STARTS[:-1]}, ValueError, ["query_starts", "(10,)", "(9,)"]),
    ({"query_starts": []}, ValueError, ["query_starts", "(B + 1,)", "(0,)"]),
    ({"query_starts": np.zeros(0, int), "key_starts": np.zeros(0, int)}, ValueError,
     ["query_starts", "(0,)"]),
    ({"query_starts": 3}, ValueError, ["query_starts", "()"]),
    ({"key_starts": KEY_STARTS[None]}, ValueError, ["key_starts", "(1, 10)"]),
    ({"query_starts": QUERY_STARTS / 1.0}, TypeError, ["query_starts", "integer"]),
    ({"key_starts": "abc"}, TypeError, ["key_starts", "integer"]),
    ({"mask": np.ones((1, 1), bool)}, ValueError, ["query_starts", "mask"]),
    ({"mask": smx.Mask.causal() & np.ones((1, 1), bool)}, ValueError, ["query_starts", "mask"]),
    ({"bias": np.zeros((1, 1), np.float32)}, ValueError, ["query_starts", "bias"]),
    ({"return_weights": True}, ValueError, ["query_starts", "weights"]),
    ({"block_table": [[0]]}, ValueError, ["query_starts", "block_table"]),
    ({"past_key": np.zeros((2, 1, SIZE), "f4"), "past_value": np.zeros((2, 1, VALUE_SIZE), "f4")},
     ValueError, ["query_starts", "past_key"]),
    ({"query_offset": [1, 2]}, ValueError, ["query_offset", "(2,)", f"({COUNT}, {HEADS}, {LQ}, "]),
    ({"key_lengths": LK + 1}, ValueError, ["key_lengths", str(LK + 1), str(LK)]),
]


@pytest.mark.parametrize("case", PACKED_ERRORS, ids=lambda case: " ".join(case[2]))
def test_errors_of_packed_entries(case):
    keywords, kind, words = case
    query, key, value = packed_tensors(0)
    out = np.full((*query.shape[:2], VALUE_SIZE), 7, np.float32)
    with pytest.raises(kind) as caught:
        smx.attention(query, key, value, out=out, **{**STARTS, **keywords})
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert (out == 7).all()


def test_packed_entries_need_three_axes():
    for axes in (4, 2):
        tensors = [np.zeros((1,) * (axes - 1) + (8,), np.float32)] * 3
        with pytest.raises(ValueError, match="query_starts needs 3 axes"):
            smx.attention(*tensors, query_starts=[0, 1], key_starts=[0, 1])
