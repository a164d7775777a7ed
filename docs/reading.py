"""Draws ``docs/reading.svg`` from ``benchmarks/reading.json``.

Run ``python docs/reading.py [JSON SVG]``.

Needs ``matplotlib`` alone. The same versions draw the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

HERE = Path(__file__).parent
GREY = "#6b7280"
COLOURS = {"divprune": "#c8372d", "cdpruner": "#d9a514", "grid": "#2f6fd0", "random": GREY}
METHOD = "lookm_plus"


def split(name: str) -> tuple[str, str, str]:
    """Pruner, share and budget of a row: ``divprune 0.5, lookm_plus 0.2``."""
    read, _, kept = name.partition(", ")
    pruner, _, share = read.partition(" ")
    return pruner, share, kept.removeprefix(METHOD).strip()


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Score over seconds of reading, and over kept cells."""
    mpl.rcParams["svg.hashsalt"] = "lookm"  # the same figures, the same file
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    by_time, by_cells = figure.subplots(1, 2, sharey=True)
    full = next(row for row in rows if row["name"] == "all")
    for pruner, colour in COLOURS.items():
        alone = [
            full,
            *(r for r in rows if split(r["name"])[0] == pruner and not split(r["name"])[2]),
        ]
        style = "--" if pruner == "random" else "-"
        for axes, key, scale in ((by_time, "seconds", 1), (by_cells, "kept", 100)):
            axes.plot(
                [scale * row[key] for row in alone],
                [row["score"] for row in alone],
                style,
                color=colour,
                marker="o",
                label=f"{pruner}, all that is read is kept",
            )
    kept = [row for row in rows if split(row["name"])[0] == "all" and split(row["name"])[2]]
    by_cells.plot(
        [100 * row["kept"] for row in [full, *kept]],
        [row["score"] for row in [full, *kept]],
        ":",
        color="#2a9d5c",
        marker="s",
        label=f"all are read, {METHOD} keeps some",
    )
    both = [row for row in rows if split(row["name"])[0] == "divprune" and split(row["name"])[2]]
    by_cells.plot(
        [100 * row["kept"] for row in both],
        [row["score"] for row in both],
        linestyle="none",
        color="#c8372d",
        marker="x",
        markersize=9,
        label=f"divprune, then {METHOD}",
    )
    by_time.set_xlabel("seconds to encode and read the prompt")
    by_cells.set_xlabel("cells kept, % of all")
    by_time.set_ylabel("score")
    by_cells.legend(loc="lower right", fontsize=8)
    for axes in (by_time, by_cells):
        axes.grid(color=GREY, alpha=0.25)
        axes.set_xlim(left=0)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Draw the given files, or the repository's own."""
    source, target = (
        [Path(name) for name in sys.argv[1:3]]
        if len(sys.argv) > 2
        else [HERE.parent / "benchmarks" / "reading.json", HERE / "reading.svg"]
    )
    draw(json.loads(source.read_text(encoding="utf-8")), target)


if __name__ == "__main__":
    main()
