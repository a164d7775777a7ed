"""Writing a file completely or not at all: the old one stays until the new one is complete."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lookm_cpp.regular_files import path_of, regular_file

if sys.platform != "win32":
    import fcntl

LOCK_SECONDS = 60.0
"""How long to wait for another process that writes the same file."""
_NO_FOLLOW = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)


def write_whole(path: str | os.PathLike[str], pieces: Sequence[bytes]) -> None:
    """Replace a file, or leave the old one as it is.

    A link is followed, and an existing file keeps its mode. The new file is first written next to
    the old one, as ``.NAME.saving``. If a process was killed while writing it, the next one writes
    over it.

    Raises:
        ValueError: The path is empty, or names something other than a regular file.
        OSError: The file cannot be written.
    """
    name = f"path {os.fspath(path)!r}"
    target = Path(os.path.realpath(path_of(path, name, "a file's name")))
    try:
        old = regular_file(target, name, "a regular file or none").stat()
    except FileNotFoundError:
        old = None
    if old is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    new = target.with_name(f".{target.name[:200]}.saving")
    with _alone(new) as handle:
        try:
            os.truncate(handle, 0)
            with os.fdopen(handle, "wb", closefd=False) as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(handle)
            if old is not None:
                new.chmod(stat.S_IMODE(old.st_mode))
            new.replace(target)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    _sync_folder(target.parent)


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """Open the file, new or left behind, when no other process writes it."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o666)
        try:
            if _locked(handle) and _is_still(path, handle):
                yield handle
                return
        finally:
            os.close(handle)
        if time.monotonic() > until:
            raise TimeoutError(errno.ETIMEDOUT, "another process is writing it", os.fspath(path))
        time.sleep(0.02)


def _locked(handle: int) -> bool:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise FileExistsError(
            errno.EEXIST, "something other than a file has the name of the temporary file"
        )
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some file systems have no locks
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Whether the path still names this file, which another process may have renamed meanwhile."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(handle))
    return False


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
