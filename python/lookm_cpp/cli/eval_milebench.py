"""The command ``lookm eval milebench``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from lookm_cpp.cli.console import print_json
from lookm_cpp.cli.eval_options import (
    METHOD_FLAGS,
    MODEL_FLAGS,
    Output,
    fields_given,
    make_setup,
    progress_bar,
)
from lookm_cpp.cli.flags import MAX_ANSWER, Json, Mmproj, Model, with_flags
from lookm_cpp.compression import METHOD, PAPER_METHOD
from lookm_cpp.evaluation.arms import ratio_arms
from lookm_cpp.evaluation.milebench import MileBenchRow, MileBenchRun, rows_of, run_milebench
from lookm_cpp.evaluation.milebench_data import TASKS, Dataset, read_dataset
from lookm_cpp.evaluation.plots import MIB, draw_beside, milebench_points
from lookm_cpp.evaluation.records import Records
from lookm_cpp.parsing import numbers, words
from lookm_cpp.sizes import format_bytes


@with_flags(answer=[MAX_ANSWER], how=METHOD_FLAGS, opened=MODEL_FLAGS)
def milebench(
    *,
    data: Annotated[
        Path, typer.Option("--data", metavar="FOLDER", help="Folder that holds NAME/NAME.json.")
    ],
    model: Model,
    datasets: Annotated[
        str | None,
        typer.Option(
            "--datasets", metavar="NAME,...", help="Data sets.  [default: all in the folder]"
        ),
    ] = None,
    mmproj: Mmproj = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="NAME,...", help="Methods to compare.")
    ] = f"origin,h2o,snapkv,{PAPER_METHOD},{METHOD}",
    ratios: Annotated[
        str, typer.Option("--ratios", metavar="X,...", help="Fractions of the cells to keep.")
    ] = "1.0,0.5,0.2,0.05",
    caches: Annotated[
        str,
        typer.Option(
            "--caches", metavar="TYPE,...", help="Types of the cache: TYPE, K+V or READ:KEPT."
        ),
    ] = "f16",
    adversarial: Annotated[
        bool, typer.Option("--adversarial", help="Read the adversarial variant, NAME-adv.json.")
    ] = False,
    combined: Annotated[
        int | None,
        typer.Option(
            "--combined", metavar="N", help="Read the combined-image variant, with N pictures."
        ),
    ] = None,
    max_context: Annotated[
        int,
        typer.Option(
            "--max-context",
            metavar="N",
            help="Maximum tokens of a prompt; its beginning is cut off. 0: what --n-ctx leaves.",
        ),
    ] = 0,
    image_tokens: Annotated[
        int,
        typer.Option(
            "--image-tokens",
            metavar="N",
            help="Tokens that a picture counts as. 0: as many as the first picture has.",
        ),
    ] = 0,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", help="Samples of each data set; 0: all.")
    ] = 0,
    output: Output = None,
    as_json: Json = False,
    answer: dict[str, Any],
    opened: dict[str, Any],
    how: dict[str, Any],
) -> None:
    """Ask MileBench's questions, with its metrics.

    You need a copy of its data.
    """
    for option, value, least in (
        ("--max-tokens", answer["max_tokens"], 1),
        ("--max-context", max_context, 0),
        ("--image-tokens", image_tokens, 0),
        ("--limit", limit, 0),
        ("--combined", combined if combined is not None else 1, 1),
    ):
        if value < least:
            raise ValueError(f"{option} is {value}, expected at least {least}")
    if adversarial and combined is not None:
        raise ValueError("--adversarial is given with --combined, expected one or the other")
    given = fields_given(how, METHOD_FLAGS)
    arms = ratio_arms(words(methods), numbers(ratios, "--ratios"), words(caches), given)
    names = words(datasets) or [
        name for group in TASKS.values() for name in group if (data / name).is_dir()
    ]
    found = [
        _limited(read_dataset(data, name, adversarial=adversarial, combined=combined), limit)
        for name in names
    ]
    if not any(dataset.samples for dataset in found):
        raise ValueError(
            f"--data is {str(data)!r} and holds no sample, "
            "expected folders of MileBench's data sets"
        )
    setup = make_setup(model, mmproj, **opened)
    run = MileBenchRun(
        setup,
        arms,
        found,
        combined is not None,
        answer["max_tokens"],
        max_context,
        image_tokens,
        given,
    )
    variant = "adversarial" if adversarial else f"combined {combined}" if combined else "plain"
    with Records(output, run.identity(variant)) as records:
        with progress_bar("samples") as progress:
            run_milebench(run, records, progress)
        rows = rows_of(run, records.all)
    if as_json:
        print_json({**run.identity(variant), "rows": [row.as_dict() for row in rows]})
    else:
        Console(highlight=False).print(_table(rows))
    draw_beside(output, milebench_points([row.as_dict() for row in rows]), MIB)


def _limited(dataset: Dataset, limit: int) -> Dataset:
    return replace(dataset, samples=dataset.samples[:limit]) if limit else dataset


def _table(rows: list[MileBenchRow]) -> Table:
    table = Table(
        box=SIMPLE,
        pad_edge=False,
        title="Scores of 100; cells kept and KV bytes as they were, means",
    )
    table.title_justify = "left"
    for title in ("method", "ratio", "cells", "KV bytes"):
        table.add_column(title, justify="left" if title == "method" else "right")
    for title in (*rows[0].datasets, *rows[0].tasks):
        table.add_column(title, justify="right", overflow="fold")
    for row in rows:
        name = row.arm.name if row.arm.cache == "f16" else f"{row.arm.name}, {row.arm.cache}"
        ratio = "" if row.arm.budget is None else f"{row.arm.budget:g}"
        scores = [f"{value:.2f}" for value in (*row.datasets.values(), *row.tasks.values())]
        table.add_row(name, ratio, f"{row.kept_share:.1%}", format_bytes(row.kv_bytes), *scores)
    return table
