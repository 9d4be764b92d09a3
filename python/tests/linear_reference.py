"""The cross-entropy of a linear layer and its gradients from their formulas, in float64."""

import numpy as np
from reference import sample

import swiftmax as smx

RESULTS = ["loss", "lse", "d_hidden", "d_weight", "d_bias"]


def problem(tokens=50, columns=20, classes=300, dtype=np.float32, seed=0, ignored=0.2):
    """hidden, weight, bias and targets, of which a share is ignored, though not the first."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, tokens)
    targets[1:][random.random(max(tokens - 1, 0)) < ignored] = -100
    hidden = sample((tokens, columns), dtype, seed + 1, 2.0)
    weight = sample((classes, columns), dtype, seed + 2, 0.5)
    return hidden, weight, sample((classes,), dtype, seed + 3, 1.0), targets


def reference(hidden, weight, targets, bias=None, ignore_index=-100, label_smoothing=0.0,
              z_loss=0.0, reduction="mean", grad_scale=1.0):
    """loss, lse, d_hidden, d_weight, d_bias; hidden has two axes."""
    hidden, weight = hidden.astype(float), weight.astype(float)
    logits = hidden @ weight.T + (0.0 if bias is None else bias.astype(float))
    counted, classes = targets != ignore_index, weight.shape[0]
    own = np.zeros_like(logits)
    own[np.flatnonzero(counted), targets[counted]] = 1
    top = logits.max(axis=1, keepdims=True)
    lse = (top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))[:, 0]
    hit = np.where(own == 1, logits, 0).sum(axis=1)
    loss = (1 - label_smoothing) * (lse - hit) + z_loss * lse**2
    if label_smoothing:
        loss += label_smoothing * (lse - logits.mean(axis=1))
    scale = grad_scale / max(counted.sum(), 1) if reduction == "mean" else grad_scale
    p = np.exp(logits - lse[:, None]) * (1 + 2 * z_loss * lse)[:, None]
    d = (p - label_smoothing / classes - (1 - label_smoothing) * own) * counted[:, None] * scale
    loss, lse = np.where(counted, loss, 0), np.where(counted, lse, 0)
    if reduction != "none":
        loss = loss.sum() / (max(counted.sum(), 1) if reduction == "mean" else 1)
    return loss, lse, d @ weight, d.T @ hidden, d.sum(axis=0)


def everything(hidden, weight, targets, **options):
    """The five results of the package, d_bias only with a bias."""
    loss, lse, gradients = smx.linear_cross_entropy(
        hidden, weight, targets, return_lse=True, return_grad=True, **options)
    return loss, lse, *gradients
