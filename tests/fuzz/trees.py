"""Lists and dicts within each other with something wrong somewhere."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

from fuzz.things import Plain
from fuzz.values import TEXTS

Place = tuple[int | str, ...]
"""Keys and indices on the way from the root."""


def places(tree: Plain, at: Place = ()) -> Iterator[Place]:
    """Of all values but the root."""
    inner = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in inner:
        yield (*at, key)
        yield from places(value, (*at, key))


def value_at(tree: Plain, at: Place) -> Plain:
    """The value at a place.

    >>> value_at({"a": [1, 2]}, ("a", 1))
    2
    """
    for key in at:
        tree = tree[key]
    return tree


def mutated(
    tree: Plain, rng: random.Random, value: Callable[[random.Random], Plain], n: int = 1
) -> Plain:
    """A copy with ``n`` things wrong; ``value`` makes what was not expected."""
    tree = copy.deepcopy(tree)
    for _ in range(n):
        found = list(places(tree))
        if not found:
            return value(rng)
        at = rng.choice(found)
        _spoil(tree, value_at(tree, at[:-1]), at, found, rng, value)
    return tree


def _spoil(
    tree: Plain,
    holder: Plain,
    at: Place,
    found: list[Place],
    rng: random.Random,
    value: Callable[[random.Random], Plain],
) -> None:
    key, old = at[-1], value_at(tree, at)
    what = rng.randrange(10)
    if what < 3:
        holder[key] = value(rng)
    elif what == 3:
        del holder[key]
    elif what == 4:
        holder[key] = near(old, rng)
    elif what == 5:
        holder[key] = copy.deepcopy(value_at(tree, rng.choice(found)))
    elif what == 6:
        holder[key] = rng.choice(([old], [], {"x": old}, [old, old]))
    elif isinstance(holder, list):
        if what == 7:
            holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(old))
        else:
            holder.insert(rng.randrange(len(holder) + 1), value(rng))
    elif what == 7:
        keys = [place[-1] for place in found if isinstance(place[-1], str)]
        holder[rng.choice((*keys, *TEXTS[:3], f"{key}x"))] = holder.pop(key)
    else:
        keys = [place[-1] for place in found if isinstance(place[-1], str)]
        holder[rng.choice((*keys, "x", "cache_control"))] = value(rng)


def near(old: Plain, rng: random.Random) -> Plain:
    """Another value of the same kind."""
    if isinstance(old, bool) or old is None:
        return rng.choice((not old, 0, 1, None))
    if isinstance(old, (int, float)):
        return rng.choice((old + 1, old - 1, old * 2, -old, old / 2, str(old)))
    if isinstance(old, (str, bytes)):
        text: Any = old
        cut = rng.randrange(len(old) + 1)
        return rng.choice((text[:cut], text[cut:], text + text[:cut], text[::-1]))
    if isinstance(old, list):
        return rng.choice((old[::-1], old * 2, old[:-1]))
    return old
