"""The command ``lookm eval tiny``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lookm_cpp import embedded
from lookm_cpp.cli.eval_options import (
    EQUAL_BYTES_FLAGS,
    METHODS_HELP,
    MODEL_FLAGS,
    RATIOS_HELP,
    Output,
    Place,
    Seed,
    fields_given,
    make_setup,
)
from lookm_cpp.cli.eval_tables import run_and_report
from lookm_cpp.cli.flags import Json, Mmproj, Model, with_flags
from lookm_cpp.compression import METHOD, PAPER_METHOD
from lookm_cpp.evaluation.arms import BUDGETS, CACHES, known_methods, make_arms
from lookm_cpp.evaluation.pictures import load_pictures
from lookm_cpp.evaluation.suite import SuiteRun, places_of
from lookm_cpp.evaluation.tiny_prompts import make_context
from lookm_cpp.parsing import numbers, words

N_CONTEXTS = 42
MAX_TOKENS = 160  # a question and the longest right answer take 90
QUICK_CONTEXTS, QUICK_RATIOS = 3, "0.5,0.2"
QUICK_METHODS = f"h2o,snapkv,text_prior_h2o,{PAPER_METHOD},{METHOD}"


@with_flags(how=EQUAL_BYTES_FLAGS, opened=MODEL_FLAGS)
def tiny(
    *,
    model: Model = embedded.NAME,
    mmproj: Mmproj = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="NAME,...",
            help=f"{METHODS_HELP}  [default: all]",
        ),
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option(
            "--ratios",
            metavar="X,...",
            help=f"{RATIOS_HELP}  [default: 0.5,0.35,0.2,0.1,0.05]",
        ),
    ] = None,
    caches: Annotated[
        str | None,
        typer.Option(
            "--caches",
            metavar="TYPE,...",
            help="Types of the cache: TYPE, K+V or READ:KEPT; f16 is always among them.  "
            f"[default: {','.join(CACHES)}, with --quick f16]",
        ),
    ] = None,
    place: Place = "both",
    contexts: Annotated[
        int | None,
        typer.Option(
            "--contexts",
            metavar="N",
            help="Number of prompts, of 4, 8 and 16 pictures in turn, each with 5 or 6 questions.  "
            f"[default: {N_CONTEXTS}, with --quick {QUICK_CONTEXTS}]",
        ),
    ] = None,
    seed: Seed = 0,
    output: Output = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A first look in under a minute: few contexts, methods and ratios."
        ),
    ] = False,
    as_json: Json = False,
    opened: dict[str, Any],
    how: dict[str, Any],
) -> None:
    """Ask questions about the shipped pictures.

    For the embedded model, or one that was trained in the same way.
    """
    n_contexts = contexts if contexts is not None else QUICK_CONTEXTS if quick else N_CONTEXTS
    if n_contexts < 1:
        raise ValueError(f"--contexts is {n_contexts}, expected at least 1")
    names = words(methods) or (words(QUICK_METHODS) if quick else known_methods())
    budgets = numbers(
        ratios or (QUICK_RATIOS if quick else ",".join(map(str, BUDGETS))), "--ratios"
    )
    given = fields_given(how, EQUAL_BYTES_FLAGS)
    arms = make_arms(names, budgets, words(caches) or (["f16"] if quick else CACHES), given)
    pool = load_pictures()
    asked = [make_context(pool, number, seed) for number in range(n_contexts)]
    run = SuiteRun(
        "tiny",
        make_setup(model, mmproj, **opened),
        arms,
        places_of(place),
        asked,
        seed,
        MAX_TOKENS,
        given,
    )
    run_and_report(run, output, as_json=as_json)
