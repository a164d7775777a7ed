"""Writes the pictures for `lookm eval`: `python -m training.eval_pictures ARCHIVE.zip`.

They are drawn like the test pools (`data.py`, `large.py`), from the end of their numbers, and
stored as lossy WebP: noise makes a lossless file five times as large, and the model's score with
the full cache shows what that costs.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from . import easyvqa, large
from .config import DataSize, ModelSize
from .data import load_sprites
from .render import Renderer
from .words import EMOJI

GRIDS, VARIANTS, SHAPES = 160, 2, 96
LARGE = 96
QUALITY = 90
_DATE = (2026, 1, 1, 0, 0, 0)  # of every entry, so that the same pictures make the same file


class Archive:
    """Pictures and what they show, in the order in which they are added."""

    def __init__(self) -> None:
        self.entries: list[dict] = []
        self.files: list[bytes] = []

    def add(
        self,
        picture: np.ndarray,
        kind: str,
        names: tuple[str, ...],
        questions: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """One picture, uint8 [size, size, 3]."""
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "WEBP", quality=QUALITY, method=6)
        name = f"{len(self.entries):03}.webp"
        self.entries.append({"file": name, "kind": kind, "names": names, "questions": questions})
        self.files.append(stream.getvalue())

    def write(self, path: Path) -> None:
        """Writes the archive; stored, as WebP does not compress further."""
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                zipfile.ZipInfo("pictures.json", _DATE),
                json.dumps(self.entries, separators=(",", ":")),
                zipfile.ZIP_DEFLATED,
            )
            for entry, data in zip(self.entries, self.files, strict=True):
                archive.writestr(zipfile.ZipInfo(entry["file"], _DATE), data)
        print(f"{path}: {len(self.entries)} pictures, {path.stat().st_size} bytes")


def small_pictures(cache: Path) -> Archive:
    """Grids of four emoji, single emoji, and easy-VQA's shapes, 64 x 64."""
    sizes, model, archive = DataSize(), ModelSize(), Archive()
    renderer = Renderer(load_sprites(cache), model)
    for number in range(sizes.test_grids - GRIDS, sizes.test_grids):
        picture, _, classes = renderer.grid("test", f"testg{number}")
        archive.add(picture, "grid", tuple(EMOJI[label] for label in classes))
    for label in range(len(EMOJI)):
        for number in range(sizes.test_singles - VARIANTS, sizes.test_singles):
            picture, _ = renderer.single("test", label, f"tests{label}_{number}")
            archive.add(picture, "single", (EMOJI[label],))
    pictures, shapes = easyvqa.load("test", model.image)
    for picture, shape in list(zip(pictures, shapes, strict=True))[-SHAPES:]:
        archive.add(
            picture, "shape", (shape.colour or "", shape.shape or ""), tuple(shape.questions)
        )
    return archive


def large_pictures(cache: Path) -> Archive:
    """Sixteen emoji, digits and words each, 128 x 128."""
    archive = Archive()
    renderer = Renderer(load_sprites(cache), replace(ModelSize(), image=large.IMAGE))
    for number in range(large.TEST - LARGE, large.TEST):
        picture, _, names = large.draw(renderer, "test", number)
        archive.add(picture, "grid", names)
    return archive


def main() -> None:
    """Draw the pictures and write the archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--large", action="store_true", help="128 x 128 instead of 64 x 64")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()), help="where the npm package lies"
    )
    arguments = parser.parse_args()
    draw = large_pictures if arguments.large else small_pictures
    draw(arguments.cache).write(arguments.archive)


if __name__ == "__main__":
    main()
