"""Times two questions about photos as cameras make them: ``python -m benchmarks.photos``.

Photos are decoded, scaled, encoded and read for the first question. The second one goes on from
there (``docs/prefixes.md``). With the embedded model, nearly all of the first time is decoding and
scaling.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from lookm_cpp import Llava
from PIL import Image
from rich.console import Console


def photo(path: Path, seed: int, size: tuple[int, int]) -> str:
    """A JPEG of smooth colours, about a megabyte at 12 megapixels."""
    noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    return str(path)


def main(
    photos: Annotated[int, typer.Option(min=1, help="Number of photos.")] = 8,
    questions: Annotated[int, typer.Option(min=2, help="Questions about them.")] = 6,
    width: Annotated[int, typer.Option(min=1, help="Pixels.")] = 4000,
    height: Annotated[int, typer.Option(min=1, help="Pixels.")] = 3000,
    kv_ratio: Annotated[float, typer.Option(help="Of each question.")] = 0.2,
) -> None:
    """Print the seconds to the first token of the first question, and of later ones."""
    text = " ".join(f"Image {i + 1}:<image>" for i in range(photos))
    with tempfile.TemporaryDirectory() as folder, Llava.embedded(kv_ratio=kv_ratio) as llm:
        files = [photo(Path(folder) / f"{i}.jpg", i, (width, height)) for i in range(photos)]
        seconds = []
        for i in range(questions):
            start = time.perf_counter()
            llm.ask(f"{text} What is in image {1 + i % photos}?", files, max_tokens=1)
            seconds.append(time.perf_counter() - start)
        Console().print(
            f"{photos} photos of {width} x {height}, {llm.stats.prompt_cells} cells: "
            f"the first question {seconds[0]:.2f} s, later ones {median(seconds[1:]):.3f} s"
        )


if __name__ == "__main__":
    typer.run(main)
