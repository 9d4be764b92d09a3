"""Every error of attention names its argument and what disagrees, and leaves out as it was."""

import numpy as np
import pytest
from reference import assert_same_bits

import swiftmax as smx

INF, NAN = np.inf, np.nan


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


QUERY, KEY, VALUE = zeros(2, 4, 3, 8), zeros(2, 2, 5, 8), zeros(2, 2, 5, 6)
OF_QUERY, OF_KEY, OF_VALUE, SCORES = "(2, 4, 3, 8)", "(2, 2, 5, 8)", "(2, 2, 5, 6)", "(2, 4, 3, 5)"
PAST = {"past_key": zeros(2, 2, 7, 8), "past_value": zeros(2, 2, 7, 6)}
# A pool of 4 blocks of 5 keys; the tables have two blocks for each entry.
POOL = {"key": zeros(4, 2, 5, 8), "value": zeros(4, 2, 5, 6)}
TABLE = np.array([[0, 1], [3, 2]], np.int32)
MASKED = np.ma.masked_array(QUERY, QUERY > 0)
EITHER = (ValueError, TypeError)

# keywords, exception, words that the sentence must have; "a|b" is one of both
CASES = [
    # query, key and value against one another
    ({"key": zeros(2, 2, 5, 7)}, ValueError, ["query", "key", OF_QUERY, "(2, 2, 5, 7)"]),
    ({"query": zeros(2, 3, 3, 8)}, ValueError, ["query", "key", "(2, 3, 3, 8)", OF_KEY]),
    ({"query": zeros(2, 1, 3, 8)}, ValueError, ["query", "key", "(2, 1, 3, 8)", OF_KEY]),
    ({"key": zeros(2, 0, 5, 8), "value": zeros(2, 0, 5, 6)}, ValueError, ["key", "(2, 0, 5, 8)"]),
    ({"value": zeros(2, 4, 5, 6)}, ValueError, ["key", "value", OF_KEY, "(2, 4, 5, 6)"]),
    ({"value": zeros(2, 2, 4, 6)}, ValueError, ["key", "value", OF_KEY, "(2, 2, 4, 6)"]),
    ({"key": zeros(3, 2, 5, 8)}, ValueError, ["key", OF_QUERY + "|" + OF_VALUE, "(3, 2, 5, 8)"]),
    ({"value": zeros(3, 2, 5, 6)}, ValueError, ["value", OF_QUERY + "|" + OF_KEY, "(3, 2, 5, 6)"]),
    ({"query": zeros(1, 4, 3, 8)}, ValueError, ["query", "key", "(1, 4, 3, 8)", OF_KEY]),
    ({"key": zeros(2, 5, 8)}, ValueError, ["key", "(2, 5, 8)", OF_QUERY]),
    ({"value": zeros(5, 6)}, ValueError, ["value", "(5, 6)", OF_QUERY + "|" + OF_KEY]),
    ({"query": zeros(8), "key": zeros(8), "value": zeros(8)}, ValueError, ["query", "(8,)"]),
    ({"query": zeros(1, 2, 4, 3, 8), "key": zeros(1, 2, 2, 5, 8), "value": zeros(1, 2, 2, 5, 6)},
     ValueError, ["query", "(1, 2, 4, 3, 8)"]),
    ({"layout": "BLHD"}, ValueError, ["query", "key", OF_QUERY, OF_KEY]),
    # kinds
    ({"key": KEY.astype(float)}, TypeError, ["key", "float64", "float32"]),
    ({"value": VALUE.astype(np.float16)}, TypeError, ["value", "float16", "float32"]),
    ({"query": QUERY.astype(complex)}, TypeError, ["query", "complex128"]),
    ({"key": KEY.astype(object)}, TypeError, ["key", "object"]),
    ({"value": None}, TypeError, ["value", "object"]),
    ({"key": [[1, 2], [3]]}, ValueError, ["key is not an array"]),
    ({"query": MASKED}, TypeError, ["query is a masked array"]),
    ({"colour": 1}, TypeError, ["colour"]),
    # masks and bias
    ({"mask": zeros(2, 4, 3, 6, dtype=bool)}, ValueError, ["mask", "(2, 4, 3, 6)", SCORES]),
    ({"mask": zeros(4, 5, dtype=bool)}, ValueError, ["mask", "(4, 5)", SCORES]),
    ({"mask": zeros(1, 2, 4, 3, 5, dtype=bool)}, ValueError, ["mask", "(1, 2, 4, 3, 5)", SCORES]),
    ({"mask": zeros(3, 5)}, TypeError, ["mask", "float32", "bias="]),
    ({"mask": "causal"}, TypeError, ["mask", "<U6"]),
    ({"mask": smx.Mask.lengths(6)}, ValueError, ["lengths", "6", "5 keys"]),
    ({"mask": smx.Mask.causal([1, 2, 3])}, ValueError, ["offset", "(3,)", SCORES]),
    ({"bias": zeros(3, 4)}, ValueError, ["bias", "(3, 4)", SCORES]),
    ({"bias": zeros(3, 2, 4, 3, 5)}, ValueError, ["bias", "(3, 2, 4, 3, 5)", SCORES]),
    ({"bias": zeros(3, 5, dtype=bool)}, TypeError, ["bias", "bool", "mask="]),
    ({"bias": zeros(3, 5, dtype=complex)}, TypeError, ["bias", "complex128"]),
    ({"query_offset": [1, 2, 3]}, ValueError, ["query_offset", "(3,)", SCORES]),
    ({"query_offset": 0.5, "causal": True}, TypeError, ["query_offset", "0.5"]),
    ({"window": (-2, 0)}, ValueError, ["window", "-2"]),
    ({"window": (0, -7)}, ValueError, ["window", "-7"]),
    ({"window": (1, 2, 3)}, EITHER, ["window"]),
    ({"window": (1, 0.5)}, EITHER, ["window"]),
    ({"key_lengths": 6}, ValueError, ["key_lengths", "6", "5"]),
    ({"key_lengths": [5, -1]}, ValueError, ["key_lengths", "-1", "5"]),
    ({"key_lengths": [1, 2, 3]}, ValueError, ["key_lengths", "(3,)", SCORES]),
    ({"key_lengths": 2.0}, TypeError, ["key_lengths", "2.0"]),
    ({"query_lengths": [4, 0]}, ValueError, ["query_lengths", "4", "3"]),
    ({"query_lengths": [[1, 2]]}, ValueError, ["query_lengths", "(1, 2)", SCORES]),
    ({"segment_ids": np.arange(3)}, ValueError, ["segment_ids", "(3,)", SCORES]),
    ({"segment_ids": (np.arange(3), np.arange(4))}, ValueError, ["segment_ids", "(4,)", SCORES]),
    ({"segment_ids": (zeros(3), zeros(5))}, TypeError, ["segment_ids"]),
    # numbers
    ({"alibi_slopes": zeros(2)}, ValueError, ["alibi_slopes", "(2,)", OF_QUERY + "|" + SCORES]),
    ({"alibi_slopes": zeros(3, 4)}, ValueError,
     ["alibi_slopes", "(3, 4)", OF_QUERY + "|" + SCORES]),
    ({"alibi_slopes": ["a"] * 4}, TypeError, ["alibi_slopes", "<U1"]),
    ({"sinks": zeros(2)}, ValueError, ["sinks", "(2,)", OF_QUERY + "|" + SCORES]),
    ({"sinks": zeros(2, 4)}, ValueError, ["sinks", "(2, 4)", OF_QUERY + "|" + SCORES]),
    ({"sinks": zeros(4, dtype=complex)}, TypeError, ["sinks", "complex128"]),
    ({"scale": NAN}, ValueError, ["scale"]),
    ({"scale": -INF}, ValueError, ["scale"]),
    ({"scale": "large"}, TypeError, ["scale"]),
    ({"softcap": -1.0}, ValueError, ["softcap"]),
    ({"softcap": INF}, ValueError, ["softcap"]),
    ({"softcap": NAN}, ValueError, ["softcap"]),
    ({"layout": "BHDL"}, ValueError, ["layout", "BHDL"]),
    ({"layout": 0}, EITHER, ["layout", "0"]),
    ({"precision": "best"}, ValueError, ["precision", "best"]),
    # caches
    ({"past_key": PAST["past_key"]}, EITHER, ["past_key", "past_value"]),
    ({"past_value": PAST["past_value"]}, EITHER, ["past_key", "past_value"]),
    ({**PAST, "past_value": zeros(2, 2, 6, 6)}, ValueError,
     ["past_value", "(2, 2, 6, 6)", "(2, 2, 7, 8)"]),
    ({**PAST, "past_key": zeros(2, 2, 7, 9)}, ValueError,
     ["past_key", "(2, 2, 7, 9)", OF_KEY + "|" + OF_QUERY]),
    ({**PAST, "past_value": zeros(2, 2, 7, 5)}, ValueError,
     ["past_value", "(2, 2, 7, 5)", OF_VALUE]),
    ({**PAST, "past_key": zeros(2, 4, 7, 8), "past_value": zeros(2, 4, 7, 6)}, ValueError,
     ["past_key", "(2, 4, 7, 8)", OF_KEY]),
    ({**PAST, "past_key": PAST["past_key"].astype(float)}, TypeError,
     ["past_key", "float64", "float32"]),
    ({**PAST, "mask": zeros(3, 5, dtype=bool)}, ValueError, ["mask", "(3, 5)", "(2, 4, 3, 12)"]),
    ({**PAST, "key_lengths": 13}, ValueError, ["key_lengths", "13", "12"]),
    ({**POOL, "block_table": np.array([[0, 1], [4, 2]], np.int32)}, ValueError,
     ["block_table", "4"]),
    ({**POOL, "block_table": np.array([[0, -1], [3, 2]], np.int32)}, ValueError,
     ["block_table", "-1"]),
    ({**POOL, "block_table": [[0, 1], [2**40, 2]]}, ValueError,
     ["block_table[1, 0] is 1099511627776"]),
    ({**POOL, "block_table": np.array([[0, 1], [3, 9]], np.int32), "key_lengths": [5, 6]},
     ValueError, ["block_table", "9"]),
    ({**POOL, "block_table": TABLE, "key_lengths": 11}, ValueError, ["key_lengths", "11", "10"]),
    ({**POOL, "block_table": TABLE[:1]}, ValueError, ["block_table", "(1, 2)", OF_QUERY]),
    ({**POOL, "block_table": TABLE[0]}, ValueError, ["block_table", "(2,)"]),
    ({**POOL, "block_table": TABLE.astype(np.float32)}, TypeError, ["block_table", "float32"]),
    ({**POOL, **PAST, "block_table": TABLE}, ValueError, ["block_table", "past_key"]),
    ({**POOL, "value": zeros(4, 2, 4, 6), "block_table": TABLE}, ValueError,
     ["key", "value", "(4, 2, 5, 8)", "(4, 2, 4, 6)"]),
    ({**POOL, "value": zeros(5, 2, 5, 6), "block_table": TABLE}, ValueError,
     ["key", "value", "(4, 2, 5, 8)", "(5, 2, 5, 6)"]),
    ({**POOL, "query": QUERY[0], "block_table": TABLE}, ValueError,
     ["block_table|query|key", "(4, 3, 8)"]),
]


def label(case):
    keywords, _, words = case
    return f"{'+'.join(keywords)}: {' '.join(words)}"


@pytest.mark.parametrize("case", CASES, ids=map(label, CASES))
def test_error(case):
    keywords, kind, words = case
    arguments = {"query": QUERY, "key": KEY, "value": VALUE, **keywords}
    # Results are zeros: out shows whether anything was written.
    out = np.full((*np.shape(arguments["query"])[:-1], 6), 7, np.float32)
    with pytest.raises(kind) as caught:
        smx.attention(**arguments, out=out, return_lse=True, return_weights=True)
    for word in words:
        assert any(w in str(caught.value) for w in word.split("|")), (word, str(caught.value))
    assert (out == 7).all()


def test_without_the_fault_the_calls_are_good():
    # Otherwise the cases above would prove nothing.
    for keywords in {}, PAST, {**POOL, "block_table": TABLE}, {"key": KEY[:1], "value": VALUE[:1]}:
        out = np.full((2, 4, 3, 6), 7, np.float32)
        smx.attention(**{"query": QUERY, "key": KEY, "value": VALUE, **keywords}, out=out)
        assert (out == 0).all()


@pytest.mark.parametrize("args, words", [
    ((), ["query"]),
    ((QUERY,), ["key"]),
    ((QUERY, KEY), ["value"]),
    ((QUERY, KEY, VALUE, zeros(3, 5, dtype=bool)), ["positional", "4"]),
])
def test_number_of_arguments(args, words):
    with pytest.raises(TypeError) as caught:
        smx.attention(*args)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    with pytest.raises(TypeError, match="query"):
        smx.attention(QUERY, KEY, VALUE, query=QUERY)


OUTS = [
    (zeros(2, 4, 3, 8), ValueError, ["out", "(2, 4, 3, 8)", "(2, 4, 3, 6)"]),
    (zeros(2, 3, 4, 6), ValueError, ["out", "(2, 3, 4, 6)", "(2, 4, 3, 6)"]),
    (zeros(1, 4, 3, 6), ValueError, ["out", "(1, 4, 3, 6)", "(2, 4, 3, 6)"]),
    (zeros(4, 3, 6), ValueError, ["out", "(4, 3, 6)", "(2, 4, 3, 6)|" + OF_QUERY]),
    (zeros(2, 4, 3, 6, dtype=float), TypeError, ["out", "float64", "float32"]),
    (zeros(2, 4, 3, 6, dtype=np.int32), TypeError, ["out", "int32", "float32"]),
    (zeros(2, 4, 3, 6, dtype=">f4"), TypeError, ["out", ">f4"]),
    ([0.0], TypeError, ["out", "list"]),
    (np.broadcast_to(np.float32(0), (2, 4, 3, 6)), ValueError, ["out is read-only"]),
    (np.lib.stride_tricks.as_strided(zeros(6), (2, 4, 3, 6), (0, 0, 0, 4)), ValueError,
     ["out", "stride 0"]),
]


@pytest.mark.parametrize("out, kind, words", OUTS, ids=lambda v: None)
def test_out_of_the_wrong_kind(out, kind, words):
    with pytest.raises(kind) as caught:
        smx.attention(QUERY, KEY, VALUE + 1, out=out)
    for word in words:
        assert any(w in str(caught.value) for w in word.split("|")), (word, str(caught.value))
    assert (np.asarray(out) == 0).all()


@pytest.mark.parametrize("name", ["query", "key", "value", "bias", "mask", "past_key",
                                  "past_value"])
@pytest.mark.parametrize("by", [0, 1, 8])
def test_out_that_overlaps_an_input_is_refused_or_right(name, by):
    """The C call refuses it; Python may compute aside. Never may it be silently wrong."""
    rng = np.random.default_rng(1)
    memory = rng.standard_normal(200).astype(np.float32)
    shapes = {"query": (2, 3, 4), "key": (2, 3, 4), "value": (2, 3, 4), "bias": (2, 3, 6),
              "past_key": (2, 3, 4), "past_value": (2, 3, 4)}
    inputs = {k: rng.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}
    inputs["mask"] = rng.random((2, 3, 6)) < 0.7
    lying = memory.view(bool) if name == "mask" else memory
    lying = lying[: inputs[name].size].reshape(inputs[name].shape)
    lying[...] = inputs[name]
    expected, before = smx.attention(**inputs), memory.copy()
    inputs[name], out = lying, memory[by : by + 24].reshape(2, 3, 4)
    try:
        smx.attention(**inputs, out=out)
    except ValueError as error:
        for word in "out", name, "overlap":
            assert word in str(error), (word, str(error))
        assert memory.tobytes() == before.tobytes()
    else:
        assert_same_bits(out, expected, f"{name}, out {by} elements further")
        assert_same_bits(memory[by + 24 :], before[by + 24 :], "behind out")
