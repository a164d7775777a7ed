"""Measures how cost grows with the length of the prompt: ``python -m benchmarks.growth``.

At n = 512 ... 16k cells, one layer of LLaVA-1.5-7B's shape reads a prompt in three ways: plain,
compressed by the paper's method (scores from all queries, evicted rows merged into their nearest
kept ones), and compressed by ``lookm_plus`` (scores from the question, nothing merged), each with
flash attention on and off. Scoring and compression are compared with the plain prefill. Weights
cost n, attention n^2, and so do scores and matching, so all of this grows like prefill's attention.
Each figure comes with its floor, see ``floors``.

The result is ``benchmarks/growth.json``, which ``python docs/growth.py`` draws. This takes about 15
minutes on two idle cores, most of it at 16k. ``growth-avx2.json`` comes from a build for AVX2:
``CMAKE_ARGS=-DGGML_NATIVE=OFF make setup``, then ``OPENBLAS_CORETYPE=Haswell`` in the environment,
so that the floors are those of AVX2.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from lookm_cpp.bench import machine
from lookm_cpp.bench.machine import CORES
from lookm_cpp.compression import PAPER_METHOD

from benchmarks.commit import commit
from benchmarks.context_timing import (
    N_UBATCH,
    PLUS,
    compressed_prefill,
    context,
    load,
    n_question,
    plain_prefill,
)
from benchmarks.models import llava_shape

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"
CELLS = (512, 1024, 2048, 4096, 8192, 16384)
RATIO = 0.2
METHODS = (PAPER_METHOD, PLUS)


def floors(
    n: int, n_keep: int, *, flash_attn: bool, macs: float, bandwidth: float
) -> dict[str, dict[str, float]]:
    """Seconds that the arithmetic alone takes.

    ``macs`` are f32 multiply-adds per second, ``bandwidth`` is in bytes per second.

    Scores: with flash attention on, QK^T of the scored queries with the cells that they see is
    computed once more. With flash attention off, the probabilities exist already and are read once,
    in f32. Compression: K and V of kept cells are read and written once, in f16. If evicted cells
    are merged, their K and V are read as well, and kept and evicted keys are multiplied.
    """
    shape = llava_shape(1)
    width = shape.n_embd  # heads times head size, the same for K and V
    pairs = {PAPER_METHOD: n * n / 2, PLUS: n_question(n) * n}
    evicted = {PAPER_METHOD: n - n_keep, PLUS: 0}
    return {
        method: {
            "score": pairs[method] * (width / macs if flash_attn else shape.n_head * 4 / bandwidth),
            "compress": n_keep * evicted[method] * width / macs
            + 2 * (2 * n_keep + evicted[method]) * width * 2 / bandwidth,
        }
        for method in METHODS
    }


def measure(
    cells: list[int], rounds: int, n_threads: int, macs: float, bandwidth: float
) -> list[dict[str, Any]]:
    """Seconds, medians over rounds; scoring and compression by their own clocks."""
    model = load(BUILD, 1)
    points = []
    for n in cells:
        for flash in (True, False):
            ctx = context(model, n, flash_attn=flash, n_threads=n_threads)
            prefills = []
            scores: dict[str, list[float]] = {method: [] for method in METHODS}
            compressions: dict[str, list[float]] = {method: [] for method in METHODS}
            for _ in range(rounds):
                prefills.append(plain_prefill(ctx, n, flash_attn=flash).seconds)
                for method in METHODS:
                    scored, compression = compressed_prefill(
                        ctx, n, RATIO, flash_attn=flash, method=method
                    )
                    scores[method].append(scored.score_seconds)
                    compressions[method].append(compression.seconds)
            prefill = median(prefills)
            floor = floors(n, compression.n_keep, flash_attn=flash, macs=macs, bandwidth=bandwidth)
            times = {
                method: {
                    "score": median(scores[method]),
                    "compress": median(compressions[method]),
                    "floor": sum(floor[method].values()),
                }
                for method in METHODS
            }
            points.append(
                {
                    "cells": n,
                    "flash_attn": flash,
                    "prefill": prefill,
                    "methods": times,
                    "floors": floor,
                }
            )
            typer.echo(f"{n:6} cells, flash {'on ' if flash else 'off'}: prefill {prefill:7.3f} s")
            for method, of in times.items():
                shares = {name: seconds / prefill for name, seconds in of.items()}
                parts = f"scores {shares['score']:6.2%}, compression {shares['compress']:6.2%}"
                typer.echo(f"{'':8}{method:24}{parts} (floor {shares['floor']:6.2%})")
    return points


def main(
    cells: Annotated[
        list[int] | None, typer.Option(min=64, max=16384, help="Prompt length; repeat.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs a point.")] = 3,
    threads: Annotated[int, typer.Option(min=0, help="0: one a core.")] = 0,
    quick: Annotated[
        bool, typer.Option(help="512 and 1024 cells once, into the build folder.")
    ] = False,
    output: Annotated[Path, typer.Option(help="JSON file to write.")] = HERE / "growth.json",
) -> None:
    """Measure how the cost grows with the prompt, and write the figures as JSON."""
    n_threads = threads or len(CORES)
    run: dict[str, Any] = {
        "machine": machine.describe(),
        "commit": commit(HERE),
        "n_threads": n_threads,
    }
    run |= {
        "f32_rate": machine.f32_rate(n_threads),
        "read_bandwidth": machine.read_bandwidth(n_threads),
    }
    points = measure(
        [512, 1024] if quick else list(cells or CELLS),
        1 if quick else rounds,
        n_threads,
        run["f32_rate"],
        run["read_bandwidth"],
    )
    raw = BUILD / "growth.json" if quick else output
    raw.write_text(
        json.dumps(run | {"n_ubatch": N_UBATCH, "kv_ratio": RATIO, "points": points}, indent=1)
        + "\n"
    )


if __name__ == "__main__":
    typer.run(main)
