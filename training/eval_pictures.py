"""Writes the pictures for `lookm eval tiny`: `python -m training.eval_pictures ARCHIVE.zip`.

They are drawn like the test pool (`data.py`), from the end of its numbers, and stored as lossy
WebP: noise makes a lossless file five times as large, and the model's score with the full cache
shows what that costs.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from . import easyvqa
from .config import DataSize, ModelSize
from .data import load_sprites
from .render import Renderer
from .words import EMOJI

GRIDS, VARIANTS, SHAPES = 160, 2, 96
QUALITY = 90
_DATE = (2026, 1, 1, 0, 0, 0)  # of every entry, so that the same pictures make the same file


def main() -> None:
    """Draw the pictures and write the archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()), help="where the npm package lies"
    )
    arguments = parser.parse_args()
    sizes, model = DataSize(), ModelSize()
    renderer = Renderer(load_sprites(arguments.cache), model)
    entries: list[dict] = []
    files: list[bytes] = []

    def add(
        picture: np.ndarray,
        kind: str,
        names: tuple[str, ...],
        questions: tuple[tuple[str, str], ...] = (),
    ) -> None:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "WEBP", quality=QUALITY, method=6)
        files.append(stream.getvalue())
        name = f"{len(entries):03}.webp"
        entries.append({"file": name, "kind": kind, "names": names, "questions": questions})

    for number in range(sizes.test_grids - GRIDS, sizes.test_grids):
        picture, _, classes = renderer.grid("test", f"testg{number}")
        add(picture, "grid", tuple(EMOJI[label] for label in classes))
    for label in range(len(EMOJI)):
        for number in range(sizes.test_singles - VARIANTS, sizes.test_singles):
            picture, _ = renderer.single("test", label, f"tests{label}_{number}")
            add(picture, "single", (EMOJI[label],))
    pictures, shapes = easyvqa.load("test", model.image)
    for picture, shape in list(zip(pictures, shapes, strict=True))[-SHAPES:]:
        add(picture, "shape", (shape.colour or "", shape.shape or ""), tuple(shape.questions))

    with zipfile.ZipFile(
        arguments.archive, "w"
    ) as archive:  # stored: WebP does not compress further
        archive.writestr(
            zipfile.ZipInfo("pictures.json", _DATE),
            json.dumps(entries, separators=(",", ":")),
            zipfile.ZIP_DEFLATED,
        )
        for entry, data in zip(entries, files, strict=True):
            archive.writestr(zipfile.ZipInfo(entry["file"], _DATE), data)
    print(f"{arguments.archive}: {len(entries)} pictures, {arguments.archive.stat().st_size} bytes")


if __name__ == "__main__":
    main()
