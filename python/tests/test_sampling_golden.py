"""Some golden cases of sampling through the package: logits and bits of Tests/golden."""

import sys
from pathlib import Path

import numpy as np
import pytest
from reference import BF16

import swiftmax as smx

FOLDER = Path(__file__).parents[2] / "Tests" / "golden"
sys.path.append(str(FOLDER))

import golden_cases as golden  # noqa: E402

EXPECTED = {w[0]: int(w[1], 16) for w in golden.read_lines(FOLDER / "operations_expected.txt")}
SEED = 1234567890123456789


def logits_of(dtype, shape, e, seed):
    values = golden.uniform(dtype, e, golden.stream(seed, golden.OF_X, np.arange(np.prod(shape))))
    x = golden.stored(values, dtype).reshape(shape)
    return x.view(BF16) if dtype == "bf16" else x


def mask_of(shape, seed):
    z = golden.stream(seed, golden.OF_MASK, np.arange(np.prod(shape)))
    return (z >> np.uint64(62) != 0).reshape(shape)


def assert_expected(array, line):
    found = golden.fnv1a(np.ascontiguousarray(array).tobytes())
    assert hex(found) == hex(EXPECTED[line]), f"{line}, isa {smx.show_config('dicts')['isa']}"


# Name, logits, size, filters, whether there is a mask: as in operations_sampling.c.
CASES = [
    ("sample_plain", ("f32", (5, 3000), 3, 500), 3, {}, False),
    ("sample_plain_bf16", ("bf16", (5, 700), 3, 502), 3, {}, True),
    ("sample_usual", ("f32", (7, 9000), 4, 504), 4,
     {"temperature": 0.8, "top_k": 50, "top_p": 0.9}, False),
    ("sample_wide_nucleus_f64", ("f64", (3, 5000), 1, 508), 4,
     {"temperature": 0.5, "top_p": 0.7}, True),
    ("sample_least", ("f16", (3, 5000), 2, 510), 4, {"temperature": 2.0, "min_p": 0.2}, True),
]


@pytest.mark.parametrize(("name", "x", "size", "filters", "is_masked"), CASES, ids=lambda c: str(c))
def test_sampling(name, x, size, filters, is_masked):
    logits = logits_of(*x)
    mask = mask_of(x[1], x[3]) if is_masked else None
    tokens, log_probs = smx.sample(
        logits, seed=SEED, size=size, mask=mask, return_log_probs=True, **filters
    )
    assert_expected(tokens, f"{name}.tokens")
    assert_expected(log_probs, f"{name}.log_probs")
    assert_expected(smx.filtered_softmax(logits, mask=mask, **filters), f"{name}.filtered")


def test_top_k():
    found, indices = smx.top_k(logits_of("f32", (4, 5000), 2, 520), 20, temperature=0.7)
    assert_expected(found, "top_k.probabilities")
    assert_expected(indices, "top_k.indices")


@pytest.mark.parametrize(
    ("name", "dtype", "seed", "hard"),
    [("gumbel_softmax", "f32", 530, False), ("gumbel_softmax_f64", "f64", 531, False),
     ("gumbel_softmax_bf16", "bf16", 532, False), ("gumbel_softmax_hard", "f32", 533, True)],
)
def test_gumbel_softmax(name, dtype, seed, hard):
    logits = logits_of(dtype, (4, 1500), 2, seed)
    assert_expected(smx.gumbel_softmax(logits, seed=SEED, hard=hard), f"{name}.out")
