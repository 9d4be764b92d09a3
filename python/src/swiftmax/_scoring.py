"""Sigmoid, and the log-probability of what was chosen: of token sequences and of rankings."""

import numpy as np

from swiftmax import _core
from swiftmax._arguments import as_boolean_mask, as_float, joint_lengths
from swiftmax._mask import integers


def sigmoid(x, *, out=None):
    """Logistic sigmoid ``1 / (1 + exp(-x))``, element by element.

    Softmax of two classes: ``softmax([a, b])[0]`` is ``sigmoid(a - b)`` wherever ``a - b`` is
    exact.

    Parameters
    ----------
    x : array_like
        Any shape and strides. float16, bfloat16 (of ml_dtypes), float32 and float64 keep their
        dtype; integers and bool become float64.
    out : ndarray, optional
        Where the result goes: shape and dtype of `x`, any strides. May be `x` itself.

    Returns
    -------
    ndarray or scalar
        In the shape and dtype of `x`; 0 at -inf, 1 at inf, NaN at NaN.

    Raises
    ------
    ValueError
        `out` has another shape.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    See Also
    --------
    log_sigmoid : its logarithm, without the loss that ``log(sigmoid(x))`` has.

    Notes
    -----
    At most 2 ulp from the exact value in float32 and float64, subnormal results among them. The
    same bits on every CPU, for every layout and number of threads.

    Examples
    --------
    >>> import swiftmax as smx
    >>> smx.sigmoid([-1.0, 0.0, 1.0]).round(6)
    array([0.268941, 0.5     , 0.731059])
    >>> smx.softmax([3.0, 2.0])[0] == smx.sigmoid(3.0 - 2.0)
    np.True_

    No underflow before the result itself is 0:

    >>> float(smx.sigmoid(-740.0))
    4.2e-322
    """
    return _core._sigmoid(x, out)


def log_sigmoid(x, *, out=None):
    """Logarithm of the logistic sigmoid, ``-log(1 + exp(-x))``, element by element.

    Parameters
    ----------
    x : array_like
        As of `sigmoid`.
    out : ndarray, optional
        As of `sigmoid`.

    Returns
    -------
    ndarray or scalar
        In the shape and dtype of `x`; -inf at -inf, 0 at inf, NaN at NaN.

    Raises
    ------
    ValueError
        `out` has another shape.
    TypeError
        An argument has the wrong kind or dtype. `out` is untouched after any error.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    Notes
    -----
    At most 2 ulp from the exact value in float32 and float64, also where it is nearly 0. The same
    bits on every CPU, for every layout and number of threads.

    Examples
    --------
    The loss of a binary classifier that is sure, right and wrong; ``log(sigmoid(x))`` gives 0 and
    -inf:

    >>> import swiftmax as smx
    >>> smx.log_sigmoid([50.0, -1000.0])
    array([-1.92874985e-22, -1.00000000e+03])
    """
    return _core._log_sigmoid(x, out)


def sequence_log_prob(
    logits,
    tokens,
    lengths=None,
    *,
    temperature=1.0,
    mask=None,
    normalize=False,
    return_token_log_probs=False,
):
    """Log-probability of token sequences from the logits that a model gave for them.

    ``sum(log_softmax(logits[..., i, :] / T)[tokens[..., i]])`` over the tokens of each sequence,
    without an array of the size of the logits.

    Parameters
    ----------
    logits : array_like, shape (..., L, V)
        Any strides; float16, bfloat16, float32 and float64 are read where they are. Of a causal
        language model give ``logits[:, :-1]``, and ``tokens[:, 1:]``.
    tokens : array_like of int, shape (..., L)
        The classes that were chosen, 0 to V - 1.
    lengths : array_like of int, shape (...), optional
        How many tokens each sequence has, L by default. What stands behind is not read, neither
        logits nor tokens.
    temperature : float or array_like, default 1.0
        One number, or one for each row of `logits`, as in `softmax`.
    mask : array_like of bool, optional
        True where a class takes part; broadcast to `logits`.
    normalize : bool, default False
        Divide by the length, so that sequences of different lengths can be compared.
    return_token_log_probs : bool, default False
        Also return the log-probability of each token.

    Returns
    -------
    ndarray of float64, shape (...)
        The sums (or means); 0 for a sequence of no tokens. A scalar where there is one sequence
        without a leading axis.
    ndarray, shape (..., L)
        With `return_token_log_probs`: in float64 for float64 logits, else float32; 0 from the
        length on.

    Raises
    ------
    ValueError
        A shape does not fit; a token or a length is out of range: the sentence has its place.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.
    MemoryError
        There is no room for 8 bytes for each token.

    Notes
    -----
    A token's log-probability has the bits that `log_softmax` has at that element, which is at most
    2 ulp from the exact value; a dominant token or a common offset of the logits loses nothing.
    They are summed in float64, in their order. A token that is masked, or whose logit is -inf, has
    -inf.

    Examples
    --------
    A product of probabilities underflows where the sum of their logarithms does not. A thousand
    tokens of p = 0.1:

    >>> import numpy as np, swiftmax as smx
    >>> logits = np.zeros((1000, 10), np.float32)
    >>> tokens = np.full(1000, 7)
    >>> p = smx.softmax(logits)[np.arange(1000), tokens]
    >>> float(p.prod())
    0.0
    >>> round(float(smx.sequence_log_prob(logits, tokens)), 3)
    -2302.585

    Two sequences in a padded batch, per token:

    >>> logits = np.log([[[0.5, 0.5], [0.9, 0.1]], [[0.2, 0.8], [np.nan, np.nan]]])
    >>> score = smx.sequence_log_prob(logits, [[0, 0], [1, -1]], [2, 1], normalize=True)
    >>> np.exp(score).round(6)
    array([0.67082, 0.8    ])
    """
    return _core._sequence_log_prob(
        logits,
        tokens,
        lengths,
        temperature,
        as_boolean_mask(mask),
        normalize,
        return_token_log_probs,
    )


def plackett_luce_log_prob(scores, ranking):
    """Log-probability of a ranking under the Plackett-Luce model.

    Each place is a softmax choice among the items that are left:
    ``sum(scores[r] - logsumexp(scores of the items not ranked before r) for r in ranking)``.

    Parameters
    ----------
    scores : array_like, shape (..., n)
        Log-weights of the items.
    ranking : array_like of int, shape (..., k)
        Items from the first place on, each at most once: all n, or the first k places. The leading
        axes of `scores` and `ranking` are broadcast.

    Returns
    -------
    ndarray of float64, shape (...)
        A scalar without leading axes; 0 for a ranking of no places.

    Raises
    ------
    ValueError
        A shape does not fit; an item is out of range or ranked twice: the sentence has its place.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.
    MemoryError
        There is no room for 16 bytes for each item and thread.

    Notes
    -----
    O(n), from the last place to the first, with a logsumexp that runs along in float64; relative
    error below ``(n + 4) * 2**-52``, also where every place is nearly certain. NaN or inf among the
    scores gives NaN, and so does a choice among several items of -inf alone; an item of -inf that
    is ranked while one above it is left gives -inf.

    References
    ----------
    R. L. Plackett, "The Analysis of Permutations", Applied Statistics 24 (1975).

    Examples
    --------
    Two horses of weights 2 and 1, and a third of 1, come in as 0, 1, 2: 2/4 times 1/2.

    >>> import numpy as np, swiftmax as smx
    >>> float(np.exp(smx.plackett_luce_log_prob(np.log([2.0, 1.0, 1.0]), [0, 1, 2])).round(6))
    0.25

    The winner alone:

    >>> float(np.exp(smx.plackett_luce_log_prob(np.log([2.0, 1.0, 1.0]), [0])).round(6))
    0.5
    """
    scores = as_float(scores, "scores")
    ranking = integers(ranking, "ranking")
    if scores.ndim and ranking.ndim and scores.shape[:-1] != ranking.shape[:-1]:
        leading = joint_lengths(scores.shape[:-1], ranking.shape[:-1])
        if leading is None:
            raise ValueError(
                f"ranking of shape {ranking.shape} does not broadcast with scores of shape "
                f"{scores.shape}: the axes but the last must agree"
            )
        scores = np.broadcast_to(scores, (*leading, scores.shape[-1]))
        ranking = np.broadcast_to(ranking, (*leading, ranking.shape[-1]))
    return _core._plackett_luce_log_prob(scores, ranking)
