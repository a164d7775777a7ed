"""Describes the machine that the figures come from, and measures what it can do at most."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from lookm_cpp import _core

CORES = (
    sorted(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else list(range(os.cpu_count() or 1))
)
MIB = 1 << 20


def describe() -> dict[str, Any]:
    """CPU, cores, memory and system, and how busy the machine was before the run."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""

    def entry(name: str) -> str:
        found = re.search(rf"^{name}\s*: (.*)$", info, re.MULTILINE)
        return found[1].strip() if found else ""

    vectors = [
        flag
        for flag in ("avx2", "avx512f", "avx512_vnni", "amx_int8")
        if flag in entry("flags").split()
    ]
    return {
        "cpu": entry("model name") or platform.processor() or platform.machine(),
        "cpu_family_model": f"{entry('cpu family')}/{entry('model')}",
        "vectors": vectors,
        "cores": len(CORES),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(terse=True),
    }


def busy_warning(load: float, cores: int) -> str | None:
    """A warning if the machine had other work before the run; ``load`` is the mean of a minute.

    >>> busy_warning(0.1, 2) is None, busy_warning(0.75, 2)
    (True, 'load 0.75: with other work running the figures mean little')
    """
    if load <= cores / 4:
        return None
    return f"load {load}: with other work running the figures mean little"


def versions() -> dict[str, str]:
    """Versions of lookm_cpp, llama.cpp, Python, and of the extension module's compiler."""
    stamp = re.search(
        rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", Path(_core.__file__).read_bytes()
    )
    return {
        "lookm_cpp": _core.__version__,
        "llama.cpp": _core.llama_cpp_version,
        "compiler": stamp[0].decode() if stamp else "unknown",
        "python": platform.python_version(),
    }


def pin(core: int) -> None:
    """Keep the calling thread on one core, if the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def on_each_core(rounds: int, work: Callable[[Any], object], parts: Sequence[Any]) -> float:
    """Seconds of the fastest round of ``work`` on all parts, one thread and core for each part."""
    pools = [
        ThreadPoolExecutor(1, initializer=pin, initargs=(CORES[i % len(CORES)],))
        for i in range(len(parts))
    ]
    best = np.inf
    for _ in range(rounds):
        start = time.perf_counter()
        for done in [pool.submit(work, part) for pool, part in zip(pools, parts, strict=True)]:
            done.result()
        best = min(best, time.perf_counter() - start)
    for pool in pools:
        pool.shutdown()
    return float(best)


def read_bandwidth(n_threads: int, n_bytes: int = 512 * MIB, rounds: int = 5) -> float:
    """Bytes per second of the fastest pass of ``max`` over memory far larger than any cache."""
    parts = np.array_split(np.ones(n_bytes // 4, dtype=np.float32), n_threads)
    return float(round(n_bytes / on_each_core(rounds, np.max, parts)))


def f32_rate(n_threads: int, side: int = 2048, rounds: int = 5) -> float:
    """Multiply-adds per second of the fastest round of one f32 matrix product for each thread.

    NumPy's BLAS must not use threads of its own: set ``OPENBLAS_NUM_THREADS=1`` before NumPy is
    loaded.
    """
    parts = [np.ones((side, side), dtype=np.float32) for _ in range(n_threads)]
    return float(round(n_threads * side**3 / on_each_core(rounds, lambda a: a @ a, parts)))
