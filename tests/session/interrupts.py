"""Ctrl-C for child processes of tests."""

from __future__ import annotations

import signal


def allow_ctrl_c() -> None:
    """Undo what a shell does to its background jobs: they ignore SIGINT, and so would their
    children.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
