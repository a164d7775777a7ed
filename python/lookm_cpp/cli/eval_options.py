"""Options that the commands of ``lookm eval`` share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from lookm_cpp import embedded
from lookm_cpp.cli.flags import check_embedded
from lookm_cpp.evaluation.lab import Setup
from lookm_cpp.files import existing_file, find_mmproj
from lookm_cpp.sizes import whole
from lookm_cpp.templates import template_text

Template = Annotated[
    str | None,
    typer.Option(
        "--chat-template",
        help="A name that llama.cpp knows, a file or Jinja text.  [default: the model's]",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="A JSONL file of every answer, with plots beside it; a run goes on where it ended.",
    ),
]
NCtx = Annotated[int, typer.Option("--n-ctx", help="Cells of the context; 0 for the model's own.")]
Threads = Annotated[
    int | None, typer.Option("--threads", help="CPU threads; 0: by the core, with 'embedded' 1.")
]
GpuLayers = Annotated[
    int, typer.Option("--gpu-layers", help="Layers on the accelerator; -1 for all.")
]


def make_setup(
    model: str,
    mmproj: str | None,
    *,
    text_only: bool = False,
    threads: int | None = None,
    n_gpu_layers: int = -1,
    n_ctx: int = 0,
    chat_template: str | None = None,
) -> Setup:
    """The model's files; the embedded model is too small to be worth sharing among threads.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A number has more than 32 bits, a projector is given where none belongs, or none
            can be found.
    """
    for option, value in (
        ("--threads", threads or 0),
        ("--gpu-layers", n_gpu_layers),
        ("--n-ctx", n_ctx),
    ):
        whole(option, value)
    template = template_text(chat_template)
    if model == embedded.NAME:
        check_embedded(model, mmproj)
        return Setup(
            embedded.MODEL, embedded.MMPROJ, "f16", threads or 1, n_gpu_layers, n_ctx, template
        )
    file = existing_file(model, "--model")
    projector = (
        None if text_only else existing_file(mmproj, "--mmproj") if mmproj else find_mmproj(file)
    )
    return Setup(file, projector, "f16", threads or 0, n_gpu_layers, n_ctx, template)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal that can draw it; elsewhere a line for each tenth."""
    console = Console(stderr=True, highlight=False)
    drawn = console.is_terminal and not console.is_dumb_terminal
    with Progress(console=console, transient=True, disable=not drawn) as bars:
        task = bars.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)
            if not drawn and 10 * done // total > 10 * (done - 1) // total:
                console.print(f"{what}: {done} of {total}", soft_wrap=True)

        yield advance
