"""Cross-entropy of a linear layer. The function here has the signature and the text; _core_linear.c
has the call.
"""

import math

import numpy as np

from swiftmax import _core
from swiftmax._arguments import as_flag, as_float, as_int64, as_int64s, as_number, beside
from swiftmax._mask import shown

_REDUCTIONS = {"mean": 0, "sum": 1, "none": 2}


def linear_cross_entropy(
    hidden,
    weight,
    targets,
    *,
    bias=None,
    ignore_index=-100,
    label_smoothing=0.0,
    z_loss=0.0,
    reduction="mean",
    grad_scale=1.0,
    return_lse=False,
    return_grad=False,
):
    """Cross-entropy of the logits ``hidden @ weight.T + bias``, which are never stored as a whole.

    Parameters
    ----------
    hidden : array_like
        Hidden states, shape (..., D): one for each token. float16, bfloat16 (of ml_dtypes), float32
        and float64 keep their dtype and are read where they are, whatever their strides, unless
        several leading axes cannot be seen as one; integers and bool become float64.
    weight : array_like
        Weights of the layer, shape (V, D), one row for each class, in the dtype of `hidden`; what
        is no array of floats is cast.
    targets : array_like of int
        The class of each token, from 0 to V - 1, or `ignore_index`: shape (...), that of `hidden`
        without its last axis.
    bias : array_like, optional
        Shape (V,), added to the logits; dtype as for `weight`. -inf shuts a class out.
    ignore_index : int, default -100
        A token with this target counts nowhere: loss, lse and gradient are 0, and its hidden state
        is not read.
    label_smoothing : float, default 0.0
        From 0 to 1: the share s of the target that all classes have alike.
    z_loss : float, default 0.0
        The weight z of ``lse**2`` in the loss, 0 or more; it keeps the logits near 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" is over the tokens that are not ignored, 0 if all are; "none" returns each loss.
    grad_scale : float, default 1.0
        What the gradients are multiplied by: the derivative of the whole by this loss, or the scale
        that keeps float16 from underflow.
    return_lse : bool, default False
        Whether to return ``logsumexp`` of each token's logits.
    return_grad : bool, default False
        Whether to return the gradients. With "none" they are those of the sum.

    Returns
    -------
    loss : scalar or ndarray
        For "none" in the shape of `targets`. float32, for float64 float64.
    lse : scalar or ndarray
        With `return_lse`: the shape of `targets`, the dtype of the loss.
    gradients : tuple of ndarray
        With `return_grad`: ``(d_hidden, d_weight)``, and ``d_bias`` third if `bias` is given.
        Shapes and dtypes are those of the arguments; ``d_bias`` has the dtype of the loss.

    Raises
    ------
    ValueError
        A shape or a value does not fit, such as a target that is no class; the sentence names the
        argument and both shapes.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.
    MemoryError
        There is no room for the logits of a group of tokens.

    See Also
    --------
    cross_entropy : of logits that are in memory.

    Notes
    -----
    With lse the logsumexp of a token's logits, its loss is::

        (1 - s) * (lse - logits[target]) + s * (lse - mean(logits)) + z * lse**2

    Logits exist for a group of up to 192 tokens at a time, fewer where they would need more than
    32 MB but at least 48, as from V = 87,382 (43,691 in float64). So a call needs tens of megabytes
    for them, whatever the number of tokens. The gradient by `weight` needs V * D float32 (float64)
    sums besides if it is float16 or bfloat16, or D is no multiple of 16 (8 in float64). Computing
    the gradients in the same call computes the logits once. Use it where V is large; for a few
    hundred classes any way is good.

    Logits are taken to be below 2**20 in magnitude, or -inf. A target that is shut out has loss
    inf. A NaN makes NaN what depends on it: in a hidden state that token's results and what sums
    over tokens, in `weight` or `bias` everything but ignored tokens. Gradients are 0 throughout
    where `grad_scale` is. A logit is a sum of chains of 128 products, in the precision of float32
    (float64 for float64). A token's loss, lse and d_hidden have the same bits alone and in any
    batch; threads, strides and the instruction set never change a bit of any result.

    The idea is of Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", 2024.

    Examples
    --------
    Two tokens, three classes:

    >>> import numpy as np, swiftmax as smx
    >>> hidden = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> weight = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> loss, (d_hidden, d_weight) = smx.linear_cross_entropy(
    ...     hidden, weight, [0, 2], return_grad=True)
    >>> loss.round(6)
    np.float64(1.239545)

    The same with the logits in memory:

    >>> log_p = smx.log_softmax(hidden @ weight.T)
    >>> -log_p[[0, 1], [0, 2]].mean().round(6)
    np.float64(1.239545)
    >>> p = np.exp(log_p) - np.array([[1, 0, 0], [0, 0, 1]])
    >>> bool(np.allclose(d_hidden, p @ weight / 2) and np.allclose(d_weight, p.T @ hidden / 2))
    True

    Padding is ignored, -100 as elsewhere:

    >>> smx.linear_cross_entropy(hidden, weight, [0, -100], reduction="none").round(6)
    array([0.239545, 0.      ])
    """
    if not isinstance(reduction, str) or reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', but is {shown(reduction)}")
    grad_scale = as_number(grad_scale, "grad_scale")
    return_lse = as_flag(return_lse, "return_lse")
    return_grad = as_flag(return_grad, "return_grad")
    hidden = as_float(hidden, "hidden")
    weight = as_float(beside(weight, hidden, "weight"), "weight")
    if bias is not None:
        bias = as_float(beside(bias, hidden, "bias"), "bias")
    targets = as_int64s(targets, "targets")
    leading = hidden.shape[:-1]
    if hidden.ndim == 0:
        raise ValueError("hidden must have an axis of columns, but has shape ()")
    if targets.shape != leading:
        raise ValueError(
            f"targets of shape {targets.shape} must have the leading axes of hidden of shape "
            f"{hidden.shape}"
        )
    tokens, columns = math.prod(leading), hidden.shape[-1]
    single = np.float64 if hidden.dtype == np.float64 else np.float32
    loss = np.empty(tokens if reduction == "none" else (), single)
    lse = np.empty(tokens, single) if return_lse else None
    gradients = d_hidden = d_weight = d_bias = None
    if return_grad:
        # 0 is the library's word for 1.
        new = np.empty if grad_scale != 0 else np.zeros
        d_hidden = new((tokens, columns), hidden.dtype)
        d_weight = new(weight.shape, weight.dtype)
        gradients = d_hidden.reshape(hidden.shape), d_weight
        if bias is not None:
            d_bias = new(bias.shape, single)
            gradients += (d_bias,)
        if grad_scale == 0:
            d_hidden = d_weight = d_bias = None
    _core._linear_cross_entropy(
        hidden.reshape(tokens, columns), weight, targets.reshape(tokens), bias, loss, lse, d_hidden,
        d_weight, d_bias, _REDUCTIONS[reduction], as_int64(ignore_index, "ignore_index"),
        as_number(label_smoothing, "label_smoothing"), as_number(z_loss, "z_loss"), grad_scale,
    )
    # [()] makes a scalar of an array without axes.
    results = [loss.reshape(leading)[()] if reduction == "none" else loss[()]]
    if return_lse:
        results.append(lse.reshape(leading)[()])
    if return_grad:
        results.append(gradients)
    return results[0] if len(results) == 1 else tuple(results)
