"""Losses: cross_entropy, nll_from_log_probs, perplexity.

The C module takes arrays of the right kinds by position; here their kinds, shapes and defaults are
sorted out. Shapes, axes and values are the library's to judge.
"""

import numpy as np

from swiftmax import _core
from swiftmax._arguments import (
    _as_array,
    as_axis,
    as_boolean_mask,
    as_flag,
    as_float,
    as_int64,
    as_int64s,
    as_number,
    as_wide,
)
from swiftmax._mask import shown

_REDUCTIONS = {"mean": 0, "sum": 1, "none": 2}


def cross_entropy(
    logits,
    targets,
    *,
    axis=-1,
    temperature=1.0,
    weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    z_loss=0.0,
    reduction="mean",
    mask=None,
    grad_scale=None,
    out=None,
    return_lse=False,
    return_grad=False,
):
    """Cross-entropy of ``softmax(logits / temperature)``, and its gradient.

    As ``torch.nn.functional.cross_entropy``, with masks, z-loss and the gradient by the logits in
    one call that makes no second array of their size.

    Parameters
    ----------
    logits : array_like, shape (..., K, ...)
        Any rank from 1. float16, bfloat16, float32 and float64 are read where they are, whatever
        their strides; integers and bool become float64.
    targets : array_like
        Integers: a class from 0 to K - 1 for each row, the shape of `logits` less `axis`. Floats:
        probabilities in the shape of `logits`, which need not have the sum 1.
    axis : int, default -1
        The axis of the classes.
    temperature : float, default 1.0
        One number for all rows, from 2**-126 to 2**126.
    weight : array_like, shape (K,), optional
        Weight of each class. With classes as targets the mean is divided by the sum of the rows'
        weights, with probabilities by the number of rows, as torch does.
    ignore_index : int, default -100
        Rows with this target have loss and gradient 0 and do not count in the mean.
    label_smoothing : float, default 0.0
        From 0 to 1: the target becomes ``(1 - e) * y + e / K``; K counts the classes that `mask`
        leaves.
    z_loss : float, default 0.0
        0 or more: ``z_loss * lse**2`` is added to the loss of each row that counts, not weighted.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" is over the rows that are not ignored, weighted as `weight` says; "none" returns the
        loss of each row.
    mask : array_like of bool, optional
        True where a class takes part, broadcast to `logits`. A masked class has probability 0 and
        gradient 0, and its logit is not read; a row whose target is masked has loss inf, as one
        with a probability above 0 there.
    grad_scale : array_like, optional
        Factor of the gradient, such as the gradient of what follows: one number, or one for each
        row.
    out : ndarray, optional
        Where the gradient goes, with ``return_grad=True``: shape and dtype of `logits`, any
        strides. May be `logits` itself.
    return_lse : bool, default False
        Whether to return ``logsumexp(logits / temperature)`` of each row, ignored ones included.
    return_grad : bool, default False
        Whether to return the gradient by `logits`. With ``reduction="none"`` each row's is that of
        its own loss.

    Returns
    -------
    loss : scalar or ndarray
        float64 for float64 logits, else float32; with ``reduction="none"`` an array in the shape of
        the rows.
    lse : scalar or ndarray
        With `return_lse`: the shape of the rows, the dtype of the loss.
    grad : ndarray
        With `return_grad`, the gradient of the (reduced) loss in the shape and dtype of `logits`.

    Raises
    ------
    ValueError
        A shape, an axis or a value does not fit; a target that is no class is named with its row.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    See Also
    --------
    nll_from_log_probs : the same from log-probabilities.
    perplexity : exp of the mean.

    Notes
    -----
    The loss of a row with one class as its target, without smoothing and z_loss, is at most 2 ulp
    from the exact value in float32 and float64 (3 in float64 with weights or a temperature),
    however small it is and whatever offset the logits share. lse is within 1 ulp of the larger of
    ``abs(lse)`` and ``abs(max(logits)) / temperature`` (2 with a temperature, and in float64). The
    gradient is within 4 ulp (in float64 6, with weights 7) of each of its terms, the share of the
    class, z_loss's share and the target, and at a row's one class of their difference; the error
    of lse, times 2 * z_loss * p / temperature, comes to that of z_loss's. With smoothing or
    probabilities as targets
    the sums over the classes add K * 2**-53 of their terms.

    A NaN, +inf or nothing but -inf among a row's logits gives NaN; a target of logit -inf gives
    inf; 0 * log 0 is 0. Where no row counts, the mean is 0 (torch: NaN). Sums over rows have one
    order, in float64, so that neither threads nor layout change a bit. No memory is allocated but
    for the results.

    References
    ----------
    A. Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022, section 5, has the
    z-loss.

    Examples
    --------
    The gradient by the logits is p - y:

    >>> import numpy as np, swiftmax as smx
    >>> x = np.array([[6.0, 3.0, 0.5, 0.5]])
    >>> loss, grad = smx.cross_entropy(x, [0], return_grad=True)
    >>> float(loss.round(6)), grad.round(6)
    (0.056343, array([[-0.054785,  0.047059,  0.003863,  0.003863]]))

    A loss that ``-log(softmax(x))`` rounds to 0:

    >>> print(smx.cross_entropy(np.float32([[30, 0, 0]]), [0]))
    1.8715246e-13
    """
    return_lse = as_flag(return_lse, "return_lse")
    return_grad = as_flag(return_grad, "return_grad")
    if out is not None and not return_grad:
        raise ValueError("out receives the gradient, so it needs return_grad=True")
    loss, lse, grad = _run(
        0,
        logits,
        targets,
        axis,
        weight,
        ignore_index,
        reduction,
        temperature=temperature,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        mask=mask,
        grad_scale=grad_scale,
        out=out,
        return_lse=return_lse,
        return_grad=return_grad,
    )
    if not (return_lse or return_grad):
        return loss
    return (loss, *([lse] if return_lse else []), *([grad] if return_grad else []))


def nll_from_log_probs(
    log_probs,
    targets,
    *,
    axis=-1,
    weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    reduction="mean",
):
    """Negative log-likelihood of targets under log-probabilities, which are taken as they are.

    As ``torch.nn.functional.nll_loss``. What `cross_entropy` says of `targets`, `axis`, `weight`,
    `ignore_index`, `label_smoothing`, `reduction`, results and errors holds here too.

    Parameters
    ----------
    log_probs : array_like, shape (..., K, ...)
        Logarithms of probabilities, such as `log_softmax` returns.
    targets : array_like
        Integers: a class for each row. Floats: probabilities in the shape of `log_probs`.
    axis : int, default -1
        The axis of the classes.
    weight : array_like, shape (K,), optional
        Weight of each class.
    ignore_index : int, default -100
        Rows with this target have loss 0 and do not count in the mean.
    label_smoothing : float, default 0.0
        From 0 to 1: the target becomes ``(1 - e) * y + e / K``.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" is over the rows that are not ignored; "none" returns the loss of each row.

    Returns
    -------
    scalar or ndarray
        float64 for float64 log-probabilities, else float32; with ``reduction="none"`` an array in
        the shape of the rows.

    Raises
    ------
    ValueError
        A shape, an axis or a value does not fit; a target that is no class is named with its row.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    See Also
    --------
    cross_entropy : from logits.

    Notes
    -----
    The loss of a row with one class as its target is ``-log_probs`` there, times its weight: only
    the rounding to the dtype of the result is lost. Sums over classes and rows are made in float64,
    in one order, and rounded once. -inf at the target gives inf; 0 * log 0 is 0. Where no row
    counts, the mean is 0. Layout, batch, threads and instruction set never change a bit.

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> log_probs = smx.log_softmax([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    >>> smx.nll_from_log_probs(log_probs, [0, 0], reduction="none").round(6)
    array([0.407606, 2.407606])
    """
    return _run(
        1,
        log_probs,
        targets,
        axis,
        weight,
        ignore_index,
        reduction,
        label_smoothing=label_smoothing,
    )[0]


def perplexity(
    logits, targets, *, axis=-1, temperature=1.0, weight=None, ignore_index=-100, mask=None
):
    """Perplexity: exp of the mean cross-entropy of `targets` under `logits`.

    Parameters
    ----------
    logits : array_like, shape (..., K, ...)
        All arguments are those of `cross_entropy`.
    targets : array_like
        A class for each row, or probabilities.
    axis : int, default -1
        The axis of the classes.
    temperature : float, default 1.0
        From 2**-126 to 2**126.
    weight : array_like, shape (K,), optional
        Weight of each class.
    ignore_index : int, default -100
        Rows with this target do not count.
    mask : array_like of bool, optional
        True where a class takes part.

    Returns
    -------
    scalar
        float64 for float64 logits, else float32. 1 where no row counts.

    Raises
    ------
    ValueError
        A shape, an axis or a value does not fit; a target that is no class is named with its row.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    See Also
    --------
    cross_entropy : whose mean this is the exp of.

    Notes
    -----
    The mean is formed in float64, and its exp is rounded once to the dtype of the result; exp
    multiplies the mean's relative error, 2**-53, by the mean. Where `cross_entropy` gives NaN or
    inf, so does this. Layout, batch, threads and instruction set never change a bit.

    Examples
    --------
    Of equal logits the number of classes:

    >>> import numpy as np, swiftmax as smx
    >>> smx.perplexity(np.zeros((3, 50)), [0, 7, 49]).round(6)
    np.float64(50.0)
    """
    return _run(
        2, logits, targets, axis, weight, ignore_index, "mean", temperature=temperature, mask=mask
    )[0]


def _targets(given, x):
    """Classes as int32 or int64, probabilities in the dtype of x or of its sums."""
    targets = _as_array(given, "targets")
    kind = targets.dtype.kind
    # Nothing, of fewer axes than probabilities have, is no class at all.
    is_empty = not targets.size and targets.ndim < x.ndim
    if not is_empty and (kind == "f" or kind == "V"):
        targets = as_float(targets, "targets")
        return targets if targets.dtype == x.dtype else as_wide(targets, "targets", _is_wide(x))
    if kind in "iu" or is_empty:
        return as_int64s(given, "targets")
    raise TypeError(
        f"targets has dtype {targets.dtype}, but must have integers for classes or floats for "
        "probabilities"
    )


def _is_wide(x):
    return x.dtype == np.float64


def _run(
    function,
    logits,
    targets,
    axis,
    weight,
    ignore_index,
    reduction,
    *,
    temperature=1.0,
    label_smoothing=0.0,
    z_loss=0.0,
    mask=None,
    grad_scale=None,
    out=None,
    return_lse=False,
    return_grad=False,
):
    """(loss, lse, grad), None where one is not wanted; `function` is the place in the C module."""
    x = as_float(logits, "log_probs" if function == 1 else "logits")
    if not isinstance(reduction, str) or reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', but is {shown(reduction)}")
    temperature = as_number(temperature, "temperature")
    # To the library 0 is the default.
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, but is {temperature}")
    wide = _is_wide(x)
    return _core._cross_entropy(
        function,
        x,
        _targets(targets, x),
        as_axis(axis),
        as_int64(ignore_index, "ignore_index"),
        _REDUCTIONS[reduction],
        # 1 is 0 there too: an option that is not set.
        0.0 if temperature == 1 else temperature,
        as_number(label_smoothing, "label_smoothing"),
        as_number(z_loss, "z_loss"),
        None if weight is None else as_wide(weight, "weight", wide),
        as_boolean_mask(mask),
        None if grad_scale is None else as_wide(grad_scale, "grad_scale", wide),
        out,
        return_lse,
        return_grad,
    )
