"""What the functions should give, slow and obvious: each row a list, each number an mpmath number.

Also the two comparisons: within so many ulp of the exact value, and equal to the last bit. Both say
where the first difference is, with both values in hexadecimal.
"""

import re

import ml_dtypes
import mpmath
import numpy as np

import swiftmax as smx

BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float16), BF16, np.dtype(np.float32), np.dtype(np.float64)]
WIDE = DTYPES[2:]

# The bound is written once, where users read it.
ULP = float(re.search(r"At most (\d+) ulp", smx.softmax.__doc__)[1])

# A log-probability may be as small as a float64 beside a score of 1; 1400 bits hold both.
_CONTEXT = mpmath.MPContext()
_CONTEXT.prec = 1400
mpf, INF, NAN = _CONTEXT.mpf, _CONTEXT.inf, _CONTEXT.nan


def _logsumexp_row(scores):
    if any(mpmath.isnan(s) for s in scores):
        return NAN
    top = max(scores, default=-INF)
    if mpmath.isinf(top):
        return top
    return top + _CONTEXT.log(_CONTEXT.fsum(_CONTEXT.exp(s - top) for s in scores))


def _log_softmax_row(scores, temperature):
    """Scores of the visible elements. T = 0 and inf are the limits that the contract names."""
    if any(mpmath.isnan(s) or s == INF for s in scores) or all(s == -INF for s in scores):
        return [NAN] * len(scores)
    if temperature == 0:
        scores = [mpf(0) if s == max(scores) else -INF for s in scores]
    elif mpmath.isinf(temperature):
        scores = [-INF if s == -INF else mpf(0) for s in scores]
    else:
        scores = [s / temperature for s in scores]
    total = _logsumexp_row(scores)
    return [s if s == -INF else s - total for s in scores]


def reference(name, x, axis=-1, temperature=1.0, mask=None, bias=None):
    """An array of exact numbers (dtype object): `name` is that of the function."""
    x = np.asarray(x)
    axes = tuple(range(x.ndim)) if axis is None else tuple(np.atleast_1d(axis) % x.ndim)
    kept = [a for a in range(x.ndim) if a not in axes]
    order = [*kept, *axes]
    row_shape = tuple(x.shape[a] for a in axes)

    def rows(values):
        spread = np.broadcast_to(np.asarray(values), x.shape).transpose(order)
        return spread.reshape(-1, int(np.prod(row_shape)))

    visible = rows(True if mask is None else mask)
    x_rows, bias_rows = rows(x), rows(0.0 if bias is None else bias)
    result = np.empty(x_rows.shape, object)
    sums = np.empty(len(x_rows), object)
    for i, row in enumerate(x_rows):
        seen = np.flatnonzero(visible[i])
        scores = [mpf(float(row[j])) + mpf(float(bias_rows[i][j])) for j in seen]
        sums[i] = _logsumexp_row(scores)
        result[i] = -INF
        logs = _log_softmax_row(scores, temperature)
        if bias is not None and scores and all(s == -INF for s in scores):
            logs = [-INF] * len(scores)
        for j, value in zip(seen, logs, strict=True):
            result[i, j] = value
    kept_shape = tuple(x.shape[a] for a in kept)
    if name == "logsumexp":
        return sums.reshape(kept_shape)
    if name == "softmax":
        result = np.frompyfunc(_CONTEXT.exp, 1, 1)(result)
    return result.reshape(kept_shape + row_shape).transpose(np.argsort(order))


# -- comparisons ---------------------------------------------------------------------------


def _hex(value):
    return f"{float(value).hex()} (bits {bits(value).item():#x})"


def bits(array):
    """The bits as unsigned integers."""
    array = np.asarray(array)
    return np.ascontiguousarray(array).view(f"u{array.itemsize}").reshape(array.shape)


def _where(context):
    return f"isa {smx.show_config('dicts')['isa']}, {context}"


def assert_same_bits(got, expected, context=""):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype, (got.dtype, expected.dtype, context)
    assert got.shape == expected.shape, (got.shape, expected.shape, context)
    differs = bits(got) != bits(expected)
    if differs.any():
        at = tuple(np.argwhere(differs)[0].tolist())
        raise AssertionError(
            f"{differs.sum()} of {got.size} elements of shape {got.shape} differ, first at {at}: "
            f"{_hex(got[at])} instead of {_hex(expected[at])}; {_where(context)}"
        )


def ulp(dtype, exact):
    """One unit in the last place at an exact value, no smaller than at the smallest normal."""
    info = ml_dtypes.finfo(dtype)
    exponent = mpmath.floor(mpmath.log(abs(exact), 2)) if exact else info.minexp
    return mpf(2) ** (max(int(exponent), int(info.minexp)) - int(info.nmant))


def assert_within_ulp(got, exact, bound=ULP, context="", scale=None):
    """`scale`: the exact value whose ulp counts, where it is not the result's own."""
    got = np.asarray(got)
    assert got.shape == exact.shape, (got.shape, exact.shape, context)
    for at in np.ndindex(got.shape):
        value, goal = float(got[at]), exact[at]
        if mpmath.isnan(goal) or mpmath.isinf(goal):
            good = value == goal or (mpmath.isnan(goal) and np.isnan(value))
            error = "special"
        elif not np.isfinite(value):
            # Right only where the exact value is beyond the dtype's range.
            good, error = abs(goal) > float(ml_dtypes.finfo(got.dtype).max), "not finite"
        else:
            one = ulp(got.dtype, goal if scale is None else scale)
            error = float(abs(mpf(value) - goal) / one)
            good = error <= bound
        assert good, (
            f"at {at} of shape {got.shape} {got.dtype}: {_hex(got[at])} instead of "
            f"{mpmath.nstr(goal, 20)} ({float(goal).hex()}), {error} ulp; {_where(context)}"
        )


def bound_of(dtype):
    """Narrow dtypes are the nearest value but for ties that float32 decides otherwise."""
    return ULP if dtype in WIDE else 0.51


def sample(shape, dtype=np.float32, seed=0, spread=5.0):
    """Normal numbers; the seed is what a failing test should print."""
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(dtype)
