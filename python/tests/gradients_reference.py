"""What the gradients should give: the formulas row by row, each number an exact fraction.

exp and log alone are not rational; they are mpmath's, to 400 bits.
"""

from fractions import Fraction

import mpmath
import numpy as np

_CONTEXT = mpmath.MPContext()
_CONTEXT.prec = 400

# The unit of the bounds in swiftmax_training.h.
UNIT = {4: Fraction(1, 2**24), 8: Fraction(1, 2**53)}
OF_SUM = {4: Fraction(1, 2**44), 8: Fraction(1, 2**88)}


def exact(value):
    return Fraction(float(value))


def exp(value):
    """exp of a fraction as a fraction, to 400 bits."""
    if value == -np.inf:
        return Fraction(0)
    power = _CONTEXT.exp(_CONTEXT.mpf(float(value)))
    sign, mantissa, exponent, _ = power._mpf_
    return (-1) ** sign * Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def softmax_vjp_row(y, dy, temperature=1):
    """(exact dx, the sum of |y·dy|) of one row."""
    y, dy, t = [exact(v) for v in y], [exact(v) for v in dy], exact(temperature)
    products = [a * b for a, b in zip(y, dy, strict=True)]
    dot, size = sum(products), sum(map(abs, products))
    return [a * (b - dot) / t for a, b in zip(y, dy, strict=True)], size


def log_softmax_vjp_row(y, dy, temperature=1):
    """(exact dx, exp(y), the sum of dy, the sum of |dy|) of one row."""
    p, dy, t = [exp(v) for v in y], [exact(v) for v in dy], exact(temperature)
    total, size = sum(dy), sum(map(abs, dy))
    return [(b - a * total) / t for a, b in zip(p, dy, strict=True)], p, total, size


def formula(name, y, dy, axis=-1, temperature=1.0, mask=True):
    """The formula in long double; masked elements are 0 and nothing of them is used.

    torch has it so too: _softmax_backward_data and _log_softmax_backward_data of its
    tools/autograd/derivatives.yaml and functional.cpp.
    """
    axis = tuple(range(np.ndim(y))) if axis is None else axis
    mask = np.broadcast_to(mask, np.shape(y))
    y, dy = (np.where(mask, np.asarray(a, float), 0).astype(np.longdouble) for a in (y, dy))
    if name == "softmax_vjp":
        dx = y * (dy - (y * dy).sum(axis, keepdims=True))
    else:
        dx = dy - np.exp(y) * dy.sum(axis, keepdims=True)
    return np.where(mask, dx / temperature, 0)
