"""Draws ``docs/growth.svg`` from ``benchmarks/growth.json``: ``python docs/growth.py [JSON SVG]``.

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
COLOURS = {"text_prior_pivot_merge": "#2a9d5c", "lookm_plus": "#c8372d"}


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Seconds over cells, both logarithmic; shares of prefill and their floors beside them."""
    mpl.rcParams["svg.hashsalt"] = "lookm"  # the same figures, the same file
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    seconds, *shares = figure.subplots(1, 3)
    for flash, axes in zip((False, True), shares, strict=True):
        rows = [p for p in points if p["flash_attn"] == flash]
        n = [p["cells"] for p in rows]
        style, name = ("--", "flash on") if flash else ("-", "flash off")
        seconds.plot(
            n, [p["prefill"] for p in rows], style, color=GREY, marker=".", label=f"prefill, {name}"
        )
        for method, colour in COLOURS.items():
            found = [p["methods"][method] for p in rows]
            cost = [of["score"] + of["compress"] for of in found]
            seconds.plot(n, cost, style, color=colour, marker=".", label=f"{method}, {name}")
            for values, dots, label in (
                (cost, "-", method),
                ([of["floor"] for of in found], ":", f"the least for {method}"),
            ):
                share = [100 * v / p["prefill"] for v, p in zip(values, rows, strict=True)]
                axes.plot(n, share, dots, color=colour, marker=".", label=label)
        axes.set_title(
            f"scoring + compression, % of prefill, flash attention {'on' if flash else 'off'}",
            fontsize=9,
        )
        axes.set_ylim(bottom=0)
    ticks = sorted({p["cells"] for p in points})
    for axes in (seconds, *shares):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{t // 1024}k" if t >= 1024 else str(t) for t in ticks])
        axes.set_xlabel("prompt, cells")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=7, handlelength=3.5)
    seconds.set_yscale("log")
    seconds.set_title("seconds, one layer of 7B shape", fontsize=9)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    source, target = (
        sys.argv[1:3]
        if len(sys.argv) > 2
        else (HERE.parent / "benchmarks" / "growth.json", HERE / "growth.svg")
    )
    draw(json.loads(Path(source).read_text())["points"], Path(target))
