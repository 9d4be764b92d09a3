"""The picture of attention: the share of the machine's limit that each library reaches."""

from __future__ import annotations

from pathlib import Path

from bench.attention_run import PEERS, Result, Run
from bench.chart import STYLES as ROW_STYLES

STYLES = {**ROW_STYLES, "openvino": ("#8e63a9", "P")}


def shares(result: Result) -> dict[str, float]:
    """By library: its useful work a second over the limit of this workload."""
    seconds = {"swiftmax": result.own}
    seconds |= {name: result.peer(name)[0] for name in PEERS if result.peer(name)}
    return {name: result.work_done / t / result.limit for name, t in seconds.items()}


def draw(run: Run, path: Path, caption: str) -> bool:
    """A linear axis from 0: the marks' distance from 1 is what is left to gain. False
    where there is nothing to draw."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [r for r in run.results if r.limit and not any(g.kind == "call" for g in r.work.goals)]
    if not shown:
        return False
    figure, panel = plt.subplots(figsize=(10, 1.6 + 0.3 * len(shown)), layout="constrained")
    labelled: set[str] = set()
    for place, result in enumerate(shown):
        found = shares(result)
        panel.plot([0, max(found.values())], [place, place], color="#d9d9d9", lw=1.5, zorder=1)
        for name, share in reversed(found.items()):
            colour, marker = STYLES[name]
            own = name == "swiftmax"
            panel.plot(
                [share],
                [place],
                marker,
                color=colour,
                ms=9 if own else 6,
                label=None if name in labelled else name,
                zorder=4 if own else 3,
            )
            labelled.add(name)
    panel.axvline(1, color="black", lw=1, zorder=2)
    panel.set_yticks(range(len(shown)), [r.work.label for r in shown], fontsize=8)
    panel.set_ylim(len(shown) - 0.4, -0.6)
    panel.set_xlim(left=0)
    panel.set_xlabel(
        "useful work as a share of the float32 FMA rate (decode: of the read bandwidth), in turn or"
        " the run's best; further right is faster",
        fontsize=9,
    )
    panel.grid(axis="x", lw=0.3, alpha=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panel.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda k: list(STYLES).index(labels[k]))
    figure.legend(
        [handles[k] for k in order],
        [labels[k] for k in order],
        loc="outside upper right",
        ncols=len(labels),
        fontsize=8,
        frameon=False,
    )
    figure.supxlabel(f"{caption}; {run.limits}", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True
