"""Few queries over many keys, as when a model decodes, with masks and biases.

Head sizes are whole vectors, so few queries have a way of their own (FewQueries.swift). Expected
are the same rows of a call with so many queries that they go the common way: CONTRACT, section 2.
Of mask arrays with blocks that hide or show everything: the definition, in float64, and the rule
that says the same.
"""

import numpy as np
import pytest
from reference import DTYPES, assert_same_bits, sample

import swiftmax as smx

FLAGS = {"return_lse": True, "return_weights": True}
HEADS, MANY, KEYS, SIZE = 2, 60, 330, 64
LOWEST = np.finfo(np.float32).min


def _tensors(dtype):
    return [sample((1, HEADS, n, SIZE), dtype, 71 + n, 1.0) for n in (MANY, KEYS, KEYS + 1)]


def _mask(kind):
    """(HEADS, MANY, KEYS)"""
    shown = np.random.default_rng(72).random((HEADS, MANY, KEYS)) < 0.7
    if kind == "padding":  # Whole blocks hidden, the first and a later one, and parts of others.
        shown[:] = True
        shown[:, :, :70] = False
        shown[:, :, 128:192] = False
        shown[:, :, -3:] = False
    elif kind == "some rows":  # A block that only later queries see, and rows that see nothing.
        shown[:, :8, 64:128] = False
        shown[0, 2] = False
        shown[1, 5:7, :256] = False
    elif kind == "causal":
        shown = np.tril(np.ones((HEADS, MANY, KEYS), bool), 200)
    elif kind == "everything shown":
        shown[:] = True
    elif kind == "one key":
        shown[:] = False
        shown[:, :, 299] = True
    return shown


def _bias(kind):
    bias = sample((HEADS, MANY, KEYS), np.float32, 73, 3.0)
    if kind == "lowest":
        bias[:, :, :70] = LOWEST
        bias[:, :3, 128:192] = -1e9
    elif kind == "large":
        bias[:, ::2, 200:] = 3e6
    elif kind == "infinite":
        bias[:, :, 64:150] = -np.inf
        bias[1, 1] = -np.inf
    elif kind == "odd":
        bias[0, 0, 5] = np.nan
        bias[1, 1, 100] = np.inf
    return bias


OPTIONS = {
    **{f"mask, {k}": {"mask": _mask(k)} for k in
       ("random", "padding", "some rows", "causal", "everything shown", "one key")},
    **{f"bias, {k}": {"bias": _bias(k)} for k in ("random", "lowest", "large", "infinite", "odd")},
    "mask and bias": {"mask": _mask("some rows"), "bias": _bias("random")},
    "mask and bias, lowest": {"mask": _mask("some rows"), "bias": _bias("lowest")},
    "one mask for all queries": {"mask": _mask("random")[:, :1]},
    "one flag for all keys": {"mask": _mask("random")[:, :, :1]},
    "every second flag": {"mask": np.repeat(_mask("some rows"), 2, -1)[:, :, ::2]},
    "one bias for all keys": {"bias": _bias("random")[:, :, :1]},
    "bias backwards": {"bias": np.copy(_bias("lowest")[:, :, ::-1])[:, :, ::-1]},
    "key lengths": {"key_lengths": [KEYS - 1]},
    "shorter key lengths": {"key_lengths": [KEYS - 20], "mask": _mask("padding")},
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_few_queries_are_rows_of_many(options, count, dtype):
    query, key, value = _tensors(dtype)
    value = value[:, :, 1:]
    if "bias" in options and dtype == np.float64:
        options = options | {"bias": options["bias"].astype(np.float64)}
    part = dict(options)
    for name in {"mask", "bias"} & set(options):
        if options[name].shape[1] == MANY:
            part[name] = options[name][:, :count]
    got = smx.attention(query[:, :, :count], key, value, **part, **FLAGS)
    expected = smx.attention(query, key, value, **options, **FLAGS)
    for name, x, y in zip(("out", "lse", "weights"), got, expected, strict=True):
        assert_same_bits(x, np.ascontiguousarray(y[:, :, :count]), name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("poison", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("count", [1, 8, MANY])
def test_what_a_mask_hides_may_be_anything(count, poison, dtype):
    query, key, value = _tensors(dtype)
    query, value = query[:, :, :count], value[:, :, 1:]
    mask = _mask("padding")[:, :count].copy()
    mask[:, :, 220] = False
    expected = smx.attention(query, key, value, mask=mask, **FLAGS)
    hidden = ~mask[0, 0]
    for x in (key, value):
        x[:, :, hidden] = poison
    got = smx.attention(query, key, value, mask=mask, **FLAGS)
    for name, x, y in zip(("out", "lse", "weights"), got, expected, strict=True):
        assert_same_bits(x, y, name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("column", [0, 63, 64, 127, 128, 191])
def test_one_number_of_a_hidden_value_may_be_anything(column, dtype):
    query, key, _ = _tensors(dtype)
    query, value = query[:, :, :1], sample((1, HEADS, KEYS, 3 * SIZE), dtype, 74, 1.0)
    mask = _mask("padding")[:, :1]
    expected = smx.attention(query, key, value, mask=mask)
    value[:, :, 65, column] = np.nan  # In a block that the mask hides a part of.
    assert_same_bits(smx.attention(query, key, value, mask=mask), expected, "out")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["padding", "some rows", "causal", "everything shown", "one key"])
@pytest.mark.parametrize("count", [1, 8, MANY])
def test_blocks_that_hide_or_show_everything(count, kind, dtype):
    """Weights by the definition, in float64."""
    query, key, value = _tensors(dtype)
    query, value = query[:, :, :count], value[:, :, 1:]
    mask = _mask(kind)[:, :count]
    out, weights = smx.attention(query, key, value, mask=mask, return_weights=True)
    q, k, v = (x.astype(np.float64)[0] for x in (query, key, value))
    scores = q @ k.swapaxes(1, 2) / np.sqrt(SIZE)
    most = np.max(scores, axis=-1, keepdims=True)
    terms = np.where(mask, np.exp(scores - most), 0)
    total = terms.sum(-1, keepdims=True)
    expected = np.divide(terms, total, out=np.zeros_like(terms), where=total > 0)
    bound = {"float64": 1e-13, "float32": 1e-5}.get(str(np.dtype(dtype)), 1e-2)
    assert np.all(weights[0][~mask] == 0)
    np.testing.assert_allclose(weights[0].astype(np.float64), expected, rtol=bound, atol=1e-9)
    np.testing.assert_allclose(out[0].astype(np.float64), expected @ v, rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
def test_gradients_of_an_array_are_those_of_the_rule(dtype):
    """A causal array hides whole blocks, which are left out, and shows whole ones."""
    query, key, value = _tensors(dtype)
    value = value[:, :, 1:]
    d_out = sample(query.shape, dtype, 75, 1.0)
    mask = np.tril(np.ones((MANY, KEYS), bool), 200)
    out, lse = smx.attention(query, key, value, mask=mask, return_lse=True)
    by_rule = {"causal": True, "query_offset": 200}
    ruled = smx.attention(query, key, value, return_lse=True, **by_rule)
    for x, y in zip((out, lse), ruled, strict=True):
        assert_same_bits(x, y, "forward")
    got = smx.attention_vjp(d_out, query, key, value, out, lse, mask=mask)
    expected = smx.attention_vjp(d_out, query, key, value, out, lse, **by_rule)
    for name, x, y in zip(("query", "key", "value"), got, expected, strict=False):
        assert_same_bits(x, y, f"gradient of {name}")
