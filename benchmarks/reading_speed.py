"""How long it takes to read fewer cells of images: ``python -m benchmarks.reading_speed``.

Layers of the 7B shape with random weights and 576 cells an image, or ``--model``. Beside
each share of the cells of n images stands a prompt of as many whole images as have so many cells.
Rounds of all prompts alternate; times are medians (``docs/reading.md``).
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from lookm_cpp import Llava
from lookm_cpp.bench.model_shapes import SHAPES
from lookm_cpp.bench.random_model import write_model
from rich.console import Console
from rich.table import Table

from benchmarks.models import N_CTX, llava_shape
from benchmarks.random_encoder import write_encoder

PRUNER = "divprune"
SHARES = (1.0, 0.5, 0.25)


def read(llm: Llava, pictures: list[Any], share: float, between: str) -> Any:
    """Read a prompt about the pictures, all of it, and return its stats."""
    text = f"<image>{between}" * len(pictures) + "What do these pictures show?"
    how: Any = {"image_ratio": share, "pruner": PRUNER, "kv_ratio": 1.0}
    llm.ask(text, pictures, max_tokens=1, reuse=False, temperature=0, **how)
    return llm.stats


def main(
    model: Annotated[Path | None, typer.Option(help="A model instead of random layers.")] = None,
    mmproj: Annotated[Path | None, typer.Option(help="Its projector.")] = None,
    images: Annotated[str, typer.Option(help="Numbers of images.")] = "8,20",
    between: Annotated[str, typer.Option(help="Text after each image.")] = "",
    layers: Annotated[int, typer.Option(help="Of the 32 of the 7B shape.")] = 2,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int | None, typer.Option(help="Default: one for each core.")] = None,
) -> None:
    """Print seconds of each step, and of the prefill of a prompt of as many cells."""
    rng = np.random.default_rng(0)
    counts = [int(n) for n in images.split(",")]
    side = 336 if model is None else 128
    pictures = list(rng.integers(0, 256, (max(counts), side, side, 3), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        if model is None:
            model, mmproj = Path(folder, "7b.gguf"), Path(folder, "mmproj.gguf")
            write_model(model, llava_shape(layers), 2 * N_CTX)
            write_encoder(mmproj, SHAPES["7b"].n_embd)
        options: Any = {"n_threads": threads} if threads else {}
        with Llava(
            model, mmproj=mmproj, chat_template="vicuna", n_ctx=0, image_cache=0, **options
        ) as llm:
            prompts = [(n, n, share) for n in counts for share in SHARES]
            prompts += [(n, round(n * share), 1.0) for n in counts for share in SHARES[1:]]
            found: dict[tuple[int, int, float], list[Any]] = defaultdict(list)
            for _ in range(rounds):
                for prompt in prompts:
                    found[prompt].append(read(llm, pictures[: prompt[1]], prompt[2], between))
    table = Table("images", "read", "cells", "encode s", "prune s", "prefill s", "whole images s")
    for n in counts:
        for share in SHARES:
            stats = found[n, n, share]
            beside = found[n, round(n * share), 1.0]
            seconds = [median(s.prefill_seconds for s in group) for group in (stats, beside)]
            per_cell = seconds[1] / beside[0].prompt_cells * stats[0].prompt_cells
            table.add_row(
                str(n),
                f"{share:g}",
                str(stats[0].prompt_cells),
                f"{median(s.encode_seconds for s in stats):.2f}",
                f"{median(s.prune_seconds for s in stats):.3f}",
                f"{seconds[0]:.2f}",
                f"{seconds[1]:.2f} ({seconds[0] / per_cell:.2f} a cell)",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
