"""The command ``lookm eval passkey``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lookm_cpp import embedded
from lookm_cpp.cli.eval_options import (
    EQUAL_BYTES_FLAGS,
    MODEL_FLAGS,
    Output,
    Place,
    fields_given,
    make_setup,
    progress_bar,
)
from lookm_cpp.cli.eval_tables import print_report
from lookm_cpp.cli.flags import Json, Model, with_flags
from lookm_cpp.compression import METHOD, PAPER_METHOD
from lookm_cpp.evaluation.arms import make_arms
from lookm_cpp.evaluation.passkey_prompts import embedded_contexts, text_contexts
from lookm_cpp.evaluation.pictures import load_pictures
from lookm_cpp.evaluation.plots import SHARE, draw_beside, suite_points
from lookm_cpp.evaluation.records import Records
from lookm_cpp.evaluation.report import rows_of
from lookm_cpp.evaluation.suite import SuiteRun, places_of, run_suite
from lookm_cpp.parsing import numbers, words

MAX_TOKENS = 64
FILLER = 250


@with_flags(how=EQUAL_BYTES_FLAGS, opened=MODEL_FLAGS)
def passkey(
    *,
    model: Model = embedded.NAME,
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            metavar="NAME,...",
            help="Methods to compare; random and streaming_llm are always among them.",
        ),
    ] = f"h2o,snapkv,snapkv_question,pivot_merge,text_prior_h2o,{PAPER_METHOD},{METHOD}",
    ratios: Annotated[
        str, typer.Option("--ratios", metavar="X,...", help="Fractions of the full cache's bytes.")
    ] = "0.5,0.2,0.1",
    caches: Annotated[
        str,
        typer.Option(
            "--caches",
            metavar="TYPE,...",
            help="Types of the K and V cache, READ:KEPT for two; f16 is always among them.",
        ),
    ] = "f16",
    place: Place = "both",
    filler: Annotated[
        int | None,
        typer.Option(
            "--filler",
            metavar="N",
            help="Number of filler sentences, about ten tokens each; not for 'embedded'.  "
            f"[default: {FILLER}]",
        ),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(
            "--trials",
            metavar="N",
            help="How many numbers to hide, each at five depths in the text. 'embedded' gets "
            "lists of 1, 3 and 10 people's codes instead.",
        ),
    ] = 10,
    seed: Annotated[
        int, typer.Option("--seed", "-s", metavar="N", help="Random seed of the numbers.")
    ] = 0,
    output: Output = None,
    as_json: Json = False,
    opened: dict[str, Any],
    how: dict[str, Any],
) -> None:
    """Hide a number in a long text and ask for it.

    All of the text may be evicted. For language models without images, as
    llama.cpp's example of this name.
    """
    for option, value, least in (("--filler", filler, 0), ("--trials", trials, 1)):
        if value is not None and value < least:
            raise ValueError(f"{option} is {value}, expected at least {least}")
    if model == embedded.NAME and filler is not None:
        raise ValueError(
            f"--filler is {filler}, expected none for the embedded model, which knows no such text"
        )
    given = fields_given(how, EQUAL_BYTES_FLAGS)
    arms = make_arms(words(methods), numbers(ratios, "--ratios"), words(caches), given)
    setup = make_setup(model, text_only=True, **opened)
    if model == embedded.NAME:
        asked, name = embedded_contexts(load_pictures(), trials, seed), "passkey embedded"
    else:
        n_filler = FILLER if filler is None else filler
        asked, name = text_contexts(n_filler, trials, seed), f"passkey {n_filler}"
    run = SuiteRun(name, setup, arms, places_of(place), asked, seed, MAX_TOKENS, given)
    with Records(output, run.identity()) as records:
        with progress_bar("prompts") as progress:
            run_suite(run, records, progress)
        rows = rows_of(run, records.all)
    print_report(run, rows, as_json=as_json)
    draw_beside(output, suite_points([row.as_dict() for row in rows]), SHARE)
