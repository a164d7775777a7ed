"""The worker process: a workload as JSON from stdin, records as lines of JSON to stdout.

Each model and length has a process of its own. So memory figures stay apart, and if the system
kills a process because memory runs out, the results of the others are safe.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lookm_cpp.bench.alternation import alternate
from lookm_cpp.bench.contenders import (
    Answered,
    Contender,
    FullCache,
    answer,
    fewer_cells,
    native,
    second_question,
)
from lookm_cpp.bench.workload import FULL_CACHE, Case, Workload
from lookm_cpp.cache_types import read_and_kept

Emit = Callable[[dict[str, Any]], None]


def measure(workload: Workload, emit: Emit) -> None:
    """Measure every case, compared with llama.cpp's decode at the kept and at the full depth."""
    with FullCache(workload, FULL_CACHE, workload.cells + workload.answer_tokens - 1) as full:
        for case in workload.cases:
            start = time.perf_counter()
            try:
                found = _case(workload, case, full)
            except (ValueError, RuntimeError, MemoryError) as error:
                # for example, a cache type whose blocks do not fit the heads
                message = str(error) or type(error).__name__
                emit({"cache": case.cache, "kv_ratio": case.kv_ratio, "error": message})
            else:
                emit(found | {"seconds": time.perf_counter() - start})
        emit({"second_question": second_question(workload, full)})
        if workload.prunes:
            emit({"fewer_cells": fewer_cells(workload, full)})


def _case(workload: Workload, case: Case, full: FullCache) -> dict[str, Any]:
    ours, answered = answer(workload, case, workload.cells, full)
    with ours:
        depth = answered.stats["kept_cells"] + workload.answer_tokens - 1
        full.begin()
        read, kept = read_and_kept(case.cache)
        if answered.stats["kept_cells"] < answered.stats["prompt_cells"] or read != kept:
            with native(workload, case.cache, depth, answered.flash_attn, full) as theirs:
                blocks = _decode(workload, {"ours": ours, "native": theirs, "full": full})
                native_cells = theirs.session.stats["prompt_cells"]
        else:  # nothing was compressed: it is llama.cpp's own cache
            blocks, native_cells = _decode(workload, {"ours": ours, "full": full}), None
    return _record(workload, case, answered, blocks) | {
        "depth": depth,
        "native_depth": native_cells,
        "full_depth": full.session.stats["prompt_cells"],
    }


def _decode(workload: Workload, contenders: dict[str, Contender]) -> dict[str, list[float]]:
    steps = [contender.step for contender in contenders.values()]
    blocks = alternate(steps, workload.n_blocks, workload.block_tokens)
    return dict(zip(contenders, blocks, strict=True))


def _record(
    workload: Workload, case: Case, answered: Answered, blocks: dict[str, list[float]]
) -> dict[str, Any]:
    return {
        "cells": workload.cells,
        "cache": case.cache,
        "kv_ratio": case.kv_ratio,
        **asdict(answered),
        "seconds_per_token": blocks,
    }


def calibrate(workload: Workload, lengths: Mapping[str, Sequence[int]], emit: Emit) -> None:
    """Time prompts and tokens for each cache type and length.

    Cache types that the model cannot have are skipped.
    """
    for cache, cells in lengths.items():
        for n in cells:
            start = time.perf_counter()
            try:
                contender, answered = answer(workload, Case(cache, 1.0), n)
            except (ValueError, RuntimeError):
                if cache == FULL_CACHE:
                    raise
                break
            contender.session.close()
            emit(
                {
                    "cache": cache,
                    "cells": answered.stats["prompt_cells"],
                    "prompt": answered.first_token_seconds,
                    "token": (answered.end_to_end_seconds - answered.first_token_seconds)
                    / (workload.answer_tokens - 1),
                    "opening": time.perf_counter() - start - answered.end_to_end_seconds,
                }
            )


def main() -> None:
    """Measure the workload from stdin; an error is written to stdout as well."""

    def emit(found: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()

    given = json.load(sys.stdin)
    try:
        workload = Workload.of(given["workload"])
        if given["calibrate"]:
            calibrate(workload, given["calibrate"], emit)
        else:
            measure(workload, emit)
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        emit({"failed": str(error) or type(error).__name__})


if __name__ == "__main__":
    main()
