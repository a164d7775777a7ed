"""Who may use a session now."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lookm_cpp import _core


class Turns:
    """Gives a session to one thread at a time, and tells whether it still holds some prompt."""

    def __init__(self, session: _core.Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._holder: int | None = None
        _ALL.add(self)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for the session, and hold it inside the ``with`` block.

        Raises:
            RuntimeError: This thread already holds it, because a callback called back.
        """
        if self._holder == threading.get_ident():
            raise RuntimeError("Llava was called from its own progress callback")
        with self._lock:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None

    def now(self) -> int:
        """The number of the prompt that the session holds."""
        return self._session.epoch

    def check(self, turn: int) -> None:
        """Check that the session still holds the prompt of this number.

        Raises:
            RuntimeError: A newer prompt has replaced it.
        """
        if turn != self.now():
            raise RuntimeError(
                "this answer or conversation was ended by a newer prompt to the same Llava"
            )

    def renew(self) -> None:
        """Make a new lock in a forked child, where the thread that held the old one does not exist.

        A lock that this thread holds stays as it is.
        """
        if self._lock.locked() and self._holder != threading.get_ident():
            self._lock = threading.Lock()
            self._holder = None


_ALL: weakref.WeakSet[Turns] = weakref.WeakSet()


def _renew_all() -> None:
    for turns in list(_ALL):
        turns.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
