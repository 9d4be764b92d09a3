"""entropy and kl_divergence, of probabilities or of logits."""

import numpy as np

from swiftmax import _core
from swiftmax._arguments import as_axis, as_float, joint_shape


def entropy(p=None, *, logits=None, axis=-1):
    """Entropy of probabilities or of ``softmax(logits)`` along an axis, in natural units.

    Parameters
    ----------
    p : array_like, optional
        Probabilities; each row is divided by its sum, as ``scipy.stats.entropy`` does. Any rank
        from 1 and any strides, in float16, bfloat16 (of ml_dtypes), float32 or float64; integers
        and bool become float64.
    logits : array_like, optional
        In place of `p`.
    axis : int, default -1
        The axis of a row.

    Returns
    -------
    scalar or ndarray
        At least 0, in the shape without `axis`; float64 for float64, else float32. 0 * log 0 is 0.
        NaN where a row has NaN, +inf, a negative probability or sum 0, or logits of -inf alone.

    Raises
    ------
    ValueError
        Both or neither of `p` and `logits`; an axis out of range.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    See Also
    --------
    kl_divergence

    Notes
    -----
    Computed in float64 and rounded once. The error is about 2**-50 of the sum of the magnitudes of
    the terms, which are ``p * log(p)`` of the numbers as given, over their sum, and the logarithm
    of that sum. Of logits, ``x - max(x)`` is rounded besides, by half an ulp of its own; p has
    that as a relative error, up to 2**-43 where it is smallest. Of numbers in one row that lie more
    than about 2**2000 apart, the smallest count as 0.

    Rows are shared among threads (`set_num_threads`), and the GIL is released meanwhile. Layout,
    batch, threads and instruction set never change a bit of the result.

    References
    ----------
    C. E. Shannon, "A Mathematical Theory of Communication", Bell System Technical Journal 27
    (1948).

    Examples
    --------
    A fair coin, in bits:

    >>> import numpy as np, swiftmax as smx
    >>> smx.entropy([0.5, 0.5]) / np.log(2)
    np.float64(1.0)
    """
    is_logits = _one_of("p", p, "logits", logits)
    x = as_float(logits if is_logits else p, "logits" if is_logits else "p")
    return _core._divergence(x, None, as_axis(axis), is_logits, False)


def kl_divergence(p=None, q=None, *, p_logits=None, q_logits=None, axis=-1):
    """Kullback-Leibler divergence of p from q along an axis: ``sum(p * log(p / q))``.

    Parameters
    ----------
    p, q : array_like, optional
        Probabilities; each row is divided by its sum, as ``scipy.stats.entropy(p, q)`` does.
        Dtypes as for `entropy`; unlike ones are cast to float64 if one is float64, else to float32.
    p_logits, q_logits : array_like, optional
        Logits in place of `p`, of `q`. The operands are broadcast against each other.
    axis : int, default -1
        The axis of a row, of the broadcast shape.

    Returns
    -------
    scalar or ndarray
        At least 0, and 0 for equal rows, in the shape without `axis`; float64 where an operand is,
        else float32. inf where q is 0 and p is not; NaN as for `entropy`, in either operand. Its
        sum divided by ``p.shape[0]`` is torch's ``"batchmean"``; for 2-D operands that is its mean.

    Raises
    ------
    ValueError
        Both or neither of two operands for one; shapes that do not broadcast; an axis out of range.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    See Also
    --------
    entropy

    Notes
    -----
    Computed in float64 and rounded once. Accuracy and threads are those of `entropy`, the terms
    being ``p * log(p)`` and ``p * log(q)`` and the logarithms of both sums: for near rows the
    result may be small against them.

    References
    ----------
    S. Kullback and R. A. Leibler, "On Information and Sufficiency", Annals of Mathematical
    Statistics 22 (1951).

    Examples
    --------
    >>> import numpy as np, swiftmax as smx
    >>> smx.kl_divergence([0.5, 0.5], [0.25, 0.75]).round(6)
    np.float64(0.143841)
    """
    p_is_logits = _one_of("p", p, "p_logits", p_logits)
    q_is_logits = _one_of("q", q, "q_logits", q_logits)
    a = as_float(p_logits if p_is_logits else p, "p_logits" if p_is_logits else "p")
    b = as_float(q_logits if q_is_logits else q, "q_logits" if q_is_logits else "q")
    if a.dtype != b.dtype:
        wide = np.float64 if np.float64 in (a.dtype, b.dtype) else np.float32
        a, b = a.astype(wide, copy=False), b.astype(wide, copy=False)
    if a.shape != b.shape:
        shape = joint_shape(
            b, "q_logits" if q_is_logits else "q", a, "p_logits" if p_is_logits else "p"
        )
        a, b = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
    return _core._divergence(a, b, as_axis(axis), p_is_logits, q_is_logits)


def _one_of(name, value, other_name, other):
    """Whether the second of two arguments is the one given."""
    if (value is None) == (other is None):
        raise ValueError(f"one of {name} and {other_name} must be given, and only one")
    return value is None
