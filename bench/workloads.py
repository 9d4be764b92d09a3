"""What is timed: the registry of workloads.

A workload says which library operation runs on which input, how many bytes a copy of the same data
would move, and what counts as met. A new operation adds a function decorated with @workloads, and
to peers.py what the libraries do for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Target:
    """Met where the time is at most `peer` times the fastest peer's, or `copy` times the copy's, or
    `numpy_exp` times np.exp's. None does not count."""

    line: str
    peer: float | None = None
    copy: float | None = None
    numpy_exp: float | None = None

    @property
    def asks(self) -> bool:
        return any(limit is not None for limit in (self.peer, self.copy, self.numpy_exp))


@dataclass(frozen=True)
class Workload:
    """One operation on one input."""

    group: str
    operation: str
    dtype: str
    shape: tuple[int, ...]
    axis: int
    threads: tuple[int, ...]
    targets: tuple[Target, ...]
    spread: float = 3.0

    @property
    def name(self) -> str:
        shape = "×".join(map(str, self.shape))
        axis = "" if self.axis == -1 else f" axis {self.axis}"
        spread = "" if self.spread == 3 else f" spread {self.spread:g}"
        return f"{self.operation} {self.dtype} {shape}{axis}{spread}"

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def target(self, threads: int) -> Target:
        return self.targets[self.threads.index(threads)]

    def input(self) -> np.ndarray:
        """Normal numbers of this spread, the same in every process."""
        generator = np.random.default_rng(len(self.name))
        x = generator.standard_normal(self.shape, dtype=np.float32) * np.float32(self.spread)
        if self.dtype == "bfloat16":
            import ml_dtypes

            return x.astype(ml_dtypes.bfloat16)
        return x.astype(self.dtype)


_sources: list[Callable[[], Iterator[Workload]]] = []


def workloads(source: Callable[[], Iterator[Workload]]) -> Callable[[], Iterator[Workload]]:
    """Registers a function that yields workloads."""
    _sources.append(source)
    return source


def registered(contains: str = "") -> list[Workload]:
    """All workloads whose name contains the text, in the order of the table."""
    return [w for source in _sources for w in source() if contains in w.name]


@workloads
def rows() -> Iterator[Workload]:
    """float32 rows, from inside the first cache to memory."""
    targets = (Target("A7", peer=0.9, copy=1.15), Target("A6", peer=0.9, copy=1.15))
    for operation in ("softmax", "log_softmax"):
        for shape in ((64, 128), (512, 1024), (128, 32768), (4096, 4096)):
            yield Workload("float32 rows", operation, "float32", shape, -1, (1, 2), targets)


@workloads
def dtypes_and_axes() -> Iterator[Workload]:
    """The other dtypes, and axes other than the last."""
    group, target = "dtypes and axes", (Target("A8", peer=0.6),)
    for dtype in ("float16", "bfloat16", "float64"):
        yield Workload(group, "softmax", dtype, (1000, 4096), -1, (2,), target)
    yield Workload(group, "softmax", "float32", (2048, 2048), 0, (2,), target)
    yield Workload(group, "softmax", "float32", (512, 64, 512), 1, (2,), target)


@workloads
def side_by_side() -> Iterator[Workload]:
    """Rows in the middle of images, of other types too; nothing is asked."""
    for operation in ("softmax", "log_softmax"):
        for dtype in ("float32", "bfloat16", "float64"):
            yield Workload(
                "side by side", operation, dtype, (8, 150, 4096), 1, (1, 2), (Target(""),) * 2
            )


@workloads
def far_apart() -> Iterator[Workload]:
    """Logits so far apart that results are subnormal numbers, beside others; nothing is asked."""
    for operation in ("softmax", "log_softmax"):
        for spread in (3.0, 20.0):
            yield Workload(
                "far apart", operation, "float32", (256, 8000), -1, (1,), (Target(""),), spread
            )


@workloads
def one_call() -> Iterator[Workload]:
    """What a call costs before it computes anything."""
    target = (Target("A9", numpy_exp=1.7),)
    yield Workload("one call", "softmax", "float32", (10,), -1, (2,), target)
