"""What a suite found, as tables on a terminal or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from lookm_cpp.cli.console import print_json
from lookm_cpp.cli.eval_options import progress_bar
from lookm_cpp.evaluation.plots import SHARE, draw_beside, suite_points
from lookm_cpp.evaluation.records import Records
from lookm_cpp.evaluation.report import (
    LEAST_CONTEXTS,
    Row,
    fixed_cells,
    overview_cells,
    rows_of,
    task_cells,
)
from lookm_cpp.evaluation.suite import SuiteRun, run_suite

PLACE_TITLES = {
    "after": "Compressed after the whole prompt",
    "before": "Compressed before the question; every question on a copy",
    "turns": "Compressed after every turn of a conversation",
}
MIN_WIDTH = 130


def run_and_report(
    run: SuiteRun, output: Path | None, *, as_json: bool, what: str = "contexts"
) -> None:
    """Run a suite, print its tables and draw its plots; ``what`` the progress counts."""
    with Records(output, run.identity()) as records:
        with progress_bar(what) as progress:
            run_suite(run, records, progress)
        rows = rows_of(run, records.all)
    report(run, rows, output, as_json=as_json)


def report(run: SuiteRun, rows: Sequence[Row], output: Path | None, *, as_json: bool) -> None:
    """Print the tables and draw the plots."""
    print_report(run, rows, as_json=as_json)
    draw_beside(output, suite_points([row.as_dict() for row in rows]), SHARE)


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
    console.print(f"{rows[0].prompts} prompts in each cell; {certainty}.{_first_token(run)}")


def _first_token(run: SuiteRun) -> str:
    """Where the first token of an answer comes from, unless that is the compressed cache."""
    begun = all(question.begins for context in run.contexts for question in context.questions)
    if begun or run.places == ("before",):
        return ""
    if "turns" in run.places:
        return " The first token of an answer comes from the reading of its turn."
    return (
        " The first token of an answer comes from the full cache where compression follows the "
        "prompt."
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
