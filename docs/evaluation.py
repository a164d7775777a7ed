"""Draws ``docs/evaluation.svg``, prints the tables of ``docs/evaluation.md``: ``python docs/evaluation.py JSON...``.

Each JSON is what ``lookm eval tiny --json`` printed. ``--tables`` draws nothing; drawing needs ``matplotlib`` alone.
The same versions draw the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TITLES = {"after": "after the whole prompt", "before": "before the question"}
# What is drawn; everything is in the tables.
LINES = {
    ("lookm_plus", "f16"): ("#c8372d", "-"),
    ("lookm_plus", "q8_0"): ("#c8372d", ":"),
    ("lookm_plus", "q4_0"): ("#c8372d", "-."),
    ("text_prior_pivot_merge", "f16"): ("#2a9d5c", "-"),
    ("text_prior_avg_merge", "f16"): ("#1f6fb4", "-"),
    ("text_prior_h2o", "f16"): ("#7fb8e0", "-"),
    ("h2o", "f16"): ("#e07b39", "-"),
    ("snapkv", "f16"): ("#b15fc4", "-"),
    ("random", "f16"): ("#6b7280", "--"),
    ("streaming_llm", "f16"): ("#b0b4bb", "--"),
    ("text_prior_pivot_merge", "q8_0"): ("#2a9d5c", ":"),
    ("random", "q4_0"): ("#6b7280", "-."),
}

Row = dict[str, Any]


def name_of(row: Row) -> str:
    """A row's name in tables and legends."""
    return row["name"] if row["cache"] == "f16" else f"{row['name']}, {row['cache']}"


def draw(rows: list[Row], path: Path) -> None:
    """Score over the share of bytes, for each place; bars are intervals of the change from the full cache."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "lookm"  # the same figures, the same file
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    plots = figure.subplots(1, len(TITLES), sharey=True)
    for axes, (place, title) in zip(plots, TITLES.items(), strict=True):
        here = [row for row in rows if row["place"] == place]
        full = next(row for row in here if row["name"] == "full cache" and row["cache"] == "f16")
        for (name, cache), (color, style) in LINES.items():
            line = [row for row in here if (row["name"], row["cache"]) == (name, cache) and row["budget"] is not None]
            if line:
                x, y = ([row[key] for row in line] for key in ("bytes_share", "score"))
                change = [row["against_full"] for row in line]
                bars = [
                    [row["score"] - full["score"] - c["low"] for row, c in zip(line, change, strict=True)],
                    [full["score"] + c["high"] - row["score"] for row, c in zip(line, change, strict=True)],
                ]
                label = name_of(line[0])
                axes.errorbar(
                    [100 * v for v in x], y, bars, fmt=style, color=color, marker=".", label=label, elinewidth=0.6
                )
        axes.axhline(full["score"], color="black", linewidth=0.8)
        for row in here:
            if row["name"] == full["name"] and row is not full:
                axes.plot(100 * row["bytes_share"], row["score"], "x", color="black")
                axes.annotate(
                    row["cache"], (100 * row["bytes_share"], row["score"] - 2), ha="center", va="top", fontsize=7
                )
        axes.set_xscale("log")
        axes.set_xticks([5, 10, 20, 35, 50], ["5", "10", "20", "35", "50"])
        axes.minorticks_off()
        axes.set_xlabel("% of the full f16 cache's bytes")
        axes.set_title(f"compressed {title}, {full['prompts']} prompts", fontsize=10)
        axes.grid(alpha=0.3)
    plots[0].set_ylabel("score, full cache black (x: quantized)")
    plots[0].set_ylim(0, 100)
    named: dict[str, Any] = {}
    for axes in plots:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def cell(row: Row) -> str:
    """Score, mark against random, interval of the change from the full cache."""
    beside, change = row["against_random"], row["against_full"]
    mark = "+" if beside and beside["low"] > 0 else "-" if beside and beside["high"] < 0 else ""
    return f"{row['score']:.0f}{mark} ({change['low']:+.0f} to {change['high']:+.0f})"


def table(rows: list[Row]) -> str:
    """Methods by budget in Markdown; what has no budget first."""
    budgets = sorted({row["budget"] for row in rows if row["budget"] is not None}, reverse=True)
    lines = [["method", *(f"{100 * budget:g} %" for budget in budgets)], ["---"] * (1 + len(budgets))]
    for row in rows:
        if row["budget"] is None:
            lines.append([f"{name_of(row)}, {100 * row['bytes_share']:.1f} %", cell(row), *[""] * (len(budgets) - 1)])
    for name in dict.fromkeys(name_of(row) for row in rows if row["budget"] is not None):
        found = {row["budget"]: row for row in rows if name_of(row) == name}
        cells = []
        for budget in budgets:
            row = found.get(budget)
            exceeds = row is not None and row["bytes_share"] > budget + 0.01
            cells.append("" if row is None else cell(row) + (f" {100 * row['bytes_share']:.1f} %" if exceeds else ""))
        lines.append([name, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def by_task(rows: list[Row]) -> str:
    """Every task's score of what was run, in Markdown."""
    tasks = list(rows[0]["tasks"])
    lines = [["method", "bytes %", "cells %", *(task.replace("_", " ") for task in tasks)], ["---"] * (3 + len(tasks))]
    for row in rows:
        shares = [f"{100 * row[key]:.1f}" for key in ("bytes_share", "kept_share")]
        lines.append([name_of(row), *shares, *(f"{row['tasks'][task]:.0f}" for task in tasks)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Tables to stdout, the plot beside this file."""
    files = [word for word in sys.argv[1:] if word != "--tables"]
    rows = [row for file in files for row in json.loads(Path(file).read_text(encoding="utf-8"))["rows"]]
    for place, title in TITLES.items():
        here = [row for row in rows if row["place"] == place]
        if here:
            print(f"\nCompressed {title}, {here[0]['prompts']} prompts a cell:\n\n{table(here)}")
    for place, title in TITLES.items():
        wanted = [row for row in rows if row["place"] == place and row["budget"] in (None, 0.2)]
        if wanted:
            print(f"\nEvery task at 20 % and of what has no budget, compressed {title}:\n\n{by_task(wanted)}")
    if "--tables" not in sys.argv:
        draw(rows, HERE / "evaluation.svg")


if __name__ == "__main__":
    main()
