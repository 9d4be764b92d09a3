"""The same bits wherever the elements lie, and no copy of them."""

import tracemalloc

import numpy as np
import pytest
from reference import DTYPES, assert_same_bits, bits, sample

import swiftmax as smx

SHAPE = (3, 5, 70)


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def spread_out(x):
    """Every third element of each axis of a larger array."""
    large = np.zeros([3 * n for n in x.shape], x.dtype)
    view = large[tuple(slice(1, None, 3) for _ in x.shape)]
    view[...] = x
    return view


def in_records(x):
    """A field of packed records: strides that are no multiple of the element size."""
    records = np.zeros(x.shape, np.dtype([("tag", "u1"), ("value", x.dtype)]))
    records["value"] = x
    return records["value"]


LAYOUTS = {
    "contiguous": np.copy,
    "fortran": np.asfortranarray,
    "reversed": lambda x: np.copy(x[:, :, ::-1])[:, :, ::-1],
    "all reversed": lambda x: np.copy(x[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
    "axes turned": lambda x: np.copy(x.transpose(2, 0, 1)).transpose(1, 2, 0),
    "spread out": spread_out,
    "unaligned": unaligned,
    "records": in_records,
}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), None], ids=str)
def test_input_layout(function, layout, axis, dtype):
    x = sample(SHAPE, dtype, seed=1)
    view = layout(x)
    kept = bits(view).copy()
    assert_same_bits(function(view, axis), function(x, axis), "seed 1")
    assert (bits(view) == kept).all()


def test_ways_to_say_the_last_axis(function):
    x = sample(SHAPE, seed=21)
    for axis in -1, 2, np.int64(-1), (2,), [-1]:
        assert_same_bits(function(x, axis), function(x), f"seed 21, axis {axis!r}")
        assert_same_bits(function(axis=axis, x=x), function(x), f"seed 21, axis {axis!r}")
    with pytest.raises(ValueError, match="axis"):
        function(x, 3)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_axis_moved(function, axis):
    x = sample(SHAPE, seed=2)
    moved = function(np.copy(np.moveaxis(x, axis, -1)))
    result = function(x, axis)
    if function is not smx.logsumexp:
        moved = np.moveaxis(moved, -1, axis)
    assert_same_bits(result, moved, "seed 2")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_output_layout(elementwise, layout, dtype):
    x = sample(SHAPE, dtype, seed=3)
    out = layout(np.zeros_like(x))
    assert elementwise(x, out=out) is out
    assert_same_bits(out, elementwise(x), "seed 3")


@pytest.mark.parametrize("axis", [-1, 0, (0, 1), None], ids=str)
def test_in_place(elementwise, layout, axis):
    x = sample(SHAPE, seed=4)
    expected = elementwise(x, axis)
    view = layout(x)
    assert elementwise(view, axis, out=view) is view
    assert_same_bits(view, expected, "seed 4")


def test_logsumexp_into_out(layout):
    x = sample((2, *SHAPE), seed=5)
    out = layout(np.zeros(SHAPE, np.float32))
    assert smx.logsumexp(x, axis=0, out=out) is out
    assert_same_bits(out, smx.logsumexp(x, axis=0), "seed 5")


OVERLAPS = {
    "shifted by one": (lambda a: a[:60], lambda a: a[1:61]),
    "reversed": (lambda a: a[:60], lambda a: a[:60][::-1]),
    "interleaved, touching": (lambda a: a[0:120:2], lambda a: a[2:122:2]),
    "interleaved, apart": (lambda a: a[0:120:2], lambda a: a[1:121:2]),
    "dense in a gap": (lambda a: a[0:130:120], lambda a: a[5:7]),
}


@pytest.mark.parametrize("case", OVERLAPS)
def test_out_overlaps_x(elementwise, case):
    of_x, of_out = OVERLAPS[case]
    memory = sample((130,), seed=6)
    x = of_x(memory)
    expected = elementwise(x.copy())
    out = of_out(memory)
    assert elementwise(x, out=out) is out
    assert_same_bits(out, expected, f"seed 6, {case}")


def test_out_transposed_over_x(elementwise):
    x = sample((40, 40), seed=7)
    expected = elementwise(x.copy())
    assert_same_bits(elementwise(x, out=x.T), expected, "seed 7")


def test_out_overlaps_bias_and_weights(elementwise):
    x, memory = sample((40,), seed=8), sample((41,), seed=9)
    for bias in memory[:40], memory[1:]:
        memory[:] = sample((41,), seed=9)
        expected = elementwise(x, bias=bias.copy())
        assert_same_bits(elementwise(x, bias=bias, out=memory[1:]), expected, "seeds 8, 9")
    memory[:] = 1 + abs(memory)
    expected = smx.logsumexp(x, b=memory[:40].copy(), keepdims=True)
    assert_same_bits(smx.logsumexp(x, b=memory[:40], keepdims=True, out=memory[:1]), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_broadcast_inputs(function, dtype):
    row = sample((70,), dtype, seed=10)
    x = np.broadcast_to(row, SHAPE)
    assert_same_bits(function(x), function(np.copy(x)), "rows of stride 0")
    column = np.broadcast_to(row[:, None], (70, 33))
    assert_same_bits(function(column), function(np.copy(column)), "elements of stride 0")


def test_mask_and_bias_broadcast(function):
    x = sample(SHAPE, seed=11)
    for shape in (70,), (5, 1), (3, 1, 70), (1, 5, 70), ():
        mask = np.random.default_rng(12).random(shape) < 0.6
        bias = sample(shape, seed=13)
        whole = np.array(np.broadcast_to(mask, SHAPE)), np.array(np.broadcast_to(bias, SHAPE))
        assert_same_bits(function(x, mask=mask, bias=bias),
                         function(x, mask=whole[0], bias=whole[1]), f"seeds 11 to 13, {shape}")


def test_fresh_output_is_laid_out_like_x(elementwise):
    x = sample((30, 20), seed=14)
    assert elementwise(x.T).flags.f_contiguous
    assert elementwise(np.broadcast_to(x[0], (30, 20))).flags.owndata


@pytest.mark.parametrize("order", [">", "<"])
def test_byte_order(function, order):
    x = sample(SHAPE, seed=15)
    result = function(x.astype(x.dtype.newbyteorder(order)))
    assert_same_bits(result, function(x), "seed 15")


def test_any_rank(function):
    most = 64 if int(np.__version__.split(".")[0]) >= 2 else 32
    x = sample((2,) * 6, seed=16)
    wide = x.reshape((1,) * (most - 6) + x.shape)
    result = function(wide, axis=(-1, -3))
    assert_same_bits(np.asarray(result).ravel(), np.asarray(function(x, axis=(-1, -3))).ravel())


def _peak(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_nothing_of_the_size_of_the_input_is_allocated(function, layout):
    x = layout(sample((20, 50, 700), seed=17))  # 2.8 MB
    out = np.empty((20, 50), np.float32) if function is smx.logsumexp else np.empty_like(x)
    mask = np.random.default_rng(18).random((50, 700)) < 0.9
    bias = sample((50, 700), seed=19)
    rules = smx.Mask.causal() & smx.Mask.lengths(np.arange(20) + 600)
    assert _peak(lambda: function(x, out=out)) < 20_000
    assert _peak(lambda: function(x, mask=mask, bias=bias, out=out)) < 20_000
    assert _peak(lambda: function(x, mask=rules, out=out)) < 40_000
    if function is not smx.logsumexp:
        assert _peak(lambda: function(x, out=x)) < 20_000


def test_tracemalloc_sees_what_numpy_allocates():
    # Otherwise the test above would prove nothing.
    assert _peak(lambda: np.empty(1_000_000, np.float32)) > 3_900_000


def test_result_shares_no_memory_unless_asked(elementwise):
    x = sample((10, 10), seed=20)
    assert not np.shares_memory(elementwise(x), x)
    assert np.shares_memory(elementwise(x, out=x), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cols", [256, 300, 1031, 2049, 4097])
def test_every_place_in_a_line_of_memory(function, cols, dtype):
    """Where a row begins within 64 bytes decides how it is read, never what comes out."""
    x = sample((5, cols), dtype, seed=3)
    expected = function(x)
    for place in range(0, 64, x.itemsize):
        raw = np.zeros(x.nbytes + 128, np.uint8)
        start = -raw.ctypes.data % 64 + place
        view = raw[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
        view[...] = x
        assert_same_bits(function(view), expected, f"seed 3, {place} bytes into a line")


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("length", [5, 100, 700, 2500, 5000])
def test_special_rows_among_plain_ones_in_place(function, length, axis, dtype):
    """Rows off the common way do not disturb their neighbours, nor find their own input gone."""
    x = sample((37, length), dtype, seed=4)
    x[3] = 1e5 + x[3]
    x[4] = 1e30 * x[4]
    x[9, 1] = np.nan
    x[10, 2] = np.inf
    x[11] = -np.inf
    x[12, 0] = 60
    x[17, 3:] = -np.inf
    x[36] *= 1e10
    alone = np.concatenate([function(np.copy(row)).reshape(-1) for row in x])
    lying = x if axis == -1 else np.ascontiguousarray(x.T)
    found = function(lying, axis)
    flat = found if found.ndim == 1 or axis == -1 else found.T
    assert_same_bits(np.ascontiguousarray(flat).reshape(-1), alone, "beside others, seed 4")
    if found.shape != lying.shape:
        return
    result = function(lying, axis, out=lying)
    flat = result if axis == -1 else result.T
    assert_same_bits(np.ascontiguousarray(flat).reshape(-1), alone, "in place, seed 4")
