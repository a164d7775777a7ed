"""Inputs of one class, one after the other, counted by what became of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.outcomes import Kind, Outcome
from fuzz.target import Target
from fuzz.things import Plain

MOST_FAULTS = 200
"""A class in which so many inputs went wrong is not tried on."""


@dataclass(frozen=True)
class Fault:
    """An input that went wrong, after the inputs since the last question that went well."""

    target: Target
    seed: int
    number: int
    inputs: list[Plain]
    outcome: Outcome


@dataclass(frozen=True)
class Budget:
    """Where a campaign ends."""

    inputs: int
    seconds: float = float("inf")
    first: int = 0


@dataclass
class Counts:
    """How many inputs of a class there were, and what became of them."""

    name: str
    kinds: Counter[Kind] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def inputs(self) -> int:
        return sum(n for kind, n in self.kinds.items() if kind is not Kind.WRONG_ANSWER)


def campaign(
    target: Target,
    seed: int,
    budget: Budget,
    folder: Path,
    on_fault: Callable[[Fault], None] = lambda fault: None,
) -> Counts:
    """Try inputs until the budget is spent; after each batch a question with a known answer."""
    counts, start = Counts(target.name), time.monotonic()
    with target.open(folder) as place:
        batch: list[Plain] = []

        def note(outcome: Outcome, number: int) -> None:
            counts.kinds[outcome.kind] += 1
            if not outcome.right:
                fault = Fault(target, seed, number, list(batch), outcome)
                counts.faults.append(fault)
                on_fault(fault)

        for i in range(budget.first, budget.first + budget.inputs):
            given = target.input(seed, i)
            batch.append(given)
            note(place.take(given), i)
            spent = time.monotonic() - start > budget.seconds or len(counts.faults) >= MOST_FAULTS
            last = spent or i == budget.first + budget.inputs - 1
            if len(batch) == target.batch or last:
                answer = place.question()
                if not answer.right:
                    note(answer, i)
                batch.clear()
            if spent:
                break
    counts.seconds = time.monotonic() - start
    return counts


def table(all_counts: list[Counts]) -> str:
    """In Markdown: a row for each class."""
    kinds = list(Kind)
    rows = [["class", "inputs", *(kind.value for kind in kinds)]]
    for counts in all_counts:
        rows.append(
            [
                counts.name,
                *(f"{n:,}" for n in (counts.inputs, *(counts.kinds[kind] for kind in kinds))),
            ]
        )
    totals = [sum(counts.kinds[kind] for counts in all_counts) for kind in kinds]
    rows.append(
        ["all", *(f"{n:,}" for n in (sum(counts.inputs for counts in all_counts), *totals))]
    )
    rows.insert(1, ["---", *["--:"] * (len(kinds) + 1)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
