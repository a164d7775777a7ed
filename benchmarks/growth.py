"""How the cost of scoring and compression grows with the prompt: ``python -m benchmarks.growth``.

At n = 512 ... 16k cells one layer of LLaVA-1.5-7B's shape reads a prompt plain, scored by all queries (as LOOK-M does)
and scored by the question's alone (``scorer="window"``), with flash attention on and off; the figure sets scoring and
compression beside that prefill. Weights cost n, attention n^2, and so do scores and matching, so all of it grows as
prefill's attention grows. Beside each stands its floor, see ``floors``.

Writes ``benchmarks/growth.json``, which ``python docs/growth.py`` draws; about 15 minutes on two idle cores, most of it
at 16k.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from lookm_cpp.benching import machine
from lookm_cpp.benching.machine import CORES

from benchmarks.commit import commit
from benchmarks.measure import N_UBATCH, compressed_prefill, context, load, n_question, plain_prefill
from benchmarks.models import llava_shape

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"
CELLS = (512, 1024, 2048, 4096, 8192, 16384)
RATIO = 0.2
SCORERS = ("cumulative", "window")


def floors(n: int, n_keep: int, *, flash_attn: bool, macs: float, bandwidth: float) -> dict[str, float]:
    """Seconds that the arithmetic alone takes at ``macs`` f32 multiply-adds and ``bandwidth`` bytes a second.

    Scores: with flash attention on, QK^T of the scored queries with the cells that they see, once more; with it off,
    the probabilities are there and are read once, f32. Compression: the products of kept and evicted keys, and K and V
    read and what is kept written once, f16.
    """
    shape = llava_shape(1)
    width = shape.n_embd  # heads times head size; K and V have as many
    pairs = {"cumulative": n * n / 2, "window": n_question(n) * n}
    score = {s: p * width / macs if flash_attn else p * shape.n_head * 4 / bandwidth for s, p in pairs.items()}
    match = n_keep * (n - n_keep) * width / macs
    move = 2 * (n + n_keep) * width * 2 / bandwidth
    return {f"{s}_floor": seconds for s, seconds in score.items()} | {"compress_floor": match + move}


def measure(cells: list[int], rounds: int, n_threads: int, macs: float, bandwidth: float) -> list[dict[str, Any]]:
    """Medians over rounds, seconds; scoring and compression by their own clocks."""
    model = load(BUILD, 1)
    points = []
    for n in cells:
        for flash in (True, False):
            ctx = context(model, n, flash_attn=flash, n_threads=n_threads)
            prefill, compressing = [], []
            scoring: dict[str, list[float]] = {s: [] for s in SCORERS}
            for _ in range(rounds):
                prefill.append(plain_prefill(ctx, n, flash_attn=flash).seconds)
                for scorer in SCORERS:
                    scored, compression = compressed_prefill(ctx, n, RATIO, flash_attn=flash, scorer=scorer)
                    scoring[scorer].append(scored.score_seconds)
                    compressing.append(compression.seconds)
            times = {"prefill": median(prefill), "compress": median(compressing)}
            times |= {s: median(seconds) for s, seconds in scoring.items()}
            times |= floors(n, compression.n_keep, flash_attn=flash, macs=macs, bandwidth=bandwidth)
            points.append({"cells": n, "flash_attn": flash} | {name: round(s, 6) for name, s in times.items()})
            share = {name: s / times["prefill"] for name, s in times.items()}
            typer.echo(
                f"{n:6} cells, flash {'on ' if flash else 'off'}: prefill {times['prefill']:7.3f} s; "
                + "; ".join(f"{s} scores {share[s]:6.2%} (floor {share[s + '_floor']:6.2%})" for s in SCORERS)
                + f"; compression {share['compress']:6.2%} (floor {share['compress_floor']:6.2%})"
            )
    return points


def main(
    cells: Annotated[list[int] | None, typer.Option(min=64, max=16384, help="Prompt length; repeat.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs a point.")] = 3,
    threads: Annotated[int, typer.Option(min=0, help="0: one a core.")] = 0,
    quick: Annotated[bool, typer.Option(help="512 and 1024 cells once, into the build folder.")] = False,
) -> None:
    """Measure and write."""
    n_threads = threads or len(CORES)
    run: dict[str, Any] = {"machine": machine.describe(), "commit": commit(HERE), "n_threads": n_threads}
    run |= {"f32_rate": machine.f32_rate(n_threads), "read_bandwidth": machine.read_bandwidth(n_threads)}
    points = measure(
        [512, 1024] if quick else list(cells or CELLS),
        1 if quick else rounds,
        n_threads,
        run["f32_rate"],
        run["read_bandwidth"],
    )
    raw = (BUILD if quick else HERE) / "growth.json"
    raw.write_text(json.dumps(run | {"n_ubatch": N_UBATCH, "kv_ratio": RATIO, "points": points}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
