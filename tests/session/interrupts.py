"""Ctrl-C for child processes of tests."""

from __future__ import annotations

import signal


def allow_ctrl_c() -> None:
    """Undo that a shell's background jobs, and their children, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
