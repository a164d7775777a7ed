"""Estimates how long a run takes, from a short and a longer prompt of each model and cache type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lookm_cpp.bench.workload import FULL_CACHE, Case, Workload

SHORT, LONG, LONG_QUANTIZED = 256, 2048, 1024
"""Lengths of the timed prompts, in cells.

The time for each cell grows with the length because of attention. On a CPU, attention over a
quantized cache takes many times as long, so that its longer prompt is shorter.
"""


def lengths_of(workload: Workload, most: int) -> dict[str, list[int]]:
    """Lengths of the prompts to time for each cache type, ``most`` at most."""
    longer = {
        case.cache: LONG if case.cache == FULL_CACHE else LONG_QUANTIZED for case in workload.cases
    }
    return {cache: sorted({min(SHORT, most), min(n, most)}) for cache, n in longer.items()}


@dataclass(frozen=True)
class Line:
    """Seconds as a function of cells: ``at_none + per_cell * n``, neither of them below zero."""

    at_none: float
    per_cell: float

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Line:
        """Fit the first and the last of ``(cells, seconds)``.

        If the longer one was faster, which is noise, the line is level.

        >>> Line.through([(100, 2.0), (200, 3.0)])
        Line(at_none=1.0, per_cell=0.01)
        """
        (n, short), (m, long) = points[0], points[-1]
        slope = max(0.0, (long - short) / (m - n)) if m > n else 0.0
        return cls(max(0.0, long - slope * m), min(slope, long / m))

    def __call__(self, n_cells: float) -> float:
        """Seconds at ``n_cells``."""
        return self.at_none + self.per_cell * n_cells


@dataclass(frozen=True)
class Pace:
    """Seconds that a model takes with one cache type.

    Attributes:
        cell: For each cell of a prompt, by the length of the prompt.
        token: For decoding one token, by the number of cells before it.
        opening: For opening the model and reading a few words.
    """

    cell: Line
    token: Line
    opening: float

    @classmethod
    def of(cls, timed: Sequence[Mapping[str, Any]]) -> Pace:
        """From the timings of ``worker.calibrate`` for one cache type."""
        cell = Line.through([(one["cells"], one["prompt"] / one["cells"]) for one in timed])
        return cls(
            cell,
            Line.through([(one["cells"], one["token"]) for one in timed]),
            timed[-1]["opening"],
        )

    def prompt(self, n_cells: float) -> float:
        """Seconds to open the model and to read ``n_cells``."""
        return self.opening + n_cells * self.cell(n_cells)


@dataclass(frozen=True)
class Paces:
    """The paces of a model by cache type; a type that it cannot have takes no time."""

    of_cache: Mapping[str, Pace]

    @classmethod
    def of(cls, timed: Sequence[Mapping[str, Any]]) -> Paces:
        """From the timings of ``worker.calibrate``."""
        caches = dict.fromkeys(one["cache"] for one in timed)
        return cls(
            {cache: Pace.of([one for one in timed if one["cache"] == cache]) for cache in caches}
        )

    def case(self, workload: Workload, case: Case) -> float:
        """Seconds for one case.

        That is the prompt with its answer, a prompt as long as the kept cells, and the tokens that
        all contenders decode in alternation.
        """
        pace, full = self.of_cache.get(case.cache), self.of_cache[FULL_CACHE]
        if pace is None:
            return 0.0
        kept = case.kv_ratio * workload.cells
        turns = workload.block_tokens * (workload.n_blocks + 1)
        ours = pace.prompt(workload.cells) + (workload.answer_tokens + turns) * pace.token(kept)
        native = pace.prompt(kept) + turns * pace.token(kept) if case.kv_ratio < 1 else 0.0
        return ours + native + turns * full.token(workload.cells)

    def workload(self, workload: Workload) -> float:
        """Seconds for all cases and the full cache that they are compared with, for two questions,
        and for reading fewer cells.
        """
        n_more = 2 + 2 * workload.prunes
        return n_more * self.of_cache[FULL_CACHE].prompt(workload.cells) + sum(
            self.case(workload, case) for case in workload.cases
        )


def minutes(seconds: float) -> str:
    """Format a duration for people.

    >>> minutes(31), minutes(150), minutes(5400)
    ('31 seconds', '3 minutes', '1.5 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{-(-seconds // 60):.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
