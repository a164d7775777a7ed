"""The threads that ggml's OpenMP code runs on: teams, barriers, and what is left of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub
pytestmark = pytest.mark.skipif(
    not hasattr(_oracle, "parallel_rounds"), reason="this build has the compiler's own OpenMP"
)
TASKS = Path("/proc/self/task")
N_CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _check(n_threads: int, n_rounds: int) -> None:
    size, n_single, indices, n_wrong = _oracle.parallel_rounds(n_threads, n_rounds)
    assert size == n_threads
    assert n_single == 1
    assert indices == list(range(n_threads))
    assert n_wrong == 0


def _comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize(
    ("n_threads", "n_rounds"),
    [(1, 10), (2, 20_000), (3, 2000), (N_CPUS, 2000), (4 * N_CPUS + 1, 200), (64, 20)],
)
def test_a_team_goes_side_by_side(n_threads: int, n_rounds: int) -> None:
    """With more threads than cores, too: those who wait make room for those they wait for."""
    _check(n_threads, n_rounds)


def test_teams_of_changing_sizes() -> None:
    """Helpers that a run does not need must not enter it at the last barrier of the one before."""
    for i in range(400):
        _check((2, 5, 3, 1, 4)[i % 5], 3)


def test_each_thread_has_a_team_of_its_own() -> None:
    def call(seed: int) -> None:
        for i in range(60):
            _check(1 + (seed + i) % 4, 10)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(call, seed) for seed in range(6)]:
            done.result()


def test_runs_do_not_nest() -> None:
    assert _oracle.parallel_nested() == [(1, 2), (1, 2)]
    _check(2, 10)


@pytest.mark.skipif(not TASKS.exists(), reason="no /proc to count threads in")
def test_helpers_end_with_the_thread_that_called_them() -> None:
    def threads() -> set[str]:
        return {task.name for task in TASKS.iterdir()}

    before = threads()  # those of other tests may be ending
    during: set[str] = set()

    def call() -> None:
        _check(5, 10)
        _check(3, 10)
        during.update(threads() - before)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len(during) == 5, "the thread and four helpers"
    assert _comes_true(lambda: not during & threads())


def test_helpers_sleep_between_runs() -> None:
    _check(4, 10)
    time.sleep(0.1)
    begin = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - begin < 0.1
    _check(4, 10)
