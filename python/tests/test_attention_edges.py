"""Attention at the edges of its numbers: scores about 2^20, sinks, an lse that is not the call's.

Expected values are computed here in longer arithmetic (mpmath).
"""

import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest

import swiftmax as smx

mpmath.mp.prec = 200


def attention_of(scores, values, sink=None):
    """One query's result and lse in long arithmetic."""
    every = [mpmath.mpf(float(s)) for s in scores]
    top = max(every if sink is None else [*every, mpmath.mpf(sink)])
    weights = [mpmath.exp(s - top) for s in every]
    total = sum(weights) + (0 if sink is None else mpmath.exp(mpmath.mpf(sink) - top))
    sums = sum(w * mpmath.mpf(float(v)) for w, v in zip(weights, values, strict=True))
    return float(sums / total), float(top + mpmath.log(total))


@pytest.mark.parametrize("gap", [0.5, 2.0, 30.0])
@pytest.mark.parametrize("dtype, limit", [(np.float32, 2.0**20), (np.float64, 2.0**40)])
def test_scores_on_both_sides_of_the_base(dtype, limit, gap):
    # Blocks before the first score of 2^20 keep their part.
    for before in (1, 64, 700):
        scores = np.r_[np.full(before, limit - gap), limit].astype(dtype)
        values = np.r_[np.ones(before), 0].astype(dtype)
        zero = np.zeros((1, 1), dtype)
        out, lse, weights = smx.attention(
            zero, np.zeros((before + 1, 1), dtype), values[:, None], bias=scores[None],
            return_lse=True, return_weights=True)
        exact, exact_lse = attention_of(scores, values)
        np.testing.assert_allclose(out[0, 0], exact, rtol=1e-5)
        np.testing.assert_allclose(lse[0], exact_lse, rtol=1e-6)
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)


def test_a_sink_on_the_other_side_of_the_base():
    q, k, v = np.full((1, 1, 1), 1024, np.float32), np.zeros((1, 1, 1), np.float32), np.ones(1)
    k[...] = 1024 - 2 / 1024
    out, weights = smx.attention(
        q, k, v.astype(np.float32)[None, :, None], scale=1.0, sinks=[2.0**20], return_weights=True)
    exact, _ = attention_of([2.0**20 - 2], [1], 2.0**20)
    np.testing.assert_allclose([out[0, 0, 0], weights[0, 0, 0]], exact, rtol=1e-5)


def test_small_scores_after_very_low_ones():
    scores = np.r_[np.full(64, -1048700.0), -200.3, -201.0, -199.9].astype(np.float32)
    values = np.arange(67, dtype=np.float32)
    out = smx.attention(
        np.zeros((1, 1), np.float32), np.zeros((67, 1), np.float32), values[:, None],
        bias=scores[None])
    np.testing.assert_allclose(out[0, 0], attention_of(scores, values)[0], rtol=1e-5)


def test_sinks_at_the_edges():
    one = np.zeros((1, 1, 1), np.float32)
    least = np.full((1, 1), np.finfo(np.float32).min)
    out, lse = smx.attention(one, one, one + 1, bias=least, sinks=[3e38], return_lse=True)
    # Sinks are limited as scores are.
    assert out == 0 and lse == 2.0**126
    # Scores of -inf alone: 0, whatever the values.
    v = np.array([[[np.nan], [1]]], np.float32)
    shut = np.full((1, 2), -np.inf, np.float32)
    for sinks in ([0.0], [-np.inf], [5.0]):
        assert smx.attention(one, np.zeros((1, 2, 1), np.float32), v, bias=shut, sinks=sinks) == 0


@pytest.mark.parametrize("isa", smx.show_config("dicts")["supported"])
def test_an_lse_of_another_call_gives_nan_on_every_instruction_set(isa):
    code = """
import numpy as np, swiftmax as smx
q = k = v = np.ones((1, 1, 1), np.float32)
out = smx.attention(3 * q, k, v, scale=1.0)
print(smx.attention_vjp(q, 3 * q, k, v, out, np.float32([[-85.0]]), scale=1.0)[2].ravel())
"""
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "SWIFTMAX_ISA": isa}, capture_output=True,
        text=True, check=True)
    assert run.stdout.strip() == "[nan]"
