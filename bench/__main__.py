"""`make bench`: runs the measurements, then prints the table and writes JSON and the chart."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import attention, attention_report, attention_run, machine
from bench.report import Result, show
from bench.workloads import registered


def run(threads: int, only: str, verbose: bool, tick) -> tuple[dict, list[Result]]:
    """The process for one number of threads, line by line as it goes."""
    by_name = {w.name: w for w in registered(only)}
    command = [sys.executable, "-m", "bench.measure", "--threads", str(threads), "--only", only]
    versions, results = {}, []
    errors = None if verbose else subprocess.DEVNULL
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        for text in process.stdout:
            line = json.loads(text)
            versions = line.get("versions", versions)
            if "begin" in line:
                tick(f"{threads} thr  {line['begin']}", 0)
            if "name" in line:
                results.append(Result(by_name[line["name"]], threads, line["seconds"]))
                tick("", 1)
    if process.returncode:
        raise SystemExit(f"bench: failed with {threads} threads: {' '.join(command)}")
    return versions, results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--chart", type=Path, default=Path("build/bench.png"))
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--verbose", action="store_true", help="show what the libraries print")
    options = parser.parse_args()

    start = time.perf_counter()
    about = machine.describe()
    chosen = registered(options.only)
    counts = sorted({n for w in chosen for n in w.threads if n <= about["cores"]})
    total = sum(n in w.threads for w in chosen for n in counts)
    total += len(attention.registered(options.only))
    if not total:
        raise SystemExit(f"bench: no workload has {options.only!r} for {about['cores']} CPUs")
    console = Console(width=None if sys.stdout.isatty() else 190)
    versions, results = {}, []
    text = TextColumn("{task.description:<44}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("importing", total=total)

        def tick(text: str, steps: int) -> None:
            progress.update(task, advance=steps, description=text or None)

        for threads in counts:
            found, measured = run(threads, options.only, options.verbose, tick)
            versions.update(found)
            results += measured
        attended = attention_run.run(about["cores"], options.only, options.verbose, tick)

    if results:
        show(console, about, versions, results)
    if attended.results:
        attention_report.show(console, about, attended)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": about,
        "versions": {**versions, **attended.versions},
        "results": [r.as_json() for r in results],
        "attention": attended.as_json(),
    }
    options.json.write_text(json.dumps(record, indent=1) + "\n")
    written = [options.json]
    try:
        from bench import attention_chart, chart

        caption = f"{about['processor']}, {about['level']}, best of several rounds"
        second = options.chart.with_stem(f"{options.chart.stem}-attention")
        if chart.draw(results, options.chart, caption):
            written.append(options.chart)
        if attention_chart.draw(attended, second, caption):
            written.append(second)
    except ImportError:
        console.print("No matplotlib: no chart.", style="yellow")
    console.print(f"Wrote {', '.join(map(str, written))}", highlight=False)
    console.print(f"{time.perf_counter() - start:.0f} s", highlight=False)


if __name__ == "__main__":
    main()
