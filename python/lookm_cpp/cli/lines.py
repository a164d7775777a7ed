"""Lines that the user types, with history and completion at a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import (
    CompleteEvent,
    Completer,
    Completion,
    PathCompleter,
    WordCompleter,
)
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

PROMPT = "> "


def typed_lines(commands: Iterable[str], status: Callable[[], str]) -> Iterator[str]:
    """The lines, until Ctrl-D or the end of standard input.

    At a terminal, ``status()`` stands below the line, Ctrl-C clears it, and what was typed before
    is remembered (``$XDG_STATE_HOME/lookm_cpp/history``).
    """
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    session: PromptSession[str] = PromptSession(
        history=_history(), completer=_Completer(commands), complete_while_typing=False
    )
    while True:
        try:
            yield session.prompt(PROMPT, bottom_toolbar=status)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _history() -> History:
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    try:
        (folder / "lookm_cpp").mkdir(parents=True, exist_ok=True)
        file = folder / "lookm_cpp" / "history"
        file.touch()
    except OSError:  # nowhere to write: it is remembered until the end
        return InMemoryHistory()
    return FileHistory(str(file))


class _Completer(Completer):
    """Commands at the beginning of a line, names of files behind them."""

    def __init__(self, commands: Iterable[str]) -> None:
        self._commands = WordCompleter([*commands, "/quit"], sentence=True)
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """As prompt_toolkit asks for them."""
        text = document.text_before_cursor
        if " " not in text:
            return self._commands.get_completions(document, event)
        word = text.rpartition(" ")[2]
        return self._paths.get_completions(Document(word, len(word)), event)
