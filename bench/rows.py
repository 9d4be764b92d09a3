"""The rows that errors are looked for in: ordinary ones, and ones made to be difficult.

Every family is a function (generator, rows, columns, dtype) -> array, so a row is reproduced by
family, dtype, length and seed alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LENGTHS = (
    *(1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 255, 257),
    *(511, 1000, 1024, 1025, 4096, 4099, 16384, 65537, 262144, 1 << 20),
)
SHORT = tuple(n for n in LENGTHS if n <= 4099)
SPREADS = (1, 5, 20, 80)


@dataclass(frozen=True)
class Family:
    """A way to make rows. `temperature` other than 1 measures the scaled form."""

    name: str
    make: Callable[[np.random.Generator, int, int, type], np.ndarray]
    lengths: tuple[int, ...] = SHORT
    temperature: float = 1.0

    def rows(self, dtype, columns: int, seed: int, elements: int) -> np.ndarray:
        """About `elements` numbers, at least one row and at most 16384."""
        count = max(1, min(16384, elements // columns))
        # Not hash(): that differs from one run of Python to the next.
        key = zlib.crc32(f"{self.name} {np.dtype(dtype).name} {columns}".encode())
        generator = np.random.default_rng([seed, key])
        made = self.make(generator, count, columns, dtype)
        return np.ascontiguousarray(made.astype(dtype))


def _normal(spread: float, offset: float = 0.0):
    return lambda g, rows, cols, dtype: g.standard_normal((rows, cols)) * spread + offset


def _uniform(spread: float):
    return lambda g, rows, cols, dtype: g.uniform(-spread, spread, (rows, cols))


def _place_maximum(g, x: np.ndarray, maximum: np.ndarray) -> np.ndarray:
    """Puts `maximum` (rows) at a random place of each row; the others must not exceed it."""
    rows, cols = x.shape
    x = np.minimum(x, maximum[:, None])
    x[np.arange(rows), g.integers(0, cols, rows)] = maximum
    return x


def _near_zero(g, rows, cols, dtype):
    """A maximum 2^-40 to 1 from zero, both signs; the others below 1/2 in size, or far below."""
    maximum = np.ldexp(g.uniform(-1, 1, rows), -g.integers(0, 40, rows))
    x = g.uniform(-0.5, 0.5, (rows, cols)) * np.ldexp(1.0, -g.integers(0, 12, (rows, cols)))
    far = g.random((rows, cols)) < g.random((rows, 1))
    return _place_maximum(g, np.where(far, x - g.uniform(0, 30, (rows, 1)), x), maximum)


def _half(g, rows, cols, dtype):
    """All elements below 1/2 in size: the reduction leaves them as they are."""
    return g.uniform(-0.5, 0.5, (rows, cols)) * g.uniform(0, 1, (rows, 1))


def _tiny(g, rows, cols, dtype):
    """Elements of every size down to the smallest subnormal."""
    low = -148 if dtype == np.float32 else -1073
    return np.ldexp(g.uniform(-1, 1, (rows, cols)), g.integers(low, 3, (rows, cols)))


def _small_and_large(g, rows, cols, dtype):
    """Elements near zero under a large maximum, so that x - max rounds."""
    maximum = g.uniform(1, 90, rows)
    x = g.uniform(-0.5, 0.5, (rows, cols)) * np.ldexp(1.0, -g.integers(0, 25, (rows, cols)))
    above = g.random((rows, cols)) < 0.5
    return _place_maximum(
        g, np.where(above, maximum[:, None] - g.uniform(0, 9, x.shape), x), maximum
    )


def _dominant(entries: int):
    """`entries` values close together, all others lower by 0.1 to 100 (700 for float64)."""

    def make(g, rows, cols, dtype):
        maximum = g.uniform(-20, 20, rows)
        gap = np.exp(g.uniform(np.log(0.1), np.log(100 if dtype == np.float32 else 700), (rows, 1)))
        x = maximum[:, None] - gap - g.uniform(0, 2, (rows, cols))
        for _ in range(entries - 1):
            near = maximum - np.ldexp(g.uniform(0, 4, rows), -g.integers(0, 24, rows))
            x[np.arange(rows), g.integers(0, cols, rows)] = near
        return _place_maximum(g, x, maximum)

    return make


def _constant(g, rows, cols, dtype):
    return np.repeat(
        g.standard_normal((rows, 1)) * np.exp(g.uniform(-20, 12, (rows, 1))), cols, axis=1
    )


def _ties(g, rows, cols, dtype):
    """Few distinct values in each row."""
    values = g.standard_normal((rows, 4)) * np.exp(g.uniform(-6, 4, (rows, 1)))
    return np.take_along_axis(values, g.integers(0, 4, (rows, cols)), axis=1)


def _near_ties(g, rows, cols, dtype):
    """Elements so close together that many have one exponential, and some far below."""
    step = np.finfo(dtype).eps * np.ldexp(1.0, g.integers(-3, 10, (rows, 1)))
    about = g.uniform(-2.5, 2.5, (rows, 1)) * g.choice([0.0, 0.1, 1.0], (rows, 1))
    x = about + step * g.standard_normal((rows, cols))
    return np.where(g.random((rows, cols)) < g.choice([0.0, 0.5], (rows, 1)), x - 30, x)


def _binade(g, rows, cols, dtype):
    """A maximum a few ulp around ±2^k, -12 <= k <= 15; the others below it, or its negative."""
    edge = np.ldexp(g.choice([-1.0, 1.0], rows), g.integers(-12, 16, rows)).astype(dtype)
    maximum = (edge + g.integers(-3, 4, rows) * np.spacing(np.abs(edge))).astype(np.float64)
    scale = np.exp(g.uniform(-8, 3, (rows, 1)))
    x = maximum[:, None] - np.abs(g.standard_normal((rows, cols))) * scale
    x = np.where(g.random((rows, cols)) < 0.1, -np.abs(maximum[:, None]), x)
    return _place_maximum(g, x, maximum)


def _cancelling(g, rows, cols, dtype):
    """A maximum just below zero, so that logsumexp = max + log1p(...) crosses zero."""
    maximum = g.uniform(-1.2, 0.3, rows)
    gap = np.abs(g.standard_normal((rows, cols))) * g.uniform(0.2, 3, (rows, 1))
    return _place_maximum(g, maximum[:, None] - gap, maximum)


def _multiples(g, rows, cols, dtype):
    """Differences next to odd multiples of ln2/2, where the reduced argument is largest."""
    maximum = g.uniform(-30, 30, rows).astype(dtype).astype(np.float64)
    k = g.integers(0, 60, (rows, cols)) + 0.5
    shake = g.standard_normal((rows, cols)) * np.ldexp(1.0, -g.integers(2, 20, (rows, cols)))
    return _place_maximum(g, maximum[:, None] - np.abs(k * np.log(2) + shake), maximum)


def _limit(edge: float):
    """A maximum a few ulp around ±edge, where the library changes its method."""

    def make(g, rows, cols, dtype):
        at = np.full(rows, edge, dtype) * g.choice([-1, 1], rows).astype(dtype)
        maximum = (at + g.integers(-3, 4, rows) * np.spacing(np.abs(at))).astype(np.float64)
        return _place_maximum(g, maximum[:, None] - g.exponential(8, (rows, cols)), maximum)

    return make


def families() -> list[Family]:
    """All families, in the order of the table."""
    made = [Family(f"normal, spread {s}", _normal(s), LENGTHS) for s in SPREADS]
    made += [Family(f"uniform, spread {s}", _uniform(s), LENGTHS) for s in SPREADS]
    for offset in (1e3, -1e3, 1e6, -1e6):
        for s in (1, 20):
            made.append(Family(f"normal, spread {s}, offset {offset:g}", _normal(s, offset)))
    made += [
        Family("maximum near 0", _near_zero),
        Family("all below 1/2", _half),
        Family("every size to subnormal", _tiny),
        Family("small under a large maximum", _small_and_large),
        Family("one dominant", _dominant(1)),
        Family("two dominant", _dominant(2)),
        Family("three dominant", _dominant(3)),
        Family("constant", _constant),
        Family("ties", _ties),
        Family("near ties", _near_ties),
        Family("maximum at a binade edge", _binade),
        Family("odd multiples of ln2/2", _multiples),
        Family("logsumexp near 0", _cancelling, (2, 3, 4, 8, 33)),
        Family("maximum near 2^16", _limit(2.0**16)),
        Family("maximum near 2^20", _limit(2.0**20)),
        Family("maximum near 2^30", _limit(2.0**30)),
        Family("maximum near 1e30", _limit(1e30)),
    ]
    made += [Family(f"spread 5, T = {t:g}", _normal(5), SHORT, t) for t in (0.1, 0.7, 3.0)]
    made += [Family("offset 1e3, T = 0.7", _normal(5, 1e3), SHORT, 0.7)]
    return made
