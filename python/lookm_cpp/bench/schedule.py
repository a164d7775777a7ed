"""Decides which models and lengths are measured and how long that takes, then measures them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lookm_cpp.bench import run_worker
from lookm_cpp.bench.memory_check import free_memory, why_not
from lookm_cpp.bench.models import BenchModel
from lookm_cpp.bench.time_estimate import Paces, lengths_of, minutes
from lookm_cpp.bench.workload import Case, Workload

LISTS = {"second_question": "second_questions", "fewer_cells": "fewer_cells"}
"""Where records go that are of no case."""


@dataclass(frozen=True)
class Task:
    """A model, a workload for it, and the paces that estimate how long it takes."""

    bench_model: BenchModel
    workload: Workload
    paces: Paces | None

    @property
    def label(self) -> str:
        """The model and the length of the prompt."""
        return f"{self.bench_model.label}, {self.workload.cells} cells"

    def case(self, case: Case) -> float:
        """Seconds for a case; without a pace, a number that grows with cells and weights."""
        return (
            self.paces.case(self.workload, case)
            if self.paces
            else self.workload.cells * self.bench_model.size_bytes / 1e12
        )

    def seconds(self) -> float:
        """Seconds for the workload."""
        return (
            self.paces.workload(self.workload)
            if self.paces
            else sum(self.case(case) for case in self.workload.cases)
        )


def schedule_run(
    bench_models: Sequence[BenchModel],
    cells: Sequence[int],
    pattern: Workload,
    run: dict[str, Any],
    say: Callable[[str], None],
    *,
    timed: bool,
    most_seconds: float | None = None,
) -> list[Task]:
    """Make a task for each model and length that fits; note the others in ``run``.

    With ``timed``, the pace of each model is measured first. Then ``most_seconds`` leaves out the
    longest tasks, until the estimate for the others is within it.
    """
    memory = free_memory(pattern.opened)
    tasks = []
    for bench_model in bench_models:
        workloads = []
        for n in cells:
            workload = _workload(bench_model, n, pattern)
            why = why_not(bench_model, workload, memory)
            if why is None:
                workloads.append(workload)
            else:
                leave_out(run, bench_model, n, why, say)
        paces = None
        if timed and workloads:
            try:
                lengths = lengths_of(pattern, max(workload.cells for workload in workloads))
                paces = Paces.of(list(run_worker.run(workloads[0], calibrate=lengths)))
            except RuntimeError as error:
                for workload in workloads:
                    leave_out(run, bench_model, workload.cells, str(error), say)
                continue
        tasks += [Task(bench_model, workload, paces) for workload in workloads]
    if timed:
        tasks = _within(tasks, most_seconds, run, say)
        for task in tasks:
            say(f"{task.label}: about {minutes(task.seconds())}")
        say(f"in all about {minutes(sum(task.seconds() for task in tasks))}")
    return tasks


def _within(
    tasks: Sequence[Task],
    most_seconds: float | None,
    run: dict[str, Any],
    say: Callable[[str], None],
) -> list[Task]:
    """Leave out the longest tasks until the others take ``most_seconds`` at most."""
    left = list(tasks)
    while most_seconds is not None and sum(task.seconds() for task in left) > most_seconds:
        longest = max(left, key=Task.seconds)
        left.remove(longest)
        why = (
            f"it would take about {minutes(longest.seconds())}, "
            f"and --minutes gives {minutes(most_seconds)} to all"
        )
        leave_out(run, longest.bench_model, longest.workload.cells, why, say)
    return left


def run_tasks(
    tasks: Sequence[Task],
    run: dict[str, Any],
    say: Callable[[str], None],
    found: Callable[[Task, Case | None], None],
) -> None:
    """Measure the tasks and add the records to ``run["cases"]`` and the lists of ``LISTS``.

    ``found(task, case)`` is called after each case, and before each task with ``None``.
    """
    for task in tasks:
        found(task, None)
        done = 0
        try:
            for record in run_worker.run(task.workload):
                about = {"model": task.bench_model.name, "cells": task.workload.cells}
                more = next((name for name in LISTS if name in record), None)
                if more is not None:
                    run[LISTS[more]].append({**about, **record[more]})
                    continue
                run["cases"].append({**about, **record})
                done += 1
                found(task, Case(record["cache"], record["kv_ratio"]))
        except RuntimeError as error:
            part = f" after {done} of {len(task.workload.cases)} cases" if done else ""
            leave_out(run, task.bench_model, task.workload.cells, f"{error}{part}", say)


def leave_out(
    run: dict[str, Any], bench_model: BenchModel, cells: int, why: str, say: Callable[[str], None]
) -> None:
    """Note and report a length that is not measured."""
    run["left_out"].append({"model": bench_model.name, "cells": cells, "why": why})
    say(f"{bench_model.name}, {cells} cells, left out: {why}")


def _workload(bench_model: BenchModel, cells: int, pattern: Workload) -> Workload:
    # the embedded model is too small to be worth sharing among threads
    alone = bench_model.is_embedded and not pattern.opened["n_threads"]
    threads = {"n_threads": 1} if alone else {}
    return replace(
        pattern,
        model=str(bench_model.model),
        mmproj=None if bench_model.mmproj is None else str(bench_model.mmproj),
        cells=cells,
        opened=pattern.opened | threads,
    )
