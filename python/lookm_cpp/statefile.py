"""Files that hold a conversation or a prefix: a header, the core's bytes, and a checksum of both.

magic, 8 bytes | version u32 | length of header u32 | header, JSON | length of state u64 | state
| SHA-256 of all before it
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookm_cpp.regular_files import path_of, regular_file
from lookm_cpp.whole_file import write_whole


@dataclass(frozen=True)
class FileKind:
    """What a file holds.

    Attributes:
        magic: Its first eight bytes.
        version: Of what follows.
        what: What it is, for messages.
        writer: The method that writes it.
    """

    magic: bytes
    version: int
    what: str
    writer: str

    @property
    def expected(self) -> str:
        """What is expected instead of a bad file."""
        return f"a file that {self.writer} wrote"


CONVERSATION = FileKind(b"LOOKMTLK", 2, "a saved conversation", "chat.save()")
PREFIX = FileKind(b"LOOKMPFX", 1, "a saved prefix", "prefix.save()")
N_CHECKSUM = hashlib.sha256().digest_size
N_SAMPLES, N_BLOCK = 1024, 4096


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 of samples of the files that a model consists of.

    The samples of each file are its size, its first MiB, and 1024 blocks spread over it. That is
    quick for large models as well.
    """
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


def write_state(
    path: str | os.PathLike[str],
    header: dict[str, Any],
    state: bytes,
    kind: FileKind = CONVERSATION,
) -> None:
    """Write a new file, or leave the old one as it is.

    Raises:
        ValueError: The path is empty, or names something other than a regular file.
        OSError: The file cannot be written.
    """
    words = json.dumps(header).encode()
    pieces = [
        kind.magic,
        struct.pack("<II", kind.version, len(words)),
        words,
        struct.pack("<Q", len(state)),
        state,
    ]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    write_whole(path, [*pieces, digest.digest()])


def read_state(path: str | os.PathLike[str], kind: FileKind = CONVERSATION) -> tuple[object, bytes]:
    """Read the header, which may be any JSON, and the state.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not of this kind, has another version, or is damaged.
    """
    name = f"state file {os.fspath(path)!r}"
    expected = kind.expected
    whole = regular_file(path_of(path, name, expected), name, expected).read_bytes()
    n_fixed = len(kind.magic) + 8
    if whole[: len(kind.magic)] != kind.magic or len(whole) < n_fixed + N_CHECKSUM:
        raise ValueError(f"{name} is not {kind.what}, expected {expected}")
    version, n_header = struct.unpack_from("<II", whole, len(kind.magic))
    if version != kind.version:
        raise ValueError(f"{name} has version {version}, expected {kind.version}")
    body, checksum = whole[:-N_CHECKSUM], whole[-N_CHECKSUM:]
    if hashlib.sha256(body).digest() != checksum:
        raise ValueError(f"{name} is truncated or damaged, expected {expected}")
    at = n_fixed + n_header
    n_state = struct.unpack_from("<Q", body, at)[0] if at + 8 <= len(body) else -1
    if n_state != len(body) - at - 8:
        raise ValueError(f"{name} states lengths that its parts do not have, expected {expected}")
    try:
        return json.loads(body[n_fixed:at]), body[at + 8 :]
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{name} has a header that is not JSON, expected {expected}: {error}"
        ) from error
