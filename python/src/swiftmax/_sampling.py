"""sample, filtered_softmax, top_k and gumbel_softmax: from logits to tokens.

The functions make arrays of their arguments; shapes, values and filters are the library's business.
"""

import math
import os

import numpy as np

from swiftmax import _core
from swiftmax._arguments import as_boolean_mask, as_flag, as_float, as_integer
from swiftmax._mask import integers


def _temperature(value):
    if isinstance(value, float | int) and value == 1:
        return None
    return as_float(value, "temperature")


def _integers(value, name):
    return None if value is None else integers(value, name)


def _share(value, name):
    if value is None:
        return None
    array = as_float(value, name)
    return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)


def _number(value, name, least, most):
    number = as_integer(value, name)
    if not least <= number <= most:
        raise ValueError(f"{name} must be from {least} to {most}, but is {number}")
    return number


def _seed(value):
    if value is None:
        return int.from_bytes(os.urandom(8), "little")
    return _number(value, "seed", 0, 2**64 - 1)


def sample(
    logits,
    *,
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    mask=None,
    size=None,
    seed=None,
    counter=None,
    draw=0,
    return_log_probs=False,
):
    """Draws tokens from logits, filtered by top-k, top-p and min-p.

    Parameters
    ----------
    logits : array_like
        (..., n): a row along the last axis for each choice among n tokens, in any float dtype and
        with any strides. Integers and bool become float64.
    temperature : float or array_like, default 1.0
        Logits are divided by it. 0 is greedy: the largest, and of equal ones the first; inf is
        uniform.
    top_k : int or array_like, optional
        Leaves the k largest; of equal ones the first, so that exactly k remain. None, 0, and n or
        more leave all.
    top_p : float or array_like, optional
        Of those leaves the smallest number of largest whose probabilities, renormalised after
        `top_k`, add up to `top_p` or more: the token that crosses it stays. 0 leaves the largest
        token, 1 leaves all.
    min_p : float or array_like, optional
        Of those leaves the tokens that have `min_p` times the largest probability or more.
    mask : array_like of bool, optional
        True where a token may be drawn. Broadcast to `logits`; what is masked is not used, so that
        a NaN there does no harm.
    size : int, optional
        That many independent draws of each row, along a last axis of their own.
    seed : int, optional
        From 0 to 2**64 - 1. None takes 64 fresh bits from the operating system.
    counter : int or array_like of int, optional
        A number of the row's own, by default its number in the batch, counted in C order. A row
        alone, given its counter, has the token that it has in the batch.
    draw : int or array_like of int, default 0
        Number of the row's first draw: the step, in a loop that draws a token at each.
    return_log_probs : bool, default False
        Also return the logarithm of each token's probability among those left.

    Returns
    -------
    ndarray of int64 or int64
        Indices into the rows, in the shape of `logits` without its last axis, with `size` behind
        it if given; a scalar where that shape is ().
    ndarray of float64 or float64
        Only with `return_log_probs`.

    Raises
    ------
    ValueError
        A row has nothing to draw from (all masked or -inf), or has NaN or +inf where it is not
        masked: the sentence has its number. A shape or a value does not fit.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.
    MemoryError
        There is no room for the tokens of a large call.

    See Also
    --------
    filtered_softmax : the distribution that tokens are drawn from.

    Notes
    -----
    `temperature`, `top_k`, `top_p`, `min_p`, `counter` and `draw` may each have one number for
    each row, broadcast to the shape of `logits` without its last axis.

    Random numbers are Philox4x32-10, a function of `seed`, `counter` and draw number alone, and
    sums of weights are exact. So the token of a row depends on nothing else: the same in C, Swift
    and Python, on every CPU, for every number of threads, in every batch and layout.
    docs/decoding.md has the layout of the counter and the definition of each filter. A token's
    probability is exact to 2**-45 of it and n * 2**-53 of the largest.

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> logits = np.log([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]])
    >>> tokens = smx.sample(logits, top_k=3, top_p=0.9, temperature=0.8, seed=1, size=1000)
    >>> [np.bincount(row, minlength=4).tolist() for row in tokens]
    [[583, 297, 120, 0], [0, 202, 308, 490]]

    The row's own counter makes it independent of the batch:

    >>> bool(smx.sample(logits[1], seed=1, counter=1) == smx.sample(logits, seed=1)[1])
    True
    """
    return_log_probs = as_flag(return_log_probs, "return_log_probs")
    logits = as_float(logits, "logits")
    shape = logits.shape[:-1]
    if size is not None:
        size = _number(size, "size", 0, np.iinfo(np.int64).max)
        if size * math.prod(shape) > np.iinfo(np.int64).max // 8:
            raise ValueError(f"size is {size}: tokens are more than memory can hold")
        shape += (size,)
    tokens = np.empty(shape, np.int64)
    log_probs = np.empty(shape, np.float64) if return_log_probs else None
    _core._sample(
        logits,
        tokens,
        log_probs,
        _temperature(temperature),
        _integers(top_k, "top_k"),
        _share(top_p, "top_p"),
        _share(min_p, "min_p"),
        as_boolean_mask(mask),
        _integers(counter, "counter"),
        _integers(draw, "draw"),
        _seed(seed),
    )
    # An array without axes becomes a scalar.
    return (tokens[()], log_probs[()]) if return_log_probs else tokens[()]


def filtered_softmax(
    logits, *, temperature=1.0, top_k=None, top_p=None, min_p=None, mask=None, out=None
):
    """Softmax of what top-k, top-p and min-p leave, 0 elsewhere: what `sample` draws from.

    With one filter it is what FlashInfer calls top_k_renorm and top_p_renorm, from logits.

    Parameters
    ----------
    logits, temperature, top_k, top_p, min_p, mask : array_like
        As in `sample`.
    out : ndarray, optional
        Where the result goes: shape and dtype of `logits`, any strides. May be `logits` itself; if
        it overlaps an input otherwise, the result is computed aside first.

    Returns
    -------
    ndarray
        Probabilities in the shape and dtype of `logits`.

    Raises
    ------
    ValueError
        A shape or a value does not fit.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    See Also
    --------
    sample, softmax

    Notes
    -----
    The bits are those of ``softmax(np.where(left, logits, -np.inf), temperature=temperature)``: at
    most 2 ulp from exact in float32 and float64. A row with NaN or +inf where it is not masked is
    NaN; a row that has nothing above -inf left is 0. Layout, batch, threads and instruction set
    never change a bit.

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> logits = np.log([0.5, 0.3, 0.15, 0.05])
    >>> smx.filtered_softmax(logits, top_k=3).round(4)
    array([0.5263, 0.3158, 0.1579, 0.    ])
    >>> smx.filtered_softmax(logits, top_p=0.7).round(4)
    array([0.625, 0.375, 0.   , 0.   ])
    >>> smx.filtered_softmax(logits, min_p=0.2).round(4)
    array([0.5263, 0.3158, 0.1579, 0.    ])
    """
    logits = as_float(logits, "logits")
    out = np.empty(logits.shape, logits.dtype) if out is None else out
    _core._filtered_softmax(
        logits,
        out,
        _temperature(temperature),
        _integers(top_k, "top_k"),
        _share(top_p, "top_p"),
        _share(min_p, "min_p"),
        as_boolean_mask(mask),
    )
    return out


def top_k(logits, k, *, temperature=1.0, mask=None, log=False):
    """The k largest of each row, with their probabilities among all of the row.

    Parameters
    ----------
    logits, temperature, mask : array_like
        As in `sample`.
    k : int
        From 0 to n.
    log : bool, default False
        Logarithms of the probabilities instead.

    Returns
    -------
    probabilities : ndarray
        (..., k) in the dtype of `logits`: softmax, or log_softmax, of the whole row at these
        places, not renormalised. Largest first.
    indices : ndarray of int64
        (..., k): where in the row. Of equal ones the first comes first.

    Raises
    ------
    ValueError
        `k` is larger than a row is long; a shape or a value does not fit.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.
    MemoryError
        There is no room for the lists of a `k` above 1024.

    See Also
    --------
    filtered_softmax : renormalised, in the shape of `logits`.

    Notes
    -----
    The bits are those of `softmax` and `log_softmax`. Behind the elements above -inf that are not
    masked: index -1 and probability 0. A row with NaN or +inf where it is not masked has index -1
    and NaN throughout.

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> probabilities, indices = smx.top_k(np.log([0.1, 0.2, 0.3, 0.4]), 2)
    >>> probabilities.round(4), indices
    (array([0.4, 0.3]), array([3, 2]))
    """
    logits = as_float(logits, "logits")
    shape = (*logits.shape[:-1], _number(k, "k", 0, np.iinfo(np.int64).max))
    if logits.ndim and shape[-1] > logits.shape[-1]:
        raise ValueError(
            f"k is {shape[-1]}, but logits of shape {logits.shape} has rows of {logits.shape[-1]}"
        )
    probabilities = np.empty(shape, logits.dtype)
    indices = np.empty(shape, np.int64)
    _core._top_k(
        logits,
        probabilities,
        indices,
        _temperature(temperature),
        as_boolean_mask(mask),
        as_flag(log, "log"),
    )
    return probabilities, indices


def gumbel_softmax(
    logits,
    *,
    temperature=1.0,
    hard=False,
    mask=None,
    seed=None,
    counter=None,
    draw=0,
    out=None,
):
    """Softmax of logits with Gumbel noise: ``softmax((logits + g) / temperature)``.

    A relaxed draw from ``softmax(logits)`` (Jang, Gu, Poole 2017; Maddison, Mnih, Teh 2017): the
    place of its largest element is distributed as the draw itself.

    Parameters
    ----------
    logits, temperature, mask, counter, draw : array_like
        As in `sample`; `draw` is below 2**31. Its noise is independent of the draws of `sample`.
    seed : int, optional
        As in `sample`.
    hard : bool, default False
        1 at the largest ``logits + g``, of equal ones the first, and 0 elsewhere.
    out : ndarray, optional
        As in `filtered_softmax`.

    Returns
    -------
    ndarray
        In the shape and dtype of `logits`.

    Raises
    ------
    ValueError
        A shape or a value does not fit.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.
    MemoryError
        There is no room for a row of noise for each thread.

    See Also
    --------
    sample

    Notes
    -----
    ``g = -log(-log(u))`` comes from 52 random bits for each element, to 1 ulp of float32 (float64
    for float64); the rest is `softmax` with `g` as its bias, with its accuracy and its special
    rows. The result depends on `seed`, row `counter`, `draw` and the row alone: not on CPU,
    threads, batch or layout.

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> logits = np.log([0.1, 0.2, 0.7])
    >>> smx.gumbel_softmax(logits, temperature=0.5, hard=True, seed=7)
    array([0., 0., 1.])
    """
    logits = as_float(logits, "logits")
    out = np.empty(logits.shape, logits.dtype) if out is None else out
    _core._gumbel_softmax(
        logits,
        out,
        _temperature(temperature),
        as_boolean_mask(mask),
        _integers(counter, "counter"),
        _integers(draw, "draw"),
        _seed(seed),
        as_flag(hard, "hard"),
    )
    return out
