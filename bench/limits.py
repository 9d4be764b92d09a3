"""The machine's limits, FMA rate and read bandwidth: limits.c, alone or in turn with others."""

from __future__ import annotations

import ctypes
import json
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = HERE.parent / "build/bench/limits"
# The vector width that each forced instruction set of swiftmax may use.
WIDTHS = {"v3": "avx2", "v4": "avx512", "neon": "neon"}


def build() -> bool:
    """Compiles limits.c where it has changed. False without a C compiler: no shares then."""
    command = ["make", "-s", "-C", str(HERE), "limits", f"OUT={PROGRAM.parent}"]
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    except OSError:  # not even make
        return False


class Limits:
    """The best rates seen so far, in operations and bytes a second; none before `include`."""

    def __init__(self) -> None:
        self.fma: dict[str, float] = {}
        self.read: float | None = None

    def include(self, line: dict) -> None:
        """One run of the program."""
        for width, rate in line["fma"].items():
            self.fma[width] = max(self.fma.get(width, 0.0), rate * 1e9)
        self.read = max(self.read or 0.0, line["read"] * 1e9)

    def peak(self, isa: str | None) -> float | None:
        """The FMA rate of a forced instruction set, or the highest."""
        if isa:
            return self.fma.get(WIDTHS[isa])
        return max(self.fma.values(), default=None)

    def width(self, isa: str | None) -> str | None:
        """The vectors of a forced instruction set, or the fastest."""
        return WIDTHS[isa] if isa else max(self.fma, key=self.fma.get, default=None)

    def __str__(self) -> str:
        rates = [f"FMA {width} {rate / 1e9:.0f} GFLOP/s" for width, rate in self.fma.items()]
        rates += [f"read {self.read / 1e9:.1f} GB/s"] if self.read else []
        return ", ".join(rates) or "not measured"


class Limit:
    """A contestant that is a limit, in turn with what is held against it. A call returns its own
    seconds: from when its threads are there."""

    def __init__(self, function: str, types: tuple, arguments: tuple, uses: object = None):
        self.run = getattr(ctypes.CDLL(str(PROGRAM.with_name("liblimits.so"))), function)
        self.run.restype, self.run.argtypes = ctypes.c_double, types
        self.arguments, self.uses = arguments, uses

    def __call__(self) -> float:
        return self.run(*self.arguments)


def reader(array, threads: int) -> Limit:
    """Reads all of a contiguous array once."""
    types = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return Limit("limits_read", types, (array.ctypes.data, array.nbytes, threads), uses=array)


def multiplier(operations: float, width: str, threads: int) -> Limit:
    """Makes so many multiplications and additions, fused, between registers."""
    types = (ctypes.c_char_p, ctypes.c_double, ctypes.c_int)
    return Limit("limits_fma", types, (width.encode(), operations, threads))


def run(threads: int) -> dict:
    """One run of the program, a quarter of a second."""
    done = subprocess.run([PROGRAM, str(threads)], capture_output=True, check=True)
    return json.loads(done.stdout)
