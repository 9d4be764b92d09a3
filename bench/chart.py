"""The picture: time per element of each library, one panel for each thread count."""

from __future__ import annotations

from pathlib import Path

from bench.report import PEERS, Result

# Colour and marker: told apart in print as well.
STYLES = {
    "swiftmax": ("#f05138", "o"),
    "torch": ("#4c4c4c", "s"),
    "jax": ("#7b9e45", "^"),
    "onnxruntime": ("#3b7bbf", "D"),
    "scipy": ("#b08b3e", "v"),
}


def _draw_row(panel, place: int, result: Result, labelled: set[str]) -> None:
    """One workload: a mark for each library, a stroke for the copy, a thin line through all."""
    per = 1e9 / result.workload.elements
    times = {name: result.seconds[name] * per for name in STYLES if name in result.seconds}
    ends = [*times.values(), *([result.copy * per] if result.copy else [])]
    panel.plot([min(ends), max(ends)], [place, place], color="#d9d9d9", lw=1.5, zorder=1)
    if result.copy:
        label = None if "copy" in labelled else "copy"
        panel.plot(
            [result.copy * per], [place], "|", color="black", ms=15, mew=2, label=label, zorder=2
        )
        labelled.add("copy")
    for name, time in reversed(times.items()):
        colour, marker = STYLES[name]
        own = name == "swiftmax"
        label = None if name in labelled else name
        panel.plot(
            [time],
            [place],
            marker,
            color=colour,
            ms=9 if own else 6,
            label=label,
            zorder=4 if own else 3,
        )
        labelled.add(name)


def draw(results: list[Result], path: Path, caption: str) -> bool:
    """Marks in ns per element on a logarithmic axis, which bars would have no honest foot on. False
    where there is nothing to draw."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [r for r in results if r.target.numpy_exp is None]
    counts = sorted({r.threads for r in shown}, reverse=True)
    if not shown:
        return False
    assert set(STYLES) == {"swiftmax", *PEERS}
    heights = [sum(r.threads == n for r in shown) for n in counts]
    figure, panels = plt.subplots(
        len(counts),
        1,
        figsize=(10, 1.6 + 0.32 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    for panel, threads in zip(panels[:, 0], counts, strict=True):
        group = [r for r in shown if r.threads == threads]
        labelled: set[str] = set()
        for place, result in enumerate(group):
            _draw_row(panel, place, result, labelled)
        panel.set_yticks(range(len(group)), [r.workload.name for r in group], fontsize=8)
        panel.set_ylim(len(group) - 0.4, -0.6)
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.set_title(f"{threads} thread{'s' * (threads > 1)}", fontsize=10, loc="left")
        panel.grid(axis="x", which="both", lw=0.3, alpha=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel("ns per element, further left is faster", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8, frameon=False
    )
    figure.supxlabel(caption, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True
