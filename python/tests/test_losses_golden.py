"""The golden vectors of losses and divergences through the package (Tests/golden)."""

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

SOURCE = (FOLDER / "operations_losses.c").read_text()
LOSSES = [(name, dict(re.findall(r"\.(\w+) = ([\w.]+)", fields)))
          for name, fields in re.findall(r"^LOSS\((\w+), ([^)]*)\)", SOURCE, re.M)]
DIVERGENCES = re.findall(r"^DIVERGENCE\(div_(\w+), \w+, (\d+), (\d+)\)", SOURCE, re.M)
EXPECTED = {w[0]: int(w[1], 16) for w in read_lines(FOLDER / "operations_expected.txt")}
ROWS = 5
SHORT = {"SMX_FLOAT16": "f16", "SMX_BFLOAT16": "bf16", "SMX_FLOAT32": "f32", "SMX_FLOAT64": "f64"}


def wide(dtype):
    return "f64" if dtype == "f64" else "f32"


def drawn(dtype, count, e, seed, which):
    return uniform(dtype, e, stream(seed, which, np.arange(count)))


def made(values, dtype, shape=None):
    array = stored(values, dtype).reshape(shape or values.shape)
    return array.view(BF16) if dtype == "bf16" else array


def meets(name, result):
    assert fnv1a(np.ascontiguousarray(result).tobytes()) == EXPECTED[name], name


@pytest.mark.parametrize("name, fields", LOSSES, ids=[name for name, _ in LOSSES])
def test_losses(name, fields):
    dtype, cols, e = SHORT[fields["dtype"]], int(fields["cols"]), int(fields["e"])
    seed, shape = int(fields["seed"]), (ROWS, cols)
    x = drawn(dtype, ROWS * cols, e, seed, 0).reshape(shape)
    x = -abs(x) if "far" in fields else x
    targets = (stream(seed, 1, np.arange(ROWS)) % np.uint64(cols)).astype(np.int64)
    targets[3] = -100
    if "peak" in fields:
        for row in (0, 2, 4):
            x[row, targets[row]] = 2.0 ** (e + 1)
    options = {n: float(fields[f]) for n, f in (
        ("temperature", "temperature"), ("label_smoothing", "smoothing"), ("z_loss", "z_loss"),
    ) if f in fields}
    if "has_weights" in fields:
        options["weight"] = made(1 + abs(drawn(wide(dtype), cols, 0, seed, 2)), wide(dtype))
    if "has_mask" in fields:
        mask = (stream(seed, 3, np.arange(ROWS * cols)) >> np.uint64(62) != 0).reshape(shape)
        options["mask"] = mask | (np.arange(cols) == targets[:, None])
    if "soft" in fields:
        z = stream(seed, 1, np.arange(ROWS * cols))
        quarters = np.where(z >> np.uint64(61), 0, (z & np.uint64(3)).astype(float) / 4)
        targets = made(quarters, wide(dtype), shape)
    x = made(x, dtype)
    loss, lse, grad = smx.cross_entropy(
        x, targets, reduction="none", return_lse=True, return_grad=True, **options
    )
    mean = smx.cross_entropy(x, targets, **options)
    for what, result in (("loss", loss), ("lse", lse), ("grad", grad), ("mean", mean)):
        meets(f"cross_entropy_{name}.{what}", result)


@pytest.mark.parametrize("dtype, cols, seed", DIVERGENCES)
def test_divergences(dtype, cols, seed):
    count, seed = ROWS * int(cols), int(seed)

    def draw(e, which):
        return drawn(dtype, count, e, seed, which)

    x, y = (made(draw(3, which), dtype, (ROWS, -1)) for which in (0, 4))
    p, q = (made(abs(draw(0, which)), dtype, (ROWS, -1)) for which in (1, 2))
    for what, result in (
        ("entropy", smx.entropy(p)),
        ("entropy_logits", smx.entropy(logits=x)),
        ("kl", smx.kl_divergence(p, q)),
        ("kl_logits", smx.kl_divergence(p_logits=x, q_logits=y)),
        ("kl_mixed", smx.kl_divergence(p_logits=x, q=q)),
    ):
        meets(f"divergence_{dtype}.{what}", result)
