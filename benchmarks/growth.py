"""How the cost of scoring and compression grows with the prompt: ``python -m benchmarks.growth``.

At n = 512 ... 16k cells one layer of LLaVA-1.5-7B's shape reads a prompt plain and scored, with flash attention on and
off; the figure sets scoring and compression beside that prefill. Weights cost n, attention n^2, and so do scores (one
more QK^T with flash attention on, the columns of what exists with it off) and matching (kept times evicted cells).
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
from benchmarks.measure import N_UBATCH, compressed_prefill, context, load, plain_prefill

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"
CELLS = (512, 1024, 2048, 4096, 8192, 16384)
RATIO = 0.2


def measure(cells: list[int], rounds: int, n_threads: int) -> list[dict[str, Any]]:
    """Medians over rounds, seconds; scoring and compression by their own clocks."""
    model = load(BUILD, 1)
    points = []
    for n in cells:
        for flash in (True, False):
            ctx = context(model, n, flash_attn=flash, n_threads=n_threads)
            runs = []
            for _ in range(rounds):
                plain = plain_prefill(ctx, n, flash_attn=flash)
                scored, compression = compressed_prefill(ctx, n, RATIO, flash_attn=flash)
                runs.append((plain.seconds, scored.score_seconds, compression.seconds))
            prefill, scoring, compressing = (median(column) for column in zip(*runs, strict=True))
            point = {"cells": n, "flash_attn": flash, "prefill": prefill, "score": scoring, "compress": compressing}
            points.append({k: round(v, 5) if isinstance(v, float) else v for k, v in point.items()})
            typer.echo(
                f"{n:6} cells, flash {'on ' if flash else 'off'}: prefill {prefill:7.3f} s, scoring "
                f"{scoring / prefill:5.1%}, compression {compressing / prefill:5.1%}"
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
    points = measure([512, 1024] if quick else list(cells or CELLS), 1 if quick else rounds, n_threads)
    run = {"machine": machine.describe(), "commit": commit(HERE), "n_threads": n_threads, "n_ubatch": N_UBATCH}
    raw = (BUILD if quick else HERE) / "growth.json"
    raw.write_text(json.dumps(run | {"kv_ratio": RATIO, "points": points}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
