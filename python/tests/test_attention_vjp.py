"""The gradient of attention: against a slow reference, finite differences and torch; its arguments.

The tolerance is derived in attention_vjp_reference.py.
"""

import inspect
from dataclasses import replace

import numpy as np
import pytest
from attention_calls import calls
from attention_reference import HAS_WIDER
from attention_vjp_reference import NAMES, Gradients, assert_gradients, gradients
from hypothesis import given
from reference import BF16, DTYPES, assert_same_bits, sample
from test_attention import EDGES, trials

import swiftmax as smx

INF, NAN = np.inf, np.nan


def in_one_piece(call):
    """Caches have no gradient."""
    return call if call.form in ("plain", "shared") else replace(call, form="plain", block=1)


some_calls = calls().map(in_one_piece)


def d_out_of(call, query, value, seed=0):
    shape = (*query.shape[:-1], value.shape[-1])
    return sample(shape, query.dtype, call.seed + seed, 1.0)


# -- random combinations -------------------------------------------------------------------------


@given(some_calls)
@trials(100)
def test_float32_within_its_tolerance(call):
    tensors, options = call.build()
    assert_gradients(d_out_of(call, *tensors[::2]), *tensors, repr(call), **options)


@pytest.mark.skipif(not HAS_WIDER, reason="np.longdouble is float64")
@given(some_calls)
@trials(25)
def test_float64_within_its_tolerance(call):
    tensors, options = call.build(np.float64)
    assert_gradients(d_out_of(call, *tensors[::2]), *tensors, repr(call), **options)


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@given(some_calls)
@trials(40)
def test_narrow_is_float32_rounded_once(dtype, call):
    tensors, options = call.build(dtype)
    d_out = d_out_of(call, *tensors[::2])
    out, lse = smx.attention(*tensors, **options, return_lse=True)
    wanted = {"return_d_bias": "bias" in options, "return_d_sinks": "sinks" in options}
    got = smx.attention_vjp(d_out, *tensors, out, lse, **options, **wanted)
    if "bias" in options:
        options["bias"] = options["bias"].astype(np.float32)
    wide = (x.astype(np.float32) for x in (d_out, *tensors, out))
    expected = smx.attention_vjp(*wide, lse, **options, **wanted)
    for i, (x, y) in enumerate(zip(got, expected, strict=True)):
        assert_same_bits(x, y.astype(dtype) if i < 3 else y, f"result {i}, {call}")


def hide(call, tensors, d_out, options):
    """NaN and inf in the keys of no query (by the call), and in queries that see no key."""
    out, lse = smx.attention(*tensors, **options, return_lse=True)
    options = {name: x for name, x in options.items() if name not in ("bias", "sinks")}
    blind = smx.attention(*tensors, **options, return_lse=True)[1] == -INF
    if call.layout == "BLHD" and call.rank > 2:
        blind = blind.swapaxes(-1, -2)
    query, d_out = tensors[0].copy(), d_out.copy()
    query[blind] = np.resize([NAN, INF, -INF], query[blind].shape)
    d_out[blind] = np.resize([INF, -INF, NAN], d_out[blind].shape)
    return (d_out, query, *tensors[1:], out, lse)


@given(some_calls)
@trials(100)
def test_what_is_not_seen_may_hold_anything(call):
    tensors, options = call.build()
    poisoned, _ = call.build(poison=True)
    d_out = d_out_of(call, *tensors[::2])
    wanted = {"return_d_bias": "bias" in options, "return_d_sinks": "sinks" in options}
    out, lse = smx.attention(*tensors, **options, return_lse=True)
    expected = smx.attention_vjp(d_out, *tensors, out, lse, **options, **wanted)
    got = smx.attention_vjp(*hide(call, poisoned, d_out, options), **options, **wanted)
    for i, (x, y) in enumerate(zip(got, expected, strict=True)):
        assert_same_bits(x, y, f"result {i}, {call}")


# -- edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lq", EDGES)
def test_lengths(lq):
    for lk in EDGES:
        query, key, value = (sample((n, 24), seed=lq * 1000 + lk + i, spread=1.5)
                             for i, n in enumerate((lq, lk, lk)))
        d_out = sample((lq, 24), seed=lk, spread=1.0)
        for causal in False, True:
            assert_gradients(d_out, query, key, value, f"Lq {lq}, Lk {lk}", causal=causal)


@pytest.mark.parametrize("dtype", DTYPES[2:], ids=str)
def test_head_sizes(dtype):
    if dtype == np.float64 and not HAS_WIDER:
        pytest.skip("np.longdouble is float64")
    sizes = [1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 80, 96, 128, 129, 256]
    for d, dv in zip(sizes, sizes[::-1], strict=True):
        query, key = sample((19, d), dtype, seed=d), sample((67, d), dtype, seed=d + 1)
        value, d_out = sample((67, dv), dtype, seed=dv + 2), sample((19, dv), dtype, seed=dv + 3)
        assert_gradients(d_out, query, key, value, f"D {d}, Dv {dv}", scale=0.3 / d)


def test_longer_rows_and_columns():
    for lq, lk in (3, 2500), (1100, 5), (500, 300):
        tensors = [sample((1, 2, n, 16), seed=lq + i, spread=1.0)
                   for i, n in enumerate((lq, lk, lk))]
        d_out = sample(tensors[0].shape, seed=lk, spread=1.0)
        assert_gradients(d_out, *tensors, f"Lq {lq}, Lk {lk}", causal=lk > lq)


# -- against the library's own float64 results, and others ---------------------------------------

_LQ, _LK = 5, 7
_IDS = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1, 1])
DIFFERENCES = {
    "plain": {},
    "scale": {"scale": -0.7},
    "causal": {"causal": True, "query_offset": [1, -2]},
    "window": {"window": (2, 1)},
    "lengths": {"key_lengths": [7, 3], "query_lengths": [[5, 4], [3, 0]]},
    "segments": {"segment_ids": _IDS},
    "mask": {"mask": np.random.default_rng(5).random((2, 1, _LQ, _LK)) < 0.6},
    "bias": {"bias": sample((2, 2, _LQ, _LK), np.float64, 6, 1.0)},
    "bias of heads": {"bias": sample((2, 1, 1), np.float64, 7, 1.0)},
    "bias of keys": {"bias": sample((2, 1, 1, _LK), np.float64, 8, 1.0)},
    "bias of queries": {"bias": sample((_LQ, 1), np.float64, 9, 1.0)},
    "alibi": {"alibi_slopes": np.array([[0.3, 0.1], [0.0, 1.0]])},
    "softcap": {"softcap": 1.5},
    "sinks": {"sinks": np.array([0.5, -1.0])},
    "all": {"softcap": 2.0, "sinks": np.array([0.5, 1.0]), "alibi_slopes": np.array([0.3, 0.1]),
            "bias": sample((2, _LQ, _LK), np.float64, 10, 1.0), "causal": True, "window": (4, 0),
            "key_lengths": 6, "mask": np.random.default_rng(11).random((_LQ, _LK)) < 0.9},
}


@pytest.mark.parametrize("shared", [False, True], ids=["", "shared keys"])
@pytest.mark.parametrize("options", DIFFERENCES.values(), ids=DIFFERENCES)
def test_central_differences(options, shared):
    """The sum of d_out · out, each argument moved by h: the error is of order h² and 2^-53 / h."""
    batch = 1 if shared else 2
    arguments = {
        "query": sample((2, 2, _LQ, 3), np.float64, 1, 1.0),
        "key": sample((batch, 1, _LK, 3), np.float64, 2, 1.0),
        "value": sample((batch, 1, _LK, 4), np.float64, 3, 1.0),
        **{name: x for name, x in options.items() if name in ("bias", "sinks")},
    }
    options = {name: x for name, x in options.items() if name not in arguments}
    d_out = sample((2, 2, _LQ, 4), np.float64, 4, 1.0)
    found = gradients(d_out, arguments["query"], arguments["key"], arguments["value"], **options,
                      **{name: x for name, x in arguments.items() if name in ("bias", "sinks")})
    h = 2.0**-17
    for name, x in arguments.items():
        got, moved = getattr(found, name), {**arguments, name: x.copy()}
        assert got.shape == x.shape
        for at in np.ndindex(x.shape):
            ends = []
            for step in h, -h:
                moved[name][at] = x[at] + step
                ends.append((d_out * smx.attention(**moved, **options)).sum())
            moved[name][at] = x[at]
            difference = (ends[0] - ends[1]) / (2 * h)
            assert abs(got[at] - difference) < 2e-9, (name, at, got[at], difference)


@pytest.mark.parametrize("causal", [False, True], ids=["", "causal"])
@pytest.mark.parametrize("dtype", DTYPES[2:], ids=str)
def test_against_torch(dtype, causal):
    torch = pytest.importorskip("torch")
    case = [sample((2, 6, 100, 40), dtype, i, 1.0) for i in range(3)]
    d_out = sample((2, 6, 100, 40), dtype, 4, 1.0)
    leaves = [torch.tensor(x, requires_grad=True) for x in case]
    torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal).backward(
        torch.tensor(d_out))
    got = gradients(d_out, *case, causal=causal)
    for name, x, leaf in zip(NAMES, got, leaves, strict=False):
        near = 1e-5 if dtype == np.float32 else 1e-13
        np.testing.assert_allclose(x, leaf.grad.numpy(), rtol=near, atol=near, err_msg=name)


def test_a_textbook_example():
    # Weights 1/4 and 3/4; of the score, w (dO·v - dO·out) = 1/4 · (0 - 3/4) and 3/4 · (1 - 3/4).
    key, value = np.array([[0.0], [np.log(3)]]), np.array([[0.0], [1.0]])
    found = gradients(np.array([[1.0]]), np.array([[1.0]]), key, value)
    np.testing.assert_allclose(found.value, [[0.25], [0.75]], rtol=1e-15)
    np.testing.assert_allclose(found.key, [[-3 / 16], [3 / 16]], rtol=1e-15)
    np.testing.assert_allclose(found.query, [[3 / 16 * np.log(3)]], rtol=1e-15)


# -- arguments -----------------------------------------------------------------------------------


def test_signature_and_docstring():
    for section in "Parameters", "Returns", "Raises", "Notes", "Examples":
        underlined = f"{section}\n{'-' * len(section)}\n"
        assert underlined in inspect.getdoc(smx.attention_vjp), section
    assert list(inspect.signature(smx.attention_vjp).parameters)[:6] == [
        "d_out", "query", "key", "value", "out", "lse"]
    of_attention = inspect.signature(smx.attention).parameters
    for name, parameter in inspect.signature(smx.attention_vjp).parameters.items():
        assert f"\n{name} : " in inspect.getdoc(smx.attention_vjp), name
        if name in of_attention and name not in ("out",):
            assert parameter == of_attention[name], name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_and_number_of_results(dtype):
    case = [sample((2, 4, 5, 8), dtype, i, 1.0) for i in range(4)]
    wide = np.float64 if dtype == np.float64 else np.float32
    extra = {"bias": sample((5, 5), dtype, 5), "sinks": sample(4, wide, 6)}
    out, lse = smx.attention(*case[1:], **extra, return_lse=True)
    flags = "return_d_bias", "return_d_sinks"
    whole = smx.attention_vjp(*case, out, lse, **extra, **dict.fromkeys(flags, True))
    assert [x.dtype for x in whole] == [dtype] * 3 + [wide] * 2
    assert [x.shape for x in whole] == [(2, 4, 5, 8)] * 3 + [(5, 5), (4,)]
    assert all(x.flags.c_contiguous and x.flags.owndata for x in whole)
    for chosen, places in ((), []), (flags[:1], [3]), (flags[1:], [4]):
        got = smx.attention_vjp(*case, out, lse, **extra, **dict.fromkeys(chosen, True))
        assert isinstance(got, tuple)
        for x, i in zip(got, [0, 1, 2, *places], strict=True):
            assert_same_bits(x, whole[i], NAMES[i])


def test_array_likes():
    # Integers become float64; lse and sinks are cast.
    query, key, value = [[1, 2]], [[1, 0], [0, 1]], [[1, 2, 3], [4, 5, 6]]
    out, lse = smx.attention(query, key, value, return_lse=True)
    found = smx.attention_vjp([[1, 0, -1]], query, key, value, out.tolist(), lse.tolist())
    arrays = [np.array(x, float) for x in ([[1, 0, -1]], query, key, value)]
    for x, y in zip(found, smx.attention_vjp(*arrays, out, lse), strict=True):
        assert x.dtype == np.float64
        assert_same_bits(x, y)
    swapped = [x.astype(">f8") for x in (*arrays, out, lse)]
    assert_same_bits(smx.attention_vjp(*swapped)[0], found[0])


def test_out_and_lse_may_repeat_and_be_anything_else():
    # They are inputs here: neither their strides nor what they overlap matters.
    x = np.ones((3, 4), np.float32)
    out, lse = smx.attention(x, x, x, return_lse=True)
    expected = smx.attention_vjp(x, x, x, x, out, lse)
    rows = np.broadcast_to(out[:1], out.shape), np.broadcast_to(lse[:1], lse.shape)
    for got in smx.attention_vjp(x, x, x, x, *rows), smx.attention_vjp(x, x, x, x, x, lse):
        for a, b in zip(got, expected, strict=True):
            assert_same_bits(a, b)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


GOOD = {"d_out": zeros(2, 4, 3, 6), "query": zeros(2, 4, 3, 8), "key": zeros(2, 2, 5, 8),
        "value": zeros(2, 2, 5, 6), "out": zeros(2, 4, 3, 6), "lse": zeros(2, 4, 3)}
ERRORS = [
    ({"d_out": zeros(2, 4, 3, 7)}, ValueError, ["d_out", "(2, 4, 3, 7)", "out", "(2, 4, 3, 6)"]),
    ({"d_out": zeros(4, 3, 6)}, ValueError, ["d_out", "(4, 3, 6)", "out"]),
    ({"d_out": GOOD["d_out"].astype(float)}, TypeError, ["d_out", "float64", "float32"]),
    ({"d_out": None}, TypeError, ["d_out", "object"]),
    ({"out": zeros(2, 4, 3, 5)}, ValueError, ["out", "(2, 4, 3, 5)", "(2, 4, 3, 6)"]),
    ({"out": GOOD["out"].astype(BF16)}, TypeError, ["out", "bfloat16", "float32"]),
    ({"out": None}, TypeError, ["out", "object"]),
    ({"lse": zeros(2, 3, 4)}, ValueError, ["lse", "(2, 3, 4)", "(2, 4, 3, 5)"]),
    ({"lse": zeros(2, 4, 3, 1)}, ValueError, ["lse", "(2, 4, 3, 1)"]),
    ({"lse": None}, TypeError, ["lse", "object"]),
    ({"lse": zeros(2, 4, 3, dtype=complex)}, TypeError, ["lse", "complex128"]),
    ({"query": zeros(2, 3, 3, 8)}, ValueError, ["query", "multiple", "key", "(2, 3, 3, 8)"]),
    ({"key": zeros(2, 2, 5, 7)}, ValueError, ["key", "(2, 2, 5, 7)", "query"]),
    ({"value": zeros(2, 2, 4, 6)}, ValueError, ["value", "(2, 2, 4, 6)", "key"]),
    ({"query": zeros(8)}, ValueError, ["query", "(8,)"]),
    ({"key": zeros(2, 5, 8)}, ValueError, ["key", "(2, 5, 8)", "query"]),
    ({"bias": zeros(3, 4)}, ValueError, ["bias", "(3, 4)", "(2, 4, 3, 5)"]),
    ({"mask": zeros(3, 5)}, TypeError, ["mask", "float32"]),
    ({"mask": smx.Mask.lengths(6)}, ValueError, ["lengths", "6"]),
    ({"sinks": zeros(3)}, ValueError, ["sinks", "(3,)"]),
    ({"alibi_slopes": zeros(3)}, ValueError, ["alibi_slopes", "(3,)"]),
    ({"scale": NAN}, ValueError, ["scale"]),
    ({"softcap": -1.0}, ValueError, ["softcap"]),
    ({"layout": "BHDL"}, ValueError, ["layout", "BHDL"]),
    ({"return_d_bias": True}, ValueError, ["return_d_bias", "no bias"]),
    ({"return_d_sinks": True}, ValueError, ["return_d_sinks", "no sinks"]),
    ({"past_key": zeros(2, 2, 7, 8)}, TypeError, ["past_key"]),
]


@pytest.mark.parametrize("keywords, kind, words", ERRORS, ids=lambda x: "+".join(x)
                         if isinstance(x, dict) else "")
def test_error(keywords, kind, words):
    smx.attention_vjp(**GOOD)
    with pytest.raises(kind) as caught:
        smx.attention_vjp(**{**GOOD, **keywords})
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))


def test_unused_results_are_none():
    assert gradients(*(zeros(2, 3) for _ in range(4)))[3:] == Gradients(*[None] * 5)[3:]
