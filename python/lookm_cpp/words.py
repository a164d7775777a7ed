"""Arguments that are words, switches or fractions: conversions for the core, with clear errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from lookm_cpp.brief import brief
from lookm_cpp.files import check_text
from lookm_cpp.sizes import number


def word(argument: str, value: str) -> str:
    """A text that the core can take; the core checks whether it knows it.

    Raises:
        ValueError: The value is not a string, or not Unicode text.

    >>> word("type_k", "q8_0")
    'q8_0'
    """
    if not isinstance(value, str):
        raise ValueError(f"{argument} is {brief(value)}, expected a string")
    check_text(value, argument)
    return value


def word_or_none(argument: str, value: str | None) -> str:
    """As ``word``, with ``""`` for ``None``."""
    return "" if value is None else word(argument, value)


def flag(argument: str, value: bool) -> bool:
    """Check that a value is ``True`` or ``False``.

    Raises:
        ValueError: It is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{argument} is {brief(value)}, expected True or False")
    return bool(value)


def flash_attention(value: bool | str) -> str:
    """``flash_attn`` as the core takes it.

    Raises:
        ValueError: The value is neither a bool nor a string.

    >>> flash_attention("auto"), flash_attention(True)
    ('auto', 'on')
    """
    if isinstance(value, str):
        return word("flash_attn", value)
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"flash_attn is {brief(value)}, expected True, False or 'auto'")
    return "on" if value else "off"


def shares(argument: str, values: Sequence[float] | None) -> list[float]:
    """A list of numbers; empty for ``None``.

    Raises:
        ValueError: The value is not a sequence of numbers.
    """
    if values is None:
        return []
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"{argument} is {brief(values)}, expected numbers")
    return [number(argument, value) for value in values]
