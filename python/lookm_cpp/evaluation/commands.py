"""``lookm eval``: its commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from lookm_cpp import embedded
from lookm_cpp.console import print_json
from lookm_cpp.evaluation.arms import BUDGETS, CACHES, known_methods, make_arms
from lookm_cpp.evaluation.lab import Setup
from lookm_cpp.evaluation.records import Records
from lookm_cpp.evaluation.tiny import PLACES, TinyRun, embedded_setup, run_tiny
from lookm_cpp.evaluation.tiny_report import rows_of, tables
from lookm_cpp.files import existing_file, find_mmproj

EMBEDDED = "embedded"
N_CONTEXTS = 42
QUICK_CONTEXTS, QUICK_RATIOS = 3, "0.5,0.2"
QUICK_METHODS = "h2o,snapkv,text_prior_h2o,text_prior_pivot_merge"

app = typer.Typer(no_args_is_help=True, help="Ask many questions with full and with compressed caches.")

Model = Annotated[str, typer.Option("--model", "-m", help="A GGUF file, or 'embedded'.")]
Mmproj = Annotated[
    str | None, typer.Option("--mmproj", help="The projector; else the one mmproj*.gguf beside the model.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="A JSONL file of every answer; a run goes on where it ended.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Threads = Annotated[
    int, typer.Option("--threads", help="CPU threads.  [default: the core's choice]", show_default=False)
]


@app.command()
def tiny(
    model: Model = EMBEDDED,
    mmproj: Mmproj = None,
    methods: Annotated[
        str | None,
        typer.Option("--methods", help="Names with commas; random and streaming_llm come along.  [default: all]"),
    ] = None,
    ratios: Annotated[
        str | None, typer.Option("--ratios", help="Shares of the full cache's bytes.  [default: 0.5,0.35,0.2,0.1,0.05]")
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
            help=f"Contexts of 4, 8 and 16 pictures by turns; each has 5 or 6 questions.  [default: {N_CONTEXTS}]",
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
    method_names = _words(methods) or (_words(QUICK_METHODS) if quick else known_methods())
    budgets = _shares(ratios or (QUICK_RATIOS if quick else ",".join(map(str, BUDGETS))), "--ratios")
    arms = make_arms(method_names, budgets, ["f16"] if quick else _words(caches))
    run = TinyRun(_tiny_setup(model, mmproj), arms, PLACES if place == "both" else (place,), n_contexts, seed)
    with Records(output, run.identity()) as records:
        with _bar("contexts") as progress:
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


def _tiny_setup(model: str, mmproj: str | None) -> Setup:
    if model != EMBEDDED:
        file = existing_file(model, "--model")
        return Setup(file, existing_file(mmproj, "--mmproj") if mmproj else find_mmproj(file))
    if mmproj is not None:
        raise ValueError(f"--mmproj is {mmproj!r}, expected none beside the embedded model's own")
    return embedded_setup(embedded.MODEL, embedded.MMPROJ)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _shares(text: str, option: str) -> list[float]:
    try:
        return [float(word) for word in _words(text)]
    except ValueError:
        raise ValueError(f"{option} is {text!r}, expected numbers with commas between them") from None


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal that can draw it."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal or console.is_dumb_terminal) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
    sys.stderr.flush()
