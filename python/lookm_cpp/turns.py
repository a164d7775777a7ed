"""Who may drive a session now."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Lets one thread at a time at a session, and knows which prompt is the last one begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._turn = 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for the session and keep it for a while.

        Raises:
            RuntimeError: This thread holds it already: it came back through a callback.
        """
        if self._holder == threading.get_ident():
            raise RuntimeError("Llava was called from its own progress callback")
        with self._lock:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None

    def begin(self) -> int:
        """The number of a new prompt."""
        self._turn += 1
        return self._turn

    def check(self, turn: int) -> None:
        """Make sure that the prompt of this number is still the last one.

        Raises:
            RuntimeError: A newer one took its place.
        """
        if turn != self._turn:
            raise RuntimeError("this answer or conversation was ended by a newer prompt of the same Llava")
