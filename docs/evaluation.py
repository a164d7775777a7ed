"""Draws the plots and prints the tables of ``docs/evaluation.md``.

    python docs/evaluation.py JSON...

Each JSON file is the output of ``lookm eval tiny --json``. ``--tables`` draws nothing. The same
versions draw the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from lookm_cpp.evaluation.plots import SHARE, draw_beside, suite_points

HERE = Path(__file__).parent
TITLES = {"after": "after the whole prompt", "before": "before the question"}

Row = dict[str, Any]


def name_of(row: Row) -> str:
    """A row's name in tables and legends."""
    return row["name"] if row["cache"] == "f16" else f"{row['name']}, {row['cache']}"


def cell(row: Row) -> str:
    """Score, mark against random, interval of the change from the full cache."""
    beside, change = row["against_random"], row["against_full"]
    mark = "+" if beside and beside["low"] > 0 else "-" if beside and beside["high"] < 0 else ""
    return f"{row['score']:.0f}{mark} ({change['low']:+.0f} to {change['high']:+.0f})"


def table(rows: list[Row]) -> str:
    """Methods by budget in Markdown; what has no budget first."""
    budgets = sorted({row["budget"] for row in rows if row["budget"] is not None}, reverse=True)
    lines = [
        ["method", *(f"{100 * budget:g} %" for budget in budgets)],
        ["---"] * (1 + len(budgets)),
    ]
    for row in rows:
        if row["budget"] is None:
            lines.append(
                [
                    f"{name_of(row)}, {100 * row['bytes_share']:.1f} %",
                    cell(row),
                    *[""] * (len(budgets) - 1),
                ]
            )
    for name in dict.fromkeys(name_of(row) for row in rows if row["budget"] is not None):
        found = {row["budget"]: row for row in rows if name_of(row) == name}
        cells = []
        for budget in budgets:
            row = found.get(budget)
            exceeds = row is not None and row["bytes_share"] > budget + 0.01
            cells.append(
                ""
                if row is None
                else cell(row) + (f" {100 * row['bytes_share']:.1f} %" if exceeds else "")
            )
        lines.append([name, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def by_task(rows: list[Row]) -> str:
    """Every task's score of what was run, in Markdown."""
    tasks = list(rows[0]["tasks"])
    lines = [
        ["method", "bytes %", "cells %", *(task.replace("_", " ") for task in tasks)],
        ["---"] * (3 + len(tasks)),
    ]
    for row in rows:
        shares = [f"{100 * row[key]:.1f}" for key in ("bytes_share", "kept_share")]
        lines.append([name_of(row), *shares, *(f"{row['tasks'][task]:.0f}" for task in tasks)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Tables to stdout, the plots beside this file."""
    files = [word for word in sys.argv[1:] if word != "--tables"]
    rows = [
        row for file in files for row in json.loads(Path(file).read_text(encoding="utf-8"))["rows"]
    ]
    for place, title in TITLES.items():
        here = [row for row in rows if row["place"] == place]
        if here:
            print(f"\nCompressed {title}, {here[0]['prompts']} prompts a cell:\n\n{table(here)}")
    for place, title in TITLES.items():
        wanted = [row for row in rows if row["place"] == place and row["budget"] in (None, 0.2)]
        if wanted:
            print(
                f"\nEvery task at 20 % and of what has no budget, compressed {title}:\n\n"
                f"{by_task(wanted)}"
            )
    if "--tables" not in sys.argv:
        draw_beside(HERE / "evaluation.json", suite_points(rows), SHARE)


if __name__ == "__main__":
    main()
