"""Which cells of an image are read, compared with the equations in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lookm_cpp.arrays import prune
from reference import pruning_numpy as ref

CERTAIN = 1e-5
"""A lead that f32 cannot lose."""


@st.composite
def images(draw: st.DrawFn) -> tuple[ref.Floats, int, np.random.Generator]:
    """Cells, some of them close to others, and how many of them to read."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(1, 40)), draw(st.integers(2, 70))
    cells = rng.standard_normal((n, d))
    if draw(st.booleans()):
        cells = cells[rng.integers(0, n, n)] + 0.3 * rng.standard_normal((n, d))
    return cells * draw(st.sampled_from([1e-3, 1.0, 1e3])), draw(st.integers(1, n)), rng


@settings(deadline=None)
@given(images())
def test_divprune(image: tuple[ref.Floats, int, Any]) -> None:
    cells, n_keep, _ = image
    assume(len(cells) > 1)
    chosen, lead = ref.divprune(cells, n_keep)
    assume(lead > CERTAIN)
    assert prune(cells, n_keep, pruner="divprune").tolist() == chosen


@settings(deadline=None)
@given(images(), st.integers(0, 20))
def test_cdpruner(image: tuple[ref.Floats, int, np.random.Generator], n_question: int) -> None:
    cells, n_keep, rng = image
    n_keep = min(n_keep, cells.shape[1] // 2 + 1)  # beyond the rank, determinants are 0
    question = rng.standard_normal((n_question, cells.shape[1]))
    chosen, lead = ref.cdpruner(cells, question, n_keep)
    assume(lead > CERTAIN)
    assert prune(cells, n_keep, pruner="cdpruner", question=question).tolist() == chosen


def test_by_hand() -> None:
    """Four directions of the plane: 0 and 1 are nearly the same, 2 is across, 3 between."""
    cells = [[1.0, 0.0], [0.999, 0.045], [0.0, 1.0], [0.6, 0.8]]
    # distances to the nearest: 0.001, 0.001, 0.2, 0.2 (2 and 3): the lower one, then the farthest
    assert prune(cells, 1).tolist() == [2]
    assert prune(cells, 2).tolist() == [0, 2]
    assert prune(cells, 3).tolist() == [0, 2, 3]
    # cosines with the question: 0.6, 0.635, 0.8, 1; scaled: 0, 0.09, 0.5, 1
    question = [[0.6, 0.8]]
    assert prune(cells, 1, pruner="cdpruner", question=question).tolist() == [3]
    # gains (r_i sin)^2 beside 3: 2 has (0.5 * 0.6)^2, 1 has (0.09 * 0.77)^2
    assert prune(cells, 2, pruner="cdpruner", question=question).tolist() == [2, 3]


def test_greedy_is_not_far_from_the_best() -> None:
    """Half of the largest smallest distance at least, as for any max-min problem with a metric."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        cells = rng.standard_normal((12, 6))
        angle = np.arccos(np.clip(ref.cosines(cells, cells), -1, 1))

        def least(chosen: list[int], angle: ref.Floats = angle) -> float:
            inner = angle[np.ix_(chosen, chosen)]
            return float(inner[np.triu_indices(len(chosen), 1)].min())

        greedy = prune(cells, 4).tolist()
        assert least(greedy) > 0.5 * least(ref.most_diverse(cells, 4))


def test_a_grid_is_even() -> None:
    """Every 8 x 8 part of 24 x 24 cells has its share of an eighth of them."""
    y, x = np.divmod(np.arange(576), 24)
    chosen = prune(np.ones((576, 4)), 72, pruner="grid", place=np.stack([x, y], axis=1))
    assert len(chosen) == 72
    parts = np.bincount((y[chosen] // 8) * 3 + x[chosen] // 8, minlength=9)
    assert parts.min() >= 7
    assert parts.max() <= 9


def test_random_cells_have_a_seed() -> None:
    cells = np.ones((100, 4))
    drawn = [prune(cells, 30, pruner="random", seed=seed).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0]) & set(drawn[2])) < 20


@pytest.mark.parametrize("pruner", ["divprune", "cdpruner", "grid", "random"])
def test_marks_stay(pruner: str) -> None:
    rng = np.random.default_rng(1)
    place = np.stack([np.arange(20), np.zeros(20)], axis=1).astype(int)
    place[[4, 9, 19]] = -1
    cells = rng.standard_normal((20, 8))
    for n_keep in (2, 3, 5, 20):
        chosen = prune(cells, n_keep, pruner=pruner, place=place).tolist()
        assert {4, 9, 19} <= set(chosen)
        assert len(chosen) == max(n_keep, 3)
        assert chosen == sorted(set(chosen))


@pytest.mark.parametrize("pruner", ["divprune", "cdpruner"])
def test_many_cells_choose_in_runs(pruner: str) -> None:
    """4096 at a time: each run has its share, and chooses as it would alone."""
    rng = np.random.default_rng(2)
    cells = rng.standard_normal((4096 + 300, 16)).astype(np.float32)
    n_keep = (len(cells)) // 100
    chosen = prune(cells, n_keep, pruner=pruner)
    n_first = n_keep * 4096 // len(cells)
    first = prune(cells[:4096], n_first, pruner=pruner)
    last = prune(cells[4096:], n_keep - n_first, pruner=pruner)
    assert chosen.tolist() == [*first, *(last + 4096)]


def test_cells_that_are_no_direction() -> None:
    """Zeros, and many equal cells, are chosen once each; they add nothing to a determinant."""
    cells = np.zeros((10, 4))
    cells[3, 0] = cells[7, 1] = 1
    assert prune(cells, 3, pruner="cdpruner").tolist() == [0, 3, 7]
    for pruner in ("divprune", "cdpruner"):
        for table in (cells, np.ones((10, 4))):
            for n_keep in (6, 10):
                assert len(set(prune(table, n_keep, pruner=pruner).tolist())) == n_keep


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"n_keep": 0}, "n_keep: 0, expected 1 to 3"),
        ({"n_keep": 4}, "n_keep: 4, expected 1 to 3"),
        ({"pruner": "best"}, 'pruner: "best" is unknown; expected one of none, divprune'),
        ({"place": [[0, 0]]}, "place: shape"),
        ({"question": [[1.0]]}, "question: shape"),
        ({"cells": [[np.nan, 1.0]] * 3}, "cells"),
        ({"cells": [1.0, 2.0]}, "cells: shape"),
    ],
)
def test_bad_arguments(given_: dict[str, Any], expected: str) -> None:
    options: dict[str, Any] = {"cells": [[1.0, 2.0]] * 3, "n_keep": 2} | given_
    with pytest.raises(ValueError, match=expected.replace("(", r"\(")):
        prune(options.pop("cells"), options.pop("n_keep"), **options)
