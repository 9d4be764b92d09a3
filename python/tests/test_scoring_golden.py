"""Golden cases of Tests/golden/operations_scoring.c through the package."""

import sys
from pathlib import Path

import numpy as np
import pytest
from reference import BF16

import swiftmax as smx

FOLDER = Path(__file__).parents[2] / "Tests" / "golden"
sys.path.append(str(FOLDER))

from golden_cases import (  # noqa: E402
    OF_BIAS,
    OF_MASK,
    OF_STRUCTURE,
    OF_X,
    fnv1a,
    read_lines,
    stored,
    stream,
    uniform,
)

EXPECTED = {w[0]: int(w[1], 16) for w in read_lines(FOLDER / "operations_expected.txt")}


def numbers(dtype, shape, e, seed):
    x = stored(uniform(dtype, e, stream(seed, OF_X, np.arange(int(np.prod(shape))))), dtype)
    return (x.view(BF16) if dtype == "bf16" else x).reshape(shape)


def integers(shape, most, seed, which):
    z = stream(seed, which, np.arange(int(np.prod(shape))))
    return (z % np.uint64(most)).astype(np.int64).reshape(shape)


def assert_expected(name, array):
    assert fnv1a(np.ascontiguousarray(array).tobytes()) == EXPECTED[name], name


@pytest.mark.parametrize(
    "dtype, e, seed", [("f16", 4, 11), ("bf16", 7, 12), ("f32", 7, 13), ("f64", 10, 14)])
def test_sigmoid(dtype, e, seed):
    x = numbers(dtype, (3, 2777), e, seed)
    assert_expected(f"sigmoid_{dtype}.value", smx.sigmoid(x))
    assert_expected(f"sigmoid_{dtype}.log", smx.log_sigmoid(x))


@pytest.mark.parametrize(
    "name, dtype, classes, seed, options",
    [
        ("f16", "f16", 50, 21, ()),
        ("f32", "f32", 300, 22, ()),
        ("long", "f32", 9001, 23, ("lengths",)),
        ("f64", "f64", 129, 24, ("lengths", "normalize")),
        ("options", "f32", 65, 25, ("lengths", "mask", "temperature")),
    ])
def test_sequence(name, dtype, classes, seed, options):
    every = {
        "lengths": integers(4, 10, seed, OF_STRUCTURE),
        "mask": stream(seed, OF_BIAS, np.arange(classes)) >> np.uint64(61) != 0,
        "temperature": 1.75,
        "normalize": True,
    }
    total, tokens = smx.sequence_log_prob(
        numbers(dtype, (4, 9, classes), 4, seed),
        integers((4, 9), classes, seed, OF_MASK),
        return_token_log_probs=True,
        **{option: every[option] for option in options},
    )
    assert_expected(f"sequence_{name}.sum", total)
    assert_expected(f"sequence_{name}.tokens", tokens)


@pytest.mark.parametrize(
    "dtype, items, places, e, seed",
    [("f16", 7, 7, 2, 31), ("f32", 100, 10, 3, 32), ("f64", 1000, 1000, 6, 33)])
def test_ranking(dtype, items, places, e, seed):
    ranking = np.empty((5, places), np.int64)
    for row in range(5):
        order = list(range(items))
        z = stream(seed, OF_MASK, row * places + np.arange(places))
        for i in range(places):
            j = i + int(z[i]) % (items - i)
            order[i], order[j] = order[j], order[i]
        ranking[row] = order[:places]
    scores = numbers(dtype, (5, items), e, seed)
    assert_expected(f"ranking_{dtype}.value", smx.plackett_luce_log_prob(scores, ranking))


def test_ranking_by_score():
    scores = numbers("f64", (5, 300), 3, 39)
    ranking = np.argsort(-scores, axis=1, kind="stable")
    assert_expected("ranking_best.value", smx.plackett_luce_log_prob(scores, ranking))


@pytest.mark.parametrize(
    "dtype, rows, classes, e, seed",
    [("bf16", 200, 5, 3, 41), ("f32", 500, 17, 4, 42), ("f64", 40, 5001, 4, 43)])
def test_fit(dtype, rows, classes, e, seed):
    logits = numbers(dtype, (rows, classes), e, seed)
    drawn = integers(rows, classes, seed, OF_MASK)
    best = logits.astype(np.float64).argmax(axis=1)
    labels = np.where(np.arange(rows) % 4 == 0, drawn, best)
    fit = smx.fit_temperature(logits, labels, bins=10)
    _, after = smx.calibration_error(
        logits, labels, temperature=fit.temperature, bins=10, return_diagram=True)
    assert_expected(f"fit_{dtype}.confidences", fit.diagram_after.confidence)
    assert_expected(f"fit_{dtype}.accuracies", fit.diagram_after.accuracy)
    np.testing.assert_allclose(after.confidence, fit.diagram_after.confidence, rtol=1e-12)
