"""How long a run will take, from a short and a longer prompt of each model and type of cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lookm_cpp.benching.job import FULL_CACHE, Case, Job

SHORT, LONG, LONG_QUANTIZED = 256, 2048, 1024
"""Prompts that are timed. Attention is what they differ by for each cell; on a CPU it takes many
times as long over a
quantized cache."""


def lengths_of(job: Job, most: int) -> dict[str, list[int]]:
    """For each type of cache the prompts to time, none longer than ``most``."""
    longer = {
        case.cache: LONG if case.cache == FULL_CACHE else LONG_QUANTIZED for case in job.cases
    }
    return {cache: sorted({min(SHORT, most), min(n, most)}) for cache, n in longer.items()}


@dataclass(frozen=True)
class Line:
    """Seconds that grow with a number of cells: ``at_none + per_cell * n``, neither below zero."""

    at_none: float
    per_cell: float

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Line:
        """The first and the last of ``(cells, seconds)``; level where the longer one is faster,
        which is noise.

        >>> Line.through([(100, 2.0), (200, 3.0)])
        Line(at_none=1.0, per_cell=0.01)
        """
        (n, short), (m, long) = points[0], points[-1]
        slope = max(0.0, (long - short) / (m - n)) if m > n else 0.0
        return cls(max(0.0, long - slope * m), min(slope, long / m))

    def __call__(self, n_cells: float) -> float:
        """Seconds at so many cells."""
        return self.at_none + self.per_cell * n_cells


@dataclass(frozen=True)
class Pace:
    """Seconds that a model takes with one type of cache.

    Attributes:
        cell: Of a prompt, for each of its cells, by its length.
        token: Of decoding a token, by its depth.
        opening: Of opening the model and reading a few words.
    """

    cell: Line
    token: Line
    opening: float

    @classmethod
    def of(cls, timed: Sequence[Mapping[str, Any]]) -> Pace:
        """From what ``worker.calibrate`` found."""
        cell = Line.through([(one["cells"], one["prompt"] / one["cells"]) for one in timed])
        return cls(
            cell,
            Line.through([(one["cells"], one["token"]) for one in timed]),
            timed[-1]["opening"],
        )

    def prompt(self, n_cells: float) -> float:
        """Seconds to open the model and to read so many cells."""
        return self.opening + n_cells * self.cell(n_cells)


@dataclass(frozen=True)
class Paces:
    """A model's, by type of cache; a type that it cannot have takes no time."""

    of_cache: Mapping[str, Pace]

    @classmethod
    def of(cls, timed: Sequence[Mapping[str, Any]]) -> Paces:
        """From what ``worker.calibrate`` found."""
        caches = dict.fromkeys(one["cache"] for one in timed)
        return cls(
            {cache: Pace.of([one for one in timed if one["cache"] == cache]) for cache in caches}
        )

    def case(self, job: Job, case: Case) -> float:
        """Seconds of a prompt and its answer, of one as long as what is kept, and of all that
        decode by turns.
        """
        pace, full = self.of_cache.get(case.cache), self.of_cache[FULL_CACHE]
        if pace is None:
            return 0.0
        kept = case.kv_ratio * job.cells
        turns = job.block_tokens * (job.n_blocks + 1)
        ours = pace.prompt(job.cells) + (job.answer_tokens + turns) * pace.token(kept)
        native = pace.prompt(kept) + turns * pace.token(kept) if case.kv_ratio < 1 else 0.0
        return ours + native + turns * full.token(job.cells)

    def job(self, job: Job) -> float:
        """Seconds of all cases, and of the full cache that they are compared to."""
        return self.of_cache[FULL_CACHE].prompt(job.cells) + sum(
            self.case(job, case) for case in job.cases
        )


def minutes(seconds: float) -> str:
    """For people.

    >>> minutes(31), minutes(150), minutes(5400)
    ('31 seconds', '3 minutes', '1.5 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{-(-seconds // 60):.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
