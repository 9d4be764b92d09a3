"""Rows that do not lie along memory have the bits of rows that do.

Each operation works on a few rows at a time, turned (RowPanels.swift), where the rows lie side by
side, are scattered or narrow; what it is compared with is the same rows one after the other.
"""

import ml_dtypes
import numpy as np
import pytest
from reference import assert_same_bits

import swiftmax as smx

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
# A vector or two and what is around them, the longest rows that a panel holds 16, 8 or 4 of, and
# longer ones.
LENGTHS = [1, 2, 7, 16, 17, 31, 48, 63, 64, 65, 100, 513, 1024, 1040, 2050, 4100, 8300, 12300]


def memory_like(shape, dtype, *, gap=0, start=0):
    """Memory of a shape, `gap` elements between neighbours along the last axis, off a line."""
    flat = np.full(int(np.prod(shape)) * (gap + 1) + start, 7, dtype)
    return flat[start :: gap + 1].reshape(shape) if gap else flat[start:].reshape(shape)


# From rows (count, length) to a view of them along axis 0 or 1 of the same shape or turned.
def beside(count, length, dtype):
    return memory_like((length, count), dtype, start=3).T


def in_images(count, length, dtype):
    """Channels in the middle: (images, length, places), places no multiple of a vector."""
    images = next(n for n in (3, 2, 1) if count % n == 0)
    view = memory_like((images, length, count // images), dtype).transpose(0, 2, 1)
    return view


def apart(count, length, dtype):
    return memory_like((count, length), dtype, gap=2)


def backwards(count, length, dtype):
    return memory_like((count, length), dtype)[::-1, ::-1]


def with_margin(count, length, dtype):
    return memory_like((count, length + 3), dtype)[:, :length]


def unaligned(count, length, dtype):
    size = np.dtype(dtype).itemsize
    raw = np.zeros(length * count * size + 1, np.uint8)
    return raw[1:].view(dtype).reshape(length, count).T


LAYOUTS = [beside, in_images, apart, backwards, with_margin, unaligned]


def rows_of(count, length, dtype, seed):
    """Rows of all kinds, special ones among them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, length)) * rng.choice([1e-3, 1, 8, 60], (count, 1))
    x += rng.choice([0, 0.3, -1.7, 900], (count, 1))
    x[3::17, 0] = np.nan
    x[4::17, -1] = np.inf
    x[5::17] = -np.inf
    x[7::17, length // 2] = 1e30
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def laid_out(layout, x):
    view = layout(*x.shape, x.dtype)
    view[...] = x.reshape(view.shape)
    return view


def count_of(length):
    return 18 if length > 4000 else 51 if length > 600 else 93


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_rows(length, dtype, layout):
    x = rows_of(count_of(length), length, dtype, seed=length)
    view = laid_out(layout, x)
    for operation in (smx.softmax, smx.log_softmax, smx.logsumexp):
        for options in ({}, {"temperature": 0.7}):
            if options and operation is smx.logsumexp:
                continue
            want = operation(x, **options)
            name = f"{operation.__name__} {options}"
            got = operation(view, **options)
            assert_same_bits(got.reshape(want.shape), want, name)
            if operation is not smx.logsumexp:
                place = laid_out(layout, np.zeros_like(x))
                operation(view, out=place, **options)
                assert_same_bits(place.reshape(x.shape), want, f"{name}, out")
                place[...] = view
                operation(place, out=place, **options)
                assert_same_bits(place.reshape(x.shape), want, f"{name}, in place")
    assert_same_bits(view.reshape(x.shape), x, "the input")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_gradients(length, dtype, layout):
    count = count_of(length)
    dy = rows_of(count, length, dtype, seed=1)
    for name in ("softmax", "log_softmax"):
        operation = getattr(smx, f"{name}_vjp")
        y = getattr(smx, name)(rows_of(count, length, dtype, seed=length))
        views = laid_out(layout, y), laid_out(layout, dy)
        for options in ({}, {"temperature": 0.7}):
            want = operation(y, dy, **options)
            got = operation(*views, **options)
            assert_same_bits(got.reshape(want.shape), want, f"{name} {options}")
            place = views[1].copy(order="K")
            operation(views[0], place, out=place, **options)
            assert_same_bits(place.reshape(want.shape), want, f"{name} {options}, in place of dy")
            # One operand lies otherwise.
            got = operation(views[0], dy.reshape(views[0].shape), **options)
            assert_same_bits(got.reshape(want.shape), want, f"{name} {options}, dy contiguous")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("layout", [beside, in_images, unaligned])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 9, 16, 21, 65, 513, 4097, 8300])
def test_gradients_of_blocks(length, dtype, layout, threads):
    """Blocks of rows side by side (GradientColumns.swift), one special row in all of them at
    most."""
    count = 66 if length > 600 else 630
    rng = np.random.default_rng(length)
    x = rng.standard_normal((count, length))
    dy = rng.standard_normal((count, length)) * rng.choice([1e-30, 1e-9, 1, 1e20], (count, 1))
    dy[5] = 0
    y = {"softmax": smx.softmax(x), "log_softmax": smx.log_softmax(x)}
    for special in (None, np.nan, np.inf, 3e38):
        with np.errstate(over="ignore"):
            given = dy.astype(dtype)
            if special is not None:
                given[count // 3, -1] = special
        for name, probabilities in y.items():
            operation = getattr(smx, f"{name}_vjp")
            rows = probabilities.astype(dtype)
            want = operation(rows, given)
            views = laid_out(layout, rows), laid_out(layout, given)
            with smx.num_threads(threads):
                got = operation(*views)
                assert_same_bits(got.reshape(want.shape), want, f"{name} {special}")
                place = views[0].copy(order="K")
                operation(place, views[1], out=place)
                assert_same_bits(place.reshape(want.shape), want, f"{name} {special}, in place")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_cross_entropy(length, dtype, layout):
    x = rows_of(count_of(length), length, dtype, seed=length)
    rng = np.random.default_rng(length)
    targets = rng.integers(0, length, len(x))
    targets[::13] = -100
    view = laid_out(layout, x)
    wide = np.float64 if dtype == np.float64 else np.float32
    weight = rng.uniform(0.5, 2, length).astype(wide)
    given = {"return_lse": True, "return_grad": True}
    scale = rng.uniform(0.5, 2, len(x)).astype(wide)
    for options in (
        {"reduction": "none", "grad_scale": scale},
        {"reduction": "mean", "temperature": 0.7},
        {"reduction": "sum", "weight": weight, "label_smoothing": 0.1, "z_loss": 0.01},
    ):
        want = smx.cross_entropy(x, targets, **given, **options)
        if "grad_scale" in options:
            options = options | {"grad_scale": scale.reshape(view.shape[:-1])}
        place = view.copy(order="K")
        for out in (None, place):
            logits = view if out is None else place
            got = smx.cross_entropy(
                logits, targets.reshape(view.shape[:-1]), out=out, **given, **options
            )
            for mine, theirs, name in zip(got, want, ("loss", "lse", "gradient"), strict=True):
                assert_same_bits(
                    np.asarray(mine).reshape(np.shape(theirs)), theirs, f"{name} {[*options]}"
                )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [5, 21, 300])
def test_other_losses(length, dtype):
    x = rows_of(93, length, dtype, seed=length)
    targets = np.random.default_rng(length).integers(0, length, len(x))
    view = laid_out(beside, x)
    log_probs = smx.log_softmax(x)
    want = smx.nll_from_log_probs(log_probs, targets, reduction="none")
    got = smx.nll_from_log_probs(laid_out(beside, log_probs), targets, reduction="none")
    assert_same_bits(got, want, "nll")
    soft = smx.softmax(rows_of(93, length, want.dtype, seed=2))
    for layout in (np.copy, np.asfortranarray):
        want = smx.cross_entropy(x, soft, return_grad=True, reduction="none")
        got = smx.cross_entropy(view, layout(soft), return_grad=True, reduction="none")
        for mine, theirs in zip(got, want, strict=True):
            assert_same_bits(mine, theirs, "soft targets")


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads(dtype, threads):
    """Tasks begin and end anywhere among the images."""
    x = rows_of(7 * 333, 37, dtype, seed=0).reshape(7, 333, 37)
    view = np.copy(x.transpose(0, 2, 1))
    targets = np.random.default_rng(1).integers(0, 37, (7, 333))
    with smx.num_threads(1):
        want = smx.softmax(x), *smx.cross_entropy(x, targets, return_grad=True)
    with smx.num_threads(threads):
        got = smx.softmax(view, 1), *smx.cross_entropy(view, targets, axis=1, return_grad=True)
    assert_same_bits(got[0].transpose(0, 2, 1), want[0], "softmax")
    assert_same_bits(got[1], want[1], "loss")
    assert_same_bits(got[2].transpose(0, 2, 1), want[2], "gradient")
