"""The golden vectors of additive attention through the package: cases and bits of Tests/golden."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from additive_reference import FLAGS
from reference import BF16

import swiftmax as smx

FOLDER = Path(__file__).parents[2] / "Tests" / "golden"
sys.path.append(str(FOLDER))

from golden_cases import fnv1a, read_lines, stored, stream, uniform  # noqa: E402

SOURCE = (FOLDER / "operations_additive.c").read_text()
CASES = [
    [word.strip() for word in line.split(",")]
    for line in re.findall(r"CASE\((\w+(?:, [\w |]+)+)\)", SOURCE)
]
EXPECTED = {w[0]: int(w[1], 16) for w in read_lines(FOLDER / "operations_expected.txt")}
BATCH, HEADS, OF_QUERY, OF_KEY, OF_VALUE = 2, 2, 13, 21, 18


def operands(dtype, lq, lk, width, options, seed):
    """What the C program computes such a case from."""
    heads = (HEADS,) if "EACH_HEAD" in options else ()

    def draw(which, shape, e):
        values = uniform(dtype, e, stream(seed, which, np.arange(np.prod(shape, dtype=int))))
        values = stored(values, dtype).reshape(shape)
        return values.view(BF16) if dtype == "bf16" else values

    tensors = [
        draw(0, (BATCH, HEADS, lq, OF_QUERY), 0), draw(1, (BATCH, 1, lk, OF_KEY), 0),
        draw(2, (BATCH, 1, lk, OF_VALUE), 2), draw(3, (*heads, width, OF_QUERY), -1),
        draw(4, (width, OF_KEY), -1), draw(5, (*heads, width), 1),
    ]
    given = {}
    if "CAUSAL" in options:
        given["causal"] = True
    if "MASKED" in options:
        hidden = stream(seed, 6, np.arange(lq * lk)) >> np.uint64(62) == 0
        given["mask"] = ~hidden.reshape(lq, lk)
    if "BIASED" in options:
        given["bias"] = draw(7, (HEADS, lq, lk), 1)
    if "LENGTHS" in options:
        given["key_lengths"] = lk - lk // 3
    return tensors, given


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_bits(case):
    name, dtype, lq, lk, width, options, seed = case
    tensors, given = operands(dtype.lower(), int(lq), int(lk), int(width), options, int(seed))
    for threads in 1, 3:
        with smx.num_threads(threads):
            results = smx.additive_attention(*tensors, **given, **FLAGS)
        for result, x in zip(("out", "lse", "weights"), results, strict=True):
            line = f"{name}.{result}"
            found = fnv1a(np.ascontiguousarray(x).tobytes())
            assert hex(found) == hex(EXPECTED[line]), f"{line}, {threads} threads"


def test_every_line_is_expected():
    lines = {line for line in EXPECTED if line.startswith("additive_")}
    assert lines == {f"{case[0]}.{x}" for case in CASES for x in ("out", "lse", "weights")}
