"""Values in error messages."""

from __future__ import annotations


def brief(value: object) -> str:
    """As Python writes it, at most 80 characters; the type alone of what cannot be written: it is
    nested too deep, or its ``repr`` fails.

    >>> brief([1, "x"])
    "[1, 'x']"
    """
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"a {type(value).__name__}"
