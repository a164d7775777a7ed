"""The order of the work: what fits, how long it will take, then every model at every length in a
process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lookm_cpp.benching import workers
from lookm_cpp.benching.estimate import Paces, lengths_of, minutes
from lookm_cpp.benching.job import Case, Job
from lookm_cpp.benching.room import free_memory, why_not
from lookm_cpp.benching.subject import Subject


@dataclass(frozen=True)
class Plan:
    """A job, and how long it is thought to take."""

    subject: Subject
    job: Job
    paces: Paces | None

    def case(self, case: Case) -> float:
        """Seconds of a case; cells and weights stand for them where no pace was measured."""
        return (
            self.paces.case(self.job, case)
            if self.paces
            else self.job.cells * self.subject.size_bytes / 1e12
        )

    def seconds(self) -> float:
        """Of the job."""
        return (
            self.paces.job(self.job)
            if self.paces
            else sum(self.case(case) for case in self.job.cases)
        )


def plan_run(
    subjects: Sequence[Subject],
    cells: Sequence[int],
    pattern: Job,
    run: dict[str, Any],
    say: Callable[[str], None],
    *,
    timed: bool,
    most_seconds: float | None = None,
) -> list[Plan]:
    """Jobs of the lengths that fit; what does not is said and noted.

    ``timed``: measure each model's pace before. ``most_seconds``: then leave out what takes
    longest, until the rest is thought to take no longer than this.
    """
    memory = free_memory(pattern.n_gpu_layers)
    plans = []
    for subject in subjects:
        jobs = []
        for n in cells:
            job = _job(subject, n, pattern)
            why = why_not(subject, job, memory)
            if why is None:
                jobs.append(job)
            else:
                leave_out(run, subject, n, why, say)
        paces = None
        if timed and jobs:
            try:
                lengths = lengths_of(pattern, max(job.cells for job in jobs))
                paces = Paces.of(list(workers.run(jobs[0], calibrate=lengths)))
            except RuntimeError as error:
                for job in jobs:
                    leave_out(run, subject, job.cells, str(error), say)
                continue
        plans += [Plan(subject, job, paces) for job in jobs]
    if timed:
        plans = _within(plans, most_seconds, run, say)
        for plan in plans:
            say(f"{plan.subject.label}, {plan.job.cells} cells: about {minutes(plan.seconds())}")
        say(f"in all about {minutes(sum(plan.seconds() for plan in plans))}")
    return plans


def _within(
    plans: Sequence[Plan],
    most_seconds: float | None,
    run: dict[str, Any],
    say: Callable[[str], None],
) -> list[Plan]:
    """The plans without the longest ones, so many that the rest takes no more than
    ``most_seconds``.
    """
    left = list(plans)
    while most_seconds is not None and sum(plan.seconds() for plan in left) > most_seconds:
        longest = max(left, key=Plan.seconds)
        left.remove(longest)
        why = f"it would take about {minutes(longest.seconds())}, and --minutes gives {minutes(most_seconds)} to all"
        leave_out(run, longest.subject, longest.job.cells, why, say)
    return left


def measure(
    plans: Sequence[Plan],
    run: dict[str, Any],
    say: Callable[[str], None],
    found: Callable[[Plan, Case | None], None],
) -> None:
    """Do the jobs into ``run``; ``found(plan, case)`` is called after each case, and before a job
    with ``None``.
    """
    for plan in plans:
        found(plan, None)
        done = 0
        try:
            for record in workers.run(plan.job):
                run["cases"].append({"model": plan.subject.name, "cells": plan.job.cells, **record})
                done += 1
                found(plan, Case(record["cache"], record["kv_ratio"]))
        except RuntimeError as error:
            part = f" after {done} of {len(plan.job.cases)} cases" if done else ""
            leave_out(run, plan.subject, plan.job.cells, f"{error}{part}", say)


def leave_out(
    run: dict[str, Any], subject: Subject, cells: int, why: str, say: Callable[[str], None]
) -> None:
    """Note what is not measured."""
    run["left_out"].append({"model": subject.name, "cells": cells, "why": why})
    say(f"{subject.name}, {cells} cells, left out: {why}")


def _job(subject: Subject, cells: int, pattern: Job) -> Job:
    return replace(
        pattern,
        model=str(subject.model),
        mmproj=None if subject.mmproj is None else str(subject.mmproj),
        cells=cells,
        scored_flash_attn=subject.scored_flash_attn if pattern.flash_attn == "auto" else {},
        # the embedded model is too small to be worth sharing among threads
        n_threads=pattern.n_threads or (1 if subject.is_embedded else 0),
    )
