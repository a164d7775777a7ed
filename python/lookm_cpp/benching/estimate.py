"""How long a run will take, from a short and a longer prompt of each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lookm_cpp.benching.job import Case, Job

CELLS = (256, 2048)
"""Prompts that are timed; what they differ by in time per cell is the attention."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a model takes.

    Attributes:
        per_cell: Of a prompt, for each cell.
        per_square: Of a prompt, for each pair of cells.
        per_token: Of decoding one token.
        opening: Of opening the model and reading a few words.
    """

    per_cell: float
    per_square: float
    per_token: float
    opening: float

    @classmethod
    def of(cls, timed: Sequence[dict[str, Any]]) -> Pace:
        """From what ``worker.calibrate`` found.

        >>> Pace.of([{"cells": 100, "prompt": 2.0, "token": 0.1, "opening": 1.0},
        ...          {"cells": 200, "prompt": 6.0, "token": 0.1, "opening": 1.0}])
        Pace(per_cell=0.01, per_square=0.0001, per_token=0.1, opening=1.0)
        """
        first, last = timed[0], timed[-1]
        n, m = first["cells"], last["cells"]
        slow, slower = first["prompt"] / n, last["prompt"] / m
        square = max(0.0, (slower - slow) / (m - n)) if m > n else 0.0
        per_cell = min(slower, max(0.0, slower - square * m)) if m > n else slower
        return cls(per_cell, square, last["token"], last["opening"])

    def prompt(self, n_cells: float) -> float:
        """Seconds to read so many cells."""
        return self.per_cell * n_cells + self.per_square * n_cells**2

    def case(self, job: Job, case: Case) -> float:
        """Seconds of a prompt, one of the kept depth, and all that decode by turns."""
        turns = job.block_tokens * (job.n_blocks + 1)
        beside = (
            self.prompt(case.kv_ratio * job.cells) + self.opening + turns * self.per_token if case.kv_ratio < 1 else 0.0
        )
        return self.opening + self.prompt(job.cells) + (job.answer_tokens + 2 * turns) * self.per_token + beside

    def job(self, job: Job) -> float:
        """Seconds of all cases, and of the full cache that they are compared to."""
        return self.opening + self.prompt(job.cells) + sum(self.case(job, case) for case in job.cases)


def minutes(seconds: float) -> str:
    """For people.

    >>> minutes(31), minutes(150), minutes(5400)
    ('31 seconds', '3 minutes', '1.5 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{-(-seconds // 60):.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
