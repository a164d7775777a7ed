"""The process that measures: a job as JSON on stdin, a JSON object a line on stdout for each thing
that was found.

A process of its own for each model and length keeps memory figures apart, and one that the system
kills for want of memory takes nothing with it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lookm_cpp.benching.job import FULL_CACHE, Case, Job
from lookm_cpp.benching.pairs import take_turns
from lookm_cpp.benching.sides import Answered, FullCache, Side, answer, native
from lookm_cpp.cache_types import read_and_kept

Emit = Callable[[dict[str, Any]], None]


def measure(job: Job, emit: Emit) -> None:
    """Every case of a job, each beside llama.cpp's own decode at the depth that was kept and at
    full depth.
    """
    with FullCache(job, FULL_CACHE, job.cells + job.answer_tokens - 1) as full:
        for case in job.cases:
            start = time.perf_counter()
            try:
                found = _case(job, case, full)
            except (
                ValueError,
                RuntimeError,
                MemoryError,
            ) as error:  # a type that the heads do not divide into, say
                emit(
                    {
                        "cache": case.cache,
                        "kv_ratio": case.kv_ratio,
                        "error": str(error) or type(error).__name__,
                    }
                )
            else:
                emit(found | {"seconds": time.perf_counter() - start})


def _case(job: Job, case: Case, full: FullCache) -> dict[str, Any]:
    ours, answered = answer(job, case, job.cells, full)
    with ours:
        depth = answered.stats["kept_cells"] + job.answer_tokens - 1
        full.begin()
        read, kept = read_and_kept(case.cache)
        if answered.stats["kept_cells"] < answered.stats["prompt_cells"] or read != kept:
            with native(job, case.cache, depth, answered.flash_attn, full) as beside:
                sides = {"ours": ours, "native": beside, "full": full}
                blocks = _decode(job, sides)
                native_cells = beside.session.stats["prompt_cells"]
        else:  # nothing was changed: it is llama.cpp's own cache
            blocks, native_cells = _decode(job, {"ours": ours, "full": full}), None
    return _record(job, case, answered, blocks) | {
        "depth": depth,
        "native_depth": native_cells,
        "full_depth": full.session.stats["prompt_cells"],
    }


def _decode(job: Job, sides: dict[str, Side]) -> dict[str, list[float]]:
    blocks = take_turns([side.step for side in sides.values()], job.n_blocks, job.block_tokens)
    return dict(zip(sides, blocks, strict=True))


def _record(
    job: Job, case: Case, answered: Answered, blocks: dict[str, list[float]]
) -> dict[str, Any]:
    return {
        "cells": job.cells,
        "cache": case.cache,
        "kv_ratio": case.kv_ratio,
        **asdict(answered),
        "seconds_per_token": blocks,
    }


def calibrate(job: Job, lengths: Mapping[str, Sequence[int]], emit: Emit) -> None:
    """How long prompts and tokens take, for each type of cache and length; what the model cannot
    have is passed by.
    """
    for cache, cells in lengths.items():
        for n in cells:
            start = time.perf_counter()
            try:
                side, answered = answer(job, Case(cache, 1.0), n)
            except (ValueError, RuntimeError):
                if cache == FULL_CACHE:
                    raise
                break
            side.session.close()
            emit(
                {
                    "cache": cache,
                    "cells": answered.stats["prompt_cells"],
                    "prompt": answered.first_token_seconds,
                    "token": (answered.end_to_end_seconds - answered.first_token_seconds)
                    / (job.answer_tokens - 1),
                    "opening": time.perf_counter() - start - answered.end_to_end_seconds,
                }
            )


def main() -> None:
    """Read the job and do it; what goes wrong is a line on stdout too."""

    def emit(found: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()

    given = json.load(sys.stdin)
    try:
        job = Job.of(given["job"])
        if given["calibrate"]:
            calibrate(job, given["calibrate"], emit)
        else:
            measure(job, emit)
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        emit({"failed": str(error) or type(error).__name__})


if __name__ == "__main__":
    main()
