"""CONTRACT, section 2, of attention: the same bits wherever queries, keys, values and out lie.

Also in caches: past keys apart from new ones, and blocks of a pool.
"""

import numpy as np
import pytest
from attention_reference import given_axes
from reference import DTYPES, assert_same_bits, sample
from test_attention_bits import (
    BATCH,
    FLAGS,
    HEADS,
    KEY_HEADS,
    LK,
    LQ,
    OPTIONS,
    VALUE_SIZE,
    assert_same,
    each_option,
    tensors,
)
from test_layouts import in_records, spread_out, unaligned

import swiftmax as smx

LAYOUTS = {
    "fortran": np.asfortranarray,
    "sizes reversed": lambda x: np.copy(x[..., ::-1])[..., ::-1],
    "places reversed": lambda x: np.copy(x[:, :, ::-1])[:, :, ::-1],
    "all reversed": lambda x: np.copy(x[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1],
    "transposed": lambda x: np.copy(x.swapaxes(2, 3)).swapaxes(2, 3),
    "heads inside": lambda x: np.copy(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3),
    "spread out": spread_out,
    "unaligned": unaligned,
    "records": in_records,
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_inputs(layout, dtype):
    case, view = tensors(48, dtype), LAYOUTS[layout]
    bias, mask = sample((BATCH, HEADS, LQ, LK), dtype, 49), OPTIONS["mask and bias"]["mask"]
    for lq in LQ, 1:
        options = {"mask": mask[:, :, :lq], "bias": bias[:, :, :lq]}
        arrays = case[0][:, :, :lq], *case[1:]
        expected = smx.attention(*arrays, **options, **FLAGS)
        got = smx.attention(*map(view, arrays), **FLAGS,
                            **{name: view(x) for name, x in options.items()})
        assert_same(got, expected, f"all {layout}, Lq {lq}, seeds 48, 49")
        for i in range(3):
            mixed = [view(x) if i == k else x for k, x in enumerate(arrays)]
            got = smx.attention(*mixed, **options)
            assert_same_bits(got, expected[0], f"argument {i} {layout}, Lq {lq}, seeds 48, 49")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_out(layout, dtype):
    case = tensors(50, dtype)
    out = LAYOUTS[layout](np.ones((BATCH, HEADS, LQ, VALUE_SIZE), dtype))
    assert smx.attention(*case, causal=True, out=out) is out
    assert_same_bits(out, smx.attention(*case, causal=True), "seed 50")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_out_beside_many_keys(layout):
    """From four blocks of keys on, lines of results are asked for ahead, if they lie in rows."""
    case = [sample((1, 2, n, 64), seed=57 + i) for i, n in enumerate((70, 320, 320))]
    out = LAYOUTS[layout](np.ones((1, 2, 70, 64), np.float32))
    smx.attention(*case, out=out)
    assert_same_bits(out, smx.attention(*case), "seeds 57 to 59")


def test_places_around_a_view_of_out_are_not_written():
    case = tensors(51)
    large = np.full((BATCH, HEADS, LQ + 9, VALUE_SIZE + 5), 7, np.float32)
    out = large[:, :, 4:-5, 2:-3]
    smx.attention(*case, out=out)
    assert_same_bits(out, smx.attention(*case), "seed 51")
    out[...] = 7
    assert (large == 7).all()


@each_option
def test_layout_blhd(options):
    case = tensors(52)
    expected = smx.attention(*case, **options, **FLAGS)
    for prepare in np.copy, lambda x: x:
        turned = [prepare(given_axes(x, 4, "BLHD")) for x in case]
        out, lse, weights = smx.attention(*turned, layout="BLHD", **options, **FLAGS)
        assert_same((out.swapaxes(1, 2), lse, weights), expected, "seed 52")
    for b in range(BATCH if not options else 0):
        out = smx.attention(*(x[b] for x in turned), layout="BLHD")
        assert_same_bits(out.swapaxes(0, 1), expected[0][b], f"entry {b}, seed 52")


def test_query_key_value_and_out_packed_side_by_side():
    packed = sample((BATCH, LQ, 4, HEADS, 24), seed=53)
    expected = smx.attention(*(np.copy(packed[:, :, i]) for i in range(3)), layout="BLHD")
    out = packed[:, :, 3]
    smx.attention(*(packed[:, :, i] for i in range(3)), layout="BLHD", out=out)
    assert_same_bits(out, expected, "seed 53")


# -- caches ------------------------------------------------------------------------------------


@each_option
@pytest.mark.parametrize("layout", ["BHLD", "BLHD"])
def test_past_keys_are_keys(options, layout):
    case = [given_axes(x, 4, layout) for x in tensors(54)]
    options = {**options, "layout": layout}
    expected = smx.attention(*case, **options, **FLAGS)
    axis = 1 if layout == "BLHD" else 2
    for cut in 0, 1, 17, 63, 64, 65, 100, LK - 1, LK:
        (past_key, key), (past_value, value) = (np.split(x, [cut], axis) for x in case[1:])
        for view in np.copy, lambda x: x:
            got = smx.attention(case[0], view(key), view(value), past_key=view(past_key),
                                past_value=view(past_value), **options, **FLAGS)
            assert_same(got, expected, f"cut at {cut}, seed 54")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["BHLD", "BLHD"])
@pytest.mark.parametrize("size", [1, 8, 20, 50, 100, 200])
def test_block_tables(size, layout, dtype):
    query, key, value = tensors(55, dtype)
    options = {"causal": True, "query_offset": [69, 30, -3], "key_lengths": [200, 77, 0],
               "layout": layout}
    expected = smx.attention(*(given_axes(x, 4, layout) for x in (query, key, value)), **options,
                             **FLAGS)
    count = LK // size
    table = np.random.default_rng(56).permutation(BATCH * count + 2)[2:].reshape(BATCH, count)
    pools = []
    for x in key, value:
        # Entries hold NaN beyond their lengths, and so do two blocks of the pool.
        pool = np.full((BATCH * count + 2, KEY_HEADS, size, x.shape[3]), np.nan, dtype)
        for b, n in np.ndindex(BATCH, count):
            filled = max(0, min(size, options["key_lengths"][b] - n * size))
            pool[table[b, n], :, :filled] = x[b, :, n * size : n * size + filled]
        pools.append(np.copy(given_axes(pool, 4, layout)))
    # Beyond the key lengths entries are not read.
    unused = np.arange(count) * size >= np.array(options["key_lengths"])[:, None]
    query = given_axes(query, 4, layout)
    for beyond in None, -1, 2**31 - 1, 2**62:
        used = table if beyond is None else np.where(unused, beyond, table)
        used = used.tolist() if beyond == -1 else used if beyond == 2**62 else used.astype(np.int32)
        got = smx.attention(query, *pools, block_table=used, **options, **FLAGS)
        assert_same(got, expected, f"blocks of {size}, {beyond} beyond, seeds 55, 56")
