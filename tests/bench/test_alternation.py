"""By turns, on a clock that the test turns."""

from __future__ import annotations

import numpy as np
import pytest
from lookm_cpp.bench.alternation import alternate, speedup


def test_blocks_take_turns_and_the_first_round_does_not_count() -> None:
    now = 0.0
    called: list[str] = []

    def side(name: str, seconds: float) -> None:
        nonlocal now
        # a machine that slows down all the time, and is cold in the first round
        called.append(name)
        now += seconds * (1 + 0.1 * len(called)) + (100 if len(called) <= 6 else 0)

    found = alternate(
        [lambda: side("a", 1.0), lambda: side("b", 2.0), lambda: side("c", 3.0)], 4, 2, lambda: now
    )
    assert "".join(called) == "aabbcc" + 2 * "aabbcc" + 2 * "ccbbaa"
    assert found[0] == pytest.approx([1 + 0.1 * n for n in (7.5, 13.5, 23.5, 29.5)])
    assert found[1] == pytest.approx([2 * (1 + 0.1 * n) for n in (9.5, 15.5, 21.5, 27.5)])
    assert found[2] == pytest.approx([3 * (1 + 0.1 * n) for n in (11.5, 17.5, 19.5, 25.5)])


def test_ratio_is_of_pairs_and_not_of_medians() -> None:
    ours, theirs = [1.0, 10.0, 3.0, 4.0, 5.0], [2.0, 30.0, 3.0, 2.0, 10.0]
    pairs = sorted([2.0, 3.0, 1.0, 0.5, 2.0])
    found = speedup(ours, theirs)
    assert (
        (found.low, found.median, found.high) == (pairs[1], pairs[2], pairs[3]) == (1.0, 2.0, 2.0)
    )
    assert found.median != pytest.approx(np.median(theirs) / np.median(ours))
