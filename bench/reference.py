"""The exact values that errors are measured against, and the measure itself.

For float32 inputs the work is done in float64, for float64 inputs in long double (x87: 64 bits of
significand). That alone would not certify 2 ulp of float64: x - max rounded to 64 bits is off by up
to 745 * 2^-64, 0.35 ulp of the exponential. So:

    x - max    is kept as a pair high + low without any error (TwoSum in float64)
    / T        the quotient as a pair too: its remainder is exact (TwoProduct in float64)
    exp        exp(high) * (1 + low), where high is a float64: only the rounding of expl, 2^-63.5
    t          the sum of all terms but the maximum's own, pairwise: log2(n) * 2^-64 at most
    softmax    exp / (1 + t)
    log        (high - log1p(t)) + low; both terms have one sign, so nothing cancels
    logsumexp  max + log1p(t), measured in units of the larger of |result| and |max|

Altogether below 0.02 ulp of float64 for rows of 2^20. The largest error found in each class is
computed again by mpmath with 200 bits (`confirm`), and the table shows that figure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Exact(NamedTuple):
    """softmax and log_softmax (rows, columns); logsumexp and the row maximum (rows)."""

    softmax: np.ndarray
    log_softmax: np.ndarray
    logsumexp: np.ndarray
    maximum: np.ndarray


def two_sum(a, b):
    """a + b = sum + rest without error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a, b):
    """a * b = product + rest without error (Dekker)."""

    def split(value):
        big = value * 134217729.0  # 2^27 + 1
        upper = big - (big - value)
        return upper, value - upper

    product = a * b
    a_high, a_low = split(a)
    b_high, b_low = split(b)
    rest = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, rest


def reference(x: np.ndarray, temperature: float = 1.0) -> Exact:
    """Exact values for each row of `x`, to far below an ulp of its dtype. No NaN, no infinity."""
    work = np.float64 if x.dtype == np.float32 else np.longdouble
    values = x.astype(np.float64)
    maximum = values.max(axis=1, keepdims=True)
    high, low = two_sum(values, -maximum)
    low = low.astype(work)
    if temperature != 1.0:
        quotient = high / temperature
        product, rest = two_product(quotient, np.float64(temperature))
        low = ((high - product).astype(work) - rest + low) / work(temperature)
        high = quotient
    wide = high.astype(work)
    with np.errstate(under="ignore"):
        terms = np.exp(wide) * (1 + low)
        first = values.argmax(axis=1)[:, None]
        np.put_along_axis(terms, first, work(0), axis=1)
        above = terms.sum(axis=1, keepdims=True)
        np.put_along_axis(terms, first, work(1), axis=1)
        log_sum = np.log1p(above)
        return Exact(
            softmax=terms / (1 + above),
            log_softmax=(wide - log_sum) + low,
            logsumexp=(maximum.astype(work) + log_sum)[:, 0],
            maximum=maximum[:, 0],
        )


def unit(value: np.ndarray, dtype) -> np.ndarray:
    """One ulp of `dtype` at the size of the exact `value`, at least the smallest subnormal."""
    info = np.finfo(dtype)
    _, exponent = np.frexp(value)
    exponent = np.maximum(exponent - 1, info.minexp)
    exponent = np.where(value == 0, info.minexp, exponent)
    return np.ldexp(np.ones_like(value), exponent - info.nmant)


def error_in_ulp(got: np.ndarray, exact: np.ndarray, at_least=None) -> np.ndarray:
    """|got - exact| in ulp of the exact value, or of `at_least` where that is larger.

    Infinite where `got` is not finite.
    """
    size = np.abs(exact) if at_least is None else np.maximum(np.abs(exact), np.abs(at_least))
    error = np.abs(got.astype(exact.dtype) - exact) / unit(size, got.dtype)
    return np.where(np.isfinite(got), error, np.inf).astype(np.float64)


def confirm(
    operation: str, x: np.ndarray, got: float, index: int, temperature: float = 1.0
) -> float:
    """The error of one result of the row `x` in ulp, by mpmath with 200 bits."""
    import mpmath

    dtype = x.dtype
    with mpmath.workprec(200):
        values = [mpmath.mpf(float(v)) / mpmath.mpf(float(temperature)) for v in x]
        maximum = max(values)
        log_sum = mpmath.log1p(mpmath.fsum(mpmath.exp(v - maximum) for v in values) - 1)
        size = None
        if operation == "softmax":
            exact = mpmath.exp(values[index] - maximum - log_sum)
        elif operation == "log_softmax":
            exact = values[index] - maximum - log_sum
        else:
            exact = maximum + log_sum
            size = max(abs(exact), abs(maximum))
        size = abs(exact) if size is None else size
        info = np.finfo(dtype)
        exponent = info.minexp if size == 0 else max(int(mpmath.frexp(size)[1]) - 1, info.minexp)
        step = mpmath.mpf(2) ** int(exponent - info.nmant)
        return float(abs(mpmath.mpf(float(got)) - exact) / step)
