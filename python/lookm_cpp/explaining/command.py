"""``lookm explain``: what each method kept, as a page and as a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

from lookm_cpp import embedded
from lookm_cpp.console import CheckFiles, prompt_progress, side_by_side
from lookm_cpp.explaining.explain import KV_RATIO, METHODS
from lookm_cpp.explaining.explanation import Explanation, MethodCells, check_target
from lookm_cpp.file_check import CHECK_FILES
from lookm_cpp.files import read_text
from lookm_cpp.images import MAX_PIXELS
from lookm_cpp.llava import Llava
from lookm_cpp.options import LlavaOptions


def explain(
    question: Annotated[
        str, typer.Argument(help="Each <image> in it stands for the next image; else images come first.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="A GGUF file, or 'embedded'.")],
    mmproj: Annotated[
        str | None, typer.Option("--mmproj", help="The projector; else the one mmproj*.gguf beside the model.")
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat-template", help="A name that llama.cpp knows, a file or Jinja text.  [default: the model's]"
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="A system message before the question.")] = None,
    image: Annotated[list[str] | None, typer.Option("--image", "-i", help="An image; may be given again.")] = None,
    context_file: Annotated[
        list[str] | None,
        typer.Option("--context-file", help="A UTF-8 text to come first, that may be evicted; may be given again."),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output", "-o", help="A page (.html) or a picture (.png); may be given again.  [default: report.html]"
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help=f"May be given again.  [default: {', '.join(METHODS)}]"),
    ] = None,
    kv_ratio: Annotated[float, typer.Option("--kv-ratio", help="Share of the cells to keep.")] = KV_RATIO,
    text_overflow: Annotated[
        str | None,
        typer.Option("--text-overflow", help="keep: all text stays; evict: exact.  [default: the method's own]"),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Most tokens of an answer.")] = 512,
    dark: Annotated[bool, typer.Option("--dark", help="Pictures for a dark page; pages follow the browser.")] = False,
    n_ctx: Annotated[int, typer.Option("--n-ctx", help="Cells of the context; 0 for the model's own.")] = 0,
    n_batch: Annotated[int, typer.Option("--n-batch", help="Tokens handed over at once.")] = 2048,
    n_ubatch: Annotated[int, typer.Option("--n-ubatch", help="Tokens computed at once.")] = 512,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads.")] = None,
    gpu_layers: Annotated[int, typer.Option("--gpu-layers", help="Layers on the accelerator; -1 for all.")] = -1,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", help="Most pixels of an image; larger ones are refused undecoded.")
    ] = MAX_PIXELS,
    check_files: CheckFiles = CHECK_FILES,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show llama.cpp's log.")] = False,
) -> None:
    """Show which cells each method keeps, as heat maps over the images, and where the others were merged."""
    targets = [Path(one) for one in output or ["report.html"]]
    for target in targets:
        check_target(target)
        if not target.parent.is_dir():
            raise ValueError(f"--output {str(target)!r}, expected a folder that exists")
    if model == embedded.NAME and mmproj is not None:
        raise ValueError(f"--mmproj is {mmproj!r}, expected none beside the embedded model's own")
    options: LlavaOptions = {
        "chat_template": chat_template,
        "kv_ratio": kv_ratio,
        "text_overflow": text_overflow,
        "n_ctx": n_ctx,
        "n_batch": n_batch,
        "n_ubatch": n_ubatch,
        "n_threads": threads,
        "n_gpu_layers": gpu_layers,
        "max_pixels": max_pixels,
        "check_files": check_files,
        "verbose": verbose,
    }
    contexts = [read_text(file, "--context-file") for file in context_file or ()]
    opened = Llava.embedded(**options) if model == embedded.NAME else Llava(model, mmproj=mmproj, **options)
    with opened as llm, prompt_progress() as progress:
        found = llm.explain(
            question,
            image or (),
            context=contexts,
            system=system,
            methods=method or METHODS,
            kv_ratio=kv_ratio,
            max_tokens=max_tokens,
            progress=progress,
        )
    for target in targets:
        found.save(target, dark=dark)
    _tell(found)
    for target in targets:
        sys.stderr.write(f"[written: {target}]\n")


def _tell(found: Explanation) -> None:
    rows = [["answer", found.answer], ["cells kept", str(found.stats.kept_cells)], ["of text", ""], ["of images", ""]]
    notes = ["note", ""]
    for one in found.methods:
        kept = f"{one.stats.kept_cells} ({one.stats.kv_ratio:.1%})"
        shares = [_share(one, cells) for cells in (found.is_text, found.piece >= 0)]
        for row, value in zip(rows, [one.answer, kept, *shares], strict=True):
            row.append(value)
        notes.append(one.stats.note)
    if any(notes[1:]):
        rows.append(notes)
    names = ["full cache", *(one.method for one in found.methods)]
    Console(highlight=False).print(side_by_side(names, rows))


def _share(one: MethodCells, cells: npt.NDArray[np.bool_]) -> str:
    return f"{one.share_kept()[cells].mean():.1%}" if cells.any() else "-"
