"""CONTRACT of the gradient of attention: special values, and the same bits in any company."""

import os
import subprocess
import sys

import numpy as np
import pytest
from attention_reference import given_axes, visible_keys
from attention_vjp_reference import NAMES, Gradients, gradients
from reference import DTYPES, assert_same_bits, bits, sample
from test_attention_bits import (
    BATCH,
    HEADS,
    KEY_HEADS,
    LK,
    LQ,
    OPTIONS,
    VALUE_SIZE,
    each_option,
    entries,
    part_of_queries,
    tensors,
)
from test_attention_layouts import LAYOUTS

import swiftmax as smx

INF, NAN = np.inf, np.nan
SCORES = BATCH, HEADS, LQ, LK


def operands(seed, dtype=np.float32, **sizes):
    """d_out, query, key, value."""
    case = tensors(seed, dtype, **sizes)
    return sample((*case[0].shape[:3], VALUE_SIZE), dtype, seed + 3, 1.0), *case


def assert_same(got, expected, context=""):
    for name, x, y in zip(NAMES, got, expected, strict=True):
        if x is not None or y is not None:
            assert_same_bits(x, y, f"{name}, {context}")


# -- threads -------------------------------------------------------------------------------------


@each_option
@pytest.mark.parametrize("key_heads", [4, 1])
def test_threads(options, key_heads):
    """With 12 key heads in all, 2 and 3 threads take one each; with 3, or of 7, all share each."""
    case = operands(42, key_heads=key_heads)
    with smx.num_threads(1):
        expected = gradients(*case, **options)
    for n in 2, 3, 7:
        with smx.num_threads(n):
            assert_same(gradients(*case, **options), expected, f"{n} threads, seed 42")


@pytest.mark.parametrize("lq, lk", [(3, 5000), (5000, 3), (900, 1500)])
def test_threads_share_one_long_head(lq, lk):
    case = operands(43, batch=1, heads=1, key_heads=1, lq=lq, lk=lk)
    with smx.num_threads(1):
        expected = gradients(*case, causal=True)
    for n in 2, 3, 7, 16:
        with smx.num_threads(n):
            assert_same(gradients(*case, causal=True), expected, f"{n} threads, {lq}, {lk}")


# -- company -------------------------------------------------------------------------------------


def sum_of_entries(parts, options):
    """What gradients of each entry say about those of the whole."""
    tensors_of = [np.concatenate(x) for x in list(zip(*parts, strict=True))[:3]]
    bias = options.get("bias")
    if bias is not None and bias.ndim == 4 and bias.shape[0] == BATCH:
        return Gradients(*tensors_of, np.concatenate([p.bias for p in parts]), None)
    return Gradients(*tensors_of, None, None)


@each_option
def test_alone_and_in_a_batch(options):
    case = operands(44)
    whole = gradients(*case, **options)
    alone = []
    for b in range(BATCH):
        part = {name: entries(name, x, [b]) for name, x in options.items()}
        alone.append(gradients(*(x[b : b + 1] for x in case), **part))
    expected = sum_of_entries(alone, options)
    shown = [x if y is not None else None for x, y in zip(whole, expected, strict=True)]
    assert_same(shown, expected, "seed 44")


def test_ranks():
    case = operands(45)
    whole = gradients(*case, causal=True)
    for b in range(BATCH):
        got = gradients(*(x[b] for x in case), causal=True)
        assert_same(got[:3] + got[3:], [None if x is None else x[b] for x in whole], f"entry {b}")
    one = operands(45, heads=1, key_heads=1)
    whole = gradients(*one, causal=True)
    got = gradients(*(x[1, 0] for x in one), causal=True)
    assert_same(got, [None if x is None else x[1, 0] for x in whole], "one head")


@each_option
def test_gradients_of_a_chunk_of_queries(options):
    case = operands(46)
    whole = gradients(*case, **options).query
    for start, end in (0, 1), (47, 49), (0, 48), (100, 131), (63, 64):
        part = part_of_queries(options, start, end)
        chunk = [x[:, :, start:end] for x in case[:2]]
        got = gradients(*chunk, *case[2:], **part).query
        assert_same_bits(got, whole[:, :, start:end], f"queries {start} to {end}, seed 46")


@each_option
@pytest.mark.parametrize("count", [1, 64, 100])
def test_appended_masked_keys(options, count):
    case = operands(47)
    lengths = np.broadcast_to(options.get("key_lengths", LK), BATCH)
    options = {"query_offset": LK - LQ, **options}
    expected = gradients(*case, **options)
    longer, widths = dict(options, key_lengths=lengths), [(0, 0), (0, 0), (0, count), (0, 0)]
    for name, filling in ("mask", True), ("bias", np.nan):
        if name in options and options[name].shape[-1] == LK:
            of = [(0, 0)] * (options[name].ndim - 1) + [(0, count)]
            longer[name] = np.pad(options[name], of, constant_values=filling)
    if "segment_ids" in options:
        of_queries, of_keys = options["segment_ids"]
        longer["segment_ids"] = of_queries, np.pad(of_keys, [(0, 0), (0, count)], mode="edge")
    padded = [np.pad(x, widths, constant_values=NAN) for x in case[2:]]
    got = gradients(*case[:2], *padded, **longer)
    for x in got.key, got.value:
        assert (bits(x[:, :, LK:]) == 0).all()
    d_bias = got.bias
    if d_bias is not None and d_bias.shape[-1] > LK:
        assert (bits(d_bias[..., LK:]) == 0).all()
        d_bias = d_bias[..., :LK]
    cut = Gradients(got.query, got.key[:, :, :LK], got.value[:, :, :LK], d_bias, got.sinks)
    assert_same(cut, expected, f"{count} keys appended, seed 47")


@pytest.mark.parametrize("count", [1, 48, 100])
def test_appended_masked_queries(count):
    case = operands(48)
    options = {"query_offset": LK - LQ, "causal": True, "sinks": OPTIONS["everything"]["sinks"]}
    expected = gradients(*case, **options)
    widths = [(0, 0), (0, 0), (0, count), (0, 0)]
    padded = [np.pad(x, widths, constant_values=NAN) for x in case[:2]]
    got = gradients(*padded, *case[2:], **options, query_lengths=LQ)
    assert (bits(got.query[:, :, LQ:]) == 0).all()
    assert_same(got._replace(query=got.query[:, :, :LQ]), expected, f"{count} queries, seed 48")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    case, view = operands(49, dtype), LAYOUTS[layout]
    bias, mask = sample(SCORES, dtype, 50), OPTIONS["mask and bias"]["mask"]
    wanted = {"return_d_bias": True}
    out, lse = smx.attention(*case[1:], mask=mask, bias=bias, return_lse=True)
    expected = smx.attention_vjp(*case, out, lse, mask=mask, bias=bias, **wanted)
    moved_lse = view(lse[..., None])[..., 0]
    got = smx.attention_vjp(*map(view, (*case, out)), moved_lse, mask=view(mask), bias=view(bias),
                            **wanted)
    for i, (x, y) in enumerate(zip(got, expected, strict=True)):
        assert_same_bits(x, y, f"{NAMES[i]}, {layout}, seeds 49, 50")


@each_option
def test_layout_blhd(options):
    case = operands(51)
    expected = gradients(*case, **options)
    for prepare in np.copy, lambda x: x:
        turned = [prepare(given_axes(x, 4, "BLHD")) for x in case]
        got = gradients(*turned, layout="BLHD", **options)
        got = Gradients(*(x.swapaxes(1, 2) for x in got[:3]), *got[3:])
        assert_same(got, expected, "seed 51")


def test_keys_that_are_shared_or_repeated():
    """The queries' gradients cannot tell; those of shared keys are near the sum."""
    case = operands(52)
    expected = gradients(*case)
    repeated = gradients(*case[:2], *(x.repeat(2, 1) for x in case[2:]))
    assert_same_bits(repeated.query, expected.query, "heads repeated, seed 52")
    for name in "key", "value":
        pairs = getattr(repeated, name).reshape(BATCH, KEY_HEADS, 2, LK, -1).sum(2)
        np.testing.assert_allclose(getattr(expected, name), pairs, rtol=1e-4, atol=1e-5)
    for keys, values in (1, BATCH), (BATCH, 1), (1, 1):
        short = case[2][:keys], case[3][:values]
        whole = [np.copy(np.broadcast_to(x, (BATCH, *x.shape[1:]))) for x in short]
        expected, got = gradients(*case[:2], *whole), gradients(*case[:2], *short)
        assert_same_bits(got.query, expected.query, "batch of 1, seed 52")
        for x, y in zip(got[1:3], expected[1:3], strict=True):
            if x.shape == y.shape:
                assert_same_bits(x, y, "own batch, seed 52")
            np.testing.assert_allclose(x, y if x.shape == y.shape else y.sum(0, keepdims=True),
                                       rtol=1e-4, atol=1e-5)


# -- special values ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [
    {"mask": np.arange(LQ)[:, None] % 3 > 0}, {"query_lengths": [LQ, 40, 0]},
    {"causal": True, "query_offset": -60}, {"key_lengths": [LK, 0, 7]},
    {"segment_ids": (np.arange(LQ) // 60, np.ones(LK, int))},
], ids=lambda x: "+".join(x))
def test_s3_queries_that_see_no_key_have_gradient_zero(options, dtype):
    visible = visible_keys(SCORES, 4, **options)
    blind, unseen = ~visible.any(-1), ~visible.reshape(BATCH, KEY_HEADS, -1, LK).any(2)
    assert blind.any()
    sinks = np.arange(4, dtype=np.float64 if dtype == np.float64 else np.float32)
    for extra in {}, {"sinks": sinks}:
        found = gradients(*operands(53, dtype), **options, **extra)
        assert (bits(found.query[blind]) == 0).all()
        assert (bits(found.key[unseen]) == 0).all() and (bits(found.value[unseen]) == 0).all()
        assert (found.query[~blind].astype(float) != 0).any()
        assert all(x is None or np.isfinite(x.astype(float)).all() for x in found)


@pytest.mark.parametrize("poison", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["array", "causal"])
def test_s5_nothing_masked_leaks(kind, dtype, poison):
    """Of a poisoned row, only what sees it or is seen by it changes: the others not by a bit."""
    case = operands(54, dtype)
    mask = np.random.default_rng(54).random((LQ, LK)) < 0.7
    options = {"mask": mask} if kind == "array" else {"causal": True}
    mask = visible_keys(SCORES, 4, **options)[0, 0]
    clean = gradients(*case, **options)
    for which, j in (0, 33), (1, 33), (2, 77), (3, 77), (0, 0), (2, LK - 1):
        bad = [x.copy() for x in case]
        bad[which][:, :, j] = poison
        got = gradients(*bad, **options)
        if which < 2:  # d_out, query: the keys that query j does not see
            rows, keys = np.arange(LQ) != j, ~mask[j]
        else:  # the queries that do not see key j, and the keys that no query sees beside it
            rows, keys = ~mask[:, j], ~mask[mask[:, j]].any(0)
        context = f"{NAMES[which]} {j}"
        assert_same_bits(got.query[:, :, rows], clean.query[:, :, rows], f"d_query, {context}")
        for name in "key", "value":
            x, y = getattr(got, name), getattr(clean, name)
            assert_same_bits(x[:, :, keys], y[:, :, keys], f"d_{name}, {context}")


def assert_nan_exactly(got, clean, where, context):
    for name, x, y, nan in zip(NAMES[:3], got, clean, where, strict=False):
        assert_same_bits(x, np.where(nan, np.full_like(x, NAN), y), f"{name}, NaN in {context}")
        nan = np.broadcast_to(nan, x.shape)
        quiet = {2: (0x7E00, 0x7FC0), 4: (0x7FC00000,), 8: (0x7FF8 << 48,)}[x.itemsize]
        assert np.isin(bits(x[nan]), quiet).all(), (name, context)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_s6_nan_in_exactly_what_depends_on_it(dtype):
    case = operands(55, dtype)
    options = {"causal": True, "query_lengths": [LQ, 100, LQ]}
    visible = visible_keys(SCORES, 4, **options)
    clean, group = gradients(*case, **options), HEADS // KEY_HEADS

    def rows_of(queries):
        """What NaN in all scores of these queries makes NaN: rows of d_query and d_key."""
        keys = (visible & queries[..., None]).reshape(BATCH, KEY_HEADS, -1, LK).any(2)
        return (queries & visible.any(-1))[..., None], keys[..., None]

    for place, head, column in (0, 1, 0), (70, 0, 5), (110, 1, 8):
        of_head = slice(head * group, (head + 1) * group)
        for which, name in enumerate(("d_out", "query", "key", "value")):
            bad = [x.copy() for x in case]
            bad[which][1, head, place, column] = -np.array(NAN, dtype)
            queries = np.zeros(SCORES[:3], bool)
            if which < 2:
                queries[1, head, place] = True
            else:
                queries[1, of_head] = visible[1, of_head, :, place]
            of_queries, of_keys = rows_of(queries)
            # Weights are NaN where the scores are; else d_out shows in its own column.
            of_values = of_keys & np.full(VALUE_SIZE, which in (1, 2))
            if which == 0:
                of_values = of_keys & (np.arange(VALUE_SIZE) == column)
            assert_nan_exactly(gradients(*bad, **options), clean, (of_queries, of_keys, of_values),
                               f"{name} {place}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_weight_of_zero_adds_nothing(dtype):
    """A key that is -inf in a product has weight 0 for all, seen or not: as if it were masked."""
    d_out, query, key, value = operands(56, dtype)
    query[..., 0] = 1
    for hidden in {}, {"causal": True}, {"mask": np.random.default_rng(56).random((LQ, LK)) < 0.8}:
        bad = key.copy()
        bad[:, :, 40, 0] = -INF
        mask = visible_keys(SCORES, 4, **hidden) & (np.arange(LK) != 40)
        expected = gradients(d_out, query, key, value, mask=mask)
        assert_same(gradients(d_out, query, bad, value, **hidden), expected, f"{hidden}, seed 56")


def test_s14_empty():
    for sizes in ({"lq": 0}, {"lk": 0}, {"batch": 0}, {"heads": 0}, {"heads": 0, "key_heads": 0}):
        case = operands(57, **sizes)
        shape = case[1].shape[:3] + case[2].shape[2:3]
        for own in shape, (1, *shape[1:]), (*shape[:3], 1), (shape[2], 1), (1, 1):
            bias = sample(own, seed=58)
            sinks = sample(shape[1], seed=59)
            found = gradients(*case, bias=bias, sinks=sinks)
            for name, x, like in zip(NAMES, found, (*case[1:], bias, sinks), strict=True):
                assert x.shape == like.shape
                assert (bits(x) == 0).all(), (name, sizes, own)
    d_out, query, key, value = operands(58)
    found = gradients(d_out, query[..., :0], key[..., :0], value)
    np.testing.assert_allclose(found.value[:, :, 0], d_out.sum(2)[:, ::2] / LK
                               + d_out.sum(2)[:, 1::2] / LK, rtol=1e-4, atol=1e-6)
    found = gradients(d_out[..., :0], query, key, value[..., :0])
    assert (found.query == 0).all() and found.value.shape == (BATCH, KEY_HEADS, LK, 0)


_MODE_PROGRAM = """
import ctypes, sys
import numpy as np
import swiftmax as smx
from test_attention_vjp_bits import operands
library = ctypes.CDLL(sys.argv[1])
library.get_mode.restype = ctypes.c_uint
cases = []
for kind in np.float32, np.float64, np.float16:
    case = operands(60, kind)
    case[0][:, :, ::3] *= kind(2.0 ** (-20 if kind == np.float16 else -130))
    sinks = np.array([0, 1, -1, 9], "f8" if kind == np.float64 else "f4")
    options = dict(causal=True, softcap=20.0, sinks=sinks)
    cases.append((case, smx.attention(*case[1:], **options, return_lse=True), options))
def results():
    return [x.tobytes() for case, pair, options in cases
            for x in smx.attention_vjp(*case, *pair, **options, return_d_sinks=True)]
mode = 0x1f80 | int(sys.argv[2], 16)
library.set_mode(mode)
changed = results()
after = library.get_mode() & ~0x3f  # the flags that say what has happened are not the mode
library.set_mode(0x1f80)
assert after == mode & ~0x3f, (hex(after), hex(mode))
assert changed == results(), "bits differ under mode " + sys.argv[2]
"""


@pytest.mark.parametrize("mode", ["0x8040", "0xe040"], ids=["ftz+daz", "ftz+daz+zero"])
def test_s15_floating_point_mode_of_the_caller(mode_library, mode):
    done = subprocess.run([sys.executable, "-c", _MODE_PROGRAM, mode_library, mode],
                          capture_output=True, text=True, check=False,
                          cwd=os.path.dirname(__file__))
    assert done.returncode == 0, done.stderr


# -- instruction sets ----------------------------------------------------------------------------

_ISA_PROGRAM = """
import hashlib, numpy as np, swiftmax as smx
from test_attention_bits import OPTIONS, part_of_queries
from test_attention_vjp_bits import gradients, operands
hash = hashlib.sha256()
def add(found):
    for x in found:
        if x is not None: hash.update(x.tobytes())
for dtype in np.float32, np.float64, np.float16:
    for options in OPTIONS.values():
        if "bias" in options: options = {**options, "bias": options["bias"].astype(dtype)}
        options = part_of_queries(options, 30, 85)
        d_out, query, key, value = operands(61, dtype)
        add(gradients(d_out[:, :, 30:85], query[:, :, 30:85], key, value, **options))
    # Tiles differ in width, and so does which of them sees all keys of a block.
    query[..., 0] = 1
    key[:, :, 40, 0], key[:, :, 150, 0] = -np.inf, np.inf
    d_out[1, 1, 20], value[0, 1, 70] = np.nan, np.inf
    add(gradients(d_out[:, :, :70], query[:, :, :70], key, value, causal=True))
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
