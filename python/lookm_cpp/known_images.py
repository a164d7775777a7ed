"""What encoded images look like once they are decoded, so that they need not be decoded again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

N_KNOWN = 4096
N_CHUNK = 1 << 20


class Known(NamedTuple):
    """A decoded image.

    Attributes:
        id: Digest of its pixels, as the core computes it.
        width: In pixels.
        height: In pixels.
    """

    id: str
    width: int
    height: int


class KnownImages:
    """Decoded images by the digests of their encoded bytes, the latest ``n_most`` of them."""

    def __init__(self, n_most: int = N_KNOWN) -> None:
        self._n_most = n_most
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Known | None:
        """The image with these encoded bytes, if it was decoded lately."""
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
            return found

    def put(self, key: bytes, known: Known) -> None:
        """Remember an image."""
        with self._lock:
            self._known[key] = known
            self._known.move_to_end(key)
            while len(self._known) > self._n_most:
                self._known.popitem(last=False)


def digest_of(source: bytes | Path) -> bytes:
    """A digest of encoded bytes, or of a file's.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=32)
    if isinstance(source, bytes):
        digest.update(source)
        return digest.digest()
    with source.open("rb") as file:
        while chunk := file.read(N_CHUNK):
            digest.update(chunk)
    return digest.digest()
