"""``lookm explain``: what each method kept, as a page and as a picture."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

from lookm_cpp.cli.ask import open_model
from lookm_cpp.cli.asked import ContextFiles, Images, Question, question_and_images
from lookm_cpp.cli.console import attention_held, prompt_progress, side_by_side
from lookm_cpp.cli.flags import (
    ANSWER,
    COMPRESSION,
    KV_RATIO,
    OPENING,
    SEED,
    Mmproj,
    Model,
    System,
    check_embedded,
    with_flags,
    without,
)
from lookm_cpp.cli.half_blocks import show_kept
from lookm_cpp.cli.media import MEDIA, series_of, with_series
from lookm_cpp.explaining.cells import MethodCells
from lookm_cpp.explaining.explain import KV_RATIO as DEFAULT_RATIO
from lookm_cpp.explaining.explain import METHODS
from lookm_cpp.explaining.explanation import Explanation, check_target
from lookm_cpp.files import read_text
from lookm_cpp.parsing import ratio_or_auto


@with_flags(
    how=without(COMPRESSION, "kv_ratio", "method"),
    answer=(*ANSWER, SEED),
    media=MEDIA,
    opened=OPENING,
)
def explain(
    question: Question = None,
    *,
    model: Model,
    mmproj: Mmproj = None,
    system: System = None,
    image: Images = None,
    context_file: ContextFiles = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The page (.html) or picture (.png) to write; may be repeated.  "
            "[default: report.html]",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help=f"A method to explain; may be repeated.  [default: {', '.join(METHODS)}]",
        ),
    ] = None,
    kv_ratio: Annotated[
        str, typer.Option("--kv-ratio", metavar=KV_RATIO.metavar, help=KV_RATIO.help)
    ] = f"{DEFAULT_RATIO:g}",
    dark: Annotated[
        bool,
        typer.Option("--dark", help="Draw pictures for a dark page. A page follows the browser."),
    ] = False,
    show: Annotated[
        bool,
        typer.Option("--show", help="Draw the images at the terminal too, with what was kept."),
    ] = False,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open what was written in the browser.")
    ] = False,
    how: dict[str, Any],
    answer: dict[str, Any],
    media: dict[str, Any],
    opened: dict[str, Any],
) -> None:
    """Show which cells of a prompt each method keeps.

    Writes a page with heat maps over the images, which also says where evicted cells were merged.
    """
    targets = [Path(one) for one in output or ["report.html"]]
    for target in targets:
        check_target(target)
        if not target.parent.is_dir():
            raise ValueError(f"--output {str(target)!r}, expected a folder that exists")
    check_embedded(model, mmproj)
    text, images = with_series(*question_and_images(question, image), series_of(media))
    contexts = [read_text(file, "--context-file") for file in context_file or ()]
    ratio = ratio_or_auto(kv_ratio)
    with (
        open_model(model, mmproj, {**opened, **how, "kv_ratio": ratio}) as llm,
        prompt_progress() as progress,
    ):
        found = llm.explain(
            text,
            images,
            context=contexts,
            system=system,
            methods=method or METHODS,
            kv_ratio=ratio,
            progress=progress,
            **answer,
        )
    for target in targets:
        found.save(target, dark=dark)
    _tell(found)
    if show:
        show_kept(found, dark=dark)
    for target in targets:
        sys.stderr.write(f"[written: {target}]\n")
        if open_page and not webbrowser.open(target.resolve().as_uri()):
            sys.stderr.write(f"[--open: no browser was found for {target}]\n")


def _tell(found: Explanation) -> None:
    rows = [
        ["answer", found.answer],
        ["cells kept", str(found.stats.kept_cells)],
        ["attention held", ""],
        ["of text", ""],
        ["of images", ""],
    ]
    notes = ["note", ""]
    for one in found.methods:
        kept = f"{one.stats.kept_cells} ({one.stats.kv_ratio:.1%})"
        shares = [_share(one, cells) for cells in (found.is_text, found.piece >= 0)]
        held = attention_held(one.stats)
        for row, value in zip(rows, [one.answer, kept, held, *shares], strict=True):
            row.append(value)
        notes.append(one.stats.note)
    if any(notes[1:]):
        rows.append(notes)
    names = ["full cache", *(one.method for one in found.methods)]
    Console(highlight=False).print(side_by_side(names, rows))


def _share(one: MethodCells, cells: npt.NDArray[np.bool_]) -> str:
    return f"{one.share_kept()[cells].mean():.1%}" if cells.any() else "-"
