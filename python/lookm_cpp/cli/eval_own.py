"""The command ``lookm eval own``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    fields_given,
    make_setup,
    progress_bar,
)
from lookm_cpp.cli.eval_tables import MIN_WIDTH
from lookm_cpp.cli.flags import MAX_ANSWER, Json, Mmproj, Model, with_flags
from lookm_cpp.compression import METHOD, PAPER_METHOD
from lookm_cpp.evaluation.arms import RANDOM, ratio_arms
from lookm_cpp.evaluation.own import OwnRow, OwnRun, rows_of, run_own, with_full_cache
from lookm_cpp.evaluation.own_prompts import read_prompts
from lookm_cpp.evaluation.records import Records
from lookm_cpp.evaluation.report import LEAST_CONTEXTS
from lookm_cpp.parsing import numbers, words
from lookm_cpp.sizes import format_bytes

SHORT_ANSWER = replace(MAX_ANSWER, default=64, section="")


@with_flags(answer=[SHORT_ANSWER], how=METHOD_FLAGS, opened=MODEL_FLAGS)
def own(
    prompts: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS.jsonl",
            help='Lines of {"prompt": TEXT, "images": [FILE, ...], "contexts": [TEXT, ...], '
            '"answer": TEXT}; all but prompt may be left out. Each <image> in a prompt stands for '
            "the next image. A relative path starts from the folder of this file.",
        ),
    ],
    *,
    model: Model,
    mmproj: Mmproj = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="NAME,...", help="Methods to compare.")
    ] = f"h2o,snapkv,{PAPER_METHOD},{METHOD},{RANDOM}",
    ratios: Annotated[
        str, typer.Option("--ratios", metavar="X,...", help="Fractions of the cells to keep.")
    ] = "0.5,0.2,0.1",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write every answer to this JSONL file. A run that was stopped continues.",
        ),
    ] = None,
    as_json: Json = False,
    answer: dict[str, Any],
    opened: dict[str, Any],
    how: dict[str, Any],
) -> None:
    """Measure what your own prompts lose on your own model.

    No right answers are needed: the compressed cache's predictions are compared with the full
    cache's along the full cache's answer. Without images in the prompts, no projector is needed.
    """
    if answer["max_tokens"] < 1:
        raise ValueError(f"--max-tokens is {answer['max_tokens']}, expected at least 1")
    given = fields_given(how, METHOD_FLAGS)
    arms = ratio_arms(words(methods), numbers(ratios, "--ratios"), ["f16"], given)
    asked = read_prompts(prompts)
    text_only = mmproj is None and not any(prompt.images for prompt in asked)
    setup = make_setup(model, mmproj, text_only=text_only, **opened)
    run = OwnRun(setup, with_full_cache(arms), asked, answer["max_tokens"], given)
    with Records(output, run.identity()) as records:
        with progress_bar("prompts") as progress:
            run_own(run, records, progress)
        rows = rows_of(run, records.all)
    if as_json:
        print_json({**run.identity(), "rows": [row.as_dict() for row in rows]})
        return
    console = Console(highlight=False)
    console.width = max(MIN_WIDTH, console.width)
    console.print(_table(rows))
    console.print(" ".join(_notes(rows[0])))


def _table(rows: Sequence[OwnRow]) -> Table:
    has_answers = any(row.with_answer for row in rows)
    table = Table(box=SIMPLE, pad_edge=False)
    titles = ("method", "ratio", "cells", "KV bytes", "KL divergence", "top-1", "same answer")
    for title in (*titles, "right") if has_answers else titles:
        table.add_column(title, justify="left" if title == "method" else "right")
    for row in rows:
        cells = [
            row.method,
            "" if row.ratio is None else f"{row.ratio:g}",
            f"{row.kept_share:.1%}",
            format_bytes(row.kv_bytes),
            _divergence(row),
            _share(row.top1_agreement),
            _share(row.same_answer),
        ]
        table.add_row(*cells, *([_share(row.right)] if has_answers else []))
    return table


def _divergence(row: OwnRow) -> str:
    found = row.kl_divergence
    if found is None:
        return "-"
    text = f"{found.mean:.3g}"
    if row.ratio is not None and row.measured >= LEAST_CONTEXTS:
        text += f" ({found.low:.3g} to {found.high:.3g})"
    return text


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _notes(row: OwnRow) -> Iterator[str]:
    yield f"{row.prompts} prompts. KL divergence from the full cache in nats"
    if row.measured >= LEAST_CONTEXTS:
        yield "(its 95 % interval over prompts)"
    else:
        yield f"(of fewer than {LEAST_CONTEXTS} prompts no intervals are given)"
    yield (
        "and top-1 agreement are means along the full cache's answers, whose first tokens do not "
        "count."
    )
    if row.measured < row.prompts:
        yield f"{row.prompts - row.measured} of these answers are empty and do not count."
    if row.with_answer:
        yield f"Right answers are given for {row.with_answer}."
