"""The command ``lookm bench``."""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lookm_cpp.bench import machine
from lookm_cpp.bench.models import runs_on_cpu
from lookm_cpp.bench.plots import draw_all
from lookm_cpp.bench.report import left_out, markdown, origin, tables
from lookm_cpp.bench.result_rows import rows_of
from lookm_cpp.bench.run_file import FILE, PAGE, as_json, new_folder, new_run, write
from lookm_cpp.bench.schedule import Task, run_tasks, schedule_run
from lookm_cpp.bench.settings import Settings, settings_of
from lookm_cpp.bench.workload import Case
from lookm_cpp.cli.bench_tables import rich_table, time_bar, wide_console
from lookm_cpp.cli.console import print_json
from lookm_cpp.cli.flags import (
    AUTO,
    COMPRESSION,
    OPENING,
    Json,
    Mmproj,
    with_flags,
    without,
)
from lookm_cpp.plotting import NO_PLOTS

NOT_TAKEN = ("chat_template", "n_ctx", "shrink", "max_pixels", "verbose", "kv_cells", "kv_memory")
"""Options that make no difference here: prompts have no template, contexts are as large as their
content, images are made for the run, logs are not shown, and lengths are what is measured."""
VARIED = ("type_k", "type_v", "kept_type_k", "kept_type_v")  # by --caches
RATIOS = ("kv_ratio", "important_ratio", "recent_ratio", *AUTO)  # by --ratios


@with_flags(
    how=without(COMPRESSION, *RATIOS),
    opened=without(OPENING, *NOT_TAKEN, *VARIED),
)
def bench(
    *,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE",
            help="Your GGUF file, or 'embedded', instead of --shapes.",
        ),
    ] = None,
    mmproj: Mmproj = None,
    text_only: Annotated[
        bool, typer.Option("--text-only", help="Use no projector; prompts are text.")
    ] = False,
    shapes: Annotated[
        str | None,
        typer.Option(
            "--shapes",
            metavar="NAME,...",
            help="7b, 3b, 0.5b: random weights.  [default: 7b,3b,0.5b,embedded]",
        ),
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(
            "--layers",
            metavar="N",
            help="Layers of each shape; 0: all.  [default: 4, with --quick 1]",
        ),
    ] = None,
    cells: Annotated[
        str | None,
        typer.Option(
            "--cells",
            metavar="N,...",
            help="Prompt lengths.  [default: 1k,2k,4k,8k,16k, with --quick 1k]",
        ),
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option(
            "--ratios",
            metavar="X,...",
            help="Fractions of the cells.  [default: 1,0.5,0.35,0.2,0.05, with --quick 1,0.2]",
        ),
    ] = None,
    caches: Annotated[
        str | None,
        typer.Option(
            "--caches",
            metavar="TYPE,...",
            help="Cache types to compress. READ:KEPT reads the prompt in one type and keeps "
            "cells in another. Full caches of f16, q8_0 and q4_0 are always measured.  "
            "[default: f16,q8_0]",
        ),
    ] = None,
    answer: Annotated[
        int, typer.Option("--answer", metavar="N", help="Tokens of the answer.")
    ] = 32,
    blocks: Annotated[
        int | None,
        typer.Option(
            "--blocks",
            metavar="N",
            help="Rounds of alternating decode.  [default: 16, with --quick 6]",
        ),
    ] = None,
    block_tokens: Annotated[
        int, typer.Option("--block-tokens", metavar="N", help="Tokens in a round.")
    ] = 4,
    image_size: Annotated[
        str, typer.Option("--image-size", metavar="WxH", help="Pixels of each image.")
    ] = "1024x768",
    bandwidth: Annotated[
        float | None,
        typer.Option(
            "--bandwidth",
            metavar="X",
            help="Memory bandwidth in GB/s.  [default: measured, on a CPU]",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            metavar="X",
            help="Leave out the longest measurements, until the others fit.",
        ),
    ] = None,
    model_dir: Annotated[
        Path | None,
        typer.Option(
            "--model-dir",
            metavar="FOLDER",
            help="Where to keep the models of random weights.  [default: nowhere]",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for the results.  [default: lookm-bench-DATE-TIME]",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look in under a minute.")] = False,
    as_json_: Json = False,
    opened: dict[str, Any],
    how: dict[str, Any],
) -> None:
    """Measure time and memory of compressed caches.

    They are compared with llama.cpp's full caches, quantized ones included. Another table has a
    second question about the same images and, with --image-ratio, one has prompts of which fewer
    cells are read.

    Writes bench.json (every timing), bench.md and, with matplotlib, plots.
    """
    chosen = settings_of(
        model=model,
        mmproj=mmproj,
        text_only=text_only,
        shapes=shapes,
        layers=layers,
        cells=cells,
        ratios=ratios,
        caches=caches,
        answer=answer,
        blocks=blocks,
        block_tokens=block_tokens,
        image_size=image_size,
        bandwidth=bandwidth,
        minutes=minutes,
        quick=quick,
        opened=opened,
        how=how,
    )
    folder = new_folder(output)
    with tempfile.TemporaryDirectory(prefix="lookm-bench-") as scratch:
        run = _measured(chosen, model_dir or Path(scratch), folder, timed=not quick)
    _show(run, folder, as_json_=as_json_)


def _measured(chosen: Settings, model_dir: Path, folder: Path, *, timed: bool) -> dict[str, Any]:
    start = time.monotonic()
    console = Console(stderr=True, highlight=False)
    run = new_run(shlex.join(["lookm", *sys.argv[1:]]), chosen.record)

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    warning = machine.busy_warning(run["machine"]["load"], run["machine"]["cores"])
    if warning:
        say(warning)
    on_cpu = runs_on_cpu(chosen.pattern.opened)
    run["bandwidth"] = chosen.bandwidth
    if run["bandwidth"] is None and on_cpu:
        run["bandwidth"] = machine.read_bandwidth(len(machine.CORES))
    bench_models = chosen.bench_models(model_dir)
    run["models"] = [bench_model.as_dict() for bench_model in bench_models]
    most = chosen.most_seconds
    timed = timed or most is not None
    tasks = schedule_run(
        bench_models, chosen.cells, chosen.pattern, run, say, timed=timed, most_seconds=most
    )
    with _bars(tasks, console) as advance:

        def found(task: Task, case: Case | None) -> None:
            run["seconds"] = time.monotonic() - start
            write(run, folder)
            advance(task, case)

        run_tasks(tasks, run, say, found)
    run["seconds"] = time.monotonic() - start
    write(run, folder)
    return run


@contextmanager
def _bars(tasks: Sequence[Task], console: Console) -> Iterator[Callable[[Task, Case | None], None]]:
    """A progress bar by estimated time; lines instead if the terminal cannot draw it."""
    drawn = console.is_terminal and not console.is_dumb_terminal
    with time_bar(console, transient=True, disable=not drawn) as bars:
        bar = bars.add_task(
            "", total=sum(task.case(case) for task in tasks for case in task.workload.cases)
        )

        def advance(task: Task, case: Case | None) -> None:
            bars.update(bar, description=task.label, advance=task.case(case) if case else 0)
            if case and not drawn:
                console.print(
                    f"{task.label}, {case.cache} at {100 * case.kv_ratio:g} %: measured",
                    markup=False,
                    soft_wrap=True,
                )

        yield advance


def _show(run: dict[str, Any], folder: Path, *, as_json_: bool) -> None:
    rows = rows_of(run)
    if not rows:
        raise RuntimeError(f"nothing was measured: {left_out(run)[-1]}")
    (folder / PAGE).write_text(markdown(run, rows), encoding="utf-8")
    try:
        plots = [path.name for path in draw_all(run, rows, folder)]
        drawn = ", ".join(plots)
    except ImportError:
        drawn = NO_PLOTS
    if as_json_:
        print_json(as_json(run, rows))
        return
    console = wide_console()
    for name, value in origin(run):
        console.print(f"{name:14} {value}", markup=False, soft_wrap=True)
    for table in tables(run, rows):
        console.print(rich_table(table))
    for line in left_out(run):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"In {folder}: {FILE}, {PAGE}, {drawn}.", markup=False, soft_wrap=True)
