"""Types of a KV cache, in the form that commands take."""

from __future__ import annotations


def read_and_kept(cache: str) -> tuple[str, str]:
    """The types for reading and for keeping a prompt, from ``READ:KEPT`` or one type for both.

    >>> read_and_kept("f16:q4_0"), read_and_kept("q8_0")
    (('f16', 'q4_0'), ('q8_0', 'q8_0'))
    """
    read, _, kept = cache.partition(":")
    return read, kept or read
