"""Errors of attention against float64 beside each peer's on the same inputs: of float32 the largest
(line B11), of bfloat16 with precision "fast" the root mean square, beside torch's."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from rich.table import Table

from bench.attention import Attention
from bench.attention_peers import Peer
from bench.attention_reference import reference


@dataclass
class Line:
    """The errors of each library on one workload; of variants the smallest."""

    work: Attention
    largest: dict[str, float] = field(default_factory=dict)
    root_mean_square: dict[str, float] = field(default_factory=dict)

    @property
    def errors(self) -> dict[str, float]:
        """Those that are judged."""
        return self.root_mean_square if self.work.precision == "fast" else self.largest

    @property
    def limit(self) -> float | None:
        """The best peer's, of "fast" torch's."""
        if self.work.precision == "fast":
            return self.errors.get("torch")
        return min((e for name, e in self.errors.items() if name != "swiftmax"), default=None)

    @property
    def is_met(self) -> bool:
        """Written so that NaN fails."""
        return self.limit is None or self.errors["swiftmax"] <= self.limit


def cases(**options: str) -> list[Attention]:
    """Short and long sequences, both head sizes, causal and not, scores of both spreads. Short ones
    in a batch, so that each line has a million results: the largest error of fewer is luck."""
    shapes = ((16, 8, 128, 64), (2, 8, 1024, 64), (1, 4, 2048, 128))
    return [
        Attention("accuracy", "B11", h, n, n, d, batch=b, causal=causal, spread=spread, **options)
        for b, h, n, d in shapes
        for causal in (False, True)
        for spread in (1.0, 4.0)
    ]


def fast_cases() -> list[Attention]:
    return cases(dtype="bfloat16", precision="fast")


@cache
def tell(text: str) -> None:
    """Each text once."""
    print(text, file=sys.stderr)


def measure(work: Attention, libraries: dict[str, Peer]) -> Line:
    line, layers = Line(work), work.inputs()
    exact = reference(work, *layers[0], np.arange(work.queries))

    def add(column: str, library: Peer, work: Attention) -> None:
        for make in library.variants(work, layers).values():
            try:
                got = np.asarray(make().result(), np.float64).reshape(exact.shape)
            except Exception as error:
                if not library.is_peer:
                    raise
                tell(f"{column}: no attention in {work.dtype}: {str(error)[:200]}")
                continue
            error = np.abs(got - exact)
            for errors, size in (
                (line.largest, error.max()),
                (line.root_mean_square, np.sqrt(np.square(error).mean())),
            ):
                errors[column] = min(errors.get(column, np.inf), float(size))

    for name, library in libraries.items():
        add(name, library, work)
        if work.precision == "fast" and not library.is_peer:
            add("exact", library, replace(work, precision="exact"))
    return line


def table(title: str, lines: list[Line], unit: float) -> Table:
    """The errors that are judged."""
    made, names = begin_table(title, lines, unit)
    made.add_column("goal")
    for line in lines:
        errors = [f"{line.errors[n] / unit:.3g}" if n in line.errors else "" for n in names]
        verdict = "[green]met[/]" if line.is_met else "[bold red]missed[/]"
        verdict = verdict if line.limit is not None else "[dim]no peer[/]"
        made.add_row(line.work.label, *errors, verdict)
    return made


def table_of_squares(title: str, lines: list[Line], unit: float) -> Table:
    """The root mean squares, which are no goal."""
    made, names = begin_table(title, lines, unit)
    for line in lines:
        errors = line.root_mean_square
        shown = [f"{errors[n] / unit:.3g}" if n in errors else "" for n in names]
        made.add_row(line.work.label, *shown)
    return made


def begin_table(title: str, lines: list[Line], unit: float) -> tuple[Table, list[str]]:
    made = Table(title=f"{title} in units of {unit:g}", title_justify="left", header_style="bold")
    made.add_column("inputs")
    names = list(dict.fromkeys(name for line in lines for name in line.errors))
    for name in names:
        made.add_column(name, justify="right")
    return made, names


def describe(line: Line) -> str:
    own, limit = line.errors["swiftmax"], line.limit
    whose = "torch" if line.work.precision == "fast" else "the best peer"
    return f"{line.work.name}: {own:.3g}, {whose} {limit:.3g}"
