"""Numbers, and counts of cells and bytes, in the forms that users give."""

from __future__ import annotations

import operator

from lookm_cpp import _core
from lookm_cpp.brief import brief

MOST_CELLS = (1 << 31) - 1
MOST_BYTES = (1 << 63) - 1


def number(argument: str, value: float) -> float:
    """Any number; the core checks its range.

    Raises:
        ValueError: The value is not a number.

    >>> number("kv_ratio", 0.5)
    0.5
    """
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{argument} is {brief(value)}, expected a number")


def index(argument: str, value: int) -> int:
    """A whole number of any size.

    Raises:
        ValueError: The value is not a whole number.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{argument} is {brief(value)}, expected a whole number") from None


def whole(argument: str, value: int) -> int:
    """A whole number of at most 32 bits; the core checks its range.

    Raises:
        ValueError: The value is not a whole number, or has more than 32 bits.

    >>> whole("n_ctx", 4096)
    4096
    """
    value = index(argument, value)
    if not -MOST_CELLS <= value <= MOST_CELLS:
        raise ValueError(f"{argument} is {value}, expected at most {MOST_CELLS}")
    return value


def long_whole(argument: str, value: int) -> int:
    """As ``whole``, but of at most 64 bits."""
    value = index(argument, value)
    if not -MOST_BYTES <= value <= MOST_BYTES:
        raise ValueError(f"{argument} is {value}, expected at most {MOST_BYTES}")
    return value


def cell_count(argument: str, count: int | None) -> int:
    """A number of cells for the core; 0 for ``None``.

    Raises:
        ValueError: The number is less than 1 or too large.
    """
    if count is None:
        return 0
    if not 1 <= whole(argument, count) <= MOST_CELLS:
        raise ValueError(f"{argument} is {count}, expected 1 to {MOST_CELLS}")
    return whole(argument, count)


def byte_count(argument: str, size: int | str | None) -> int:
    """A number of bytes for the core; 0 for ``None``.

    Units are K, M, G and T, in upper or lower case: alone or with iB for powers of 1024, with B for
    powers of 1000.

    Raises:
        ValueError: The text is not a size, or the size is less than 1 or too large.

    >>> byte_count("memory", "512MiB"), byte_count("memory", "1.5 GB"), byte_count("memory", 4096)
    (536870912, 1500000000, 4096)
    """
    if size is None:
        return 0
    try:
        text = size if isinstance(size, str) else str(operator.index(size))
    except TypeError:
        text = ""
    count = _core.parse_bytes(text) if text.isascii() else None
    if count is None:
        raise ValueError(
            f"{argument} is {brief(size)}, expected bytes such as 512MiB, 8GiB or 16GB"
        )
    return count


def format_bytes(count: float) -> str:
    """A number of bytes in a form for people.

    >>> format_bytes(1536), format_bytes(5 << 20)
    ('1.5 KiB', '5.0 MiB')
    """
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
