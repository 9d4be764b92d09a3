"""The picture: time of each library as a multiple of swiftmax's, one panel for each thread count."""

from __future__ import annotations

from pathlib import Path

from bench.report import PEERS, Result

COLOURS = {
    "swiftmax": "#f05138",
    "torch": "#7a7a7a",
    "jax": "#9aa5b1",
    "onnxruntime": "#5b8db8",
    "scipy": "#c9c3b4",
}


def draw(results: list[Result], path: Path, caption: str) -> None:
    """Horizontal bars in ns per element on a logarithmic axis; a black tick marks the copy."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [r for r in results if r.target.numpy_exp is None]
    counts = sorted({r.threads for r in shown}, reverse=True)
    if not shown:
        return
    names = ["swiftmax", *(p for p in PEERS if any(p in r.seconds for r in shown))]
    heights = [sum(r.threads == n for r in shown) for n in counts]
    figure, panels = plt.subplots(
        len(counts),
        1,
        figsize=(10, 1.2 + 0.62 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for panel, threads in zip(panels[:, 0], counts, strict=True):
        group = [r for r in shown if r.threads == threads]
        width = 0.8 / len(names)
        for k, name in enumerate(names):
            places = [i + (k - (len(names) - 1) / 2) * width for i in range(len(group))]
            scaled = [r.seconds.get(name, 0) * 1e9 / r.workload.elements for r in group]
            panel.barh(places, scaled, width * 0.92, color=COLOURS[name], label=name)
        copies = [(i, r.copy * 1e9 / r.workload.elements) for i, r in enumerate(group) if r.copy]
        for i, copy in copies:
            label = "copy" if i == copies[0][0] else None
            panel.plot([copy, copy], [i - 0.45, i + 0.45], color="black", lw=1.2, label=label)
        panel.set_yticks(range(len(group)), [r.workload.name for r in group], fontsize=8)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.set_xlabel("ns per element (shorter is faster)", fontsize=8)
        panel.set_title(f"{threads} thread{'s' * (threads > 1)}", fontsize=10, loc="left")
        panel.grid(axis="x", which="both", lw=0.3, alpha=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].legend(fontsize=8, loc="upper right", ncols=2)
    figure.supxlabel(caption, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
