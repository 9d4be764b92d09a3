"""Short rows with a temperature, a mask or a bias have the bits of each such row alone.

Many rows share the lanes (FewGathered.swift), a row alone goes through the stages (Softmax.swift).
"""

import ml_dtypes
import numpy as np
import pytest
from reference import assert_same_bits

import swiftmax as smx

DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
OPERATIONS = [smx.softmax, smx.log_softmax, smx.logsumexp]
# Squares of lanes and what is around them, up to the longest that go that way and beyond.
LENGTHS = [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65]
# A tail that goes alone, one that shares the lanes, and none.
COUNTS = [5, 32, 37, 43]


def rows_of(count, length, dtype, seed):
    """Rows of all kinds: near one another, far apart, certain, with special numbers."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, length)) * rng.choice([1e-3, 1, 8, 60], (count, 1))
    x += rng.choice([0, 0.3, -1.7, 900], (count, 1))
    x[2::11, 0] += 30
    x[3::17, 0] = np.nan
    x[4::19, -1] = np.inf
    x[5::17] = -np.inf
    x[6::13, length // 2] = -np.inf
    x[7::17, length // 2] = 1e30
    x[8::23] = 0
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def check(operation, x, by_row, given=None):
    """`by_row` has an array with one entry for each row under each name, `given` the same for all
    of them."""
    given = given or {}
    got = operation(x, **by_row, **given)
    for i in range(len(x)):
        own = {name: array[i : i + 1] for name, array in by_row.items()}
        want = operation(x[i : i + 1], **own, **given)
        assert_same_bits(got[i : i + 1], want, f"row {i} of {x.shape}")
    if operation is not smx.logsumexp:
        place = x.copy()
        operation(place, out=place, **by_row, **given)
        assert_same_bits(place, got, "in place")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_temperatures(length, dtype):
    wide = np.float64 if dtype == np.float64 else np.float32
    for count in COUNTS:
        x = rows_of(count, length, dtype, seed=count)
        rng = np.random.default_rng(length)
        usual = rng.uniform(0.2, 5, (count, 1)).astype(wide)
        ones = np.ones((count, 1), wide)
        extreme = rng.choice([0, 1, np.inf, 1e-30, 1e30, 0.5], (count, 1)).astype(wide)
        for operation in OPERATIONS[:2]:
            for temperatures in (usual, ones, extreme):
                check(operation, x, {"temperature": temperatures})
            for temperature in (0.7, 1.0, 3.0, 1e-4):
                check(operation, x, {}, {"temperature": temperature})
            mask = rng.random(x.shape) < 0.7
            check(operation, x, {"temperature": usual, "mask": mask})


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_masks(length, dtype, operation):
    for count in COUNTS:
        x = rows_of(count, length, dtype, seed=count)
        rng = np.random.default_rng(length)
        mask = rng.random(x.shape) < 0.7
        # Nothing is left of some.
        mask[::9] = False
        check(operation, x, {"mask": mask})
        check(operation, x, {}, {"mask": mask[1]})
        column = rng.random((count, 1)) < 0.5
        check(operation, x, {"mask": column})


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_biases(length, dtype, operation):
    for count in COUNTS:
        x = rows_of(count, length, dtype, seed=count)
        bias = rows_of(count + 3, length, dtype, seed=1)[3:]
        bias[9::10] = 0
        check(operation, x, {"bias": bias})
        check(operation, x, {}, {"bias": bias[0]})
        mask = np.random.default_rng(length).random(x.shape) < 0.7
        check(operation, x, {"bias": bias, "mask": mask})
        if operation is not smx.logsumexp:
            check(operation, x, {"bias": bias}, {"temperature": 0.7})
        if dtype in (np.float16, ml_dtypes.bfloat16):
            check(operation, x, {"bias": bias.astype(np.float32)})


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_structures(length, dtype, operation):
    """The same as the booleans that they stand for."""
    queries = 21
    x = rows_of(2 * queries, length, dtype, seed=3).reshape(2, queries, length)
    rng = np.random.default_rng(length)
    q, k = np.arange(queries)[:, None], np.arange(length)
    lengths = np.array([length, (length + 1) // 2])
    ids = rng.integers(0, 3, (2, queries)), rng.integers(0, 3, (2, length))
    of_lengths = np.broadcast_to(k < lengths[:, None, None], x.shape)
    of_segments = ids[0][:, :, None] == ids[1][:, None, :]
    shifted = q + (length - queries)
    for mask, shown in (
        (smx.Mask.causal(), k <= shifted),
        (smx.Mask.window(3, 2), (k >= shifted - 3) & (k <= shifted + 2)),
        (smx.Mask.lengths(lengths), of_lengths),
        (smx.Mask.segments(*ids), of_segments),
    ):
        want = operation(x, mask=np.broadcast_to(shown, x.shape))
        assert_same_bits(operation(x, mask=mask), want, f"{mask}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 4, 16, 21, 33, 64])
def test_layouts(length, dtype):
    """Rows turned, apart, backwards or misaligned, as rows one after the other."""
    x = rows_of(40, length, dtype, seed=8)
    mask = np.random.default_rng(1).random(x.shape) < 0.8
    wide = np.zeros((40, 2 * length + 1), dtype)
    wide[:, 1::2] = x
    raw = np.zeros(x.nbytes + 1, np.uint8)
    odd = raw[1:].view(dtype).reshape(x.shape)
    odd[...] = x
    turned = np.asfortranarray(x)
    backwards = np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    for operation in OPERATIONS:
        every = [{"mask": mask}]
        if operation is not smx.logsumexp:
            every.append({"temperature": 0.7})
        for options in every:
            want = operation(x, **options)
            for view in (wide[:, 1::2], odd, turned, backwards):
                assert_same_bits(operation(view, **options), want, f"{operation.__name__}")
                if operation is not smx.logsumexp:
                    place = view.copy(order="K")
                    operation(place, out=place, **options)
                    assert_same_bits(place, want, f"{operation.__name__}, in place")
