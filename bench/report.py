"""Figures out of times: ratios, verdicts, the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.workloads import Target, Workload

PEERS = ("torch", "jax", "onnxruntime", "scipy")


@dataclass(frozen=True)
class Result:
    """The times of one workload at one number of threads."""

    workload: Workload
    threads: int
    seconds: dict[str, float]

    @property
    def target(self) -> Target:
        return self.workload.target(self.threads)

    @property
    def own(self) -> float:
        return self.seconds["swiftmax"]

    @property
    def fastest_peer(self) -> str | None:
        return min((p for p in PEERS if p in self.seconds), key=self.seconds.get, default=None)

    @property
    def copy(self) -> float | None:
        """The fastest of the copies: the fairer bound."""
        return min((t for n, t in self.seconds.items() if n.startswith("copy")), default=None)

    @property
    def to_peer(self) -> float | None:
        return self.own / self.seconds[self.fastest_peer] if self.fastest_peer else None

    @property
    def to_copy(self) -> float | None:
        return self.own / self.copy if self.copy else None

    @property
    def to_exp(self) -> float | None:
        return self.own / self.seconds["np.exp"] if "np.exp" in self.seconds else None

    @property
    def verdict(self) -> str:
        """met (by which ratio), missed, or no peer; empty where nothing is asked."""
        if not self.target.asks:
            return ""
        known = [
            (ratio <= limit, word)
            for ratio, limit, word in (
                (self.to_peer, self.target.peer, "peer"),
                (self.to_copy, self.target.copy, "copy"),
                (self.to_exp, self.target.numpy_exp, "np.exp"),
            )
            if ratio is not None and limit is not None
        ]
        met = next((f"met ({word})" for met, word in known if met), None)
        if met is None and self.target.peer is not None and self.to_peer is None:
            return "no peer"
        return met or "missed"

    def as_json(self) -> dict[str, Any]:
        return {
            "workload": self.workload.name,
            "group": self.workload.group,
            "line": self.target.line,
            "threads": self.threads,
            "elements": self.workload.elements,
            "seconds": self.seconds,
            "fastest peer": self.fastest_peer,
            "ratio to fastest peer": self.to_peer,
            "ratio to copy": self.to_copy,
            "ratio to np.exp": self.to_exp,
            "verdict": self.verdict,
        }


def _limit(ratio: float | None, limit: float | None) -> str:
    """A ratio beside the limit it is held to."""
    if ratio is None:
        return ""
    if limit is None:
        return f"[dim]{ratio:.2f}[/]"
    style = "green" if ratio <= limit else "yellow"
    return f"[{style}]{ratio:.2f}[/] [dim]≤{limit:g}[/]"


def table(results: list[Result]) -> Table:
    """Nanoseconds an element, or a call for the single call."""
    made = Table(
        title="Best times in ns per element (one call: ns per call)",
        title_justify="left",
        header_style="bold",
    )
    made.add_column("line")
    made.add_column("workload", no_wrap=True)
    made.add_column("thr", justify="right")
    made.add_column("swiftmax", justify="right", style="bold")
    for name in (*PEERS, "copy", "np.exp"):
        made.add_column(name, justify="right")
    for name in ("/ peer", "/ copy", "/ np.exp"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("verdict", no_wrap=True)

    group = None
    for r in sorted(results, key=lambda r: r.threads, reverse=True):
        if group not in (None, (r.threads, r.workload.group)):
            made.add_section()
        group = (r.threads, r.workload.group)
        per = 1e9 if r.target.numpy_exp else 1e9 / r.workload.elements

        def cell(seconds, per=per):
            return "" if seconds is None else f"{seconds * per:.3g}"

        style = "green" if r.verdict.startswith("met") else "bold red"
        made.add_row(
            r.target.line,
            r.workload.name,
            str(r.threads),
            cell(r.own),
            *(cell(r.seconds.get(p)) for p in PEERS),
            cell(r.copy),
            cell(r.seconds.get("np.exp")),
            _limit(r.to_peer, r.target.peer),
            _limit(r.to_copy, r.target.copy),
            _limit(r.to_exp, r.target.numpy_exp),
            f"[{style}]{r.verdict}[/]",
        )
    return made


def bandwidth(results: list[Result]) -> str:
    """What the copies moved, bytes read and written, at the largest size of each thread count."""
    lines = []
    for threads in sorted({r.threads for r in results}):
        copied = [r for r in results if r.threads == threads and r.copy]
        if not copied:
            continue
        largest = max(copied, key=lambda r: r.workload.elements)
        size = largest.workload.input().nbytes
        ways = ", ".join(
            f"{name.removeprefix('copy ').strip('()')} {2 * size / seconds / 1e9:.1f} GB/s"
            for name, seconds in largest.seconds.items()
            if name.startswith("copy")
        )
        lines.append(f"copy of {size / 1e6:.0f} MB, {threads} thread{'s' * (threads > 1)}: {ways}")
    return "\n".join(lines)


def show(console: Console, machine: dict, versions: dict, results: list[Result]) -> None:
    console.print(table(results))
    console.print(bandwidth(results), highlight=False)
    text = ", ".join(f"{k} {' '.join(v) if isinstance(v, list) else v}" for k, v in machine.items())
    console.print(text, highlight=False)
    console.print(", ".join(f"{k} {v}" for k, v in versions.items()), highlight=False)
    met = sum(r.verdict.startswith("met") for r in results)
    asked = sum(r.target.asks for r in results)
    console.print(f"{met} of {asked} lines met", style="bold")
    if machine["load before"] > 0.5:
        console.print(
            f"The machine was busy before (load {machine['load before']}): repeat it when idle.",
            style="yellow",
        )
