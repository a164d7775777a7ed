"""Types of a KV cache, in the form that commands take."""

from __future__ import annotations


def read_and_kept(cache: str) -> tuple[str, str]:
    """The types for reading and for keeping a prompt, from ``READ:KEPT`` or one type for both.

    >>> read_and_kept("f16:q4_0"), read_and_kept("q8_0")
    (('f16', 'q4_0'), ('q8_0', 'q8_0'))
    """
    read, _, kept = cache.partition(":")
    return read, kept or read


def k_and_v(types: str) -> tuple[str, str]:
    """The types of K and V, from ``K+V`` or one type for both.

    >>> k_and_v("q8_0+q4_0"), k_and_v("f16")
    (('q8_0', 'q4_0'), ('f16', 'f16'))
    """
    k, _, v = types.partition("+")
    return k, v or k
