"""Values in error messages."""

from __future__ import annotations


def brief(value: object) -> str:
    """The value as Python writes it, cut to 80 characters.

    If Python cannot write it (nested too deeply, or its ``repr`` fails), only its type is named.

    >>> brief([1, "x"])
    "[1, 'x']"
    """
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"a {type(value).__name__}"
