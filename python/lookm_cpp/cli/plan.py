"""``lookm plan``: will a prompt about images fit into memory?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookm_cpp import embedded, planning
from lookm_cpp.cli.console import print_json, side_by_side
from lookm_cpp.cli.flags import (
    COMPRESSION,
    MAX_ANSWER,
    OPENING,
    Json,
    Mmproj,
    Model,
    System,
    check_embedded,
    with_flags,
)
from lookm_cpp.cli.media import MEDIA, series_of
from lookm_cpp.parsing import image_pixels
from lookm_cpp.sizes import format_bytes

if TYPE_CHECKING:
    from lookm_cpp.info_types import MemoryPlan, StageBytes

BAR_WIDTH = 10
STAGES: tuple[Literal["preparing", "reading", "answering"], ...] = (
    "preparing",
    "reading",
    "answering",
)

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


@with_flags(answer=[MAX_ANSWER], how=COMPRESSION, media=MEDIA, opened=OPENING)
def plan(
    *,
    model: Model,
    mmproj: Mmproj = None,
    images: Annotated[
        int | None, typer.Option("--images", metavar="N", help="Number of images.")
    ] = None,
    image_size: Annotated[
        str, typer.Option("--image-size", metavar="WxH", help="Pixels of each image.")
    ] = "x".join(map(str, planning.IMAGE_SIZE)),
    question: Annotated[
        str, typer.Option("--question", metavar="TEXT", help="The text after the images.")
    ] = planning.QUESTION,
    system: System = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="BYTES",
            help="Available memory, such as 8GiB.  [default: this machine's]",
        ),
    ] = None,
    as_json: Json = False,
    answer: dict[str, Any],
    opened: dict[str, Any],
    how: dict[str, Any],
    media: dict[str, Any],
) -> None:
    """Say whether a prompt will fit into memory.

    Nothing is loaded: llama.cpp computes the sizes from the headers of the files.
    """
    check_embedded(model, mmproj)
    series = series_of(media)
    size = image_pixels(image_size)
    if series and images is None:
        size = max((one.size for one in series), key=lambda wh: wh[0] * wh[1])
        images = sum(len(one.images) for one in series)
    elif series or images is None:
        raise ValueError("expected --images, or --video or --pdf in place of them")
    found = planning.plan(
        embedded.MODEL if model == embedded.NAME else model,
        mmproj=embedded.MMPROJ if model == embedded.NAME else mmproj,
        images=images,
        image_size=size,
        question=question,
        system=system,
        **answer,
        memory=memory,
        **opened,
        **how,
    )
    if as_json:
        print_json({"model": model, "image_size": size, **found})
        return
    console = Console(highlight=False)
    console.print(side_by_side((Path(model).name,), _summary(found, size)))
    console.print(_stages(found))
    if how["kv_ratio"] == "auto":
        ceiling = how["ratio_ceiling"]
        console.print(Text(f"kv_ratio auto is planned with its ceiling, {ceiling:g}."))
    for line in _verdict(found):
        console.print(Text(line))


def _summary(found: MemoryPlan, size: tuple[int, int]) -> Iterator[tuple[str, str]]:
    pieces = f" in {found['tiles_per_image']} pieces" if found["tiles_per_image"] > 1 else ""
    encoded, read = found["encoded_cells_per_image"], found["cells_per_image"]
    cells = f"{encoded} cells each{pieces}" + (f", {read} of them read" if read < encoded else "")
    marks = (
        f", and {found['marks_per_image']} of text around it" if found["marks_per_image"] else ""
    )
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
            table.add_row(
                name,
                *(format_bytes(v) if v else "-" for v in values),
                f"{bar:<{BAR_WIDTH}} {share:4.0%}",
            )
    totals = [format_bytes(found[stage]["total"]) for stage in STAGES]
    table.add_section()
    table.add_row("in all", *totals, "")
    return table


def _verdict(found: MemoryPlan) -> Iterator[str]:
    peak = _largest(found)
    size, name = max((peak[key], name) for key, name in PARTS)
    yield f"Most of it is {name}: {format_bytes(size)} of {format_bytes(peak['total'])}."
    if found["scratch_bytes"]:
        scratch = format_bytes(found["scratch_bytes"])
        yield f"Scoring and compression may take {scratch} more for a moment."
    if found["kv_bytes_capped"] is None:
        aside = format_bytes(found["kv_bytes_full"])
        yield f"A Llava keeps up to {aside} aside for more questions (prefix_memory)."
    memory = format_bytes(found["memory_bytes"])
    if found["prompt_cells"] > found["n_ctx"]:
        yield f"Does not fit: {found['prompt_cells']} cells are more than n_ctx {found['n_ctx']}."
    else:
        yield f"{'Fits' if found['fits'] else 'Does not fit'} into {memory}."
    most, in_n_ctx = found["most_images"], found["most_images_in_n_ctx"]
    why = f"more exceed n_ctx {found['n_ctx']}" if most == in_n_ctx else f"more exceed {memory}"
    yield f"Most images of this size: {most} ({why})."
