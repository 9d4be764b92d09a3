"""Losses in float64, straight from their definitions, and cases of them."""

import numpy as np
from reference import sample

INF = np.inf


def softmax_of(x, mask=None):
    x = np.where(True if mask is None else mask, x, -INF)
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax_of(x, mask=None):
    x = np.where(True if mask is None else mask, x, -INF)
    m = x.max(-1, keepdims=True)
    return (x - m) - np.log(np.exp(x - m).sum(-1, keepdims=True))


def asked(x, targets, weight=None, label_smoothing=0.0, ignore_index=-100, mask=None):
    """c of each row and class, and which rows count; the class axis is the last."""
    k = x.shape[-1]
    y = np.asarray(targets)
    counts = np.ones(y.shape[: x.ndim - 1], bool)
    if y.dtype.kind in "iu":
        counts = y != ignore_index
        y = np.eye(k)[np.where(counts, y, 0)]
    visible = np.broadcast_to(True if mask is None else mask, x.shape)
    share = label_smoothing / np.maximum(visible.sum(-1, keepdims=True), 1)
    c = (1 - label_smoothing) * y + np.where(visible, share, 0)
    return c * (1 if weight is None else weight), counts


def loss_of(x, targets, temperature=1.0, z_loss=0.0, mask=None, **options):
    """Each row's loss in float64, straight from the definition."""
    x = np.asarray(x, float) / temperature
    c, counts = asked(x, targets, mask=mask, **options)
    log_p = log_softmax_of(x, mask)
    with np.errstate(invalid="ignore"):
        terms = np.where(c == 0, 0, -c * log_p)
    x = np.where(True if mask is None else mask, x, -INF)
    lse = x.max(-1) - log_p.max(-1)
    return np.where(counts, terms.sum(-1) + z_loss * lse**2, 0), counts


def reduced(x, targets, reduction, weight=None, **options):
    rows, counts = loss_of(x, targets, weight=weight, **options)
    if reduction == "none":
        return rows
    if reduction == "sum":
        return rows.sum()
    targets = np.asarray(targets)
    if targets.dtype.kind == "f" or weight is None:
        return rows.sum() / max(counts.sum(), 1)
    return rows.sum() / np.asarray(weight)[targets[counts]].sum()


def case(seed, shape, options, dtype=np.float64, spread=3.0):
    rng = np.random.default_rng(seed)
    x = sample(shape, dtype, seed, spread)
    k = shape[-1]
    targets = rng.integers(0, k, shape[:-1])
    options = dict(options)
    if "weight" in options:
        options["weight"] = rng.uniform(0.1, 3, k).astype(np.float32).astype(float)
    if "mask" in options:
        options["mask"] = rng.random(shape) < 0.7
        np.put_along_axis(options["mask"], targets[..., None], True, -1)
    return rng, x, targets, options
