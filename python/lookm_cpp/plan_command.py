"""``lookm plan``: will a prompt about images fit into memory?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookm_cpp import embedded
from lookm_cpp.compression import METHOD
from lookm_cpp.console import CheckFiles, format_bytes, print_json, side_by_side
from lookm_cpp.file_check import CHECK_FILES
from lookm_cpp.images import MAX_PIXELS
from lookm_cpp.planning import IMAGE_SIZE, QUESTION, plan

if TYPE_CHECKING:
    from lookm_cpp._core import MemoryPlan, StageBytes

EMBEDDED = "embedded"
BAR_WIDTH = 10
STAGES: tuple[Literal["preparing", "reading", "answering"], ...] = ("preparing", "reading", "answering")

Part: TypeAlias = Literal[
    "weights", "encoder_weights", "encoder_compute", "kv", "compute", "scores", "moving", "pictures"
]
PARTS: tuple[tuple[Part, str], ...] = (
    ("weights", "weights"),
    ("encoder_weights", "image encoder"),
    ("encoder_compute", "its buffers"),
    ("kv", "KV cache"),
    ("compute", "compute buffers"),
    ("scores", "scores"),
    ("moving", "copy of the kept cells"),
    ("pictures", "pictures"),
)


def plan_command(
    model: Annotated[str, typer.Option("--model", "-m", help="A GGUF file, or 'embedded'.")],
    images: Annotated[int, typer.Option("--images", help="How many images the prompt has.")],
    mmproj: Annotated[
        str | None, typer.Option("--mmproj", help="The projector; else the one mmproj*.gguf beside the model.")
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat-template", help="A name that llama.cpp knows, a file or Jinja text.  [default: the model's]"
        ),
    ] = None,
    image_size: Annotated[str, typer.Option("--image-size", help="Pixels of each, as WxH.")] = "x".join(
        map(str, IMAGE_SIZE)
    ),
    question: Annotated[str, typer.Option("--question", help="The text after the images.")] = QUESTION,
    system: Annotated[str | None, typer.Option("--system", help="A system message before the question.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Most tokens of the answer.")] = 512,
    memory: Annotated[
        str | None, typer.Option("--memory", help="What there is, as 8GiB.  [default: this machine's]")
    ] = None,
    kv_ratio: Annotated[float, typer.Option("--kv-ratio", help="Share of the cells to keep.")] = 1.0,
    method: Annotated[str, typer.Option("--method", help="Compression method.")] = METHOD,
    kv_cells: Annotated[
        int | None, typer.Option("--kv-cells", help="Most cells of the cache while the prompt is read.")
    ] = None,
    kv_memory: Annotated[str | None, typer.Option("--kv-memory", help="The same in bytes, as 512MiB.")] = None,
    n_ctx: Annotated[int, typer.Option("--n-ctx", help="Cells of the context; 0 for the model's own.")] = 0,
    n_batch: Annotated[int, typer.Option("--n-batch", help="Tokens handed over at once.")] = 2048,
    n_ubatch: Annotated[int, typer.Option("--n-ubatch", help="Tokens computed at once.")] = 512,
    gpu_layers: Annotated[int, typer.Option("--gpu-layers", help="Layers on the accelerator; -1 for all.")] = -1,
    flash_attn: Annotated[str, typer.Option("--flash-attn", help="auto, on or off.")] = "auto",
    type_k: Annotated[str, typer.Option("--type-k", help="Type of the K cache.")] = "f16",
    type_v: Annotated[str, typer.Option("--type-v", help="Type of the V cache.")] = "f16",
    kept_type_k: Annotated[
        str | None, typer.Option("--kept-type-k", help="Type that K is kept in after reading.  [default: --type-k]")
    ] = None,
    kept_type_v: Annotated[
        str | None, typer.Option("--kept-type-v", help="Type that V is kept in after reading.  [default: --type-v]")
    ] = None,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", help="Most pixels of an image; larger ones are refused undecoded.")
    ] = MAX_PIXELS,
    check_files: CheckFiles = CHECK_FILES,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show llama.cpp's log.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Say whether a prompt about images will fit into memory; no weights are loaded."""
    if flash_attn not in ("auto", "on", "off"):
        raise ValueError(f"--flash-attn is {flash_attn!r}, expected auto, on or off")
    if model == EMBEDDED and mmproj is not None:
        raise ValueError(f"--mmproj is {mmproj!r}, expected none beside the embedded model's own")
    size = image_pixels(image_size)
    found = plan(
        embedded.MODEL if model == EMBEDDED else model,
        mmproj=embedded.MMPROJ if model == EMBEDDED else mmproj,
        chat_template=chat_template,
        images=images,
        image_size=size,
        question=question,
        system=system,
        max_tokens=max_tokens,
        memory=memory,
        kv_ratio=kv_ratio,
        method=method,
        kv_cells=kv_cells,
        kv_memory=kv_memory,
        n_ctx=n_ctx,
        n_batch=n_batch,
        n_ubatch=n_ubatch,
        n_gpu_layers=gpu_layers,
        flash_attn="auto" if flash_attn == "auto" else flash_attn == "on",
        type_k=type_k,
        type_v=type_v,
        kept_type_k=kept_type_k,
        kept_type_v=kept_type_v,
        max_pixels=max_pixels,
        check_files=check_files,
        verbose=verbose,
    )
    if as_json:
        print_json({"model": model, "image_size": size, **found})
        return
    console = Console(highlight=False)
    console.print(side_by_side((Path(model).name,), _summary(found, size)))
    console.print(_stages(found))
    for line in _verdict(found):
        console.print(Text(line))


def image_pixels(text: str) -> tuple[int, int]:
    """``--image-size`` as width and height.

    Raises:
        ValueError: It is no size.
    """
    width, x, height = text.partition("x")
    if not (x and width.isascii() and width.isdecimal() and height.isascii() and height.isdecimal()):
        raise ValueError(f"--image-size is {text!r}, expected WxH such as 1024x768")
    if len(width) > 9 or len(height) > 9:
        raise ValueError(f"--image-size is {text!r:.80}, expected fewer pixels")
    return int(width), int(height)


def _summary(found: MemoryPlan, size: tuple[int, int]) -> Iterator[tuple[str, str]]:
    pieces = f" in {found['tiles_per_image']} pieces" if found["tiles_per_image"] > 1 else ""
    cells = f"{found['cells_per_image']} cells each{pieces}"
    marks = f", and {found['marks_per_image']} of text around it" if found["marks_per_image"] else ""
    yield "images", f"{found['images']} of {size[0]} x {size[1]} pixels, {cells}{marks}"
    prompt, text = found["prompt_cells"], found["text_cells"]
    yield "prompt cells", f"{prompt} ({text} text, {prompt - text} image)"
    yield "cells kept", f"{found['kept_cells']} ({found['kept_cells'] / prompt:.1%})"
    yield "KV cache, full", format_bytes(found["kv_bytes_full"])
    if found["kv_bytes_capped"] is not None:
        yield "KV cache, capped", format_bytes(found["kv_bytes_capped"])
    yield "KV cache, kept", format_bytes(found["kv_bytes_kept"])


def _largest(found: MemoryPlan) -> StageBytes:
    return max((found[stage] for stage in STAGES), key=lambda stage: stage["total"])


def _stages(found: MemoryPlan) -> Table:
    """The parts of each stage, and a bar for each part's share of the largest one."""
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("")
    for stage in STAGES:
        table.add_column(stage, justify="right")
    table.add_column("share of the peak")
    peak = _largest(found)
    for key, name in PARTS:
        values = [found[stage][key] for stage in STAGES]
        if any(values):
            share = peak[key] / peak["total"]
            bar = "\u2588" * round(share * BAR_WIDTH)
            table.add_row(name, *(format_bytes(v) if v else "-" for v in values), f"{bar:<{BAR_WIDTH}} {share:4.0%}")
    totals = [format_bytes(found[stage]["total"]) for stage in STAGES]
    table.add_section()
    table.add_row("in all", *totals, "")
    return table


def _verdict(found: MemoryPlan) -> Iterator[str]:
    peak = _largest(found)
    size, name = max((peak[key], name) for key, name in PARTS)
    yield f"Most of it is {name}: {format_bytes(size)} of {format_bytes(peak['total'])}."
    if found["scratch_bytes"]:
        yield f"Scoring and compression may take {format_bytes(found['scratch_bytes'])} more for a moment."
    memory = format_bytes(found["memory_bytes"])
    if found["prompt_cells"] > found["n_ctx"]:
        yield f"Does not fit: {found['prompt_cells']} cells are more than n_ctx {found['n_ctx']}."
    else:
        yield f"{'Fits' if found['fits'] else 'Does not fit'} into {memory}."
    most, in_n_ctx = found["most_images"], found["most_images_in_n_ctx"]
    why = f"more exceed n_ctx {found['n_ctx']}" if most == in_n_ctx else f"more exceed {memory}"
    yield f"Most images of this size: {most} ({why})."
