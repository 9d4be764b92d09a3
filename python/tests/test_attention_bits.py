"""CONTRACT, section 2, of attention: the same bits in whatever company a query is computed.

test_attention_layouts.py has the same of where the arrays lie.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from reference import BF16, DTYPES, assert_same_bits, bits, sample

import swiftmax as smx

FLAGS = {"return_lse": True, "return_weights": True}
BATCH, HEADS, KEY_HEADS, LQ, LK, SIZE, VALUE_SIZE = 3, 4, 2, 131, 200, 33, 20


def tensors(seed, dtype=np.float32, batch=BATCH, heads=HEADS, key_heads=KEY_HEADS, lq=LQ, lk=LK):
    query = sample((batch, heads, lq, SIZE), dtype, seed, 2.0)
    key = sample((batch, key_heads, lk, SIZE), dtype, seed + 1, 1.0)
    return query, key, sample((batch, key_heads, lk, VALUE_SIZE), dtype, seed + 2, 1.0)


def _array_mask():
    mask = np.random.default_rng(31).random((BATCH, HEADS, LQ, LK)) < 0.7
    mask[1, 2, 60:66] = False
    mask[2, :, :, 64:150] = False
    return mask


_SINKS = np.array([-1, 0.5, 3, 20], np.float32)
_SLOPES = np.array([[0.5, 0.1, 0, -0.02]] * BATCH, np.float32)
_IDS = np.sort(np.random.default_rng(32).integers(0, 3, (BATCH, LK)))
# Each with its offset said, so that a part of the queries can be given its own.
OPTIONS = {
    "plain": {},
    "causal": {"causal": True, "query_offset": LK - LQ},
    "leading rows masked": {"causal": True, "query_offset": [-20, 5, 69], "sinks": _SINKS},
    "window": {"window": (40, 3), "query_offset": LK - LQ},
    "mask and bias": {"mask": _array_mask(), "bias": sample((BATCH, 1, LQ, LK), seed=33)},
    "everything": {
        "causal": True, "query_offset": [40, 69, 69], "window": (90, None), "softcap": 8.0,
        "alibi_slopes": _SLOPES, "sinks": _SINKS, "key_lengths": [200, 77, 0], "scale": 0.4,
        "query_lengths": [131, 60, 130], "segment_ids": (_IDS[:, LK - LQ :], _IDS),
        "mask": _array_mask()[:, :1], "bias": sample((HEADS, LQ, 1), seed=34),
    },
}


each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def assert_same(got, expected, context=""):
    """Results of calls with FLAGS."""
    for name, x, y in zip(("out", "lse", "weights"), got, expected, strict=True):
        assert_same_bits(x, y, f"{name}, {context}")


def part_of_queries(options, start, end):
    """The options that queries start..<end have when they come alone."""
    part = dict(options)
    if "query_offset" in part:
        part["query_offset"] = np.asarray(part["query_offset"]) + start
    if "query_lengths" in part:
        part["query_lengths"] = np.clip(np.asarray(part["query_lengths"]) - start, 0, end - start)
    if "segment_ids" in part:
        of_queries, of_keys = part["segment_ids"]
        part["segment_ids"] = of_queries[..., start:end], of_keys
    for name in "mask", "bias":
        if name in part:
            part[name] = part[name][..., start:end, :]
    return part


# -- chunks, batch, padding, threads -------------------------------------------------------------


@each_option
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_query_alone_in_a_chunk_and_in_a_prefill(options, dtype):
    if "bias" in options:
        options = {**options, "bias": options["bias"].astype(dtype)}
    query, key, value = tensors(40, dtype)
    whole = smx.attention(query, key, value, **options, **FLAGS)
    alone = [(i, i + 1) for i in (0, 1, 15, 16, 47, 48, 62, 63, 64, 127, 128, 130)]
    for start, end in *alone, (0, 16), (3, 18), (0, 48), (1, 50), (48, 131), (64, 128), (129, 131):
        part = part_of_queries(options, start, end)
        got = smx.attention(query[:, :, start:end], key, value, **part, **FLAGS)
        expected = [x[:, :, start:end] for x in whole]
        assert_same(got, expected, f"queries {start} to {end}, seed 40")


@pytest.mark.parametrize("dtype", [np.float32, BF16], ids=str)
def test_a_decode_step_over_a_long_cache_is_a_row_of_the_prefill(dtype):
    lq, lk = 70, 9000
    query, key, value = tensors(41, dtype, 1, 8, 2, lq, lk)
    out, lse = smx.attention(query, key, value, causal=True, return_lse=True)
    for start, end in (0, 1), (31, 32), (69, 70), (66, 70), (50, 66), (20, 69):
        part = smx.attention(query[:, :, start:end], key, value, causal=True,
                             query_offset=lk - lq + start, return_lse=True)
        assert_same_bits(part[0], out[:, :, start:end], f"queries {start} to {end}, seed 41")
        assert_same_bits(part[1], lse[:, :, start:end], f"lse {start} to {end}, seed 41")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("odd", [np.nan, np.inf, 2.0**14, 1.0], ids=str)
def test_a_decode_step_beside_an_odd_query_is_a_row_of_the_prefill(dtype, odd):
    """Sizes, lengths and few queries such that these have a way of their own (FewQueries.swift)."""
    query = sample((1, 2, 9, 64), dtype, 50, 2.0)
    key, value = (sample((1, 2, 200, 64), dtype, seed, 1.0) for seed in (51, 52))
    with np.errstate(all="ignore"):
        query[:, 1, 4] *= np.asarray(odd).astype(dtype)
        key[:, 0, 70] *= np.asarray(odd).astype(dtype)
    # The scale makes scores larger than FewQueries.swift takes.
    out, lse = smx.attention(query, key, value, scale=2.0**20, return_lse=True)
    for start, end in (4, 5), (3, 6), (2, 6), (0, 2), (4, 9), (1, 9):
        part = smx.attention(query[:, :, start:end], key, value, scale=2.0**20, return_lse=True)
        assert_same_bits(part[0], out[:, :, start:end], f"queries {start} to {end}, seed 50")
        assert_same_bits(part[1], lse[:, :, start:end], f"lse {start} to {end}, seed 50")


@each_option
def test_threads(options):
    case = tensors(42)
    with smx.num_threads(1):
        expected = smx.attention(*case, **options, **FLAGS)
    for n in 2, 3, 7:
        with smx.num_threads(n):
            assert_same(smx.attention(*case, **options, **FLAGS), expected, f"{n} threads")
            assert_same_bits(smx.attention(*case, **options), expected[0], f"{n} threads")


@pytest.mark.parametrize("lq, lk", [(1, 30_000), (5, 5000), (400, 700)])
def test_threads_over_long_caches_and_prefills(lq, lk):
    case = tensors(43, np.float32, 1, 4, 1, lq, lk)
    with smx.num_threads(1):
        expected = smx.attention(*case, causal=True, return_lse=True)
    for n in 2, 3, 7:
        with smx.num_threads(n):
            for got, x in zip(smx.attention(*case, causal=True, return_lse=True), expected,
                              strict=True):
                assert_same_bits(got, x, f"{n} threads, Lq {lq}, Lk {lk}, seed 43")


def entries(name, given, order):
    """Of an option what belongs to these entries of the batch."""
    if name == "segment_ids":
        return tuple(x[order] for x in given)
    has_batch = np.ndim(given) == 4 if name in ("mask", "bias") else np.ndim(given) > 0
    return np.asarray(given)[order] if has_batch and name not in ("sinks", "window") else given


@each_option
def test_alone_and_in_a_batch(options):
    case = tensors(44)
    whole = smx.attention(*case, **options, **FLAGS)
    for order in [0], [1], [2], [2, 0], [2, 1, 0, 2]:
        part = {name: entries(name, x, order) for name, x in options.items()}
        got = smx.attention(*(x[order] for x in case), **part, **FLAGS)
        assert_same(got, [x[order] for x in whole], f"entries {order}, seed 44")


def test_ranks():
    query, key, value = tensors(45)
    whole = smx.attention(query, key, value, causal=True, **FLAGS)
    for b in range(BATCH):
        got = smx.attention(query[b], key[b], value[b], causal=True, **FLAGS)
        assert_same(got, [x[b] for x in whole], f"entry {b}")
        for h in range(HEADS):
            one = query[b, h], key[b, h // 2], value[b, h // 2]
            got = smx.attention(*one, causal=True, **FLAGS)
            assert_same(got, [x[b, h] for x in whole], f"entry {b}, head {h}")


def test_groups_and_shared_batches_are_repeated_keys():
    query, key, value = tensors(46)
    expected = smx.attention(query, key, value, **FLAGS)
    repeated = smx.attention(query, key.repeat(2, 1), value.repeat(2, 1), **FLAGS)
    assert_same(repeated, expected, "heads repeated")
    one = [x[:, :1] for x in (key, value)]
    four = [np.broadcast_to(x, (BATCH, HEADS, *x.shape[2:])) for x in one]
    assert_same(*(smx.attention(query, *x, **FLAGS) for x in (one, four)), "heads of stride 0")
    for keys, values in (key[:1], value), (key, value[:1]), (key[:1], value[:1]):
        expected = smx.attention(query, *(np.copy(np.broadcast_to(x, (BATCH, *x.shape[1:])))
                                          for x in (keys, values)), **FLAGS)
        assert_same(smx.attention(query, keys, values, **FLAGS), expected, "batch of 1")


@each_option
@pytest.mark.parametrize("count", [1, 15, 64, 100, 1000])
def test_appended_masked_keys(options, count):
    case = tensors(47)
    lengths = np.broadcast_to(options.get("key_lengths", LK), BATCH)
    options = {"query_offset": LK - LQ, **options}
    expected = smx.attention(*case, **options, **FLAGS)
    longer = dict(options, key_lengths=lengths)
    for name, filling in ("mask", True), ("bias", np.nan):
        if name in options and options[name].shape[-1] == LK:
            widths = [(0, 0)] * (options[name].ndim - 1) + [(0, count)]
            longer[name] = np.pad(options[name], widths, constant_values=filling)
    if "segment_ids" in options:
        of_queries, of_keys = options["segment_ids"]
        longer["segment_ids"] = of_queries, np.pad(of_keys, [(0, 0), (0, count)], mode="edge")
    padded = [np.pad(x, [(0, 0), (0, 0), (0, count), (0, 0)], constant_values=np.nan)
              for x in case[1:]]
    got = smx.attention(case[0], *padded, **longer, **FLAGS)
    assert (bits(got[2][..., LK:]) == 0).all()
    assert_same((*got[:2], got[2][..., :LK]), expected, f"{count} keys appended, seed 47")


# -- instruction sets ----------------------------------------------------------------------------

_ISA_PROGRAM = """
import hashlib, numpy as np, swiftmax as smx
from test_attention_bits import OPTIONS, part_of_queries, tensors
hash = hashlib.sha256()
for dtype in np.float32, np.float64, np.float16:
    for options in OPTIONS.values():
        if "bias" in options: options = {**options, "bias": options["bias"].astype(dtype)}
        options = part_of_queries(options, 30, 80)
        query, key, value = tensors(57, dtype)
        query = query[:, :, 30:80]
        for x in smx.attention(query, key, value, **options, return_lse=True, return_weights=True):
            hash.update(x.tobytes())
    hash.update(smx.attention(query[:, :, :1], key, value).tobytes())
    out, lse = smx.attention(query[0], key[0], value[0], causal=True, return_lse=True,
                             query_starts=[0, 1, 40], key_starts=[0, 100, 170])
    for x in out, lse, *smx.merge_attention(out, lse, out[:, ::-1], lse[:, ::-1]):
        hash.update(x.tobytes())
print(hash.hexdigest())
"""


def test_instruction_sets():
    found = {}
    for isa in "v2", "v3", "v4", "neon":
        if not smx._core._isa_supported(isa):
            continue
        done = subprocess.run([sys.executable, "-c", _ISA_PROGRAM], capture_output=True, text=True,
                              check=False, cwd=os.path.dirname(__file__),
                              env={**os.environ, "SWIFTMAX_ISA": isa})
        assert done.returncode == 0, done.stderr
        found[isa] = done.stdout
    assert found and len(set(found.values())) == 1, found
