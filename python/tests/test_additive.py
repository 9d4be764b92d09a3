"""additive_attention: against its reference over random calls, by hand, its tanh, its errors."""

import inspect

import mpmath
import numpy as np
import pytest
from additive_reference import FLAGS, assert_additive
from attention_calls import LENGTHS, MASKS, Call
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import DTYPES, WIDE, assert_same_bits, sample

import swiftmax as smx

# Stands in swiftmax_attention.h, in Tanh.swift and in the docstring.
TANH_ULP = 2
# 1.733 and 1.725 ulp, the most of all float32; 1.770 of the float64 tried.
WORST = ["0x1.fab29p-5", "0x1.002318p-4", "0x1.fe6240c23f2d6p-6"]


# -- random calls ----------------------------------------------------------------------------


@st.composite
def additive_calls(draw):
    """A call of attention's tests with a width and the choice of parameters for each head."""
    rank = draw(st.sampled_from([4, 4, 4, 3, 2]))
    many = rank > 2
    masks = draw(st.sets(st.sampled_from([*MASKS, "bias"]), max_size=3))
    call = Call(
        seed=draw(st.integers(0, 2**16)),
        batch=draw(st.integers(1, 3)) if rank == 4 else 1,
        key_heads=draw(st.integers(1, 3)) if many else 1,
        group=draw(st.integers(1, 3)) if many else 1,
        lq=draw(LENGTHS | st.integers(0, 60)), lk=draw(LENGTHS | st.integers(0, 140)),
        head_size=draw(st.integers(1, 40) | st.sampled_from([64, 65, 100])),
        value_size=draw(st.integers(1, 40)), rank=rank,
        layout=draw(st.sampled_from(["BHLD", "BLHD"])) if many else "BHLD",
        form=draw(st.sampled_from(["plain", "shared"])) if rank == 4 else "plain",
        spread=draw(st.sampled_from([0.1, 1.0, 5.0])), options=tuple(sorted(masks)),
    )
    key_size = draw(st.integers(0, call.head_size))
    width = draw(st.integers(0, 20) | st.sampled_from([33, 48, 65]))
    per_head = tuple(draw(st.booleans()) for _ in range(3))
    return call, key_size, width, per_head


def operands(call, key_size, width, per_head, dtype, poison=False):
    (query, key, value), options = call.build(dtype, poison)
    rng = np.random.default_rng(call.seed + 1)
    heads = call.key_heads * call.group
    own = [(n,) if is_own else () for n, is_own in zip((heads, call.key_heads, heads), per_head,
                                                       strict=True)]
    w_query = rng.standard_normal((*own[0], width, call.head_size)) / np.sqrt(call.head_size)
    w_key = rng.standard_normal((*own[1], width, key_size)) / np.sqrt(max(key_size, 1))
    v = rng.standard_normal((*own[2], width)) * 3 / np.sqrt(max(width, 1))
    parameters = [x.astype(dtype) for x in (w_query, w_key, v)]
    return [query, key[..., :key_size], value, *parameters], options


@settings(max_examples=120, deadline=None)
@given(additive_calls(), st.sampled_from(DTYPES), st.sampled_from([1, 2, 5]))
def test_against_the_reference(case, dtype, threads):
    tensors, options = operands(*case, dtype)
    with smx.num_threads(threads):
        assert_additive(*tensors, **options, context=str(case))


@settings(max_examples=60, deadline=None)
@given(additive_calls(), st.sampled_from(WIDE))
def test_nothing_hidden_shows(case, dtype):
    """NaN and infinities in keys and values that no query sees."""
    clean, options = operands(*case, dtype)
    poisoned, _ = operands(*case, dtype, poison=True)
    for got, expected in zip(smx.additive_attention(*poisoned, **options, **FLAGS),
                             smx.additive_attention(*clean, **options, **FLAGS), strict=True):
        assert_same_bits(got, expected, str(case))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lk", [1500, 2600])
def test_long_rows(lk, dtype):
    """More than one span of keys, merged; with few queries the spans are shared among threads."""
    call = Call(seed=lk, batch=1, key_heads=1, group=1, lq=3, lk=lk, head_size=9, value_size=70)
    tensors, options = operands(call, 7, 12, (False,) * 3, dtype)
    with smx.num_threads(1):
        alone = assert_additive(*tensors, **options)
    with smx.num_threads(4):
        for got, expected in zip(smx.additive_attention(*tensors, **FLAGS), alone, strict=True):
            assert_same_bits(got, expected)
        assert_same_bits(smx.additive_attention(*tensors), alone[0])


# -- by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_step_of_a_decoder_by_hand(dtype):
    """Bahdanau, Cho and Bengio (2015), appendix A.1.2: e_ij = v·tanh(W s_(i-1) + U h_j).

    Numbers of ours, such that the hyperbolic tangents are known: tanh(log(3) / 2) = 1/2. The three
    states give e = 1/2, 0, -1; exp(e) = 1.648721, 1, 0.367879, of sum 3.016600.
    """
    half = np.log(3) / 2
    state = np.array([[0.25, 0.5]], dtype)
    # W s = (1/4, -1/4), U h = h less that.
    w, u = np.array([[1, 0], [0, -0.5]], dtype), np.eye(2, dtype=dtype)
    encoder = np.array([[half - 0.25, 0.25], [-0.25, 0.25], [-half - 0.25, -half + 0.25]], dtype)
    value = np.array([[1], [2], [3]], dtype)
    out, lse, weights = smx.additive_attention(
        state, encoder, value, w, u, np.ones(2, dtype), **FLAGS)
    near = {2: 4e-3, 4: 1e-6, 8: 1e-6}[np.dtype(dtype).itemsize]
    if dtype == DTYPES[1]:
        near = 2e-2
    np.testing.assert_allclose(weights.astype(float), [[0.546550, 0.331499, 0.121951]], atol=near)
    np.testing.assert_allclose(out.astype(float), [[1.575401]], atol=4 * near)
    np.testing.assert_allclose(lse.astype(float), np.log([3.016600]), atol=2 * near)


# -- tanh ------------------------------------------------------------------------------------


def tanh_of(x):
    """The library's tanh, exactly: one key 0, whose score, times a power of two, is beyond 2^20.

    Such a row is counted from its largest score (docs/attention.md), so that lse is the score
    itself. Its value lies within 2^126 (2^1022).
    """
    power = 100 if x.dtype == np.float32 else 900
    one = np.ones((1, 1), x.dtype)
    _, lse = smx.additive_attention(
        x[:, None], 0 * one, one, one, one, np.array([2.0**power], x.dtype), return_lse=True)
    return np.ldexp(lse, -power)


def assert_tanh(x, near=TANH_ULP):
    context = mpmath.MPContext()
    context.prec = 200
    got = tanh_of(x)
    for a, b in zip(x.tolist(), got.tolist(), strict=True):
        exact = context.tanh(context.mpf(a))
        one = context.mpf(float(np.spacing(x.dtype.type(abs(float(exact))))))
        error = float(abs(context.mpf(b) - exact) / one)
        assert error <= near, f"tanh({a.hex()}) is {b.hex()}, {error} ulp off"
    assert_same_bits(tanh_of(-x), -got)


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_tanh_over_all_binades(dtype):
    rng = np.random.default_rng(6)
    x = np.ldexp(rng.uniform(1, 2, 3000), rng.integers(-40, 6, 3000)).astype(dtype)
    assert_tanh(np.concatenate([x, np.ldexp(1.0, np.arange(-40, 7)).astype(dtype)]))


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_tanh_where_its_error_is_largest(dtype):
    rng = np.random.default_rng(7)
    edges = np.arange(1, 60) * np.log(2) / 4  # where n of Tanh.swift changes
    x = [edges * (1 + rng.uniform(-1e-3, 1e-3, (10, 59))), rng.uniform(0.06, 0.063, 1500),
         rng.uniform(0.17, 0.26, 1500), rng.uniform(0.031, 0.032, 500)]
    x += [np.array([float.fromhex(h) for h in WORST])]
    assert_tanh(np.concatenate([a.ravel() for a in x]).astype(dtype))


def test_the_largest_error_of_tanh_is_where_it_is_said_to_be():
    with pytest.raises(AssertionError, match="ulp off"):
        assert_tanh(np.array([float.fromhex(WORST[0])], np.float32), near=1.73)


def test_tanh_rises():
    x = np.arange(0x3E000000, 0x3E000000 + 200_000, dtype=np.uint32).view(np.float32)
    assert (np.diff(tanh_of(x)) >= 0).all()
    x = np.float32([8.5, 9.0, 9.5, 20, 1e10, 3e38, np.inf])
    assert (tanh_of(x)[2:] == 1).all() and (np.diff(tanh_of(x)) >= 0).all()


# -- errors ----------------------------------------------------------------------------------


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


GOOD = {"query": zeros(2, 4, 3, 6), "key": zeros(2, 2, 5, 8), "value": zeros(2, 2, 5, 7),
        "w_query": zeros(9, 6), "w_key": zeros(9, 8), "v": zeros(9)}
CASES = [
    ({"w_query": zeros(9, 7)}, ValueError, ["w_query", "(9, 7)", "query", "(2, 4, 3, 6)"]),
    ({"w_query": zeros(3, 9, 6)}, ValueError, ["w_query", "(3, 9, 6)", "(2, 4, 3, 6)"]),
    ({"w_query": zeros(6)}, ValueError, ["w_query", "(6,)", "(Hq, A, Dq)"]),
    ({"w_key": zeros(9, 6)}, ValueError, ["w_key", "(9, 6)", "key", "(2, 2, 5, 8)"]),
    ({"w_key": zeros(4, 9, 8)}, ValueError, ["w_key", "(4, 9, 8)", "(2, 2, 5, 8)"]),
    ({"w_key": zeros(8, 8)}, ValueError, ["w_key", "(8, 8)", "w_query", "(9, 6)"]),
    ({"v": zeros(8)}, ValueError, ["v of shape (8,)", "w_query", "(9, 6)"]),
    ({"v": zeros(2, 9)}, ValueError, ["v of shape (2, 9)", "query", "(2, 4, 3, 6)"]),
    ({"v": np.float32(1)}, ValueError, ["v of shape ()", "w_query"]),
    ({"v": zeros(9, dtype=np.float64)}, TypeError, ["v has dtype float64", "float32"]),
    ({"w_key": zeros(9, 8, dtype=np.float16)}, TypeError, ["w_key", "float16", "float32"]),
    ({"w_query": None}, TypeError, ["w_query", "object"]),
    ({"key": zeros(2, 3, 5, 8), "value": zeros(2, 3, 5, 7)}, ValueError,
     ["query", "key", "(2, 3, 5, 8)"]),
    ({"value": zeros(2, 2, 4, 7)}, ValueError, ["value", "key", "(2, 2, 4, 7)"]),
    ({"key": zeros(5, 8)}, ValueError, ["key", "(5, 8)", "(2, 4, 3, 6)"]),
    ({"query": zeros(6)}, ValueError, ["query", "(6,)"]),
    ({"mask": zeros(3, 4, dtype=bool)}, ValueError, ["mask", "(3, 4)", "(2, 4, 3, 5)"]),
    ({"bias": zeros(3, 6)}, ValueError, ["bias", "(3, 6)", "(2, 4, 3, 5)"]),
    ({"key_lengths": 6}, ValueError, ["key_lengths", "6"]),
    ({"layout": "HLBD"}, ValueError, ["layout"]),
    ({"window": 3}, TypeError, ["window"]),
    ({"return_lse": np.zeros(2)}, ValueError, []),
]


@pytest.mark.parametrize("change, kind, words", CASES, ids=lambda x: None)
def test_errors(change, kind, words):
    out = np.full((2, 4, 3, 7), 5, np.float32)
    with pytest.raises(kind) as raised:
        smx.additive_attention(**{**GOOD, "out": out, **change})
    for word in words:
        assert word in str(raised.value), (word, str(raised.value))
    assert (out == 5).all()


def test_what_attention_has_and_this_has_not():
    """Nothing is silently ignored: there is no argument that would mean nothing."""
    for name in ("scale", "softcap", "sinks", "alibi_slopes", "past_key", "block_table",
                 "precision"):
        with pytest.raises(TypeError, match=name):
            smx.additive_attention(**GOOD, **{name: None})


def test_out():
    tensors = [sample(x.shape, seed=i, spread=1.0) for i, x in enumerate(GOOD.values())]
    expected = smx.additive_attention(*tensors)
    out = np.zeros((2, 4, 3, 14), np.float32)[..., ::2]
    assert smx.additive_attention(*tensors, out=out) is out
    assert_same_bits(out, expected)
    for wrong in np.zeros((2, 4, 3, 6), np.float32), np.zeros((2, 4, 3, 7)), [1.0]:
        with pytest.raises((ValueError, TypeError), match="out"):
            smx.additive_attention(*tensors, out=wrong)
    # The values themselves, and the parameters, where shapes allow.
    square = [sample((7, 7), seed=i, spread=1.0) for i in range(5)] + [sample(7, seed=9)]
    expected = smx.additive_attention(*square)
    for i in range(5):
        given = [x.copy() for x in square]
        assert_same_bits(smx.additive_attention(*given, out=given[i]), expected, f"operand {i}")


def test_array_likes():
    got = smx.additive_attention([[1, 2]], [[3], [4]], [[1], [0]], [[1, 0]], [[1]], [1])
    assert got.dtype == np.float64
    w = np.exp(np.tanh([4, 5]))
    np.testing.assert_allclose(got, [[w[0] / w.sum()]], rtol=1e-15)


def test_signature_and_docstring():
    named = inspect.signature(smx.additive_attention).parameters
    text = inspect.getdoc(smx.additive_attention)
    for name in named:
        assert f"\n{name} : " in text, name
    for section in "Parameters", "Returns", "Raises", "Notes", "Examples":
        assert f"{section}\n{'-' * len(section)}\n" in text, section
