"""The table of attention."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bench.attention_run import PEERS, Figure, Result, Run

# Columns for the goals that most workloads have; the rest share one and say what they are.
SHARES = ("peak", "read")
OTHERS = {
    "torch": "torch ×{}",
    "own": "×{} of float32",
    "work": "×{} of its share",
    "call": "{} µs",
}


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds >= 1e-4 else f"{seconds * 1e3:.2g}"


def figure(figure: Figure, form: str = "{}") -> str:
    """A figure beside the limit it is held to."""
    sign = "≤" if figure.goal.is_upper else "≥"
    if figure.value is None:
        return f"[dim]{sign}{figure.goal.limit:g}[/]"
    style = "green" if figure.is_met else "yellow"
    text = form.format(f"{figure.value:.2f}")
    return f"[{style}]{text}[/] [dim]{sign}{figure.goal.limit:g}[/]"


def row(result: Result) -> list[str]:
    work, figures = result.work, {f.goal.kind: f for f in result.figures}
    unit = "GB/s" if work.is_decode else "GFLOP/s"
    share = next((figure(figures[kind]) for kind in SHARES if kind in figures), "")
    if not share and result.limit:
        share = f"[dim]{result.rate / result.limit:.2f}[/]"
    times = figure(figures["peer"]) if "peer" in figures else ""
    if not times and result.times_peer:
        times = f"[dim]{result.times_peer:.2f}[/]"
    others = [figure(figures[kind], form) for kind, form in OTHERS.items() if kind in figures]
    cells = []
    for name in PEERS:
        seconds, variant = result.peer(name) or (None, "")
        cells.append(f"{milliseconds(seconds)} [dim]{variant}[/]" if seconds else "")
    style = {"met": "green", "open": "dim"}.get(result.verdict, "bold red")
    return [
        work.line,
        work.label,
        milliseconds(result.own),
        f"{result.rate / 1e9:.3g} {unit}",
        share,
        *cells,
        times,
        "\n".join(others),
        f"[{style}]{result.verdict}[/]",
    ]


def table(run: Run) -> Table:
    """Milliseconds a call; of a peer's variants the fastest, named."""
    threads = f"{run.threads} thread{'s' * (run.threads > 1)}"
    made = Table(
        title=f"Attention: best times in ms a call, float32 unless said, {threads}",
        title_justify="left",
        header_style="bold",
    )
    made.add_column("line", no_wrap=True)
    made.add_column("workload", no_wrap=True)
    made.add_column("swiftmax", justify="right", style="bold", no_wrap=True)
    for name in ("useful", "of limit", *PEERS, "× peer"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("also")
    made.add_column("verdict", no_wrap=True)
    group = None
    for result in run.results:
        if group not in (None, result.work.group):
            made.add_section()
        group = result.work.group
        made.add_row(*row(result))
    return made


def show(console: Console, machine: dict, run: Run) -> None:
    console.print(table(run))
    note = (
        "Useful operations only, 4 D for each score that is not masked; decode: bytes of keys and"
        " values, read from memory (several caches in turn). Of limit: of the FMA rate, or memory's"
        " for decode, measured in turn with the call where a share is asked (≥), else of the best"
        " below. × peer: how many times as fast as the fastest peer."
    )
    console.print(note, style="dim")
    about = f"{machine['processor']}, {machine['level']}"
    console.print(f"{about}; limits in this run: {run.limits}", highlight=False)
    console.print(", ".join(f"{k} {v}" for k, v in run.versions.items()), highlight=False)
    asked = [result for result in run.results if result.work.goals]
    met = sum(result.verdict == "met" for result in asked)
    console.print(f"{met} of {len(asked)} attention lines met", style="bold")
    if machine["load before"] > 0.5:
        busy = f"The machine was busy before (load {machine['load before']}): repeat it when idle."
        console.print(busy, style="yellow")
