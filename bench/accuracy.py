"""Errors of softmax, log_softmax, logsumexp and attention beside the peers (`make accuracy`).

The bounds are those of swiftmax.h: 2 ulp for every element of softmax and log_softmax in the normal
range (in its lowest binade the header allows a little more), 1 ulp of max(|result|, |max|) for
logsumexp; attention is held to the best peer's error, with precision "fast" to that of torch's
bfloat16. Exit status 1 where one is exceeded.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import attention_accuracy, attention_peers
from bench.peers import OPERATIONS, available
from bench.reference import Exact, confirm, error_in_ulp, reference
from bench.rows import Family, families

BOUND = {"softmax": 2.0, "log_softmax": 2.0, "logsumexp": 1.0}
DTYPES = {"float32": np.float32, "float64": np.float64}
# mpmath takes 20 µs an element. Longer rows rest on the bound derived in reference.py, but for
# those above the bound of the library: an accusation is always checked.
CONFIRM_LENGTH = 20_000
# Numbers in one block of rows, and how many of them the peers see: they are here for comparison.
ELEMENTS = 1 << 15
PEER_ELEMENTS = 1 << 13


@dataclass
class Worst:
    """The largest error of swiftmax in one class, and where it was."""

    ulp: float = -1.0
    length: int = 0
    seed: int = 0
    row: int = 0
    index: int = 0
    x: np.ndarray | None = None
    got: float = 0.0
    confirmed: bool = False


@dataclass
class Line:
    """One line of a table: a family of rows under one operation and dtype."""

    family: Family
    worst: Worst = field(default_factory=Worst)
    subnormal: float = 0.0
    peers: dict[str, float] = field(default_factory=dict)


def errors(operation: str, got: np.ndarray, exact: Exact) -> tuple[np.ndarray, np.ndarray]:
    """Errors in ulp, and which of them are in the normal range."""
    if operation == "logsumexp":
        error = error_in_ulp(got, exact.logsumexp, exact.maximum)
        return error, np.ones(error.shape, bool)
    values = getattr(exact, operation)
    normal = np.abs(values) >= np.finfo(got.dtype).tiny
    return error_in_ulp(got, values), normal


def measure(line: Line, operation: str, x: np.ndarray, exact: Exact, seed: int, library) -> None:
    """Adds one block of rows to the line."""
    if operation == "logsumexp" and line.family.temperature != 1.0:
        return
    options = {} if operation == "logsumexp" else {"temperature": line.family.temperature}
    got = library.evaluate(operation, x, **options)
    error, normal = errors(operation, got, exact)
    line.subnormal = max(line.subnormal, error[~normal].max(initial=0.0))
    error = np.where(normal, error, 0)
    place = np.unravel_index(error.argmax(), error.shape)
    if error[place] > line.worst.ulp:
        row, index = int(place[0]), int(place[-1]) if error.ndim > 1 else 0
        line.worst = Worst(
            float(error[place]), x.shape[1], seed, row, index, x[row].copy(), float(got[place])
        )


def measure_peers(line: Line, operation: str, x: np.ndarray, exact: Exact, peers) -> None:
    """The same for the others, of which only the largest error is kept."""
    for name, library in peers.items():
        try:
            got = np.asarray(library.evaluate(operation, x))
        except Exception:
            continue  # no such dtype or operation there: the cell stays empty
        error, normal = errors(operation, got, exact)
        line.peers[name] = max(line.peers.get(name, 0.0), error[normal].max(initial=0.0))


def confirm_line(line: Line, operation: str) -> None:
    """Replaces the figure by that of mpmath."""
    worst = line.worst
    if worst.x is None or not np.isfinite(worst.got):
        return
    if len(worst.x) > CONFIRM_LENGTH and worst.ulp <= BOUND[operation]:
        return
    try:
        worst.ulp = confirm(operation, worst.x, worst.got, worst.index, line.family.temperature)
    except ImportError:
        return
    worst.confirmed = True


def table(title: str, lines: list[Line], names: list[str], bound: float) -> Table:
    made = Table(title=title, title_justify="left", header_style="bold")
    made.add_column("rows")
    for name in ("swiftmax", "at length", "subnormal", *names):
        made.add_column(name, justify="right")
    for line in lines:
        if line.worst.x is None:
            continue
        style = "green" if line.worst.ulp <= bound else "bold red"
        peers = [f"{line.peers[n]:.3g}" if n in line.peers else "" for n in names]
        figure = f"[{style}]{line.worst.ulp:.3f}[/]" + ("" if line.worst.confirmed else " ~")
        subnormal = f"{line.subnormal:.2f}"
        made.add_row(line.family.name, figure, str(line.worst.length), subnormal, *peers)
    return made


def describe(line: Line, operation: str, dtype: str) -> str:
    """How to find the worst row again."""
    w = line.worst
    text = (
        f"{w.ulp:.4f} ulp: {dtype} {operation}, --family '{line.family.name}' --length {w.length}"
        f" --seed {w.seed}, row {w.row}, index {w.index}\n"
        f"    x[{w.index}] = {float(w.x[w.index]).hex()}, max = {float(w.x.max()).hex()},"
        f" got {w.got.hex()}"
    )
    if len(w.x) <= 9:
        text += "\n    x = " + " ".join(float(v).hex() for v in w.x)
    return text


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    parser.add_argument("--long", action="store_true", help="ten times as many rows")
    parser.add_argument("--dtype", choices=DTYPES, help="only this dtype")
    parser.add_argument("--family", help="only families whose name contains this")
    parser.add_argument("--length", type=int, help="only this row length")
    parser.add_argument("--seed", type=int, help="only this seed")
    parser.add_argument("--no-peers", action="store_true", help="measure swiftmax alone")
    parser.add_argument("--attention", action="store_true", help="only attention")
    return parser.parse_args()


def attention(console: Console, options: argparse.Namespace) -> int:
    """The tables of attention; 1 where an error is above what it is held to."""
    libraries = attention_peers.available(with_peers=not options.no_peers)
    exact = [attention_accuracy.measure(w, libraries) for w in attention_accuracy.cases()]
    title = "float32 attention, largest absolute error"
    console.print(attention_accuracy.table(title, exact, 1e-7))
    title = "float32 attention, root mean square error"
    console.print(attention_accuracy.table_of_squares(title, exact, 1e-8))
    fast = [attention_accuracy.measure(w, libraries) for w in attention_accuracy.fast_cases()]
    title = 'bfloat16 attention with precision "fast", root mean square error'
    console.print(attention_accuracy.table(title, fast, 1e-4))
    failures = [attention_accuracy.describe(line) for line in exact + fast if not line.is_met]
    for text in failures:
        console.print(f"missed: {text}", highlight=False, markup=False)
    if not any(library.is_peer for library in libraries.values()):
        console.print("no peer is installed: nothing was held against one", style="bold red")
    return 1 if failures else 0


def main() -> int:
    options = arguments()
    start = time.perf_counter()
    console = Console(width=None if sys.stdout.isatty() else 140)
    if options.attention:
        return attention(console, options)
    libraries = available(None, {"none"} if options.no_peers else None)
    own = libraries["swiftmax"]
    peers = {n: library for n, library in libraries.items() if library.is_peer}
    seeds = range(20 if options.long else 2) if options.seed is None else [options.seed]
    chosen = [f for f in families() if not options.family or options.family in f.name]
    dtypes = [options.dtype] if options.dtype else list(DTYPES)

    lines = {(d, o): [Line(f) for f in chosen] for d in dtypes for o in OPERATIONS}
    jobs = [
        (dtype, k, length, seed)
        for dtype in dtypes
        for k, family in enumerate(chosen)
        for length in family.lengths
        if not options.length or length == options.length
        for seed in seeds
    ]
    columns = (TextColumn("{task.description:<40}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(jobs))
        for dtype, k, length, seed in jobs:
            family = chosen[k]
            progress.update(task, advance=1, description=f"{dtype} {family.name}")
            x = family.rows(DTYPES[dtype], length, seed, ELEMENTS)
            exact = reference(x, family.temperature)
            few = max(1, PEER_ELEMENTS // length)
            with_peers = seed == seeds[0] and family.temperature == 1.0
            for operation in OPERATIONS:
                line = lines[dtype, operation][k]
                measure(line, operation, x, exact, seed, own)
                if with_peers:
                    part = Exact(*(values[:few] for values in exact))
                    measure_peers(line, operation, x[:few], part, peers)
        progress.update(task, description="worst rows again, with mpmath")
        for (_, operation), group in lines.items():
            for line in group:
                confirm_line(line, operation)

    failures, summary = [], []
    for (dtype, operation), group in lines.items():
        bound = BOUND[operation]
        title = f"{dtype} {operation}, largest error in ulp"
        console.print(table(title, group, list(peers), bound))
        worst = max(group, key=lambda line: line.worst.ulp)
        summary.append(describe(worst, operation, dtype))
        # Written so that NaN fails.
        failures += [describe(g, operation, dtype) for g in group if not g.worst.ulp <= bound]
    note = "~ a row too long for mpmath; peers see an eighth of the rows of the first seed"
    console.print(note, style="dim")
    console.print("\nWorst rows:", style="bold")
    for text in summary:
        console.print(text, highlight=False, markup=False)
    if failures:
        console.print(f"\n{len(failures)} lines above their bound:", style="bold red")
        for text in failures:
            console.print(text, highlight=False, markup=False)
    console.print(f"\n{len(jobs)} blocks of rows in {time.perf_counter() - start:.0f} s")
    is_filtered = options.dtype or options.family or options.length or options.seed is not None
    above = 0 if is_filtered else attention(console, options)
    return 1 if failures or above else 0


if __name__ == "__main__":
    sys.exit(main())
