"""Options that the commands of ``lookm eval`` share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from lookm_cpp import embedded
from lookm_cpp.cli.flags import AUTO, COMPRESSION, OPENING, Flag, check_embedded, without
from lookm_cpp.compression import METHOD, PAPER_METHOD, PRUNING
from lookm_cpp.evaluation.arms import EVICT
from lookm_cpp.evaluation.lab import Setup
from lookm_cpp.files import existing_file, find_mmproj

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lookm_cpp.options import LlavaOptions

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write every answer to this JSONL file, and plots next to it. A run that was stopped "
        "continues.",
    ),
]

Place = Annotated[
    str,
    typer.Option(
        "--place",
        metavar="after|before|both",
        help="Compress after the whole prompt, before the question, or both.",
    ),
]

RATIOS_HELP = "Fractions of the full cache's bytes."
METHODS_HELP = (
    "Methods to compare; random and streaming_llm are always among them. NAME@QUALITY, such as "
    f"{METHOD}@0.95, chooses for each prompt the smallest ratio that holds this share of attention."
)
Methods = Annotated[str, typer.Option("--methods", metavar="NAME,...", help=METHODS_HELP)]
Ratios = Annotated[str, typer.Option("--ratios", metavar="X,...", help=RATIOS_HELP)]
Caches = Annotated[
    str,
    typer.Option(
        "--caches",
        metavar="TYPE,...",
        help="Types of the cache: TYPE, K+V or READ:KEPT; f16 is always among them.",
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", "-s", metavar="N", min=0, help="Random seed of the prompts.")
]
Split = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="first|second|all",
        help="Half of the prompts: the first, third, ... or the second, fourth, ... of them. "
        "Choose options on one half, and report the other.",
    ),
]
CHAT_METHODS = f"h2o,snapkv_question,{PAPER_METHOD},{METHOD}"
CHAT_RATIOS = "0.5,0.2,0.1,0.05"

VARIED = ("type_k", "type_v", "kept_type_k", "kept_type_v")  # by --caches
UNCAPPED = ("kv_cells", "kv_memory")
"""A prompt is read whole, and then compressed in one way after the other."""
BY_ARM = ("kv_ratio", "important_ratio", "recent_ratio", *AUTO, *PRUNING, "method")
"""By --ratios and --methods."""

MODEL_FLAGS = without(OPENING, *VARIED, *UNCAPPED)
KEEP_OR_EVICT = "When text alone exceeds the budget: keep all of it, or evict text as well."
METHOD_FLAGS = without(COMPRESSION, *BY_ARM)
EQUAL_BYTES_FLAGS = tuple(
    replace(flag, default=EVICT, help=KEEP_OR_EVICT) if flag.option == "text_overflow" else flag
    for flag in METHOD_FLAGS
)
"""For methods that are compared at equal bytes; the controls have options of their own."""


def make_setup(
    model: str,
    mmproj: str | None = None,
    *,
    text_only: bool = False,
    **options: Unpack[LlavaOptions],
) -> Setup:
    """The model's files and how they are opened; the embedded model takes one thread by default,
    since it is too small for more.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: An option is wrong, a projector is given where none belongs, or none can be
            found.
    """
    check_embedded(model, mmproj)
    if model == embedded.NAME:
        options = {**options, "n_threads": options.get("n_threads") or 1}
        return _checked(Setup(embedded.MODEL, embedded.MMPROJ, options=options))
    file = existing_file(model, "--model")
    projector = None if text_only else _projector(mmproj, file)
    return _checked(Setup(file, projector, options=options))


def _projector(mmproj: str | None, model: Path) -> Path:
    return existing_file(mmproj, "--mmproj") if mmproj else find_mmproj(model)


def _checked(setup: Setup) -> Setup:
    setup.core()
    return setup


def fields_given(how: Mapping[str, Any], flags: Sequence[Flag]) -> dict[str, Any]:
    """What is not the flags' default; records of a run name it."""
    defaults = {flag.option: flag.default for flag in flags}
    return {name: value for name, value in how.items() if value != defaults[name]}


def split_numbers(count: int, split: str) -> list[int]:
    """Numbers of the contexts that ``--contexts`` and ``--split`` name.

    Raises:
        ValueError: ``split`` is no half, or nothing is left.

    >>> split_numbers(5, "first"), split_numbers(5, "second")
    ([0, 2, 4], [1, 3])
    """
    starts = {"first": range(0, count, 2), "second": range(1, count, 2), "all": range(count)}
    if split not in starts:
        raise ValueError(f"--split is {split!r}, expected first, second or all")
    if not starts[split]:
        raise ValueError(
            f"--contexts is {count}, expected at least {2 if split == 'second' else 1}"
        )
    return list(starts[split])


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr if that is a terminal that can draw it, otherwise a line for each tenth."""
    console = Console(stderr=True, highlight=False)
    drawn = console.is_terminal and not console.is_dumb_terminal
    with Progress(console=console, transient=True, disable=not drawn) as bars:
        task = bars.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)
            if not drawn and 10 * done // total > 10 * (done - 1) // total:
                console.print(f"{what}: {done} of {total}", soft_wrap=True)

        yield advance
