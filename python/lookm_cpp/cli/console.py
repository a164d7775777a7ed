"""What the commands have in common on a terminal and off it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from lookm_cpp.options import Progress as ProgressCallback
from lookm_cpp.sizes import format_bytes
from lookm_cpp.stats import Stats

PHASES = {
    "encode": "encoding images",
    "prefill": "reading the prompt",
    "compress": "compressing layers",
}


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


@contextmanager
def prompt_progress() -> Iterator[ProgressCallback | None]:
    """Bars on stderr while a prompt is processed; nothing unless stderr is a terminal that can draw
    them.
    """
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(PHASES.get(phase, phase), total=total)
            bars.update(tasks[phase], completed=done, total=total)

        yield report


def format_rate(rate: float) -> str:
    """Tokens a second, or a dash where nothing ran."""
    return f"{rate:.{0 if rate >= 100 else 1}f} tokens/s" if rate else "-"


def _parts(stats: Stats) -> str:
    parts = f"{stats.text_cells} text, {stats.image_cells} image"
    return f"{parts}, {stats.context_cells} context" if stats.context_cells else parts


def _kept_parts(stats: Stats) -> str:
    parts = f"{stats.kv_ratio:.1%}: {stats.kept_text_cells} text, {stats.kept_image_cells} image"
    return f"{parts}, {stats.kept_context_cells} context" if stats.context_cells else parts


def attention_held(stats: Stats) -> str:
    """The share of attention that the kept cells hold, or a dash where it is not known."""
    return "-" if stats.attention_held is None else f"{stats.attention_held:.1%}"


def stats_rows(runs: Iterable[Stats]) -> list[list[str]]:
    """A name and a value for each run: cells, bytes and speed side by side."""
    rows: list[list[str]] = [[name] for name in ROW_NAMES]
    for stats in runs:
        values = (
            f"{stats.prompt_cells} ({_parts(stats)})",
            f"{stats.kept_cells} ({_kept_parts(stats)})",
            attention_held(stats),
            format_bytes(stats.kv_bytes_used_after),
            format_bytes(stats.kv_bytes_allocated_after),
            format_rate(stats.encode_tokens_per_second),
            format_rate(stats.prefill_tokens_per_second),
            format_rate(stats.score_tokens_per_second),
            format_rate(stats.compress_tokens_per_second),
            format_rate(stats.decode_tokens_per_second),
        )
        for row, value in zip(rows, values, strict=True):
            row.append(value)
    return rows


ROW_NAMES = (
    "prompt cells",
    "cells kept",
    "attention held",
    "KV bytes used",
    "KV bytes allocated",
    "image encoding",
    "prefill",
    "scoring",
    "compression",
    "decode",
)


def side_by_side(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A table of named rows; texts stand as they are, without markup."""
    table = Table(box=SIMPLE, pad_edge=False)
    for title in ("", *titles):
        table.add_column(Text(title), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def stats_line(stats: Stats) -> str:
    """One line on what a prompt cost."""
    before, after = stats.kv_bytes_used_before, stats.kv_bytes_used_after
    held = "" if stats.attention_held is None else f", attention held {attention_held(stats)}"
    line = (
        f"{stats.prompt_cells} cells, {stats.kept_cells} kept ({stats.kv_ratio:.1%}){held}, "
        f"KV {format_bytes(before)} -> {format_bytes(after)}, "
        f"prefill {format_rate(stats.prefill_tokens_per_second)}, "
        f"decode {format_rate(stats.decode_tokens_per_second)}"
    )
    return f"{line}; {stats.note}" if stats.note else line
