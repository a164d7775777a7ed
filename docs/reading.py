"""Draws ``docs/reading.svg`` from ``benchmarks/reading.json``.

Run ``python docs/reading.py [JSON SVG]``.

Needs ``matplotlib`` alone. The same versions draw the same bytes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
GREY = "#6b7280"
RED, GREEN = "#c8372d", "#2a9d5c"
QUANTIZED = {"q8_0": "^", "q4_0": "v"}
"""Types of caches, and how their points are drawn."""
COLOURS = {"divprune": RED, "cdpruner": "#d9a514", "grid": "#2f6fd0", "random": GREY}
METHOD = "lookm_plus"


@dataclass(frozen=True)
class Row:
    """A row of the file, by its name: ``divprune 0.5, lookm_plus 0.2, q8_0``."""

    figures: dict[str, Any]

    @property
    def parts(self) -> list[str]:
        """The name's."""
        return str(self.figures["name"]).split(", ")

    @property
    def pruner(self) -> str:
        """``all`` if all cells are read."""
        return self.parts[0].partition(" ")[0]

    @property
    def evicts(self) -> bool:
        """Whether not all that is read is kept."""
        return any(part.startswith(METHOD) for part in self.parts)

    @property
    def cache(self) -> str:
        """Type of the cells that are kept."""
        return self.parts[-1] if self.parts[-1] in QUANTIZED else "f16"


def draw(rows: list[Row], path: Path) -> None:
    """Score over seconds of reading, and over bytes of the cache."""
    mpl.rcParams["svg.hashsalt"] = "lookm"  # the same figures, the same file
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    by_time, by_bytes = figure.subplots(1, 2, sharey=True)

    def line(axes: Axes, key: str, shown: list[Row], style: str, **how: Any) -> None:
        scale = 1 if key == "seconds" else 100
        x = [scale * row.figures[key] for row in shown]
        axes.plot(x, [row.figures["score"] for row in shown], style, **how)

    half = [row for row in rows if row.cache == "f16"]
    full = next(row for row in half if row.pruner == "all" and not row.evicts)
    for pruner, colour in COLOURS.items():
        alone = [full, *(r for r in half if r.pruner == pruner and not r.evicts)]
        style = "o--" if pruner == "random" else "o-"
        for axes, key in ((by_time, "seconds"), (by_bytes, "bytes")):
            line(axes, key, alone, style, color=colour, label=f"{pruner}, all that is read is kept")
    kept = [full, *(r for r in half if r.pruner == "all" and r.evicts)]
    line(by_bytes, "bytes", kept, "s:", color=GREEN, label=f"all are read, {METHOD} keeps some")
    both = [r for r in half if r.pruner == "divprune" and r.evicts]
    line(by_bytes, "bytes", both, "x", color=RED, markersize=9, label=f"divprune, then {METHOD}")
    for cache, mark in QUANTIZED.items():
        stored = [r for r in rows if r.cache == cache]
        for found, colour, what in (
            ([r for r in stored if r.pruner == "all"], GREEN, "all are read"),
            ([r for r in stored if r.pruner != "all"], RED, "divprune"),
        ):
            line(by_bytes, "bytes", found, mark, color=colour, label=f"{what}, kept in {cache}")
    by_time.set_xlabel("seconds to encode and read the prompt")
    by_bytes.set_xlabel("bytes of the cache that answers, % of all cells in f16")
    by_time.set_ylabel("score")
    by_bytes.legend(loc="lower right", fontsize=7)
    for axes in (by_time, by_bytes):
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
    draw([Row(row) for row in json.loads(source.read_text(encoding="utf-8"))], target)


if __name__ == "__main__":
    main()
