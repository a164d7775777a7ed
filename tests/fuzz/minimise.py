"""The least input that still goes wrong in the same way, greedily."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from fuzz.things import Plain, Thing

SECONDS = 60.0
TRIALS = 1000


def minimised(
    value: Plain, fails: Callable[[Plain], bool], seconds: float = SECONDS, trials: int = TRIALS
) -> Plain:
    """Take away parts as long as what is left fails.

    >>> minimised([3, {"a": "xyz", "b": b"12345"}, []], lambda v: "3" in str(v), seconds=5)
    [3]
    """
    until = time.monotonic() + seconds
    found = True
    while found:
        found = False
        for candidate in smaller(value):
            if time.monotonic() > until or trials == 0:
                return value
            trials -= 1
            if fails(candidate):
                value, found = candidate, True
                break
    return value


def smaller(value: Plain) -> Iterator[Plain]:
    """The same value with something taken away, much before little."""
    if isinstance(value, (list, str, bytes)):
        sequence: Any = value
        size = len(value)
        while size > 0:
            for at in range(0, len(value), size):
                yield sequence[:at] + sequence[at + size :]
            size //= 2
    if isinstance(value, list):
        for i, item in enumerate(value):
            for less in smaller(item):
                yield [*value[:i], less, *value[i + 1 :]]
    elif isinstance(value, dict):
        for key in value:
            yield {name: inner for name, inner in value.items() if name != key}
        for key, item in value.items():
            for less in smaller(item):
                yield {**value, key: less}
    elif isinstance(value, Thing):
        for less in smaller(value.about):
            yield Thing(value.name, less)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value not in (0, 1):
        yield 0
        yield 1
