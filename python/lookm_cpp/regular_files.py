"""Files that can be read to their end: regular files, and pipes that somebody writes to."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path

PIPE_SECONDS = 60.0
"""How long a pipe may be silent before reading stops with an error."""
PIPE_BYTES = 1 << 30
"""Maximum number of bytes read from a pipe."""
KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def path_of(path: str | os.PathLike[str], name: str, expected: str) -> Path:
    """The path, which must not be empty: ``Path("")`` would be the current folder.

    Raises:
        ValueError: The path is empty.
    """
    if os.fspath(path) == "":
        raise ValueError(f"{name} is an empty path, expected {expected}")
    return Path(path)


def regular_file(path: Path, name: str, expected: str) -> Path:
    """Check that ``path`` is a regular file, which can be read to its end more than once.

    Args:
        path: The file.
        name: Its name in error messages.
        expected: What error messages say was expected.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is something other than a regular file, or may not be read.
    """
    if regular_file_or_pipe(path, name, expected).is_fifo():
        raise ValueError(f"{name} is a pipe, expected {expected}")
    return path


def regular_file_or_pipe(path: Path, name: str, expected: str) -> Path:
    """As ``regular_file``, but a pipe is allowed too."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise FileNotFoundError(f"{name} does not exist, expected {expected}") from None
        raise ValueError(f"{name} cannot be read, expected {expected}: {error.strerror}") from error
    except ValueError as error:  # a zero byte, or a character that no file name can have
        raise ValueError(f"{name} is not a file name, expected {expected}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise ValueError(
            f"{name} is {KINDS.get(stat.S_IFMT(mode), 'not a file')}, expected {expected}"
        )
    return path


def read_pipe(path: Path, name: str) -> bytes:
    """Read everything from a pipe, such as the shell's ``<(command)``.

    Raises:
        ValueError: The pipe is silent for ``PIPE_SECONDS``, or gives more than ``PIPE_BYTES``.
    """
    pieces: list[bytes] = []
    size = 0
    # Without O_NONBLOCK, opening would wait until somebody writes.
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
                    f"{name} is a pipe with more than {PIPE_BYTES} bytes, expected fewer"
                )
    raise ValueError(
        f"{name} is a pipe that was silent for {PIPE_SECONDS:g} seconds, "
        "expected one that somebody writes to"
    )
