"""Times contenders in alternation, because a machine's speed drifts within minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


def alternate(
    steps: Sequence[Callable[[], object]],
    n_blocks: int,
    n_tokens: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Call each step ``n_tokens`` times in turn, A B C, A B C, ..., after one warm-up round.

    Every contender waits equally long for its turn, so that the processor's caches have lost the
    same amount of each. If every other round were reversed, the ones in the middle would be warmer
    (by 2 to 4 % for three of them, with 480 MiB of cache). From halfway on the order is C B A, so
    that none of them always comes earlier on a machine that slows down.

    Returns:
        For each step, seconds per call, one entry for each block. Entries with the same index were
        measured directly after one another.
    """
    seconds: list[list[float]] = [[] for _ in steps]
    order = list(range(len(steps)))
    for block in range(n_blocks + 1):
        if block == n_blocks // 2 + 1:
            order.reverse()
        for i in order:
            step = steps[i]
            start = clock()
            for _ in range(n_tokens):
                step()
            seconds[i].append((clock() - start) / n_tokens)
    return [blocks[1:] for blocks in seconds]


@dataclass(frozen=True)
class Speedup:
    """How many times as fast, block by block: median and quartiles of the ratios."""

    median: float
    low: float
    high: float


def speedup(ours: Sequence[float], theirs: Sequence[float]) -> Speedup:
    """Compare seconds that were measured in alternation.

    >>> speedup([1.0, 2.0, 1.0], [2.0, 4.0, 2.0])
    Speedup(median=2.0, low=2.0, high=2.0)
    """
    low, middle, high = np.quantile(np.array(theirs) / np.array(ours), [0.25, 0.5, 0.75])
    return Speedup(float(middle), float(low), float(high))
