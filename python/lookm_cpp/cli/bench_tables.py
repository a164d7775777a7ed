"""Tables and progress of a benchmark in a terminal."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from lookm_cpp.bench.text_table import Table

MIN_WIDTH = 110


def wide_console() -> Console:
    """A console for tables, at least 110 columns wide."""
    console = Console(highlight=False)
    console.width = max(MIN_WIDTH, console.width)
    return console


def time_bar(console: Console, *, transient: bool = False, disable: bool = False) -> Progress:
    """A progress bar with the elapsed and the remaining time."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=transient, disable=disable)


def rich_table(table: Table) -> Group:
    """The table with its title and its note."""
    shown = RichTable(box=SIMPLE)
    for column in table.columns:
        shown.add_column(Text(column), justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*map(Text, row))
    note = Text(table.note + "\n" if table.note else "")
    return Group(Text(table.title, style="bold"), shown, note)
