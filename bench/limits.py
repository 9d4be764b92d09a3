"""The machine's limits, FMA rate and read bandwidth: runs limits.c and keeps the best."""

from __future__ import annotations

import ctypes
import json
import subprocess
from collections.abc import Callable
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

    def __str__(self) -> str:
        rates = [f"FMA {width} {rate / 1e9:.0f} GFLOP/s" for width, rate in self.fma.items()]
        rates += [f"read {self.read / 1e9:.1f} GB/s"] if self.read else []
        return ", ".join(rates) or "not measured"


def reader(array, threads: int) -> Callable[[], float]:
    """A contestant that reads all of a contiguous array once: the limit in turn with the others."""
    library = ctypes.CDLL(str(PROGRAM.with_name("liblimits.so")))
    read = library.limits_read
    read.restype, read.argtypes = ctypes.c_double, (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return lambda: read(array.ctypes.data, array.nbytes, threads)


def run(threads: int) -> dict:
    """One run of the program, a quarter of a second."""
    done = subprocess.run([PROGRAM, str(threads)], capture_output=True, check=True)
    return json.loads(done.stdout)
