"""Side by side: what is compared takes turns within fractions of a second, since a machine's speed
drifts by more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


def take_turns(
    sides: Sequence[Callable[[], object]],
    n_blocks: int,
    n_tokens: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Blocks of ``n_tokens`` calls of each side in turn, A B C, A B C, ..., after one round for
    warmth.

    Every side waits as long for its turn, so that the processor's caches have forgotten as much of
    each: were rounds turned one by one, those in the middle would be the warmer ones (by 2 to 4 %
    of three, with 480 MiB of cache). From halfway on the order is C B A, so that no side always
    comes earlier on a machine that slows down.

    Returns:
        For each side seconds a call, one entry a block; entries of the same place ran right beside
        each other.
    """
    seconds: list[list[float]] = [[] for _ in sides]
    order = list(range(len(sides)))
    for block in range(n_blocks + 1):
        if block == n_blocks // 2 + 1:
            order.reverse()
        for i in order:
            step = sides[i]
            start = clock()
            for _ in range(n_tokens):
                step()
            seconds[i].append((clock() - start) / n_tokens)
    return [blocks[1:] for blocks in seconds]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast, block by block: the median and the quartiles of the ratios."""

    median: float
    low: float
    high: float


def times_as_fast(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of seconds that were measured by turns.

    >>> times_as_fast([1.0, 2.0, 1.0], [2.0, 4.0, 2.0])
    Ratio(median=2.0, low=2.0, high=2.0)
    """
    low, middle, high = np.quantile(np.array(theirs) / np.array(ours), [0.25, 0.5, 0.75])
    return Ratio(float(middle), float(low), float(high))
