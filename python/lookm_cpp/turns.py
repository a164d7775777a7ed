"""Who may drive a session now."""

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
    """Lets one thread at a time at a session, and knows whether a prompt is still what it holds."""

    def __init__(self, session: _core.Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._holder: int | None = None
        _ALL.add(self)

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

    def now(self) -> int:
        """The number of the prompt that the session holds."""
        return self._session.epoch

    def check(self, turn: int) -> None:
        """Make sure that the prompt of this number is still there.

        Raises:
            RuntimeError: A newer one took its place.
        """
        if turn != self.now():
            raise RuntimeError(
                "this answer or conversation was ended by a newer prompt of the same Llava"
            )

    def renew(self) -> None:
        """In a forked child: nobody holds the session but, maybe, this thread.

        The others are not there.
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
