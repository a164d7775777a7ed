"""Files that can be read to their end: regular ones, and pipes that somebody writes to."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path

PIPE_SECONDS = 60.0
"""How long a pipe may say nothing before it is given up."""
PIPE_BYTES = 1 << 30
"""Most that is read from a pipe."""
KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def path_of(path: str | os.PathLike[str], name: str, expected: str) -> Path:
    """The path; ``Path("")`` alone would be the folder that one is in.

    Raises:
        ValueError: It is empty.
    """
    if os.fspath(path) == "":
        raise ValueError(f"{name} is an empty path, expected {expected}")
    return Path(path)


def regular_file(path: Path, name: str, expected: str) -> Path:
    """``path``, if a regular file is there: one that can be read to its end, and again.

    Args:
        path: Where it should be.
        name: What errors call it.
        expected: What errors say should be there.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: Something else is there, or nobody may look.
    """
    if regular_file_or_pipe(path, name, expected).is_fifo():
        raise ValueError(f"{name} is a pipe, expected {expected}")
    return path


def regular_file_or_pipe(path: Path, name: str, expected: str) -> Path:
    """As ``regular_file``; a pipe will do."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise FileNotFoundError(f"{name} does not exist, expected {expected}") from None
        raise ValueError(f"{name} cannot be read, expected {expected}: {error.strerror}") from error
    except ValueError as error:  # a zero byte, or a character that no file's name can have
        raise ValueError(f"{name} is no file's name, expected {expected}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise ValueError(
            f"{name} is {KINDS.get(stat.S_IFMT(mode), 'no file')}, expected {expected}"
        )
    return path


def read_pipe(path: Path, name: str) -> bytes:
    """All that comes through a pipe, such as the shell's ``<(command)``.

    Raises:
        ValueError: Nothing comes for ``PIPE_SECONDS``, or more than ``PIPE_BYTES``.
    """
    pieces: list[bytes] = []
    size = 0
    # opened like this, it does not wait for somebody to write
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        until = time.monotonic() + PIPE_SECONDS
        while waiting.poll(max(0.0, 1000 * (until - time.monotonic()))):
            piece = pipe.read(1 << 20)
            if piece == b"":
                return b"".join(pieces)
            if piece is not None:
                pieces.append(piece)
                size += len(piece)
                until = time.monotonic() + PIPE_SECONDS
            if size > PIPE_BYTES:
                raise ValueError(
                    f"{name} is a pipe that gives more than {PIPE_BYTES} bytes, expected fewer"
                )
    raise ValueError(
        f"{name} is a pipe that gave nothing for {PIPE_SECONDS:g} seconds, expected one that is written to"
    )
