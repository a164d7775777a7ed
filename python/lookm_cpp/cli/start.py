"""Starts ``lookm``: closed streams are opened, and Ctrl-C is answered while the rest is imported.

This file imports nothing large.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from lookm_cpp.cli.exits import INTERRUPTED, fail


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: The arguments (default: those of the process).

    Returns:
        The exit code: 2 for bad input, which is one line on stderr; 1 if the answer could not be
        written; 130 after Ctrl-C.
    """
    try:
        open_closed_streams()
        return _imported()(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)


def open_closed_streams() -> None:
    """Connect each standard stream that the caller closed (``>&-``) to the null device.

    Otherwise the next file that is opened gets its number, and whatever is printed goes into that
    file. stdout is opened for reading only: writing an answer fails, and the exit code says so.
    What is written to stderr is lost.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            flags = os.O_WRONLY if name == "stderr" else os.O_RDONLY
            file = os.open(os.devnull, flags)  # the lowest free number
            os.set_inheritable(file, True)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(file, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _imported() -> Callable[[Sequence[str]], int]:
    """``run``, imported while Ctrl-C ends the process: imports may swallow exceptions."""
    before = signal.getsignal(signal.SIGINT)
    quick = (
        before is signal.default_int_handler
        and threading.current_thread() is threading.main_thread()
    )
    if quick:
        signal.signal(signal.SIGINT, lambda *_: os._exit(fail("interrupted", INTERRUPTED)))
    try:
        from lookm_cpp.cli.run import run  # noqa: PLC0415
    finally:
        if quick:
            signal.signal(signal.SIGINT, before)
    return run
