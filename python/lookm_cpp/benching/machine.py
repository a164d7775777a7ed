"""What figures are taken on, and what the kernel says about memory."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
import sys
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
PROC = Path("/proc/self")
MIB = 1 << 20


def describe() -> dict[str, Any]:
    """CPU, cores, memory and system, and how busy it was before."""
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


def versions() -> dict[str, str]:
    """Who made the machine code: the compiler as the extension module itself names it."""
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
    """Keep the calling thread on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def on_each_core(rounds: int, work: Callable[[Any], object], parts: Sequence[Any]) -> float:
    """Seconds of the fastest of a few rounds of ``work`` on every part, each part's thread on a
    core of its own.
    """
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
    """Bytes a second of the fastest of a few passes of ``max`` over memory far larger than any
    cache.
    """
    parts = np.array_split(np.ones(n_bytes // 4, dtype=np.float32), n_threads)
    return float(round(n_bytes / on_each_core(rounds, np.max, parts)))


def f32_rate(n_threads: int, side: int = 2048, rounds: int = 5) -> float:
    """Multiply-adds a second of the fastest of a few f32 matrix products a thread, by NumPy's BLAS.

    Its own threads must be off: ``OPENBLAS_NUM_THREADS=1`` before NumPy is loaded.
    """
    parts = [np.ones((side, side), dtype=np.float32) for _ in range(n_threads)]
    return float(round(n_threads * side**3 / on_each_core(rounds, lambda a: a @ a, parts)))


def available_memory() -> int | None:
    """Bytes that this machine can still give away, or ``None`` where the kernel does not say."""
    info = Path("/proc/meminfo")
    found = (
        re.search(r"^MemAvailable:\s*(\d+) kB$", info.read_text(), re.MULTILINE)
        if info.exists()
        else None
    )
    return int(found[1]) * 1024 if found else None


def give_back() -> None:
    """Let glibc return freed memory to the system, so that what comes next is not served from what
    was freed.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def status_bytes(name: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process, or 0 where the kernel does not say."""
    path = PROC / "status"
    found = (
        re.search(rf"^{name}:\s*(\d+) kB$", path.read_text(), re.MULTILINE)
        if path.exists()
        else None
    )
    return int(found[1]) * 1024 if found else 0


class PeakMemory:
    """Inside ``with``, the highest resident memory of the process:

    ``peak``, None where the kernel does not tell.
    """

    peak: int | None = None

    def __enter__(self) -> PeakMemory:
        try:
            (PROC / "clear_refs").write_text(
                "5"
            )  # Linux: the peak starts again from what is resident now
        except OSError:
            self.works = False
        else:  # some kernels take the request and keep the old peak
            self.works = 0 < status_bytes("VmHWM") <= status_bytes("VmRSS") + MIB
        return self

    def __exit__(self, *_: object) -> None:
        if self.works:
            self.peak = status_bytes("VmHWM")
