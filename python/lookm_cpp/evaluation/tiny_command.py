"""The command ``lookm eval tiny``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from lookm_cpp.console import print_json
from lookm_cpp.evaluation.arms import BUDGETS, CACHES, known_methods, make_arms
from lookm_cpp.evaluation.options import EMBEDDED, Json, Mmproj, Model, Output, make_setup, numbers, progress_bar, words
from lookm_cpp.evaluation.records import Records
from lookm_cpp.evaluation.tiny import PLACES, TinyRun, run_tiny
from lookm_cpp.evaluation.tiny_report import rows_of, tables

N_CONTEXTS = 42
QUICK_CONTEXTS, QUICK_RATIOS = 3, "0.5,0.2"
QUICK_METHODS = "h2o,snapkv,text_prior_h2o,text_prior_pivot_merge"


def tiny(
    model: Model = EMBEDDED,
    mmproj: Mmproj = None,
    methods: Annotated[
        str | None,
        typer.Option("--methods", help="Names with commas; random and streaming_llm come along.  [default: all]"),
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option("--ratios", help="Shares of the full cache's bytes.  [default: 0.5,0.35,0.2,0.1,0.05]"),
    ] = None,
    caches: Annotated[str, typer.Option("--caches", help="Types of the K and V cache; f16 comes along.")] = ",".join(
        CACHES
    ),
    place: Annotated[
        str, typer.Option("--place", help="Compress after the whole prompt, before the question, or both.")
    ] = "both",
    contexts: Annotated[
        int | None,
        typer.Option(
            "--contexts",
            help="Contexts of 4, 8 and 16 pictures by turns; each has 5 or 6 questions.  "
            f"[default: {N_CONTEXTS}, with --quick {QUICK_CONTEXTS}]",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the contexts.")] = 0,
    output: Output = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look in under a minute: few contexts, methods and ratios.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Questions about the shipped held-out pictures, for the embedded model or one of its kind."""
    if place not in (*PLACES, "both"):
        raise ValueError(f"--place is {place!r}, expected after, before or both")
    n_contexts = contexts if contexts is not None else QUICK_CONTEXTS if quick else N_CONTEXTS
    if n_contexts < 1:
        raise ValueError(f"--contexts is {n_contexts}, expected at least 1")
    names = words(methods) or (words(QUICK_METHODS) if quick else known_methods())
    budgets = numbers(ratios or (QUICK_RATIOS if quick else ",".join(map(str, BUDGETS))), "--ratios")
    arms = make_arms(names, budgets, ["f16"] if quick else words(caches))
    run = TinyRun(make_setup(model, mmproj), arms, PLACES if place == "both" else (place,), n_contexts, seed)
    with Records(output, run.identity()) as records:
        with progress_bar("contexts") as progress:
            run_tiny(run, records, progress)
        rows = rows_of(records.all, arms, run.places, n_contexts)
    if as_json:
        print_json({**run.identity(), "contexts": n_contexts, "rows": [row.as_dict() for row in rows]})
        return
    console = Console(highlight=False)
    for table in tables(rows):
        console.print(table)
    console.print(
        f"{rows[0].prompts} prompts in each cell; + and -: better and worse than random cells of the same bytes, with "
        "95 % certainty. The first token of an answer comes from the full cache where compression follows the prompt."
    )
