"""Files that hold a conversation: a header, the core's bytes, and a checksum of both.

LOOKMTLK | version u32 | length of header u32 | header, JSON | length of state u64 | state | SHA-256 of all before it
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lookm_cpp.regular_files import path_of, regular_file
from lookm_cpp.whole_file import write_whole

MAGIC = b"LOOKMTLK"
VERSION = 2
N_CHECKSUM = hashlib.sha256().digest_size
N_SAMPLES, N_BLOCK = 1024, 4096


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 of the files that a model is made of: of each its size, its first MiB, and 1024
    blocks all over it, which
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
        ValueError: The path is empty, or something is there that is no regular file.
        OSError: The file cannot be written.
    """
    words = json.dumps(header).encode()
    pieces = [
        MAGIC,
        struct.pack("<II", VERSION, len(words)),
        words,
        struct.pack("<Q", len(state)),
        state,
    ]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    write_whole(path, [*pieces, digest.digest()])


def read_state(path: str | os.PathLike[str]) -> tuple[object, bytes]:
    """Header, whatever JSON it is, and state.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such file, of another version, cut off, or damaged.
    """
    name = f"state file {os.fspath(path)!r}"
    expected = "a file that chat.save() wrote"
    whole = regular_file(path_of(path, name, expected), name, expected).read_bytes()
    n_fixed = len(MAGIC) + 8
    if whole[: len(MAGIC)] != MAGIC or len(whole) < n_fixed + N_CHECKSUM:
        raise ValueError(f"{name} holds no conversation, expected {expected}")
    version, n_header = struct.unpack_from("<II", whole, len(MAGIC))
    if version != VERSION:
        raise ValueError(f"{name} is of version {version}, expected {VERSION}")
    body, checksum = whole[:-N_CHECKSUM], whole[-N_CHECKSUM:]
    if hashlib.sha256(body).digest() != checksum:
        raise ValueError(f"{name} is cut off or damaged, expected the bytes that chat.save() wrote")
    at = n_fixed + n_header
    n_state = struct.unpack_from("<Q", body, at)[0] if at + 8 <= len(body) else -1
    if n_state != len(body) - at - 8:
        raise ValueError(f"{name} has parts of other lengths than it says, expected {expected}")
    try:
        return json.loads(body[n_fixed:at]), body[at + 8 :]
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{name} has a header that is no JSON, expected {expected}: {error}"
        ) from error
