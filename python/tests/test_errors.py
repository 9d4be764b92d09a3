"""Every error names its argument and what disagrees, and leaves out as it was."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import swiftmax as smx

X = np.zeros((2, 3), np.float32)
BOTH = [smx.softmax, smx.log_softmax]
ALL = [*BOTH, smx.logsumexp]
MASKED = np.ma.masked_array(X, X > 0)

# functions, positional arguments, keywords, exception, words that the sentence must have
CASES = [
    (ALL, (X, 2), {}, ValueError, ["axis 2", "x of shape (2, 3)"]),
    (ALL, (X, -3), {}, ValueError, ["axis -3", "(2, 3)"]),
    (ALL, (X, (0, -2)), {}, ValueError, ["axis -2", "(2, 3)", "twice"]),
    (ALL, (X, 2**40), {}, ValueError, ["axis 1099511627776"]),
    (ALL, (X, (0,) * 65), {}, ValueError, ["axis", "65"]),
    (ALL, (X, 1.0), {}, TypeError, ["axis", "1.0"]),
    (ALL, (X, "0"), {}, TypeError, ["axis", "'0'"]),
    (ALL, (np.float32(1), 1), {}, ValueError, ["axis 1", "x of shape ()"]),
    (ALL, (np.zeros(3, complex),), {}, TypeError, ["x", "complex128"]),
    (ALL, (np.zeros(3, np.longdouble),), {}, TypeError, ["x", "longdouble|float128"]),
    (ALL, (np.zeros(3, object),), {}, TypeError, ["x", "object"]),
    (ALL, ("abc",), {}, TypeError, ["x", "<U3"]),
    (ALL, (None,), {}, TypeError, ["x", "object"]),
    (ALL, ([[1, 2], [3]],), {}, ValueError, ["x is not an array"]),
    (ALL, (MASKED,), {}, TypeError, ["x is a masked array", "mask="]),
    (ALL, (X,), {"mask": np.ones((2, 4), bool)}, ValueError, ["mask", "(2, 4)", "(2, 3)"]),
    (ALL, (X,), {"mask": np.ones((1, 2, 3), bool)}, ValueError, ["mask", "(1, 2, 3)", "(2, 3)"]),
    (ALL, (X,), {"mask": X}, TypeError, ["mask", "float32", "bias="]),
    (ALL, (X,), {"mask": [1, 0, 1]}, TypeError, ["mask", "int64"]),
    (ALL, (X,), {"mask": "causal"}, TypeError, ["mask", "<U6"]),
    (ALL, (X,), {"bias": np.zeros((3, 2))}, ValueError, ["bias", "(3, 2)", "(2, 3)"]),
    (ALL, (X,), {"bias": X > 0}, TypeError, ["bias", "bool", "mask="]),
    (ALL, (X,), {"bias": X * 1j}, TypeError, ["bias", "complex64"]),
    (ALL, (X[0],), {"mask": smx.Mask.causal()}, ValueError, ["mask", "queries and keys", "(3,)"]),
    (ALL, (X,), {"mask": smx.Mask.lengths(4)}, ValueError, ["lengths holds 4", "3 keys"]),
    (ALL, (X,), {"mask": smx.Mask.lengths(2, -1)}, ValueError, ["lengths holds -1", "2 queries"]),
    (ALL, (X,), {"mask": smx.Mask.causal([1, 2])}, ValueError, ["offset", "(2,)", "(2, 3)"]),
    (ALL, (X,), {"mask": smx.Mask.segments([0, 1, 1])}, ValueError,
     ["query_ids", "(3,)", "(2, 3)"]),
    (ALL, (X,), {"out": [0.0]}, TypeError, ["out", "list"]),
    (ALL, (X,), {"colour": 1}, TypeError, ["colour"]),
    (ALL, (X, -1, 1.0), {}, TypeError, ["positional", "3"]),
    (ALL, (X, -1), {"axis": 0}, TypeError, ["axis", "twice"]),
    (ALL, (), {}, TypeError, ["x"]),
    (BOTH, (X,), {"keepdims": True}, TypeError, ["keepdims"]),
    (BOTH, (X,), {"temperature": -1}, ValueError, ["temperature"]),
    (BOTH, (X,), {"temperature": np.ones(3)}, ValueError, ["temperature", "(3,)", "(2, 3)"]),
    (BOTH, (X,), {"temperature": None}, TypeError, ["temperature"]),
    (BOTH, (X,), {"temperature": "hot"}, TypeError, ["temperature", "<U3"]),
    ([smx.logsumexp], (X,), {"b": np.zeros(4)}, ValueError, ["b", "(4,)", "(2, 3)"]),
    ([smx.logsumexp], (X,), {"temperature": 1.0}, TypeError, ["temperature"]),
    ([smx.logsumexp], (X,), {"keepdims": X}, ValueError, []),
]


def flattened():
    for functions, args, keywords, kind, words in CASES:
        for function in functions:
            label = f"{function.__name__} {' '.join(words) or kind.__name__}"
            yield pytest.param(function, args, keywords, kind, words, id=label)


ONE = np.zeros((1, 2))
FLAGS = [
    ("return_lse", lambda **flag: smx.cross_entropy(ONE, [0], **flag)),
    ("return_grad", lambda **flag: smx.cross_entropy(ONE, [0], **flag)),
    ("return_lse", lambda **flag: smx.linear_cross_entropy(ONE, ONE, [0], **flag)),
    ("return_grad", lambda **flag: smx.linear_cross_entropy(ONE, ONE, [0], **flag)),
    ("return_log_probs", lambda **flag: smx.sample(ONE, seed=1, **flag)),
    ("log", lambda **flag: smx.top_k(ONE, 1, **flag)),
    ("hard", lambda **flag: smx.gumbel_softmax(ONE, seed=1, **flag)),
    ("keepdims", lambda **flag: smx.logsumexp_vjp(ONE, [0.0], **flag)),
    ("keepdims", lambda **flag: smx.logsumexp(ONE, **flag)),
    ("return_diagram", lambda **flag: smx.calibration_error(ONE, [0], **flag)),
    ("return_lse", lambda **flag: smx.attention(ONE, ONE, ONE, **flag)),
]


@pytest.mark.parametrize("value, kind", [("no", TypeError), (np.zeros(2), ValueError)])
@pytest.mark.parametrize("name, call", FLAGS)
def test_flags(name, call, value, kind):
    with pytest.raises(kind, match=f"^{name} must be True or False, but is "):
        call(**{name: value})


STRANGE_STRIDES = [((4, 4), (4, 4)), ((4, 4), (16, 1)), ((5, 3), (8, 12)), ((2, 3, 4), (4, 8, -8))]


@pytest.mark.parametrize("shape, strides", STRANGE_STRIDES, ids=str)
def test_out_that_overlaps_itself(elementwise, shape, strides):
    memory = np.full(400, 7, np.float32)
    out = np.lib.stride_tricks.as_strided(memory[200:], shape, strides)
    with pytest.raises(ValueError, match=r"^out of shape .* share a place"):
        elementwise(np.zeros(shape, np.float32), out=out)
    assert (memory == 7).all()


@pytest.mark.parametrize("strides", [(8, 12), (4, 12), (12, -4), (100, 40), (24, 8)], ids=str)
def test_out_of_strange_strides_that_does_not(elementwise, strides):
    memory = np.zeros(400, np.float32)
    shape = (2, 3) if strides == (4, 12) else (3, 2)
    out = np.lib.stride_tricks.as_strided(memory[200:], shape, strides)
    x = np.arange(6, dtype=np.float32).reshape(shape)
    assert elementwise(x, out=out).tobytes() == elementwise(x).tobytes()


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="z_loss must be 0 or more and finite"):
        smx.cross_entropy(X, [0, 0], z_loss=-1)
    with pytest.raises(ValueError, match="the lowest of bounds must be a positive number"):
        smx.fit_temperature(X, [0, 0], bounds=(0, 1))
    with pytest.raises(ValueError, match="size is 4611686018427387904"):
        smx.sample(X, size=2**62, seed=1)


def test_casts_are_silent():
    """What float32 cannot hold is infinite or 0 there, whatever NumPy is told to raise."""
    x = np.zeros(2, np.float32)
    with np.errstate(all="raise"):
        assert smx.logsumexp(x, b=1e300) == np.inf
        assert smx.softmax(x, bias=[-1e300, 1e-300]).tolist() == [0, 1]
        assert np.isnan(smx.softmax_vjp(x + 1, [1e300, 0])).all()
        assert smx.logsumexp_vjp(np.float32([[0, 0]]), np.float64(2), axis=None).dtype == np.float32


def test_a_broadcast_bias_of_another_dtype_stays_one_number():
    n = 4096
    bias = np.broadcast_to(np.float64(-1), (n, n))
    query = np.zeros((n, 1), np.float32)
    tracemalloc.start()
    smx.attention(query, query, query, bias=bias, window=(1, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("function, args, keywords, kind, words", list(flattened()))
def test_error(function, args, keywords, kind, words):
    keywords = dict(keywords)
    shape = (2,) if function is smx.logsumexp else (2, 3)
    # -1 is no result of softmax, nor of log_softmax or logsumexp of zeros.
    out = keywords.setdefault("out", np.full(shape, -1, np.float32)) if args else None
    with pytest.raises(kind) as caught:
        function(*args, **keywords)
    for word in words:
        assert any(w in str(caught.value) for w in word.split("|")), (word, str(caught.value))
    if isinstance(out, np.ndarray):
        assert (out == -1).all()


OUTS = [
    (np.zeros((3, 2), np.float32), ValueError, ["out", "(3, 2)", "(2, 3)"]),
    (np.zeros((1, 2, 3), np.float32), ValueError, ["out", "(1, 2, 3)", "(2, 3)"]),
    (np.zeros((2, 3), np.float64), TypeError, ["out", "float64", "float32"]),
    (np.zeros((2, 3), np.int32), TypeError, ["out", "int32", "float32"]),
    (np.zeros((2, 3), ">f4"), TypeError, ["out", ">f4"]),
    (np.broadcast_to(np.float32(0), (2, 3)), ValueError, ["out is read-only"]),
    (np.lib.stride_tricks.as_strided(np.zeros(3, np.float32), (2, 3), (0, 4)), ValueError,
     ["out", "stride 0"]),
]


@pytest.mark.parametrize("out, kind, words", OUTS, ids=lambda v: None)
def test_out_of_the_wrong_kind(elementwise, out, kind, words):
    with pytest.raises(kind) as caught:
        elementwise(X, out=out)
    assert all(w in str(caught.value) for w in words), str(caught.value)
    assert (np.asarray(out) == 0).all()


def test_out_of_logsumexp_has_exactly_the_shape_of_the_result():
    for keepdims, shape in (False, (2, 1)), (True, (2,)), (False, (3,)), (False, ()):
        with pytest.raises(ValueError, match="out"):
            smx.logsumexp(X, keepdims=keepdims, out=np.zeros(shape, np.float32))


@pytest.mark.parametrize("make, kind, word", [
    (lambda: smx.Mask.causal(0.5), TypeError, "offset"),
    (lambda: smx.Mask.causal(True), TypeError, "offset"),
    (lambda: smx.Mask.causal(np.uint64(2**63)), ValueError, "offset"),
    (lambda: smx.Mask.window(-2, 0), ValueError, "left"),
    (lambda: smx.Mask.window(0, [1, 2]), ValueError, "right"),
    (lambda: smx.Mask.lengths(None), TypeError, "keys"),
    (lambda: smx.Mask.lengths(1, "a"), TypeError, "queries"),
    (lambda: smx.Mask.segments(3), ValueError, "query_ids"),
    (lambda: smx.Mask.segments([1], 2), ValueError, "key_ids"),
    (lambda: smx.Mask.causal() & 3, TypeError, "&"),
    (lambda: smx.Mask.causal() & X, TypeError, "boolean"),
    (lambda: smx.Mask.segments([1, 2]).to_array(3, 2), ValueError, "query_ids"),
])
def test_mask_arguments(make, kind, word):
    with pytest.raises(kind, match=word):
        make()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("axis", lambda v: smx.softmax(X, v)),
        ("temperature", lambda v: smx.cross_entropy(X, [0, 1], temperature=v)),
        ("reduction", lambda v: smx.cross_entropy(X, [0, 1], reduction=v)),
        ("window", lambda v: smx.attention(X, X, X, window=v)),
        ("bins", lambda v: smx.calibration_error(X, [0, 1], bins=v)),
        ("left", lambda v: smx.Mask.window(v, 0)),
    ],
)
def test_long_values_are_not_printed_in_full(name, call):
    with pytest.raises((TypeError, ValueError), match=name) as caught:
        call(np.full(500, 0.125))
    assert len(str(caught.value)) < 200


def test_too_many_conditions():
    mask = smx.Mask()
    for _ in range(65):
        mask = mask & smx.Mask.causal()
    with pytest.raises(ValueError, match="64"):
        smx.softmax(X, mask=mask)


@pytest.mark.parametrize("n, kind", [(0, ValueError), (-1, ValueError), (10**30, ValueError),
                                     (1.5, TypeError), (None, TypeError)])
def test_number_of_threads(n, kind):
    before = smx.get_num_threads()
    with pytest.raises(kind):
        smx.set_num_threads(n)
    with pytest.raises(kind), smx.num_threads(n):
        pass
    assert smx.get_num_threads() == before


@pytest.mark.parametrize("name, value", [("SWIFTMAX_ISA", "v9"), ("SWIFTMAX_NUM_THREADS", "many")])
def test_environment(name, value):
    program = (
        "import numpy as np, swiftmax as smx\n"
        "for f in lambda: smx.softmax(np.zeros(3)), smx.show_config:\n"
        "    try: f()\n"
        f"    except RuntimeError as e: assert {name!r} in str(e) and {value!r} in str(e), e\n"
        "    else: raise SystemExit('no error')\n"
    )
    import os
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, name: value},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
