"""What a suite found, as tables on a terminal or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from lookm_cpp.cli.console import print_json
from lookm_cpp.evaluation.report import (
    LEAST_CONTEXTS,
    Row,
    fixed_cells,
    overview_cells,
    task_cells,
)
from lookm_cpp.evaluation.suite import SuiteRun

PLACE_TITLES = {
    "after": "Compressed after the whole prompt",
    "before": "Compressed before the question; every question on a copy",
}
MIN_WIDTH = 130


def print_report(run: SuiteRun, rows: Sequence[Row], *, as_json: bool) -> None:
    """All tables, or one JSON object."""
    if as_json:
        n_contexts = len({context.number for context in run.contexts})
        print_json(
            {**run.identity(), "contexts": n_contexts, "rows": [row.as_dict() for row in rows]}
        )
        return
    console = Console(highlight=False)
    console.width = max(MIN_WIDTH, console.width)
    for table in _tables(rows):
        console.print(table)
    certainty = (
        "+ and -: better and worse than random cells of the same bytes, with 95 % certainty"
        if rows[0].contexts >= LEAST_CONTEXTS
        else f"of {rows[0].contexts} contexts no intervals can be given, "
        f"{LEAST_CONTEXTS} are the fewest"
    )
    console.print(
        f"{rows[0].prompts} prompts in each cell; {certainty}. The first token of an answer comes "
        "from the full cache where compression follows the prompt."
    )


def _tables(rows: Sequence[Row]) -> Iterable[Table]:
    """For each place the methods by budget, then every task's score of what was run."""
    for place in dict.fromkeys(row.place for row in rows):
        yield _overview([row for row in rows if row.place == place], PLACE_TITLES[place])
    for place in dict.fromkeys(row.place for row in rows):
        yield _by_task([row for row in rows if row.place == place], PLACE_TITLES[place])


def _overview(rows: Sequence[Row], title: str) -> Table:
    titles, lines = overview_cells(rows)
    table = Table(
        box=SIMPLE, pad_edge=False, title=f"{title}: score (95 % interval of its change from full)"
    )
    table.title_justify = "left"
    for heading in titles:
        table.add_column(heading, overflow="fold", no_wrap=heading == "method")
    for name, cell in fixed_cells(rows):
        table.add_row(name, cell)
    for line in lines:
        table.add_row(*line)
    return table


def _by_task(rows: Sequence[Row], title: str) -> Table:
    titles, lines = task_cells(rows)
    table = Table(box=SIMPLE, pad_edge=False, title=f"{title}: every task, of 100")
    table.title_justify = "left"
    for heading in titles:
        left = heading == "method"
        table.add_column(
            heading, justify="left" if left else "right", overflow="fold", no_wrap=left
        )
    for line in lines:
        table.add_row(*line)
    return table
