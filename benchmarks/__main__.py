"""Measures the figures of ``benchmarks/README.md``: ``python -m benchmarks``, or ``make bench``."""

from __future__ import annotations

import shlex
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from lookm_cpp.bench import machine
from lookm_cpp.bench.machine import CORES
from lookm_cpp.cli.bench_tables import time_bar, wide_console
from rich.console import Console

from benchmarks.commit import commit
from benchmarks.cost_record import Results
from benchmarks.cost_report import show, update_readme
from benchmarks.cost_suite import Settings, run

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"
DEFAULT = Settings()
QUICK = {"cells": (512,), "ratios": (1.0, 0.2), "layers": 2, "flash_layers": 1, "n_blocks": 4}


def measure(settings: Settings, console: Console) -> Results:
    """Measure everything, with a bar whose remaining time is estimated from cells and layers."""
    results = Results(
        machine=machine.describe(),
        versions=machine.versions(),
        command=shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        commit=commit(HERE),
        date=f"{datetime.now(timezone.utc):%Y-%m-%d}",
        settings=settings.as_dict(),
        read_bandwidth=machine.read_bandwidth(settings.n_threads),
    )
    warning = machine.busy_warning(results.machine["load"], settings.n_threads)
    if warning:
        console.print(f"[yellow]{warning}[/]")
    start = time.monotonic()
    with time_bar(console) as bars:
        task = bars.add_task("", total=settings.cells_to_read)

        def advance(step: str, n_cells: int) -> None:
            if step and not console.is_terminal:
                console.print(f"{time.monotonic() - start:6.0f} s  {step}", highlight=False)
            bars.update(task, advance=n_cells, description=step or None)

        run(settings, BUILD, results, advance)
    results.seconds = time.monotonic() - start
    # the better of before and after: other work on the machine can only make it smaller
    results.read_bandwidth = max(results.read_bandwidth, machine.read_bandwidth(settings.n_threads))
    return results


def main(
    quick: Annotated[
        bool, typer.Option(help="2 layers, 512 cells, ratios 1 and 0.2: does it run?")
    ] = False,
    report: Annotated[
        bool, typer.Option(help="Measure nothing; show results.json and rewrite the README.")
    ] = False,
    cells: Annotated[
        list[int] | None, typer.Option(min=64, help="Prompt length in cells; repeat.")
    ] = None,
    ratio: Annotated[
        list[float] | None, typer.Option(min=0.05, max=1.0, help="kv_ratio; repeat.")
    ] = None,
    layers: Annotated[
        int, typer.Option(min=1, help="Layers of the model for decode.")
    ] = DEFAULT.layers,
    flash_attn: Annotated[bool, typer.Option(help="Of decode.")] = DEFAULT.flash_attn,
    flash_layers: Annotated[
        int, typer.Option(min=1, help="Layers for flash on and off.")
    ] = DEFAULT.flash_layers,
    blocks: Annotated[
        int, typer.Option(min=2, help="Pairs of blocks a decode.")
    ] = DEFAULT.n_blocks,
    threads: Annotated[int, typer.Option(min=0, help="0: one a core.")] = 0,
    output: Annotated[
        Path, typer.Option(help="Folder of results.json and README.md.", show_default="benchmarks")
    ] = HERE,
) -> None:
    """Measure decode speed, cost and peak memory; write results.json and README.md.

    Takes about 10 minutes on two cores. A quick run is shown and goes to the build folder only.
    """
    console = Console(stderr=True)
    raw = BUILD / "quick.json" if quick else output / "results.json"
    if not report:
        settings = Settings(
            cells=tuple(cells or DEFAULT.cells),
            ratios=tuple(ratio or DEFAULT.ratios),
            layers=layers,
            flash_attn=flash_attn,
            flash_layers=flash_layers,
            n_blocks=blocks,
            n_threads=threads or len(CORES),
        )
        measure(settings.replace(**QUICK) if quick else settings, console).write(raw)
    results = Results.read(raw)
    show(results, wide_console())
    if not quick:
        update_readme(output / "README.md", results)


if __name__ == "__main__":
    typer.run(main)
