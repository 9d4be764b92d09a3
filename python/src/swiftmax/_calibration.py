"""Is a classifier as often right as it claims to be, and the temperature that makes it so."""

import math
from typing import NamedTuple

import numpy as np

from swiftmax import _core
from swiftmax._arguments import as_flag, as_int64, as_number
from swiftmax._mask import shown


class ReliabilityDiagram(NamedTuple):
    """How often the answers of each confidence were right.

    Attributes
    ----------
    edges : ndarray of float64, shape (bins + 1,)
        Bin b has the confidences above ``edges[b]``, up to ``edges[b + 1]``.
    counts : ndarray of int64, shape (bins,)
        Rows in each bin.
    confidence : ndarray of float64, shape (bins,)
        Their mean confidence, 0 in an empty bin.
    accuracy : ndarray of float64, shape (bins,)
        The share of right answers among them, 0 in an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


class TemperatureFit(NamedTuple):
    """What `fit_temperature` found.

    Attributes
    ----------
    temperature : float
    nll_before, nll_after : float
        Mean negative log-likelihood of the labels, in nats, at T = 1 and at `temperature`.
    iterations : int
        Passes over the logits beyond the first.
    bound : {-1, 0, 1}
        Where the likelihood still grows beyond the range allowed: -1 at its lowest, 1 at its
        highest temperature; else 0.
    calibration_error_before, calibration_error_after : float
        Expected calibration error.
    diagram_before, diagram_after : ReliabilityDiagram
    """

    temperature: float
    nll_before: float
    nll_after: float
    iterations: int
    bound: int
    calibration_error_before: float
    calibration_error_after: float
    diagram_before: ReliabilityDiagram
    diagram_after: ReliabilityDiagram


def calibration_error(
    logits, labels, *, temperature=1.0, bins=15, from_probabilities=False, return_diagram=False
):
    """Expected calibration error: the mean gap between confidence and accuracy.

    The answer to a row is its largest element, the confidence that element's probability. Rows are
    put into bins of equal width by their confidence, and the error is the mean over all rows of
    ``|accuracy - confidence|`` of their bin.

    Parameters
    ----------
    logits : array_like, shape (..., n)
        Logits, or with `from_probabilities` probabilities.
    labels : array_like of int, shape (...)
        The right classes.
    temperature : float, default 1.0
        The confidence is that of ``softmax(logits / temperature)``.
    bins : int, default 15
        From 1 to 2**20.
    from_probabilities : bool, default False
        `logits` holds probabilities, which are taken as they are.
    return_diagram : bool, default False
        Also return the bins.

    Returns
    -------
    float
    ReliabilityDiagram
        With `return_diagram`.

    Raises
    ------
    ValueError
        A shape does not fit, there is no row, a label is out of range, a row has no loss (NaN, inf,
        or -inf for its label); the sentence has its place.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.
    MemoryError
        There is no room for 56 bytes for each row and 24 for each bin.

    See Also
    --------
    fit_temperature : the temperature that makes a classifier calibrated.

    Notes
    -----
    Computed in float64, whatever the dtype. Of equal logits the first is the answer; a bin has the
    confidences above its lower edge, up to and with its upper one.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML
    2017.

    Examples
    --------
    Four answers, each given with p = 0.8, of which two are right:

    >>> import numpy as np, swiftmax as smx
    >>> p = np.array([[0.8, 0.2]] * 4)
    >>> error = smx.calibration_error(p, [0, 0, 1, 1], from_probabilities=True)
    >>> round(error, 6)
    0.3
    """
    return_diagram = as_flag(return_diagram, "return_diagram")
    temperature, bins = as_number(temperature, "temperature"), as_int64(bins, "bins")
    found = _core._calibration_error(logits, labels, temperature, bins, from_probabilities)
    return (found[0], ReliabilityDiagram(*found[4:])) if return_diagram else found[0]


def fit_temperature(logits, labels, *, bounds=(0.001, 1000.0), bins=15):
    """The temperature of largest likelihood, and how calibrated the classifier is with it.

    Finds ``T = argmin mean(-log_softmax(logits / T)[labels])``, the one number that repairs most of
    a classifier's overconfidence; dividing by it changes no answer. Fit it on held-out rows.

    Parameters
    ----------
    logits : array_like, shape (..., n)
        Any strides; float16, bfloat16, float32 and float64 are read where they are.
    labels : array_like of int, shape (...)
        The right classes.
    bounds : (float, float), default (0.001, 1000.0)
        The lowest and the highest temperature allowed.
    bins : int, default 15
        Bins of the reliability diagrams, from 1 to 2**20.

    Returns
    -------
    TemperatureFit
        A named tuple: `temperature`, `nll_before`, `nll_after`, `iterations`, `bound`,
        `calibration_error_before`, `calibration_error_after`, `diagram_before`, `diagram_after`.

    Raises
    ------
    ValueError
        A shape does not fit, there is no row, a label is out of range, a row has no loss (NaN, inf,
        or -inf for its label); the sentence has its place.
    TypeError
        An argument has the wrong kind or dtype.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.
    MemoryError
        There is no room for 56 bytes for each row and 24 for each bin.

    Notes
    -----
    The mean is convex in 1/T (not in T), so it is minimised over 1/T: Newton's method with both
    derivatives exact in float64, inside a bracket that always holds the minimum. It always ends,
    usually after 5 to 10 passes.

    Where there is no finite optimum the result is a bound, and `bound` says which: every label its
    row's largest logit gives the lowest temperature, labels no likelier than chance the highest.
    Where the likelihood does not depend on T (rows of equal logits) T stays 1, or is the bound
    nearest to it.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML
    2017, section 4.2.

    Examples
    --------
    Right in two cases of three, but sure of itself: the best p is 2/3, a logit of log 2.

    >>> import numpy as np, swiftmax as smx
    >>> fit = smx.fit_temperature(np.full((3, 2), [5.0, 0.0]), [0, 0, 1])
    >>> round(5 / fit.temperature, 6)
    0.693147
    >>> round(fit.calibration_error_before, 3), round(fit.calibration_error_after, 3)
    (0.327, 0.0)
    """
    try:
        lowest, highest = bounds
    except (TypeError, ValueError) as error:
        sentence = f"bounds must be a pair (lowest, highest), but is {shown(bounds)}"
        raise type(error)(sentence) from None
    lowest = as_number(lowest, "the lowest of bounds")
    highest = as_number(highest, "the highest of bounds")
    for bound, name in ((lowest, "lowest"), (highest, "highest")):
        if not 0 < bound < math.inf:
            raise ValueError(f"the {name} of bounds must be a positive number, but is {bound}")
    if lowest > highest:
        raise ValueError(f"the lowest of bounds, {lowest}, is more than the highest, {highest}")
    temperature, bound, iterations, before, after = _core._fit_temperature(
        logits, labels, lowest, highest, as_int64(bins, "bins")
    )
    return TemperatureFit(
        temperature=temperature,
        nll_before=before[1],
        nll_after=after[1],
        iterations=iterations,
        bound=bound,
        calibration_error_before=before[0],
        calibration_error_after=after[0],
        diagram_before=ReliabilityDiagram(*before[4:]),
        diagram_after=ReliabilityDiagram(*after[4:]),
    )
