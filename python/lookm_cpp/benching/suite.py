"""The order of the work: what fits, how long it will take, then every model at every length in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lookm_cpp.benching import workers
from lookm_cpp.benching.estimate import CELLS, Pace, minutes
from lookm_cpp.benching.job import Case, Job
from lookm_cpp.benching.room import free_memory, why_not
from lookm_cpp.benching.subject import Subject


@dataclass(frozen=True)
class Plan:
    """A job, and how long it is thought to take."""

    subject: Subject
    job: Job
    pace: Pace | None

    def seconds(self, case: Case) -> float:
        """Of a case; cells and layers stand for seconds where no pace was measured."""
        return self.job.cells * self.subject.size_bytes / 1e12 if self.pace is None else self.pace.case(self.job, case)


def plan_run(
    subjects: Sequence[Subject],
    cells: Sequence[int],
    pattern: Job,
    run: dict[str, Any],
    say: Callable[[str], None],
    *,
    timed: bool,
) -> list[Plan]:
    """Jobs of the lengths that fit; what does not is said and noted. ``timed``: measure each model's pace before."""
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
        if not jobs:
            continue
        pace = None
        if timed:
            lengths = sorted({min(n, max(job.cells for job in jobs)) for n in CELLS})
            try:
                pace = Pace.of(list(workers.run(jobs[0], calibrate=lengths)))
            except RuntimeError as error:
                for job in jobs:
                    leave_out(run, subject, job.cells, str(error), say)
                continue
            say(f"{subject.label}: about {minutes(sum(pace.job(job) for job in jobs))}")
        plans += [Plan(subject, job, pace) for job in jobs]
    if timed and plans:
        say(f"in all about {minutes(sum(plan.pace.job(plan.job) for plan in plans if plan.pace))}")
    return plans


def measure(
    plans: Sequence[Plan], run: dict[str, Any], say: Callable[[str], None], found: Callable[[Plan, Case | None], None]
) -> None:
    """Do the jobs into ``run``; ``found(plan, case)`` is called after each case, and before a job with ``None``."""
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


def leave_out(run: dict[str, Any], subject: Subject, cells: int, why: str, say: Callable[[str], None]) -> None:
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
