"""What is timed of attention: the registry of its workloads and what each must reach.

B1 to B13 are the numbers of the lines that have a goal. Speeds are ratios within one run: to the
machine's limits (limits.c), to the fastest peer, to swiftmax itself on another workload.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import machine

THREADS = 2
# Caches of keys and values that a decode step reads in turn, as the layers of a model have one
# each: together they exceed the CPU's own cache, like the array that the read bandwidth is of.
READ_IN_TURN = 256 << 20


@dataclass(frozen=True)
class Goal:
    """A figure and its limit. What the figure is says `kind`:

    peak   share of the machine's FMA rate, in turn with it, at least
    read   share of the machine's read bandwidth, in turn with it, at least
    peer   times as fast as the fastest peer, at least
    torch  times as fast as torch, at least
    own    times as fast as swiftmax on the workload `beside`, at least
    work   time over the same share of `beside`'s time as of its scores, at most
    call   microseconds, at most
    """

    kind: str
    limit: float

    @property
    def is_upper(self) -> bool:
        return self.kind in ("work", "call")


@dataclass(frozen=True)
class Attention:
    """One shape of attention. `beside`, if any, is timed in turn with it, swiftmax alone."""

    group: str
    line: str
    heads: int
    queries: int
    keys: int
    head: int
    batch: int = 1
    key_heads: int = 0
    dtype: str = "float32"
    causal: bool = False
    window: tuple[int, int] | None = None
    # Keys in front that a mask array hides from all queries, as in a batch of prompts that are
    # padded on the left.
    padding: int = 0
    precision: str = "exact"
    isa: str | None = None
    spread: float = 1.0
    beside: Attention | None = None
    goals: tuple[Goal, ...] = ()

    @property
    def name(self) -> str:
        return f"attention {self.label}"

    @property
    def label(self) -> str:
        """decode bfloat16 B2 H32/8 L4096 D128 causal, and the like."""
        batch = f"B{self.batch}" if self.batch > 1 else ""
        heads = f"H{self.heads}" + (f"/{self.key_heads}" if self.is_grouped else "")
        dtype = self.dtype if self.dtype != "float32" else ""
        fast = "fast" if self.precision == "fast" else ""
        window = f"window {self.window[0] + 1}" if self.window else ""
        padding = f"padding {self.padding}" if self.padding else ""
        causal = "causal" if self.causal else ""
        isa = f"({self.isa})" if self.isa else ""
        spread = f"×{self.spread:g}" if self.spread != 1 else ""
        shape = (batch, heads, f"L{self.keys}", f"D{self.head}")
        first = ("decode" if self.is_decode else "", dtype, fast)
        return " ".join(filter(None, (*first, *shape, causal, window, padding, spread, isa)))

    @property
    def is_decode(self) -> bool:
        return self.queries == 1

    @property
    def has_limit(self) -> bool:
        """Whether a share of what the machine can do is asked."""
        return any(goal.kind in ("peak", "read") for goal in self.goals)

    @property
    def is_grouped(self) -> bool:
        return self.key_heads not in (0, self.heads)

    @property
    def sees_all(self) -> bool:
        return not (self.causal or self.window or self.padding)

    @property
    def has_array(self) -> bool:
        """Whether peers get their mask as an array, for want of a rule that says it."""
        return bool(self.window or self.padding)

    def visible(self, rows: np.ndarray) -> np.ndarray:
        """(rows, keys), True where a query at that place sees the key."""
        query, key = rows[:, None] + self.keys - self.queries, np.arange(self.keys)
        left, right = self.window or (self.keys, self.keys)
        seen = (key >= query - left) & (key <= query + (0 if self.causal else right))
        return seen & (key >= self.padding)

    @property
    def scores(self) -> int:
        """Scores that are not masked, in all heads."""
        rows = range(0, self.queries, 1024)
        ends = [(start, min(start + 1024, self.queries)) for start in rows]
        seen = sum(int(self.visible(np.arange(a, b)).sum()) for a, b in ends)
        return seen * self.batch * self.heads

    @property
    def operations(self) -> int:
        """Useful multiplications and additions, 2 D for a score and 2 D for its part of out."""
        return 4 * self.head * self.scores

    @property
    def cache_bytes(self) -> int:
        """Keys and values that are seen, each read once."""
        size = 4 if self.dtype == "float32" else 2
        seen = self.keys - self.padding
        return 2 * self.batch * (self.key_heads or self.heads) * seen * self.head * size

    def inputs(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Query, key and value, normal and the same in every process: once, or for decode in as
        many copies as are read in turn."""
        generator = np.random.default_rng(len(self.name))

        def normal(heads: int, length: int, spread: float = 1.0) -> np.ndarray:
            x = generator.standard_normal((self.batch, heads, length, self.head), np.float32)
            if self.dtype == "bfloat16":
                import ml_dtypes

                return (x * np.float32(spread)).astype(ml_dtypes.bfloat16)
            return (x * np.float32(spread)).astype(self.dtype)

        query = normal(self.heads, self.queries, self.spread)
        key, value = (normal(self.key_heads or self.heads, self.keys) for _ in range(2))
        copies = math.ceil(READ_IN_TURN / self.cache_bytes) if self.is_decode else 1
        return [
            (query, key, value),
            *((query, key.copy(), value.copy()) for _ in range(copies - 1)),
        ]


def registered(contains: str = "") -> list[Attention]:
    """All workloads whose name contains the text, in the order of the table."""
    sources = (prefill, other_lengths, decode, padded, narrow, forced, one_call)
    return [w for source in sources for w in source() if contains in w.name]


def prefill() -> Iterator[Attention]:
    """Long sequences, limited by arithmetic."""
    shapes = ((8, 1024, 64, 0.80), (4, 4096, 64, 0.82), (8, 2048, 128, 0.82))
    for heads, length, head, share in shapes:
        goals = (Goal("peak", share), Goal("peer", 1.15))
        yield Attention("prefill", "B1 B2", heads, length, length, head, goals=goals)
    for heads, length, head, _ in shapes:
        goals = (Goal("peak", 0.72), Goal("peer", 2.0))
        yield Attention("causal", "B3", heads, length, length, head, causal=True, goals=goals)


def other_lengths() -> Iterator[Attention]:
    """Short sequences, scores far apart, and a window over a long one."""
    for batch, heads, length in ((1, 8, 128), (8, 12, 384), (1, 1, 16)):
        goals = (Goal("peer", 1.2),)
        yield Attention("short", "B4", heads, length, length, 64, batch=batch, goals=goals)
    # Far apart, as keys of large magnitude or a long ALiBi make them: nothing is asked, but `make
    # bench` shows what it costs beside scores near one another.
    for spread in (1.0, 16.0, 32.0):
        yield Attention("spread", "", 4, 512, 512, 64, spread=spread)
    # Two heads: all scores of eight would take every contestant a second a call.
    full = Attention("window", "B5", 2, 8192, 8192, 64)
    goals = (Goal("work", 1.3),)
    yield Attention("window", "B5", 2, 8192, 8192, 64, window=(255, 0), beside=full, goals=goals)


def decode() -> Iterator[Attention]:
    """One query a head, limited by reading keys and values."""
    goals = (Goal("read", 0.85), Goal("peer", 1.4))
    for dtype in ("float32", "bfloat16"):
        for key_heads in (32, 8):
            yield Attention(
                "decode", "B6", 32, 1, 4096, 128, key_heads=key_heads, dtype=dtype, goals=goals
            )


def padded() -> Iterator[Attention]:
    """A mask array, and caches of an ordinary length: shown, nothing asked."""
    for dtype in ("float32", "bfloat16"):
        for padding in (0, 300):
            yield Attention("decode", "", 8, 1, 1000, 64, dtype=dtype, padding=padding)
    for padding in (0, 300):
        yield Attention("padding", "", 8, 1000, 1000, 64, padding=padding)


def narrow() -> Iterator[Attention]:
    """bfloat16 and float16, exact, and with AMX or the dot products of AVX512-BF16."""
    single = Attention("narrow", "B7", 8, 1024, 1024, 64)
    goals = (Goal("own", 0.9), Goal("torch", 2.0))
    for dtype in ("bfloat16", "float16"):
        yield Attention("narrow", "B7", 8, 1024, 1024, 64, dtype=dtype, beside=single, goals=goals)
    cpuinfo = Path("/proc/cpuinfo")
    has_dot = cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()
    goals = (Goal("own", 1.6),) if has_dot else ()
    yield Attention(
        *("narrow", "B8", 8, 1024, 1024, 64),
        dtype="bfloat16",
        precision="fast",
        beside=single,
        goals=goals,
    )


def forced() -> Iterator[Attention]:
    """On AVX2, in a process of its own."""
    if machine.describe()["level"] in ("x86-64-v3", "x86-64-v4"):
        yield Attention("forced", "B9", 4, 4096, 4096, 64, isa="v3", goals=(Goal("peak", 0.75),))


def one_call() -> Iterator[Attention]:
    """What a call from Python costs."""
    yield Attention("one call", "B13", 1, 8, 8, 16, goals=(Goal("call", 2.0),))
