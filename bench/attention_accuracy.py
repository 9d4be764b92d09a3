"""Errors of attention against float64 beside each peer's on the same inputs (line B11)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import numpy as np
from rich.table import Table

from bench.attention import Attention
from bench.attention_peers import Peer
from bench.attention_reference import reference


@dataclass
class Line:
    """The largest absolute error of each library on one workload; of variants the smallest."""

    work: Attention
    errors: dict[str, float] = field(default_factory=dict)

    @property
    def best_peer(self) -> float | None:
        return min((e for name, e in self.errors.items() if name != "swiftmax"), default=None)

    @property
    def is_met(self) -> bool:
        """Written so that NaN fails."""
        return self.best_peer is None or self.errors["swiftmax"] <= self.best_peer


def cases() -> list[Attention]:
    """Short and long sequences, both head sizes, causal and not, scores of both spreads."""
    shapes = ((8, 128, 64), (8, 1024, 64), (4, 2048, 128))
    return [
        Attention("accuracy", "B11", h, n, n, d, causal=causal, spread=spread)
        for h, n, d in shapes
        for causal in (False, True)
        for spread in (1.0, 4.0)
    ]


def measure(work: Attention, libraries: dict[str, Peer]) -> Line:
    line, layers = Line(work), work.inputs()
    exact = reference(work, *layers[0], np.arange(work.queries))
    for name, library in libraries.items():
        for make in library.variants(work, layers).values():
            try:
                got = np.asarray(make().result(), np.float64).reshape(exact.shape)
            except Exception as error:
                if not library.is_peer:
                    raise
                print(f"{name}: no {work.name}: {str(error)[:200]}", file=sys.stderr)
                continue
            error = float(np.abs(got - exact).max())
            line.errors[name] = min(line.errors.get(name, np.inf), error)
    return line


def table(lines: list[Line], names: list[str]) -> Table:
    made = Table(
        title="float32 attention, largest absolute error in units of 1e-7",
        title_justify="left",
        header_style="bold",
    )
    made.add_column("inputs")
    for name in names:
        made.add_column(name, justify="right")
    made.add_column("B11")
    for line in lines:
        errors = [f"{line.errors[n] * 1e7:.3g}" if n in line.errors else "" for n in names]
        verdict = "[green]met[/]" if line.is_met else "[bold red]missed[/]"
        verdict = verdict if line.best_peer is not None else "[dim]no peer[/]"
        made.add_row(line.work.label, *errors, verdict)
    return made


def describe(line: Line) -> str:
    own, peer = line.errors["swiftmax"], line.best_peer
    return f"{line.work.name}: {own:.3g}, the best peer {peer:.3g}"
