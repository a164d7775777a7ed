"""The command ``lookm eval passkey``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from lookm_cpp import _core, embedded
from lookm_cpp.cli.eval_options import (
    EQUAL_BYTES_FLAGS,
    MODEL_FLAGS,
    Caches,
    Methods,
    Output,
    Place,
    Ratios,
    fields_given,
    make_setup,
)
from lookm_cpp.cli.eval_tables import run_and_report
from lookm_cpp.cli.flags import Json, Model, with_flags
from lookm_cpp.compression import METHOD, PAPER_METHOD
from lookm_cpp.evaluation.arms import make_arms
from lookm_cpp.evaluation.lab import Setup
from lookm_cpp.evaluation.passkey_prompts import embedded_contexts, sized_contexts, text_contexts
from lookm_cpp.evaluation.pictures import load_pictures
from lookm_cpp.evaluation.suite import Context, SuiteRun, places_of
from lookm_cpp.parsing import numbers, whole_numbers, words

MAX_TOKENS = 64
FILLER = 250


@with_flags(how=EQUAL_BYTES_FLAGS, opened=MODEL_FLAGS)
def passkey(
    *,
    model: Model = embedded.NAME,
    methods: Methods = (
        f"h2o,snapkv,snapkv_question,pivot_merge,text_prior_h2o,{PAPER_METHOD},{METHOD}"
    ),
    ratios: Ratios = "0.5,0.2,0.1",
    caches: Caches = "f16",
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
    cells: Annotated[
        str | None,
        typer.Option(
            "--cells",
            metavar="N,...",
            help="Lengths of the text in the model's tokens instead, such as 1000,2000,4000,8000: "
            "each number once in each length, at another depth each time. See --n-ctx.",
        ),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(
            "--trials",
            metavar="N",
            help="How many numbers to hide, each at five depths in the text, or with --cells at "
            "one. 'embedded' gets lists of 1, 3 and 10 people's codes instead.",
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
    for option, chosen in (("--filler", filler), ("--cells", cells)):
        if model == embedded.NAME and chosen is not None:
            raise ValueError(
                f"{option} is {chosen}, expected none for the embedded model, "
                "which knows no such text"
            )
    if filler is not None and cells is not None:
        raise ValueError(f"--filler is {filler} next to --cells, expected one of them")
    given = fields_given(how, EQUAL_BYTES_FLAGS)
    arms = make_arms(words(methods), numbers(ratios, "--ratios"), words(caches), given)
    setup = make_setup(model, text_only=True, **opened)
    if model == embedded.NAME:
        asked, name = embedded_contexts(load_pictures(), trials, seed), "passkey embedded"
    elif cells is not None:
        lengths = whole_numbers(cells, "--cells")
        asked = _sized(setup, lengths, trials, seed)
        name = f"passkey {','.join(map(str, lengths))} cells"
    else:
        n_filler = FILLER if filler is None else filler
        asked, name = text_contexts(n_filler, trials, seed), f"passkey {n_filler}"
    run = SuiteRun(name, setup, arms, places_of(place), asked, seed, MAX_TOKENS, given)
    run_and_report(run, output, as_json=as_json, what="prompts")


def _sized(setup: Setup, lengths: Sequence[int], trials: int, seed: int) -> list[Context]:
    """Contexts of these lengths in the model's tokens."""
    session = _core.Session(setup.core())
    try:
        return sized_contexts(lengths, trials, seed, lambda text: len(session.tokens_of(text)))
    finally:
        session.close()
