"""precision="fast": near the exact result where a unit for bfloat16 takes part, else the exact one.

On a CPU without such a unit both are the same, and these tests say so trivially.
"""

import ml_dtypes
import numpy as np
import pytest

import swiftmax as smx

BF16 = ml_dtypes.bfloat16
# bfloat16 weights are off by up to 2^-8 of each, at most all to one side; results are rounded to
# 2^-8.
BOUND = 2.0**-8


def tensors(seed, heads, key_heads, queries, keys, size, value_size, layout="BHLD"):
    generator = np.random.default_rng(seed)
    shapes = (heads, queries, size), (key_heads, keys, size), (key_heads, keys, value_size)
    found = [generator.standard_normal((2, *shape)).astype(BF16) for shape in shapes]
    return found if layout == "BHLD" else [x.swapaxes(1, 2) for x in found]


def magnitudes(query, key, value, options):
    """The sum over the keys of weight times |value|: what errors are measured by."""
    wide = [x.astype(np.float64) for x in (query, key, value)]
    wide[2] = abs(wide[2])
    return smx.attention(*wide, **options)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": (100, 20)}, {"scale": 0.3}])
@pytest.mark.parametrize(
    "shape",
    # The last tile of queries has one vector of 16, or three, or two.
    [
        (4, 4, 300, 300, 64, 64),
        (4, 2, 130, 517, 96, 32),
        (2, 1, 48, 64, 32, 160),
        (1, 1, 80, 256, 64, 96),
    ],
)
def test_error_is_that_of_rounded_weights(shape, options):
    inputs = tensors(1, *shape)
    exact = smx.attention(*(x.astype(np.float64) for x in inputs), **options)
    fast = smx.attention(*inputs, **options, precision="fast").astype(np.float64)
    assert (abs(fast - exact) <= BOUND * magnitudes(*inputs, options) + BOUND * abs(exact)).all()


def test_key_lengths_hide_what_is_not_finite():
    query, key, value = tensors(2, 2, 2, 100, 200, 64, 64)
    lengths = np.array([70, 190])
    exact = smx.attention(query, key, value, key_lengths=lengths, precision="fast")
    key[0, :, 70:], value[0, :, 70:], value[1, :, 190:] = np.nan, np.inf, np.nan
    got = smx.attention(query, key, value, key_lengths=lengths, precision="fast")
    assert np.isfinite(got.astype(np.float32)).all()
    assert got.tobytes() == exact.tobytes()


def test_nan_reaches_the_rows_that_see_it():
    query, key, value = tensors(3, 1, 1, 128, 128, 64, 64)
    query[0, 0, 5, 3] = np.nan
    got = smx.attention(query, key, value, precision="fast").astype(np.float32)
    assert np.isnan(got[0, 0, 5]).all()
    assert np.isfinite(np.delete(got, 5, axis=2)[0]).all()


def test_scores_far_from_one_another():
    query, key, value = tensors(4, 1, 1, 64, 256, 64, 64)
    exact = smx.attention(query, key, value, scale=100.0)
    fast = smx.attention(query, key, value, scale=100.0, precision="fast")
    # One key has nearly all the weight in either.
    assert np.allclose(exact.astype(float), fast.astype(float), rtol=2.0**-7, atol=2.0**-7)


def test_layout_and_threads_do_not_matter():
    inputs = tensors(5, 6, 3, 200, 256, 64, 64)
    swapped = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in inputs]
    expected = smx.attention(*inputs, precision="fast")
    got = smx.attention(*swapped, layout="BLHD", precision="fast").swapaxes(1, 2)
    assert np.ascontiguousarray(got).tobytes() == expected.tobytes()
    for threads in (1, 2, 3, 7):
        with smx.num_threads(threads):
            assert smx.attention(*inputs, precision="fast").tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "options",
    [{"softcap": 5.0}, {"mask": np.tril(np.ones((80, 80), bool))}, {"return_weights": True}],
)
def test_what_the_units_do_not_do_is_exact(options):
    inputs = tensors(6, 2, 2, 80, 80, 64, 64)
    exact = smx.attention(*inputs, **options)
    fast = smx.attention(*inputs, **options, precision="fast")
    for a, b in zip(exact, fast, strict=True):
        assert a.tobytes() == b.tobytes()
