"""What a suite found, as numbers and as the cells of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lookm_cpp.evaluation.arms import FULL, RANDOM, TEXT_ONLY, Arm, full_cache
from lookm_cpp.evaluation.records import Record
from lookm_cpp.evaluation.statistics import Difference, Scores, scores_of
from lookm_cpp.evaluation.suite import SuiteRun

MARKS = {1: "+", 0: "", -1: "-"}
LEAST_CONTEXTS = 8  # with fewer contexts, no intervals are shown
SAME_BYTES = 0.01
"""Arms are compared if their bytes differ by at most this fraction of the full cache's."""


@dataclass(frozen=True)
class Row:
    """One arm in one place.

    Attributes:
        place: ``after`` the whole prompt, or ``before`` the question.
        name: Name of the arm.
        cache: Type of its K and V cache.
        budget: Fraction of the full f16 cache's bytes that it may use, if it is limited.
        contexts: Number of contexts.
        prompts: Number of questions.
        score: Mean of the tasks' means, of 100.
        tasks: Mean of each task.
        against_full: Difference to the full cache, with its 95 % interval.
        against_random: Difference to random cells of the same bytes; ``None`` if they were not run.
        kept_share: Kept cells divided by all cells.
        bytes_share: Their bytes divided by those of the full f16 cache.
        kv_bytes: Mean bytes of the kept cells.
    """

    place: str
    name: str
    cache: str
    budget: float | None
    contexts: int
    prompts: int
    score: float
    tasks: dict[str, float]
    against_full: Difference
    against_random: Difference | None
    kept_share: float
    bytes_share: float
    kv_bytes: float

    def as_dict(self) -> dict[str, Any]:
        """The row as a dict, ready for JSON."""
        return asdict(self)


def rows_of(run: SuiteRun, records: Sequence[Record]) -> list[Row]:
    """A row for each arm and place whose questions were all asked."""
    rows = []
    numbers = list(dict.fromkeys(context.number for context in run.contexts))
    asked = list(
        dict.fromkeys(question.task for context in run.contexts for question in context.questions)
    )
    for place in run.places:
        by_arm: dict[str, list[Record]] = {arm.key: [] for arm in run.arms}
        for record in records:
            if (
                record["place"] == place
                and record["arm"] in by_arm
                and record["context"] in numbers
            ):
                by_arm[record["arm"]].append(record)
        full = by_arm[full_cache().key]
        tasks = [task for task in asked if any(record["task"] == task for record in full)]
        scores = {key: _scores(found, numbers, tasks) for key, found in by_arm.items() if found}
        for arm in run.arms:
            if len(by_arm[arm.key]) == len(full) > 0:
                rows.append(_row(place, arm, by_arm, full, scores, tasks))
    return rows


def _scores(found: Sequence[Record], numbers: Sequence[int], tasks: Sequence[str]) -> Scores:
    triples = [(record["context"], record["task"], record["score"]) for record in found]
    return scores_of(triples, numbers, tasks)


def _row(
    place: str,
    arm: Arm,
    by_arm: Mapping[str, Sequence[Record]],
    full: Sequence[Record],
    scores: dict[str, Scores],
    tasks: Sequence[str],
) -> Row:
    mine, found = scores[arm.key], by_arm[arm.key]
    total_bytes, total = (
        sum(record[name] for record in full) for name in ("kv_bytes", "prompt_cells")
    )
    kv_bytes, kept = (sum(record[name] for record in found) for name in ("kv_bytes", "kept_cells"))
    rival = Arm(RANDOM, arm.cache, arm.budget, arm.compression).key
    beside = scores.get(rival) if arm.budget is not None and rival != arm.key else None
    # A method that keeps all text may use more than its budget.
    if (
        beside
        and abs(kv_bytes - sum(record["kv_bytes"] for record in by_arm[rival]))
        > SAME_BYTES * total_bytes
    ):
        beside = None
    return Row(
        place,
        arm.name,
        arm.cache,
        arm.budget,
        len({record["context"] for record in found}),
        len(found),
        mine.mean(),
        dict(zip(tasks, mine.by_task(), strict=True)),
        mine.minus(scores[full_cache().key]),
        mine.minus(beside) if beside else None,
        kept / total,
        kv_bytes / total_bytes,
        kv_bytes / len(found),
    )


def overview_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the overview: a line for each name and cache, a column for each budget.

    A cell is ``score mark (difference to the full cache: low to high)``. If the arm uses more than
    its budget, the fraction of bytes follows.
    """
    budgets = sorted({row.budget for row in rows if row.budget is not None}, reverse=True)
    lines = []
    for name, cache in dict.fromkeys(
        (row.name, row.cache) for row in rows if row.budget is not None
    ):
        found = {row.budget: row for row in rows if (row.name, row.cache) == (name, cache)}
        cells = [_cell(found[budget]) if budget in found else "" for budget in budgets]
        lines.append([name if cache == "f16" else f"{name}, {cache}", *cells])
    return ["method", *(f"{100 * budget:g} %" for budget in budgets)], lines


def _cell(row: Row) -> str:
    text = f"{row.score:.0f}"
    if row.contexts >= LEAST_CONTEXTS:
        change = row.against_full
        text += MARKS[row.against_random.sign] if row.against_random else ""
        text += f" ({change.low:+.0f} to {change.high:+.0f})"
    as_given = row.budget is not None and row.bytes_share <= row.budget + 0.01
    return text if as_given else f"{text} {100 * row.bytes_share:.1f} %"


def fixed_cells(rows: Sequence[Row]) -> list[list[str]]:
    """The arms without a budget: the full cache in every type, and the text cells alone."""
    return [
        [row.name if row.cache == "f16" else f"{row.name}, {row.cache}", _cell(row)]
        for row in rows
        if row.name in (FULL, TEXT_ONLY)
    ]


def task_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the table of tasks."""
    tasks = list(rows[0].tasks)
    lines = []
    for row in rows:
        name = row.name if row.cache == "f16" else f"{row.name}, {row.cache}"
        scores = [f"{row.tasks[task]:.0f}" for task in tasks]
        lines.append(
            [
                name,
                f"{100 * row.bytes_share:.1f}",
                f"{100 * row.kept_share:.1f}",
                f"{row.score:.0f}",
                *scores,
            ]
        )
    return [
        "method",
        "bytes %",
        "cells %",
        "mean",
        *(task.replace("_", " ") for task in tasks),
    ], lines
