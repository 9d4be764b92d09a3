#!/usr/bin/env python3
"""The two figures of docs/attention.md: the tiles of both products, and what causal blocks cost.

The second one follows the arithmetic of Sources/Kernels (interval, findLanes, visit, absorbEdge) for
tiles of 48 queries and blocks of 64 keys, and prints how many scores are computed.

Usage: python3 scripts/attention_figures.py [FOLDER]     (docs, where none is given)
"""

# ruff: noqa: RUF001
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

# The same file again from the same script, and text that stays text.
matplotlib.rcParams.update({"svg.hashsalt": "swiftmax", "svg.fonttype": "none", "font.size": 8})

LANES, VECTOR, STRIP, BLOCK, SIZE = 48, 16, 8, 64, 64
KEYS, QUERIES, SUMS, ONE = "#e8f0f8", "#fbe9e1", "#fdf6e3", "#f05138"
WHOLE, PARTIAL, SKIPPED = "#9dbfe0", "#f3b49f", "#f4f4f4"


def box(panel, x, y, width, height, colour, edge="#555555", **options):
    panel.add_patch(
        Rectangle((x, y), width, height, facecolor=colour, edgecolor=edge, lw=0.8, **options)
    )


def matrix(panel, x, y, rows, columns, colour, name, shape, *, above=True):
    """A matrix with its name in it and its shape beside it."""
    box(panel, x, y, columns, rows, colour)
    panel.text(x + columns / 2, y + rows * 0.8, name, ha="center", va="center", fontsize=11)
    place, side = (y - 2, "bottom") if above else (y + rows + 2, "top")
    panel.text(x + columns / 2, place, shape, ha="center", va=side)


def product(panel, title, left, right, result):
    """left, read where it lies, times right gives result; a strip of the loop is marked."""
    gap, x, y = 14, SIZE + 14, SIZE + 26
    matrix(panel, 0, y, BLOCK, SIZE, KEYS, *left, above=False)
    matrix(panel, x, 0, SIZE, LANES, QUERIES, *right)
    matrix(panel, x, y, BLOCK, LANES, SUMS, *result, above=False)
    # The strip: 8 rows, all lanes; one number of the left spread over three vectors of the right.
    strip, step = y + 2 * STRIP, 22
    box(panel, x, strip, LANES, STRIP, "none", ONE)
    for v in range(LANES // VECTOR):
        box(panel, x + v * VECTOR, step, VECTOR, 1.6, ONE, ONE)
        panel.plot([x + v * VECTOR] * 2, [strip, strip + STRIP], color=ONE, lw=0.8)
    for r in range(STRIP):
        box(panel, step, strip + r + 0.15, 1.6, 0.7, ONE, ONE)
    panel.plot([0, SIZE], [strip + STRIP / 2] * 2, color=ONE, lw=0.6, ls=":")
    panel.plot([x + LANES / 2] * 2, [0, SIZE], color=ONE, lw=0.6, ls=":")
    panel.text(step + 3, strip - 2, "8 numbers,\neach spread", color=ONE, va="bottom")
    panel.text(x + LANES + 2, step + 1, "3 vectors\nof 16 queries", color=ONE, va="center")
    panel.text(x + LANES + 2, strip + STRIP / 2, "8 × 3 sums\nin registers", color=ONE, va="center")
    panel.set_title(title, fontsize=9, loc="left")
    panel.set_xlim(-2, x + LANES + 36)
    panel.set_ylim(y + BLOCK + gap, -10)
    panel.set_aspect("equal")
    panel.axis("off")


def tiles(path):
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    product(
        panels[0],
        "scores: a step for each of D numbers",
        ("K", "64 keys × D, in place"),
        ("Qᵀ", "D × 48 queries, turned once"),
        ("S", "64 × 48 scores"),
    )
    product(
        panels[1],
        "values: a step for each of 64 keys",
        ("Vᵀ", "Dv × 64 keys, V in place"),
        ("P", "64 × 48 weights, where S was"),
        ("O", "Dv × 48: O · 2ⁿ + Vᵀ·P"),
    )
    figure.savefig(path, metadata={"Date": None})


def seen(query, queries, keys):
    """The keys from 0 that a causal query sees, with the default offset."""
    return max(0, min(keys, query + keys - queries + 1))


def causal(panel, queries, keys):
    """Tiles are rows, blocks columns. Returns scores seen and scores computed."""
    computed = 0
    box(panel, 0, 0, keys, queries, SKIPPED)
    for first in range(0, queries, LANES):
        ends = [seen(i, queries, keys) for i in range(first, min(first + LANES, queries))]
        upper = max(ends)
        # Of the queries that see a key at all.
        all_to = min((end for end in ends if end), default=0)
        for start in range(0, keys, BLOCK):
            last = min(start + BLOCK, keys, upper)
            if last > start:
                if last <= all_to:
                    box(panel, start, first, last - start, LANES, WHOLE, "none")
                    computed += (last - start) * len(ends)
                    continue
                # A vector of queries takes its own keys; scores in strips of eight.
                for lane in range(0, len(ends), VECTOR):
                    vector = ends[lane : lane + VECTOR]
                    keys_seen = max(0, min(last, max(vector)) - start)
                    box(panel, start, first + lane, keys_seen, len(vector), PARTIAL, "none")
                    computed += min(-(-keys_seen // STRIP) * STRIP, last - start) * len(vector)
    panel.hlines(range(0, queries + 1, LANES), 0, keys, color="#888888", lw=0.8)
    panel.vlines(range(0, keys + 1, BLOCK), 0, queries, color="#888888", lw=0.8)
    offset = keys - queries
    panel.plot([max(0, offset), keys], [max(0, -offset), queries], color="black", lw=1.2)
    panel.set_xlim(-2, keys + 2)
    panel.set_ylim(queries + 2, -2)
    panel.set_aspect("equal")
    panel.set_xticks(range(0, keys + 1, BLOCK))
    panel.set_yticks(range(0, queries + 1, LANES))
    panel.set_xlabel("keys, in blocks of 64")
    panel.set_ylabel("queries, in tiles of 48")
    panel.xaxis.set_label_position("top")
    panel.xaxis.tick_top()
    panel.spines[:].set_visible(False)
    return sum(seen(i, queries, keys) for i in range(queries)), computed


def causal_pictures(path):
    figure, panels = plt.subplots(
        1, 2, figsize=(8.2, 4.3), layout="constrained", width_ratios=(320, 192)
    )
    for panel, (queries, keys) in zip(panels, ((192, 320), (288, 192)), strict=True):
        shown, computed = causal(panel, queries, keys)
        sign = "<" if queries < keys else ">"
        panel.set_title(f"Lq = {queries} {sign} Lk = {keys}, offset {keys - queries}", fontsize=9)
        print(
            f"Lq {queries}, Lk {keys}: of {queries * keys} scores {shown} are seen,"
            f" {computed} computed"
        )
    kinds = {"whole: the product alone": WHOLE, "partial: and a pass that selects": PARTIAL}
    kinds["skipped"] = SKIPPED
    handles = [Rectangle((0, 0), 1, 1, facecolor=c, edgecolor="#888888") for c in kinds.values()]
    figure.legend(handles, kinds, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main():
    root = Path(__file__).resolve().parents[1]
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "docs"
    tiles(folder / "attention_tiles.svg")
    causal_pictures(folder / "attention_causal.svg")


if __name__ == "__main__":
    main()
