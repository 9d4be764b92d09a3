"""Attention's part of `make bench`: runs its processes, turns times into figures and verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.attention import READ_IN_TURN, THREADS, Attention, Goal, registered
from bench.attention_measure import FMA, READ
from bench.limits import Limits

PEERS = ("torch", "jax", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Figure:
    """What a goal is about, as measured; None where there is nothing to compare with."""

    goal: Goal
    value: float | None

    @property
    def is_met(self) -> bool | None:
        if self.value is None:
            return None
        limit = self.goal.limit
        return self.value <= limit if self.goal.is_upper else self.value >= limit


@dataclass(frozen=True)
class Result:
    """The times of one workload, beside the limits of the run that it is part of."""

    work: Attention
    seconds: dict[str, float]
    limits: Limits

    @property
    def own(self) -> float:
        return self.seconds["swiftmax"]

    def peer(self, name: str) -> tuple[float, str] | None:
        """Seconds and name of a peer's fastest variant."""
        variants = [(t, n.partition(" ")) for n, t in self.seconds.items()]
        return min(((t, part[2]) for t, part in variants if part[0] == name), default=None)

    @property
    def fastest_peer(self) -> tuple[float, str] | None:
        """Seconds and name of the fastest of all."""
        found = ((*self.peer(name), name) for name in PEERS if self.peer(name))
        best = min(found, default=None)
        return (best[0], f"{best[2]} {best[1]}".strip()) if best else None

    @property
    def rate(self) -> float:
        """Useful operations a second, or bytes of the cache a second for decode."""
        return self.work_done / self.own

    @property
    def work_done(self) -> float:
        return self.work.cache_bytes if self.work.is_decode else self.work.operations

    @property
    def limit(self) -> float | None:
        """The machine's rate that bounds this workload: in turn with it where a goal asks for its
        share, else the best FMA rate of the run."""
        if READ in self.seconds:
            return READ_IN_TURN / self.seconds[READ]
        if FMA in self.seconds:
            return self.work.operations / self.seconds[FMA]
        return None if self.work.is_decode else self.limits.peak(self.work.isa)

    @property
    def times_peer(self) -> float | None:
        return self.fastest_peer[0] / self.own if self.fastest_peer else None

    def value(self, kind: str) -> float | None:
        """The figure of a goal of this kind."""
        beside, torch = self.seconds.get("swiftmax beside"), self.peer("torch")
        if kind in ("peak", "read"):
            return self.rate / self.limit if self.limit else None
        if kind == "peer":
            return self.times_peer
        if kind == "torch":
            return torch[0] / self.own if torch else None
        if kind == "own":
            return beside / self.own
        if kind == "work":
            return self.own / (beside * self.work.scores / self.work.beside.scores)
        assert kind == "call"
        return self.own * 1e6

    @property
    def figures(self) -> list[Figure]:
        return [Figure(goal, self.value(goal.kind)) for goal in self.work.goals]

    @property
    def verdict(self) -> str:
        """met where all goals are, missed where one is not, open where one cannot be told."""
        met = [figure.is_met for figure in self.figures]
        if False in met:
            return "missed"
        return "open" if None in met or not met else "met"

    def as_json(self) -> dict[str, Any]:
        return {
            "workload": self.work.name,
            "group": self.work.group,
            "line": self.work.line,
            "operations": self.work.operations,
            "cache bytes": self.work.cache_bytes,
            "seconds": self.seconds,
            "fastest peer": self.fastest_peer and self.fastest_peer[1],
            "times as fast as fastest peer": self.times_peer,
            "share of limit": self.rate / self.limit if self.limit else None,
            "goals": [
                {"kind": f.goal.kind, "limit": f.goal.limit, "value": f.value, "met": f.is_met}
                for f in self.figures
            ],
            "verdict": self.verdict,
        }


@dataclass
class Run:
    """All of attention's results of one run."""

    threads: int
    limits: Limits = field(default_factory=Limits)
    versions: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "threads": self.threads,
            "limits": {"fma": self.limits.fma, "read": self.limits.read},
            "results": [result.as_json() for result in self.results],
        }


def run(cores: int, only: str, verbose: bool, tick: Callable[[str, int], None]) -> Run:
    """One process for swiftmax as it is and its peers, one for each forced instruction set."""
    made = Run(min(THREADS, cores))
    by_name = {work.name: work for work in registered(only)}
    for isa in dict.fromkeys(work.isa for work in by_name.values()):
        module, threads = "bench.attention_measure", str(made.threads)
        command = [sys.executable, "-m", module, "--threads", threads, "--only", only]
        command += ["--isa", isa] if isa else []
        errors = None if verbose else subprocess.DEVNULL
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            for text in process.stdout:
                line = json.loads(text)
                made.versions.update(line.get("versions", {}))
                if "begin" in line:
                    tick(line["begin"], 0)
                if "limits" in line:
                    made.limits.include(line["limits"])
                if "name" in line:
                    work = by_name[line["name"]]
                    made.results.append(Result(work, line["seconds"], made.limits))
                    tick("", 1)
        if process.returncode:
            raise SystemExit(f"bench: failed: {' '.join(command)} (--verbose shows why)")
    return made
