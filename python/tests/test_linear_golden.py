"""The golden vectors of the cross-entropy of a linear layer through the package."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from linear_reference import RESULTS, everything
from reference import BF16

import swiftmax as smx

FOLDER = Path(__file__).parents[2] / "Tests" / "golden"
sys.path.append(str(FOLDER))

from golden_cases import fnv1a, read_lines, stored, stream, uniform  # noqa: E402

SOURCE = (FOLDER / "operations_linear.c").read_text().replace("\\\n", "\n")
CASES = [
    [word.strip() for word in line.split(",")]
    for line in re.findall(r"CASE\((\w+(?:,\s+[\w |]+)+)\)", SOURCE)
]
EXPECTED = {w[0]: int(w[1], 16) for w in read_lines(FOLDER / "operations_expected.txt")}
OF_HIDDEN, OF_WEIGHT, OF_TARGETS, OF_BIAS = range(4)


def draw(dtype, shape, e, seed, which, shut=False):
    z = stream(seed, which, np.arange(np.prod(shape)))
    values = uniform(dtype, e, z)
    if shut:
        values[z >> np.uint64(61) == 0] = -np.inf
    values = stored(values, dtype).reshape(shape)
    return values.view(BF16) if dtype == "bf16" else values


def results_of(dtype, tokens, columns, classes, reduction, options, seed):
    """What the C program computes for such a line."""
    dtype, tokens, columns = dtype.lower(), int(tokens), int(columns)
    classes, seed, options = int(classes), int(seed), options.split(" | ")
    z = stream(seed, OF_TARGETS, np.arange(tokens))
    targets = (z % np.uint64(classes)).astype(np.int32 if "NARROW" in options else np.int64)
    if "SURE" in options:
        targets[::2] = 0
    if "IGNORING" in options:
        targets[z >> np.uint64(62) == 0] = -100
    bias = None
    if "BIASED" in options:
        bias = draw(dtype, (classes,), 1, seed, OF_BIAS, "SHUT" in options)
        if "SURE" in options:
            bias[0] = 16
    of_hidden = (8 if dtype == "f64" else 5) if "FAR" in options else 1
    return everything(
        draw(dtype, (tokens, columns), of_hidden, seed, OF_HIDDEN),
        draw(dtype, (classes, columns), 0, seed, OF_WEIGHT), targets, bias=bias,
        reduction=reduction.lower(), label_smoothing=0.125 if "SMOOTHED" in options else 0,
        z_loss=0.0625 if "WITH_Z" in options else 0,
        grad_scale=1024 if "SCALED" in options else 1,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_bits(case):
    name, *rest = case
    for result, x in zip(RESULTS, results_of(*rest), strict=False):
        line = f"{name}.{result}"
        found = fnv1a(np.ascontiguousarray(x).tobytes())
        assert hex(found) == hex(EXPECTED[line]), f"{line}, isa {smx.show_config('dicts')['isa']}"


def test_every_case_is_there():
    assert len(CASES) == SOURCE.count("\n  CASE(") > 10
