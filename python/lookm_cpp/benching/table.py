"""A table for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text


@dataclass
class Table:
    """Columns, rows of text, and the line that stands below them."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def rich(self) -> Group:
        """For a terminal."""
        table = RichTable(box=SIMPLE)
        for column in self.columns:
            table.add_column(Text(column), justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*map(Text, row))
        return Group(
            Text(self.title, style="bold"), table, Text(self.note + "\n" if self.note else "")
        )

    def markdown(self) -> str:
        """For a page."""
        lines = [f"### {self.title}", ""]
        lines += [
            f"| {' | '.join(row)} |"
            for row in (self.columns, ["---:"] * len(self.columns), *self.rows)
        ]
        return "\n".join([*lines, "", self.note] if self.note else lines)
