"""What must hold for any input, tried by hypothesis."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference import WIDE, assert_same_bits, assert_within_ulp, mpf, reference

import swiftmax as smx

# Derandomised: a failure on one machine is a failure on all.
settings.register_profile("swiftmax", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("swiftmax")

FUNCTIONS = st.sampled_from([smx.softmax, smx.log_softmax, smx.logsumexp])
ELEMENTWISE = st.sampled_from([smx.softmax, smx.log_softmax])


def scores(dtype, limit=80.0, shape=None):
    """Arrays of 1 to 40 numbers within the limit."""
    width = np.dtype(dtype).itemsize * 8
    elements = st.floats(-limit, limit, width=width)
    return hnp.arrays(dtype, st.integers(1, 40) if shape is None else shape, elements=elements)


ROWS = st.sampled_from(WIDE).flatmap(scores)


@given(ELEMENTWISE, st.sampled_from(WIDE).flatmap(lambda d: scores(d, 1e4)))
def test_within_the_bound(function, x):
    assert_within_ulp(function(x), reference(function.__name__, x), context=repr(x))


@given(st.sampled_from(WIDE).flatmap(lambda d: scores(d, 1e4)))
def test_logsumexp_within_its_bound(x):
    exact = reference("logsumexp", x)
    scale = max(abs(exact[()]), mpf(float(abs(x.max()))))
    assert_within_ulp(smx.logsumexp(x), exact, 1.0, repr(x), scale=scale)


@given(ROWS)
def test_probabilities_sum_to_one(x):
    p = smx.softmax(x)
    assert ((p >= 0) & (p <= 1)).all()
    # Each of the n terms is within 2 ulp, and the sum is taken exactly.
    assert abs(sum(map(mpf, p.tolist())) - 1) <= 2 * len(p) * float(np.finfo(p.dtype).eps)


@given(ELEMENTWISE, hnp.arrays(np.float32, st.integers(1, 40),
                               elements=st.integers(-60, 60).map(float)),
       st.integers(-1000, 1000))
def test_shift_invariance(function, x, shift):
    # Whole numbers: the shift itself does not round, so both are within the bound of one value.
    exact = reference(function.__name__, x)
    assert_within_ulp(function(x + np.float32(shift)), exact, context=repr((x, shift)))


@given(ROWS)
def test_equal_scores_have_equal_probabilities_and_larger_ones_no_smaller(x):
    order = np.argsort(x, kind="stable")
    for function in smx.softmax, smx.log_softmax:
        y = function(x)[order].astype(np.float64)
        steps = np.diff(x[order].astype(np.float64))
        assert (np.diff(y)[steps == 0] == 0).all()
        # Neighbours may change places by no more than the bound allows.
        slack = 4 * np.spacing(np.abs(y[1:]).astype(x.dtype)).astype(np.float64)
        assert (np.diff(y) >= -slack).all()


@given(FUNCTIONS, ROWS, st.randoms(use_true_random=False))
def test_permutation(function, x, random):
    order = list(range(len(x)))
    random.shuffle(order)
    result = function(x[order])
    exact = reference(function.__name__, x)
    if function is smx.logsumexp:
        scale = max(abs(exact[()]), mpf(float(abs(x.max()))))
        assert_within_ulp(result, exact, 1.0, repr(x), scale=scale)
    else:
        assert_within_ulp(result, exact[order], context=repr((x, order)))


@given(FUNCTIONS, ROWS, st.data())
def test_masked_is_minus_infinity(function, x, data):
    mask = data.draw(hnp.arrays(bool, x.shape))
    result = function(x, mask=mask)
    if mask.any():
        assert_same_bits(result, function(np.where(mask, x, -np.inf).astype(x.dtype)), repr(x))
    else:
        assert (np.asarray(result) == (0 if function is smx.softmax else -np.inf)).all()


@given(FUNCTIONS, ROWS, st.integers(1, 30))
def test_masked_elements_may_be_appended(function, x, count):
    longer = np.concatenate([x, np.full(count, np.nan, x.dtype)])
    mask = np.arange(len(longer)) < len(x)
    result = function(longer, mask=mask)
    if function is not smx.logsumexp:
        result = result[: len(x)]
    assert_same_bits(result, function(x, mask=np.ones(len(x), bool)), repr(x))
    assert_same_bits(result, function(x), repr(x))


@given(FUNCTIONS, hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=6),
                             elements=st.floats(-50, 50, width=32)), st.data())
def test_structured_masks_are_their_arrays(function, x, data):
    queries, keys = x.shape[-2:]
    small = st.integers(-3, 8)
    ids = lambda n: st.lists(st.integers(0, 2), min_size=n, max_size=n)  # noqa: E731
    rules = {
        "causal": st.builds(smx.Mask.causal, st.none() | small),
        "window": st.builds(smx.Mask.window, st.none() | st.integers(0, 4),
                            st.none() | st.integers(0, 4), st.none() | small),
        "lengths": st.builds(smx.Mask.lengths, st.integers(0, keys), st.integers(0, queries)),
        "segments": st.builds(smx.Mask.segments, ids(queries), ids(keys)),
    }
    chosen = data.draw(st.lists(st.sampled_from(sorted(rules)), max_size=3))
    mask = smx.Mask()
    for name in chosen:
        mask &= data.draw(rules[name])
    dense = mask.to_array(queries, keys)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    assert_same_bits(function(x, axis, mask=mask), function(x, axis, mask=dense), repr(mask))


@given(scores(np.float64, 5.0, shape=st.integers(1, 6)), st.sampled_from([0.5, 1.0, 3.0]))
def test_jacobian(x, temperature):
    h = 1e-5
    steps = h * np.eye(len(x))
    p = smx.softmax(x, temperature=temperature)
    ahead, behind = (smx.softmax(x + s, temperature=temperature) for s in (steps, -steps))
    expected = (np.diag(p) - np.outer(p, p)) / temperature
    np.testing.assert_allclose((ahead - behind).T / (2 * h), expected, atol=1e-9)


@given(st.floats(-700, 700), st.floats(-700, 700))
def test_two_classes_are_a_sigmoid(a, b):
    exact = reference("softmax", np.array([a, b]))
    assert_within_ulp(smx.softmax(np.array([a, b])), exact, context=repr((a, b)))
    one, two = (mpf(float(v)) for v in smx.softmax(np.array([a, b])))
    assert abs(one + two - 1) <= 2 * float(np.finfo(float).eps)


@given(FUNCTIONS, hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=8),
                             elements=st.floats(-50, 50, width=32)))
def test_a_row_is_the_same_alone_and_in_a_batch(function, x):
    result = np.asarray(function(x))
    for at in np.ndindex(x.shape[:-1]):
        assert_same_bits(result[at], function(x[at]), repr(x))
