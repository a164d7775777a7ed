"""A table for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Table:
    """Columns, rows of text, and a note below them."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [f"### {self.title}", ""]
        lines += [
            f"| {' | '.join(row)} |"
            for row in (self.columns, ["---:"] * len(self.columns), *self.rows)
        ]
        return "\n".join([*lines, "", self.note] if self.note else lines)
