"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

LEVELS = {
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
    "x86-64-v2": {"cx16", "popcnt", "sse4_1", "sse4_2", "ssse3"},
}


def level(flags: set[str]) -> str:
    """The highest x86-64 level whose flags, and those of the levels below, are all there."""
    if platform.machine() != "x86_64":
        return platform.machine()
    reached = "x86-64"
    for name, needed in reversed(LEVELS.items()):
        if not needed <= flags:
            break
        reached = name
    return reached


def caches() -> list[str]:
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            parts = [(index / name).read_text().strip() for name in ("level", "type", "size")]
        except OSError:
            continue
        kind = {"Data": "d", "Instruction": "i"}.get(parts[1], "")
        found.append(f"L{parts[0]}{kind} {parts[2]}")
    return found


def describe() -> dict[str, Any]:
    """Processor, level, cores this process may use, frequency, caches, kernel, Python."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
    except OSError:
        pass
    load = os.getloadavg()[0]
    return {
        "processor": fields.get("model name", platform.processor() or platform.machine()),
        "family": " ".join(fields.get(k, "?") for k in ("cpu family", "model", "stepping")),
        "level": level(set(fields.get("flags", "").split())),
        "cores": len(os.sched_getaffinity(0)),
        "MHz": round(float(fields.get("cpu MHz", 0))),
        "caches": caches(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load before": round(load, 2),
    }
