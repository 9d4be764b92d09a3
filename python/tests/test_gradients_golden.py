"""The golden vectors of the gradients through the package: cases and bits of Tests/golden."""

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

SOURCE = (FOLDER / "operations_gradients.c").read_text()
CASES = [
    [word.strip() for word in line.split(",")]
    for line in re.findall(r"CASE\((\w+(?:, [\w |]+)+)\)", SOURCE)
]
EXPECTED = {w[0]: int(w[1], 16) for w in read_lines(FOLDER / "operations_expected.txt")}
OF_Y, OF_DY, OF_BIAS, OF_HIDDEN = range(4)


def draw(dtype, shape, e, seed, which, sign=None):
    values = uniform(dtype, e, stream(seed, which, np.arange(np.prod(shape))))
    values = stored(values if sign is None else sign * abs(values), dtype).reshape(shape)
    return values.view(BF16) if dtype == "bf16" else values


def gradient_of(what, dtype, rows, cols, axis, options, seed):
    """What the C program computes for such a line."""
    shape, dtype, seed = (int(rows), int(cols)), dtype.lower(), int(seed)
    of_rows = (1, shape[1]) if axis == "0" else (shape[0], 1)
    e, sign = {"LOG_VJP": (4, -1), "SUM_VJP": (3, None)}.get(what, (0, None))
    y = draw(dtype, shape, e + 4 if "FAR" in options else e, seed, OF_Y, sign)
    given = {}
    if "MASKED" in options:
        hidden = stream(seed, OF_HIDDEN, np.arange(y.size)) >> np.uint64(62)
        given["mask"] = (hidden != 0).reshape(shape)
    if "CAUSAL" in options:
        given["mask"] = smx.Mask.causal()
    if "WARM" in options:
        temperatures = np.resize([0, 0.5, 1, 2, np.inf, 3], max(of_rows))
        given["temperature"] = temperatures.reshape(of_rows)
    if "BIASED" in options:
        given["bias"] = draw(dtype, shape, 1, seed, OF_BIAS)
    if what == "JACOBIAN":
        return smx.softmax_jacobian(y, int(axis), **given)
    large = 1014 if dtype == "f64" else 120
    dy_shape = of_rows if what == "SUM_VJP" else shape
    dy = draw(dtype, dy_shape, large if "LARGE" in options else 2, seed, OF_DY)
    if what == "SUM_VJP":
        return smx.logsumexp_vjp(y, dy, int(axis), keepdims=True, **given)
    names = {"VJP": "softmax_vjp", "JVP": "softmax_jvp", "LOG_VJP": "log_softmax_vjp"}
    return getattr(smx, names[what])(y, dy, int(axis), **given)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_bits(case):
    name, what, *numbers = case
    result = gradient_of(what, *numbers)
    line = f"{name}.{'jacobian' if what == 'JACOBIAN' else 'gradient'}"
    found = fnv1a(np.ascontiguousarray(result).tobytes())
    assert hex(found) == hex(EXPECTED[line]), f"{line}, isa {smx.show_config('dicts')['isa']}"


def test_every_case_is_there():
    assert len(CASES) == SOURCE.count("\n  CASE(") > 30
