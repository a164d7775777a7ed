"""Bytes with something wrong at some place."""

from __future__ import annotations

import random

EDGES = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\1",
)


def changed(data: bytes, rng: random.Random, n: int = 1, *, in_place: bool = False) -> bytes:
    """``n`` edits of bits, bytes and words, with edge values.

    Unless ``in_place``, pieces are also removed, doubled or moved, and ends cut off.
    """
    for _ in range(n):
        data = _edit(data, rng, 4 if in_place else 9)
    return data


def _edit(data: bytes, rng: random.Random, n_kinds: int) -> bytes:
    if not data:
        return rng.randbytes(rng.randrange(1, 9))
    # what a format's header says stands at its start
    at = rng.randrange(min(len(data), 64)) if rng.random() < 0.4 else rng.randrange(len(data))
    length = rng.choice((1, 2, 4, 8, 16, 100, 1000))
    what = rng.randrange(n_kinds)
    if what < 2:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if what == 2:
        return data[:at] + rng.randbytes(1) + data[at + 1 :]
    if what == 3:
        edge = rng.choice(EDGES)
        return data[:at] + edge + data[at + len(edge) :]
    if what == 4:
        return data[:at] + data[at + length :]
    if what == 5:
        return data[: at + length] + data[at:]
    if what == 6:
        to = rng.randrange(len(data))
        return data[:to] + data[at : at + length] + data[to:]
    if what == 7:
        return data[:at] + rng.randbytes(length) + data[at:]
    return data[:at]
