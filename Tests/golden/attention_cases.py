"""The golden cases of attention and their operands, from the specification in README.md alone."""

from dataclasses import dataclass

import numpy as np
from golden_cases import OF_PLACE, OF_X, Case, make_options, make_structure, stored, stream, uniform

OF_KEY, OF_VALUE, OF_SINKS, OF_SLOPES = range(6, 10)
RESULTS = "out", "lse", "weights"


@dataclass
class AttentionCase:
    """A case whose x would be the scores has its mask, bias and structure."""

    scores: Case
    key_heads: int
    head_size: int
    value_size: int

    @property
    def name(self):
        return self.scores.name

    @property
    def options(self):
        return self.scores.options

    @property
    def single(self):
        """The dtype of lse, slopes and sinks."""
        return "f64" if self.scores.dtype == "f64" else "f32"


def read_attention_case(words):
    name, dtype, shape, values, seed, *options = words
    batch, heads, key_heads, lq, lk, head_size, value_size = map(int, shape.split("x"))
    options = dict(option.split("=") for option in options)
    scores = Case(
        name, "attention", dtype, (batch, heads, lq, lk), (3,), values, int(seed), options
    )
    return AttentionCase(scores, key_heads, head_size, value_size)


def _operand(case, which, shape, base, letter):
    """`base` is an exponent, or one behind `ties:`."""
    c, index = case.scores, np.arange(int(np.prod(shape)))
    row, col = np.divmod(index, shape[-1])
    z, e = stream(c.seed, which, index), int(base.split(":")[-1])
    if base.startswith("ties:"):
        values = np.ldexp((z >> np.uint64(62)).astype(float) - 1, e)
    else:
        values = uniform(c.dtype, e, z)
    place = col == (stream(c.seed, OF_PLACE, row) % np.uint64(shape[-1])).astype(np.int64)
    every, first = (5, 1) if which == OF_X else (40, 21)
    if f"nan{letter}" in c.values.split("+"):
        values[place & (row % every == first)] = np.nan
    if f"inf{letter}" in c.values.split("+"):
        values[place & (row % every == first + 1)] = np.inf
    return stored(values, c.dtype).reshape(shape)


def make_tensors(case):
    """query, key and value in layout BHLD."""
    batch, heads, lq, lk = case.scores.shape
    e = case.scores.values.split("+")[0][1:]
    query = _operand(case, OF_X, (batch, heads, lq, case.head_size), e, "q")
    key = _operand(case, OF_KEY, (batch, case.key_heads, lk, case.head_size), e, "k")
    of_value = case.options.get("value", "1")
    shape = (batch, case.key_heads, lk, case.value_size)
    return query, key, _operand(case, OF_VALUE, shape, of_value, "v")


def make_others(case):
    """mask, bias, alibi_slopes and sinks, where given: (array, its dtype's name)."""
    made = make_options(case.scores)
    batch, heads = case.scores.shape[:2]

    def draw(which, shape, e):
        z = stream(case.scores.seed, which, np.arange(int(np.prod(shape))))
        return uniform(case.single, e, z).reshape(shape)

    if text := case.options.get("alibi"):
        shape = (batch, heads) if text.startswith("batch:") else (heads,)
        slopes = abs(draw(OF_SLOPES, shape, int(text.split(":")[-1])))
        made["alibi_slopes"] = stored(slopes, case.single), case.single
    if text := case.options.get("sinks"):
        sinks = draw(OF_SINKS, (heads,), 1 if text == "closed" else int(text))
        if text == "closed":
            sinks[::2] = -np.inf
        made["sinks"] = stored(sinks, case.single), case.single
    return made


def make_attention_structure(case):
    return list(make_structure(case.scores))
