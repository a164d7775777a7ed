"""A command whose help has its flags under headings."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class Command(TyperCommand):
    """As typer's; ``rich_help_panel`` of a flag is its heading in plain text as well."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, the command's own options, then each group of flags."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None:
                other = "Arguments" if param.param_type_name == "argument" else "Options"
                heading = getattr(param, "rich_help_panel", None) or other
                sections.setdefault(heading, []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
