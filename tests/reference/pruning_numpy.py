"""Choosing the cells of an image to read, from the equations, in f64 and without any cleverness.

Each function returns the chosen cells and the smallest lead that a choice had over the next best
one: where it is tiny, f32 may choose otherwise.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Chosen = tuple[list[int], float]


def cosines(a: Floats, b: Floats) -> Floats:
    def units(x: Floats) -> Floats:
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))

    return np.asarray(units(a) @ units(b).T)


def _greedy(value: Floats, left: list[int]) -> tuple[int, float]:
    best = max(left, key=lambda i: (value[i], -i))
    others = [value[i] for i in left if i != best]
    return best, float(value[best] - max(others)) if others else np.inf


def divprune(cells: Floats, n_keep: int) -> Chosen:
    """DivPrune (arXiv 2503.02175): greedily the largest distance to the nearest chosen cell."""
    distance = 1 - cosines(cells, cells)
    n = len(cells)
    left, chosen, lead = list(range(n)), list[int](), np.inf
    while len(chosen) < n_keep:
        others = chosen or range(n)
        nearest = np.array(
            [min((distance[i, j] for j in others if j != i), default=np.inf) for i in range(n)]
        )
        best, by = _greedy(nearest, left)
        chosen.append(best)
        left.remove(best)
        lead = min(lead, by)
    return sorted(chosen), lead


def conditional_kernel(cells: Floats, question: Floats) -> Floats:
    """CDPruner's kernel (arXiv 2506.10967, eq. 6 and 7): similarities times both relevances."""
    relevance = cosines(cells, question).mean(axis=1) if len(question) else np.ones(len(cells))
    least, most = relevance.min(), relevance.max()
    if most > least:
        relevance = (relevance - least) / (most - least) + 1e-6
    else:
        relevance = np.ones(len(cells))
    return np.asarray(relevance[:, None] * cosines(cells, cells) * relevance)


def cdpruner(cells: Floats, question: Floats, n_keep: int) -> Chosen:
    """Greedily the largest determinant of the chosen rows and columns of the kernel."""
    kernel = conditional_kernel(cells, question)
    left, chosen, lead = list(range(len(cells))), list[int](), np.inf
    while len(chosen) < n_keep:
        gain = np.full(len(cells), -np.inf)
        before = np.linalg.det(kernel[np.ix_(chosen, chosen)]) if chosen else 1.0
        for i in left:
            rows = [*chosen, i]
            gain[i] = np.linalg.det(kernel[np.ix_(rows, rows)]) / before
        best, by = _greedy(gain, left)
        chosen.append(best)
        left.remove(best)
        lead = min(lead, by)
    return sorted(chosen), lead


def most_diverse(cells: Floats, n_keep: int) -> list[int]:
    """The set with the largest smallest distance, by trying all of them."""
    distance = 1 - cosines(cells, cells)

    def least(chosen: tuple[int, ...]) -> float:
        return min(float(distance[i, j]) for i, j in itertools.combinations(chosen, 2))

    every = list(itertools.combinations(range(len(cells)), n_keep))
    return list(every[int(np.argmax([least(chosen) for chosen in every]))])
