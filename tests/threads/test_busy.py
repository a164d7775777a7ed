"""With fewer cores than threads, work gets slower by the share of cores, not by waiting.

A barrier that only spins keeps the core from the thread it waits for, for a whole time slice each:
on two threads that share a core, the embedded model was 2000 times slower than on two cores.
"""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from server.servers import Server, running

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub
pytestmark = [
    pytest.mark.skipif(
        not hasattr(_oracle, "parallel_rounds"), reason="this build has the compiler's own OpenMP"
    ),
    pytest.mark.skipif(
        not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
        reason="needs two CPUs",
    ),
]
MOST_TIMES_SLOWER = 60
"""5 to 7 times on an idle machine; what else runs may take most of the one CPU away."""

CHILD = """
import ctypes, os, sys, time
if len(sys.argv) > 1:
    ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
from lookm_cpp import _core, embedded

cpus = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, cpus)
session = _core.Session(_core.ModelOptions(model_path=str(embedded.MODEL), n_threads=2))
session.prefill("Once upon a time", [], _core.Compression(), n_answer=400)
session.start(temperature=0, ignore_eos=True)
session.next()

def best_rate(n_tokens):
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(n_tokens):
            session.next()
        times.append(time.perf_counter() - begin)
    return n_tokens / min(times)

free = best_rate(40)
for task in os.listdir("/proc/self/task"):
    os.sched_setaffinity(int(task), cpus[:1])
crowded = best_rate(4)
print(free / crowded)
"""


def _times_slower(*arguments: str) -> float:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return float(child.stdout)


def test_two_threads_on_one_cpu() -> None:
    assert _times_slower() < MOST_TIMES_SLOWER


def test_beside_a_libgomp_of_another_package() -> None:
    """As with torch: its libgomp is in the process before ours would be, with all its names."""
    libgomp = ctypes.util.find_library("gomp")
    if libgomp is None:
        pytest.skip("no libgomp here")
    assert _times_slower(libgomp) < MOST_TIMES_SLOWER


def test_the_server_on_one_cpu(tmp_path: Path) -> None:
    def best_rate(server: Server, n_tokens: int) -> float:
        answers = [server.complete([40, 41, 42], n_predict=n_tokens) for _ in range(4)]
        return max(float(answer["timings"]["predicted_per_second"]) for answer in answers)

    with running(tmp_path, "-t", "2", "-c", "1024") as server:
        free = best_rate(server, 40)
        for task in Path(f"/proc/{server.process.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), [min(os.sched_getaffinity(0))])
        assert free / best_rate(server, 4) < MOST_TIMES_SLOWER
