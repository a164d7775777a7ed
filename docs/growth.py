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
GREEN, GREY, ORANGE = "#2a9d5c", "#6b7280", "#e07b39"


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Seconds over cells, both logarithmic; shares of prefill beside them."""
    mpl.rcParams["svg.hashsalt"] = "lookm"  # the same figures, the same file
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    seconds, share = figure.subplots(1, 2)
    for flash, style, name in ((True, "--", "flash attention on"), (False, "-", "off")):
        rows = [p for p in points if p["flash_attn"] == flash]
        n = [p["cells"] for p in rows]
        cost = [p["score"] + p["compress"] for p in rows]
        seconds.plot(n, [p["prefill"] for p in rows], style, color=GREY, marker=".", label=f"prefill, {name}")
        seconds.plot(n, cost, style, color=GREEN, marker=".", label=f"scoring + compression, {name}")
        share.plot(
            n,
            [100 * c / p["prefill"] for c, p in zip(cost, rows, strict=True)],
            style,
            color=GREEN,
            marker=".",
            label=name,
        )
        share.plot(
            n,
            [100 * p["score"] / p["prefill"] for p in rows],
            style,
            color=ORANGE,
            marker=".",
            label=f"scoring alone, {name}",
        )
    ticks = sorted({p["cells"] for p in points})
    for axes in (seconds, share):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.set_xlabel("prompt, cells")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    seconds.set_yscale("log")
    seconds.set_title("seconds, one layer of 7B shape", fontsize=10)
    share.set_ylim(bottom=0)
    share.set_title("% of prefill, scoring + compression", fontsize=10)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    source, target = (
        sys.argv[1:3] if len(sys.argv) > 2 else (HERE.parent / "benchmarks" / "growth.json", HERE / "growth.svg")
    )
    draw(json.loads(Path(source).read_text())["points"], Path(target))
