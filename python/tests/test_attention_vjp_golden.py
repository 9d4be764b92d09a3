"""The golden vectors of attention's gradient through the package: those of Tests/golden."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from reference import BF16

import swiftmax as smx

FOLDER = Path(__file__).parents[2] / "Tests" / "golden"
sys.path.append(str(FOLDER))

from golden_cases import fnv1a, read_lines, stored, stream, uniform  # noqa: E402

# CASE(name, dtype, seven lengths, options, seed)
SOURCE = re.sub(r"\s*\\\n\s*", " ", (FOLDER / "operations_attention_vjp.c").read_text())
CASES = re.findall(r"CASE\((\w+), SMX_\w+, ((?:\d+, ){7})([\w |]+), (\d+)\)", SOURCE)
EXPECTED = {w[0]: int(w[1], 16) for w in read_lines(FOLDER / "operations_expected.txt")}
OF_QUERY, OF_MASK, OF_BIAS = range(3)
OF_KEY, OF_VALUE, OF_SINKS, OF_SLOPES, OF_D_OUT = range(6, 11)


def draw(dtype, e, seed, which, shape):
    values = stored(uniform(dtype, e, stream(seed, which, np.arange(np.prod(shape)))), dtype)
    values = values.reshape(shape)
    return values.view(BF16) if dtype == "bf16" else values


def operands(name, lengths, options, seed):
    """(d_out, query, key, value), options: what the C program makes of such a line."""
    dtype, seed, chosen = name.rsplit("_", 1)[1], int(seed), options.split(" | ")
    wide = "f64" if dtype == "f64" else "f32"
    batch, heads, key_heads, lq, lk, size, value_size = (int(n) for n in lengths.split(",")[:7])
    keys = 1 if "SHARED" in chosen else batch
    of_query = (8 if dtype == "f64" else 5) if "FAR" in chosen else 1
    tensors = [
        draw(dtype, 1, seed, OF_D_OUT, (batch, heads, lq, value_size)),
        draw(dtype, of_query, seed, OF_QUERY, (batch, heads, lq, size)),
        draw(dtype, 1, seed, OF_KEY, (keys, key_heads, lk, size)),
        draw(dtype, 0, seed, OF_VALUE, (keys, key_heads, lk, value_size)),
    ]
    given = {}
    if "CAUSAL" in chosen:
        given["causal"] = True
    if "WINDOW" in chosen:
        given["window"] = (40, 3)
    if "MASK" in chosen:
        shown = stream(seed, OF_MASK, np.arange(lq * lk)) >> np.uint64(62)
        given["mask"] = (shown != 0).reshape(lq, lk)
    if "BIAS" in chosen:
        given["bias"] = draw(dtype, 0, seed, OF_BIAS, (heads, lq, lk))
    if "ROW_BIAS" in chosen:
        given["bias"] = draw(dtype, 0, seed, OF_BIAS, (batch, 1, 1, lk))
    if "SINKS" in chosen:
        given["sinks"] = draw(wide, -1, seed, OF_SINKS, (heads,))
    if "SLOPES" in chosen:
        given["alibi_slopes"] = abs(draw(wide, -2, seed, OF_SLOPES, (heads,)))
    if "SOFTCAP" in chosen:
        given["softcap"] = 2.0
    if "LENGTHS" in chosen:
        given["key_lengths"] = lk - 9 * np.arange(batch)
        given["query_lengths"] = lq - 5 * np.arange(batch)
    return tensors, given


def test_cases_are_read():
    names = {name.split(".")[0] for name in EXPECTED if name.startswith("attention_vjp_")}
    assert {f"attention_vjp_{case[0]}" for case in CASES} == names


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_golden(case):
    (d_out, *tensors), given = operands(*case)
    out, lse = smx.attention(*tensors, **given, return_lse=True)
    found = smx.attention_vjp(d_out, *tensors, out, lse, **given,
                              return_d_bias="bias" in given, return_d_sinks="sinks" in given)
    names = ["d_query", "d_key", "d_value"]
    names += [f"d_{name}" for name in ("bias", "sinks") if name in given]
    for name, x in zip(names, found, strict=True):
        assert fnv1a(x.tobytes()) == EXPECTED[f"attention_vjp_{case[0]}.{name}"], name
