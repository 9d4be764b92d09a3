"""CONTRACT, sections 1 and 2, of additive_attention: each line that concerns it by its number."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from additive_reference import FLAGS, assert_additive
from attention_reference import visible_keys
from reference import DTYPES, WIDE, assert_same_bits, bits, sample

import swiftmax as smx

INF, NAN = np.inf, np.nan
# More than one tile of queries and more than one block of keys.
BATCH, HEADS, KEY_HEADS, LQ, LK, WIDTH = 2, 4, 2, 51, 131, 19
OF_QUERY, OF_KEY, OF_VALUE = 12, 23, 9
SCORES = BATCH, HEADS, LQ, LK
NAMES = "out", "lse", "weights"


def parameters(seed, dtype=np.float32):
    return [sample(shape, dtype, seed + i, 0.3)
            for i, shape in enumerate([(WIDTH, OF_QUERY), (KEY_HEADS, WIDTH, OF_KEY), (WIDTH,)])]


def tensors(seed, dtype=np.float32, lq=LQ, lk=LK):
    query = sample((BATCH, HEADS, lq, OF_QUERY), dtype, seed, 1.0)
    key = sample((BATCH, KEY_HEADS, lk, OF_KEY), dtype, seed + 1, 1.0)
    value = sample((BATCH, KEY_HEADS, lk, OF_VALUE), dtype, seed + 2, 1.0)
    return [query, key, value, *parameters(seed + 3, dtype)]


def run(operands, **options):
    return smx.additive_attention(*operands, **options, **FLAGS)


def assert_same(results, expected, context=""):
    for name, got, other in zip(NAMES, results, expected, strict=True):
        assert_same_bits(got, other, f"{name}, {context}")


FULLY_MASKED = {
    "array": {"mask": np.random.default_rng(3).random(SCORES) < 0.02},
    "Mask": {"mask": smx.Mask.lengths(LK, 20)},
    "causal": {"causal": True, "query_offset": -7},
    "window": {"window": (3, -1), "query_offset": 100},
    "key_lengths": {"key_lengths": [0, 33]},
    "query_lengths": {"query_lengths": [0, 33]},
    "segment_ids": {"segment_ids": (np.arange(LQ) // 10, np.arange(LK) // 70)},
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", FULLY_MASKED.values(), ids=FULLY_MASKED)
def test_s3_fully_masked_rows(options, dtype):
    hidden = ~visible_keys(SCORES, 4, **options).any(-1)
    assert hidden.any() and not hidden.all()
    out, lse, weights = (x.astype(float) for x in run(tensors(3, dtype), **options))
    assert (bits(out[hidden]) == 0).all() and (bits(weights[hidden]) == 0).all()
    assert (lse[hidden] == -INF).all() and np.isfinite(lse[~hidden]).all()


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_s4_scores_of_minus_infinity_through_a_bias(dtype):
    bias = sample(SCORES, dtype, 4, 1.0)
    bias[1, 2:, ::3] = -INF
    rows = (bias == -INF).all(-1)
    out, lse, weights = run(tensors(4, dtype), bias=bias)
    assert (out[rows] == 0).all() and (weights[rows] == 0).all() and (lse[rows] == -INF).all()
    assert np.isfinite(lse[~rows]).all()


@pytest.mark.parametrize("poison", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s5_nothing_masked_leaks(dtype, poison):
    query, key, value, *rest = tensors(5, dtype)
    mask = np.random.default_rng(5).random(SCORES) < 0.7
    clean = run((query, key, value, *rest), mask=mask)
    for j in 0, 37, LK - 1:
        bad_key, bad_value = key.copy(), value.copy()
        bad_key[:, :, j], bad_value[:, :, j] = poison, poison
        for case in (query, bad_key, value), (query, key, bad_value):
            results = run((*case, *rest), mask=mask)
            for name, got, expected in zip(NAMES, results, clean, strict=True):
                assert_same_bits(got[~mask[..., j]], expected[~mask[..., j]], f"{name}, key {j}")
    key[:, :, 40:], value[:, :, 40:] = poison, poison
    short = run((query, key, value, *rest), key_lengths=40)
    key[:, :, 40:], value[:, :, 40:] = 0, 0
    assert_same(short, run((query, key, value, *rest), key_lengths=40), "key lengths")


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_s6_nan_in_what_takes_part(dtype):
    query, key, value, *rest = tensors(6, dtype)
    rules = {"causal": True, "query_offset": LK - LQ}
    clean = run((query, key, value, *rest), **rules)
    bad = query.copy()
    bad[1, 2, 7, 3] = NAN
    out, lse, weights = run((bad, key, value, *rest), **rules)
    for got, expected in zip((out, lse, weights), clean, strict=True):
        other = np.ones(got.shape[:3], bool)
        other[1, 2, 7] = False
        assert_same_bits(got[other], expected[other])
    assert np.isnan(out[1, 2, 7]).all() and np.isnan(lse[1, 2, 7])
    seen = np.arange(LK) <= 7 + LK - LQ
    assert np.isnan(weights[1, 2, 7][seen]).all() and (weights[1, 2, 7][~seen] == 0).all()
    # A key: the queries that see it, of both heads that share it.
    bad = key.copy()
    bad[0, 1, LK - 10, 0] = NAN
    out, lse, _ = run((query, bad, value, *rest), **rules)
    nan = np.zeros(SCORES[:3], bool)
    nan[0, 2:, LQ - 10 :] = True
    assert (np.isnan(lse) == nan).all() and (np.isnan(out) == nan[..., None]).all()
    assert_same_bits(out[~nan], clean[0][~nan])
    # A value: its column.
    bad = value.copy()
    bad[0, 1, 3, 4] = NAN
    out, lse, weights = run((query, key, bad, *rest), **rules)
    assert (np.isnan(out) == ((np.arange(OF_VALUE) == 4) & np.isin(np.arange(HEADS), (2, 3))[
        :, None, None] & (np.arange(BATCH) == 0)[:, None, None, None])).all()
    assert_same((out[1], lse, weights), (clean[0][1], *clean[1:]), "value")
    for i in range(3, 6):
        bad = [query, key, value, *(x.copy() for x in rest)]
        bad[i].flat[0] = NAN
        lse = run(bad, **rules)[1]
        assert np.isnan(lse[:, :2]).all(), i
        quiet = 0x7FC00000 if dtype == np.float32 else 0x7FF8 << 48
        assert (bits(lse[np.isnan(lse)]) == quiet).all()


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_infinite_sums_saturate(dtype):
    query, key, value, *rest = tensors(7, dtype)
    rest[0] = abs(rest[0])
    query[0, 0, 0] = INF
    big = query.copy()
    big[0, 0, 0] = 1e30
    assert_same(run((query, key, value, *rest)), run((big, key, value, *rest)))
    assert_additive(query, key, value, *rest)


def test_s7_minus_infinity_is_probability_zero():
    bias = np.zeros(SCORES, np.float32)
    bias[..., 5:] = -INF
    weights = run(tensors(8), bias=bias)[2]
    assert (bits(weights[..., 5:]) == 0).all() and (weights[..., :5] > 0).all()


@pytest.mark.parametrize("options", [
    {"causal": True}, {"causal": True, "query_offset": [3, -9]}, {"window": (4, 0)},
    {"window": (None, 2), "query_offset": 5}, {"window": (2, -1), "causal": True},
    {"mask": smx.Mask.causal() & smx.Mask.window(9, None)},
], ids=str)
def test_s10_s11_causal_and_window(options):
    visible = visible_keys(SCORES, 4, **options)
    weights = assert_additive(*tensors(9), **options)[2]
    assert ((weights > 0) == visible).all()
    mask = run(tensors(9), mask=visible)
    assert_same(run(tensors(9), **options), mask, "as an array")


def test_s12_grouped_heads():
    query, key, value, w_query, w_key, v = tensors(10)
    whole = run((query, key, value, w_query, w_key, v))
    for h in range(HEADS):
        k = h // 2
        own = [query[:, [h]], key[:, [k]], value[:, [k]], w_query, w_key[[k]], v]
        for name, got, expected in zip(NAMES, run(own), whole, strict=True):
            assert_same_bits(got[:, 0], expected[:, h], f"{name}, head {h}")


def test_s13_lse():
    _out, lse, _weights = run(tensors(11, np.float64))
    assert lse.dtype == np.float64 and lse.shape == SCORES[:3]
    assert run(tensors(11, np.float16))[1].dtype == np.float32
    query, key, _, w_query, w_key, v = tensors(11, np.float64)
    q = query @ w_query.T
    k = np.repeat(np.einsum("bhld,had->bhla", key, w_key), 2, 1)
    scores = np.tanh(q[:, :, :, None] + k[:, :, None]) @ v
    np.testing.assert_allclose(lse, np.log(np.exp(scores).sum(-1)), rtol=1e-13)


@pytest.mark.parametrize("lq, lk", [(0, 5), (3, 0), (0, 0)])
def test_s14_empty(lq, lk):
    out, lse, weights = run(tensors(12, lq=lq, lk=lk))
    assert out.shape == (BATCH, HEADS, lq, OF_VALUE) and (bits(out) == 0).all()
    assert (lse == -INF).all() and weights.shape == (BATCH, HEADS, lq, lk)
    query, key, value, w_query, w_key, v = tensors(12)
    # No numbers at all to compare: all scores are 0.
    nothing = run((query, key, value, w_query[:0], w_key[:, :0], v[:0]))
    np.testing.assert_allclose(nothing[2], 1 / LK, rtol=1e-6)
    assert_additive(query[..., :0], key[..., :0], value, w_query[:, :0], w_key[..., :0], v)
    assert run((query[:0], key[:0], value[:0], w_query, w_key, v))[0].shape[0] == 0
    assert run((query[:, :0], key[:, :0], value[:, :0], w_query, w_key[:0], v))[0].shape[1] == 0


_MODE_PROGRAM = """
import ctypes, sys
import numpy as np
import swiftmax as smx
mode = ctypes.CDLL(sys.argv[1])
rng = np.random.default_rng(0)
case = [rng.standard_normal(s).astype("f4") for s in
        [(2, 70, 5), (2, 90, 6), (2, 90, 7), (8, 5), (8, 6), (8,)]]
case[0][0, :9] *= 1e-39
case[2][:, :, 0] = 1e-40
flags = {"return_lse": True, "return_weights": True}
expected = smx.additive_attention(*case, **flags)
mode.set_mode(int(sys.argv[2], 16))
got = smx.additive_attention(*case, **flags)
after = mode.get_mode()
mode.set_mode(0x1f80)
assert after & 0xffc0 == int(sys.argv[2], 16) & 0xffc0, hex(after)
assert (expected[0][..., 0] > 0).all()
for a, b in zip(got, expected):
    assert a.tobytes() == b.tobytes()
"""


# Flush to zero with denormals as zero, and rounding up.
@pytest.mark.parametrize("mode", ["9fc0", "5f80"])
def test_s15_floating_point_mode_of_the_caller(mode_library, mode):
    done = subprocess.run([sys.executable, "-c", _MODE_PROGRAM, mode_library, mode],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_s16_narrow_types_round_once(dtype):
    case, options = tensors(13, dtype), {"causal": True, "key_lengths": 100}
    narrow = run(case, **options)
    wide = run([x.astype(np.float32) for x in case], **options)
    for got, expected, kind in zip(narrow, wide, (dtype, np.float32, dtype), strict=True):
        assert_same_bits(got, expected.astype(kind), "seed 13")


def test_s17_all_masks_together():
    rng = np.random.default_rng(14)
    options = {
        "mask": rng.random((LQ, LK)) < 0.8, "causal": True, "window": (60, None),
        "query_offset": [80, 70], "key_lengths": [[120, 131, 90, 100]] * 2, "query_lengths": 40,
        "segment_ids": (np.arange(LQ) // 30, np.arange(LK) // 90),
        "bias": sample((HEADS, 1, LK), seed=14),
    }
    weights = assert_additive(*tensors(14), **options)[2]
    assert ((weights > 0) == visible_keys(SCORES, 4, **options)).all()


# -- section 2: bits -------------------------------------------------------------------------

BIT_OPTIONS = {
    "plain": {},
    "causal": {"causal": True, "query_offset": LK - LQ},
    "masks": {"mask": np.random.default_rng(15).random(SCORES) < 0.7, "window": (90, 20),
              "query_offset": LK - LQ, "bias": sample(SCORES, seed=15)},
}


def part_of(options, name, index):
    """Options of scores indexed as an array of them would be."""
    rows = index[2].start or 0
    own = {k: x[index] if isinstance(x, np.ndarray) else x for k, x in options.items()}
    return own | ({"query_offset": LK - LQ + rows} if "query_offset" in own else {})


@pytest.mark.parametrize("dtype", WIDE, ids=str)
@pytest.mark.parametrize("name", BIT_OPTIONS)
def test_bits_of_chunks_and_batch_and_threads(name, dtype):
    query, key, value, *rest = case = tensors(16, dtype)
    options = BIT_OPTIONS[name]
    if "bias" in options:
        options = options | {"bias": options["bias"].astype(dtype)}
    with smx.num_threads(1):
        whole = run(case, **options)
    for n in 2, 3, 7:
        with smx.num_threads(n):
            assert_same(run(case, **options), whole, f"{n} threads")
    for start in [*range(0, LQ, 9), LQ - 1]:
        stop = start + 1 if start % 2 else min(start + 9, LQ)
        index = slice(None), slice(None), slice(start, stop)
        chunk = run((query[:, :, start:stop], key, value, *rest), **part_of(options, name, index))
        assert_same(chunk, [x[:, :, start:stop] for x in whole], f"queries {start} to {stop}")
    index = slice(1, 2), slice(None), slice(None)
    alone = run((query[1:], key[1:], value[1:], *rest), **part_of(options, name, index))
    assert_same(alone, [x[1:] for x in whole], "a batch entry alone")


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_bits_of_appended_keys(dtype):
    query, key, value, *rest = tensors(17, dtype)
    out, lse, weights = run((query, key, value, *rest), causal=True)
    for more in 1, 5, 64, 1100:
        room = [(0, 0), (0, 0), (0, more), (0, 0)]
        longer = [np.pad(x, room, constant_values=NAN) for x in (key, value)]
        got = run((query, *longer, *rest), causal=True, query_offset=LK - LQ, key_lengths=LK)
        assert (bits(got[2][..., LK:]) == 0).all()
        assert_same((*got[:2], got[2][..., :LK]), (out, lse, weights), f"{more} keys appended")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_of_layouts(dtype):
    case = tensors(18, dtype)
    expected = run(case, causal=True)
    turned = [x.swapaxes(1, 2) for x in case[:3]] + case[3:]
    out, *others = run(turned, causal=True, layout="BLHD")
    assert_same((out.swapaxes(1, 2), *others), expected, "BLHD")

    def spread(x):
        wide = np.zeros([2 * n for n in x.shape], x.dtype)
        view = wide[tuple(slice(None, None, -2) for _ in x.shape)]
        view[...] = x
        return view

    def unaligned(x):
        view = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
        assert not view.flags.aligned
        return view

    for way in np.asfortranarray, spread, unaligned:
        assert_same(run([way(x) for x in case], causal=True), expected, way.__name__)
        # One operand at a time: some are read in place, some are not.
        for i in range(6):
            mixed = [way(x) if i == k else x for k, x in enumerate(case)]
            assert_same(run(mixed, causal=True), expected, f"{way.__name__} of operand {i}")


def test_bits_of_shared_keys_and_parameters():
    query, key, value, w_query, w_key, v = tensors(19)
    shared = run((query, key[:1], value[:1], w_query, w_key, v))
    again = [np.broadcast_to(x[:1], x.shape) for x in (key, value)]
    assert_same(shared, run((query, *again, w_query, w_key, v)), "a batch of 1")
    each = np.broadcast_to(w_query, (HEADS, *w_query.shape)), np.stack([v] * HEADS)
    assert_same(shared, run((query, *again, each[0], w_key, each[1])), "one for each head")


@pytest.mark.parametrize("isa", ["v2", "v3", "v4"])
def test_bits_of_instruction_sets(isa):
    if not smx._core._isa_supported(isa):
        pytest.skip(f"this CPU does not run {isa}")
    program = """if True:
        import hashlib
        from test_additive_contract import BIT_OPTIONS, run, tensors
        for dtype in "f4", "f8", "f2":
            for options in BIT_OPTIONS.values():
                options = {k: x.astype(dtype) if k == "bias" else x for k, x in options.items()}
                data = b"".join(x.tobytes() for x in run(tensors(20, dtype), **options))
                print(hashlib.sha256(data).hexdigest())
    """
    def hashes(environment):
        return subprocess.run([sys.executable, "-c", program], env=environment, check=True,
                              capture_output=True, cwd=Path(__file__).parent).stdout

    others = {k: x for k, x in os.environ.items() if k != "SWIFTMAX_ISA"}
    assert hashes(others | {"SWIFTMAX_ISA": isa}) == hashes(others)
