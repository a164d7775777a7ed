"""The bytes of an encoded image: from a file, pipe, URI, base64 text, open file or buffer."""

from __future__ import annotations

import base64
import binascii
import os
import re
import urllib.parse
import urllib.request
from pathlib import Path
from typing import BinaryIO, cast

from lookm_cpp.regular_files import path_of, read_pipe, regular_file_or_pipe

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://|(file):/", re.IGNORECASE)
_SPACE = bytes(range(0x21))
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def bytes_or_path(image: object, label: str) -> bytes | Path | None:
    """The bytes of an encoded image, or the regular file that holds them; ``None`` for other types.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It cannot be read, or is a network address.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if hasattr(image, "read"):
        return _read(cast("BinaryIO", image), label)
    if isinstance(image, str) and image.lstrip()[:5].lower() == "data:":
        return _data_uri(image.strip(), label)
    if not isinstance(image, (str, os.PathLike)):
        return None
    path = regular_file_or_pipe(_path(image, label), label, "an image file")
    return read_pipe(path, label) if path.is_fifo() else path


def _read(file: BinaryIO, label: str) -> bytes:
    try:
        if file.seekable():
            file.seek(0)
        data = file.read()
    except Exception as error:
        raise ValueError(f"{label} cannot be read, expected an open file: {error}") from error
    if not isinstance(data, bytes):
        raise ValueError(
            f"{label} returns {type(data).__name__}, expected a file opened in binary mode"
        )
    return data


def _path(image: str | os.PathLike[str], label: str) -> Path:
    scheme = _SCHEME.match(image) if isinstance(image, str) else None
    if scheme is None:
        return path_of(image, label, "an image file")
    uri = urllib.parse.urlsplit(str(image))
    if (scheme[1] or scheme[2]).lower() != "file" or uri.netloc not in ("", "localhost"):
        raise ValueError(
            f"{label} is a network address, expected a file path, file:// or data: URI; "
            "images are never downloaded"
        )
    return Path(urllib.request.url2pathname(uri.path))


def _data_uri(uri: str, label: str) -> bytes:
    header, comma, payload = uri.partition(",")
    if not comma:
        raise ValueError(f"{label} has no comma, expected data:image/TYPE;base64,DATA")
    data = urllib.parse.unquote_to_bytes(payload)
    if header.rpartition(";")[2].strip().lower() != "base64":
        return data
    try:
        return _base64(data)
    except binascii.Error as error:
        raise ValueError(
            f"{label} is not base64, expected data:image/TYPE;base64,DATA: {error}"
        ) from error


def _base64(text: bytes) -> bytes:
    """Decode base64 as clients send it: with line breaks, without padding, in either alphabet."""
    text = text.translate(_URL_SAFE, _SPACE).rstrip(b"=")
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)


def plain_base64(image: object) -> bytes | None:
    """The bytes of base64 text without ``data:``, as in ollama's form; otherwise ``None``."""
    try:
        return _base64(image.encode("ascii")) if isinstance(image, str) else None
    except (UnicodeEncodeError, binascii.Error):
        return None
