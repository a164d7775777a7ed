"""Files that hold a conversation: a header, the core's bytes, and a checksum of both.

LOOKMTLK | version u32 | length of header u32 | header, JSON | length of state u64 | state | SHA-256 of all before it
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAGIC = b"LOOKMTLK"
VERSION = 1
N_CHECKSUM = hashlib.sha256().digest_size
N_SAMPLES, N_BLOCK = 1024, 4096


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 of the files that a model is made of: of each its size, its first MiB, and 1024 blocks all over it, which
    is quick for large models as well."""
    digest = hashlib.sha256()
    for name in files:
        size = name.stat().st_size
        digest.update(str(size).encode())
        with name.open("rb") as file:
            digest.update(file.read(1 << 20))
            for i in range(N_SAMPLES):
                file.seek(max(0, size - N_BLOCK) * i // (N_SAMPLES - 1))
                digest.update(file.read(N_BLOCK))
    return digest.hexdigest()


def write_state(path: str | os.PathLike[str], header: dict[str, Any], state: bytes) -> None:
    """Put a new file in the place of the old one, or leave that as it is.

    Raises:
        OSError: It cannot be written.
    """
    target = Path(path)
    words = json.dumps(header).encode()
    whole = b"".join((MAGIC, struct.pack("<II", VERSION, len(words)), words, struct.pack("<Q", len(state)), state))
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(whole)
            file.write(hashlib.sha256(whole).digest())
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_state(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bytes]:
    """Header and state.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such file, of another version, cut off, or damaged.
    """
    name, whole = f"state file {os.fspath(path)!r}", Path(path).read_bytes()
    n_fixed = len(MAGIC) + 8
    if whole[: len(MAGIC)] != MAGIC or len(whole) < n_fixed + N_CHECKSUM:
        raise ValueError(f"{name} holds no conversation, expected a file that chat.save() wrote")
    version, n_header = struct.unpack_from("<II", whole, len(MAGIC))
    if version != VERSION:
        raise ValueError(f"{name} is of version {version}, expected {VERSION}")
    body, checksum = whole[:-N_CHECKSUM], whole[-N_CHECKSUM:]
    if hashlib.sha256(body).digest() != checksum:
        raise ValueError(f"{name} is cut off or damaged, expected the bytes that chat.save() wrote")
    header: dict[str, Any] = json.loads(body[n_fixed : n_fixed + n_header])
    return header, body[n_fixed + n_header + 8 :]
