"""Attention in float64, written as the formula says; the judge of every contestant."""

from __future__ import annotations

import numpy as np

from bench.attention import Attention

# Largest error that passes as the right computation; a wrong mask or layout is off by 0.1 and more.
LOOSE = {"float32": 1e-3, "float16": 5e-3, "bfloat16": 2e-2}
# Rows looked at before a contestant is timed: the first, the last and some between.
SAMPLED = 16


def reference(work: Attention, query, key, value, rows: np.ndarray) -> np.ndarray:
    """(batch, heads, rows, D) for the query rows given."""
    group = query.shape[1] // key.shape[1]
    visible = work.visible(rows)
    out = np.empty((*query.shape[:2], len(rows), value.shape[-1]))
    for batch in range(query.shape[0]):
        for head in range(query.shape[1]):
            keys = key[batch, head // group].astype(np.float64)
            values = value[batch, head // group].astype(np.float64)
            scores = query[batch, head, rows].astype(np.float64) @ keys.T
            scores = np.where(visible, scores / np.sqrt(query.shape[-1]), -np.inf)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[batch, head] = weights / weights.sum(axis=-1, keepdims=True) @ values
    return out


def sampled_rows(work: Attention) -> np.ndarray:
    return np.unique(np.linspace(0, work.queries - 1, SAMPLED).astype(int))
