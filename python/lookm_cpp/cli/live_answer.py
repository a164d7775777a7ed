"""An answer as it comes, with its speed below it at a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from lookm_cpp.cli.console import format_rate

PAUSE = 0.1
"""Seconds between two looks at the speed."""


def show_answer(pieces: Iterable[str], n_cells: int) -> None:
    """Write an answer to stdout.

    Args:
        pieces: Its tokens, as text.
        n_cells: Number of cells in the cache before it.
    """
    console = Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        _show_live(pieces, n_cells, console)
        return
    for piece in _without_first_blanks(pieces):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _show_live(pieces: Iterable[str], n_cells: int, console: Console) -> None:
    """Whole lines are printed for good; the last one, and the speed, are drawn anew."""
    line, n, begin, shown = "", 0, 0.0, 0.0
    live = Live(console=console, transient=True, auto_refresh=False)
    try:
        with live:
            for piece in _without_first_blanks(pieces):
                now = time.monotonic()
                begin = begin or now
                *whole, line = (line + piece).split("\n")
                for one in whole:
                    console.print(Text(one), soft_wrap=True)
                if whole or now > shown + PAUSE:
                    rate = format_rate(n / (now - begin)) if n else ""
                    speed = Text(f"{n + 1} tokens, {rate}, {n_cells + n + 1} cells", "dim")
                    live.update(Group(Text(line), speed) if n else Text(line), refresh=True)
                    shown = now
                n += 1
    finally:
        console.print(Text(line), soft_wrap=True)


def _without_first_blanks(pieces: Iterable[str]) -> Iterable[str]:
    begun = False
    for piece in pieces:
        text = piece if begun else piece.lstrip()
        begun = begun or bool(text)
        yield text
