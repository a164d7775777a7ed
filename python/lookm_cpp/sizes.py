"""Numbers of cells and bytes, as users say them."""

from __future__ import annotations

import operator
import re

from lookm_cpp.brief import brief

UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
MOST_CELLS = (1 << 31) - 1
MOST_BYTES = (1 << 63) - 1


def number(argument: str, value: float) -> float:
    """A number, whole or not; whether it makes sense is for the core to say.

    Raises:
        ValueError: It is none.

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
        ValueError: It is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{argument} is {brief(value)}, expected a whole number") from None


def whole(argument: str, value: int) -> int:
    """A whole number that the core can hold; whether it makes sense is for the core to say.

    Raises:
        ValueError: It is no whole number, or has more than 32 bits.

    >>> whole("n_ctx", 4096)
    4096
    """
    value = index(argument, value)
    if not -MOST_CELLS <= value <= MOST_CELLS:
        raise ValueError(f"{argument} is {value}, expected at most {MOST_CELLS}")
    return value


def long_whole(argument: str, value: int) -> int:
    """As ``whole``, of 64 bits."""
    value = index(argument, value)
    if not -MOST_BYTES <= value <= MOST_BYTES:
        raise ValueError(f"{argument} is {value}, expected at most {MOST_BYTES}")
    return value


def cell_count(argument: str, count: int | None) -> int:
    """A number of cells for the core, 0 for ``None``.

    Raises:
        ValueError: It is less than 1 or too large.
    """
    if count is None:
        return 0
    if not 1 <= whole(argument, count) <= MOST_CELLS:
        raise ValueError(f"{argument} is {count}, expected 1 to {MOST_CELLS}")
    return whole(argument, count)


def byte_count(argument: str, size: int | str | None) -> int:
    """Bytes for the core, 0 for ``None``; capitals do not matter.

    Raises:
        ValueError: It is no size, less than 1 or too large.

    >>> byte_count("kv_memory", "512MiB"), byte_count("kv_memory", "1.5 GB"), byte_count("kv_memory", 4096)
    (536870912, 1500000000, 4096)
    """
    if size is None:
        return 0
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(size))
    unit = UNITS.get(found[2].upper()) if found else None
    count = float(found[1]) * unit if found and unit else 0.0
    if not 1 <= count < MOST_BYTES:
        raise ValueError(f"{argument} is {brief(size)}, expected bytes such as 512MiB, 8GiB or 16GB")
    return int(count)
