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
from matplotlib.ticker import ScalarFormatter

HERE = Path(__file__).parent
GREY = "#6b7280"
COLOURS = {"divprune": "#c8372d", "cdpruner": "#d9a514", "grid": "#2f6fd0", "random": GREY}
METHOD = "lookm_plus"
FULL = "all"


@dataclass(frozen=True)
class Row:
    """A row of the table: ``divprune 0.5, lookm_plus 0.2, q4_0``."""

    pruner: str
    budget: str
    cache: str
    seconds: float
    percent: float
    score: float

    @classmethod
    def of(cls, given: dict[str, Any]) -> Row:
        """``percent``: bytes of the cache, of those of the full one in f16."""
        read, *more = given["name"].split(", ")
        budget = next((word.removeprefix(METHOD) for word in more if word.startswith(METHOD)), "")
        cache = next((word for word in more if not word.startswith(METHOD)), "f16")
        percent = 100 * given["bytes"]
        return cls(read.split()[0], budget, cache, given["seconds"], percent, given["score"])


def line(axes: Axes, rows: list[Row], key: str, style: str, colour: str, label: str) -> None:
    """Plot scores over ``key``."""
    axes.plot(
        [getattr(row, key) for row in rows],
        [row.score for row in rows],
        style,
        color=colour,
        label=label,
    )


def draw(rows: list[Row], path: Path) -> None:
    """Score over seconds of reading, and over bytes kept."""
    mpl.rcParams["svg.hashsalt"] = "lookm"  # the same figures, the same file
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    by_time, by_bytes = figure.subplots(1, 2, sharey=True)

    def some(pruner: str, cache: str = "f16", *, budget: bool = False) -> list[Row]:
        """The rows of one line, of which the first reads and keeps all."""
        wanted = [r for r in rows if r.pruner == pruner and bool(r.budget) == budget]
        full = [r for r in rows if r.pruner == FULL and not r.budget and r.cache == cache]
        more = [r for r in wanted if r.cache == cache]
        return more if full[0] in more else [*full, *more]

    for pruner, colour in COLOURS.items():
        style = "o--" if pruner == "random" else "o-"
        line(by_time, some(pruner), "seconds", style, colour, pruner)
        line(by_bytes, some(pruner), "percent", style, colour, pruner)
    for cache, mark in (("f16", "s"), ("q8_0", "v"), ("q4_0", "^")):
        kept = some(FULL, cache, budget=True)
        if cache != "f16":
            label = f"divprune, {cache}"
            line(by_bytes, some("divprune", cache), "percent", f"{mark}-", "#8c1d40", label)
        label = f"{METHOD} alone" + ("" if cache == "f16" else f", {cache}")
        line(by_bytes, kept, "percent", f"{mark}:", "#2a9d5c", label)
    by_time.set_xlabel("seconds to encode and read the prompt")
    by_bytes.set_xlabel("bytes kept, % of the full f16 cache's")
    by_bytes.set_xscale("log")
    by_bytes.set_xticks([5, 10, 20, 50, 100])
    by_bytes.xaxis.set_major_formatter(ScalarFormatter())
    by_bytes.xaxis.set_minor_formatter("")
    by_time.set_ylabel("score")
    by_time.set_xlim(left=0)
    by_time.legend(loc="lower right", fontsize=8)
    by_bytes.legend(loc="lower right", fontsize=8)
    for axes in (by_time, by_bytes):
        axes.grid(color=GREY, alpha=0.25)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Draw the given files, or the repository's own."""
    source, target = (
        [Path(name) for name in sys.argv[1:3]]
        if len(sys.argv) > 2
        else [HERE.parent / "benchmarks" / "reading.json", HERE / "reading.svg"]
    )
    draw([Row.of(row) for row in json.loads(source.read_text(encoding="utf-8"))], target)


if __name__ == "__main__":
    main()
