"""The held-out pictures that ship with the evaluation."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from lookm_cpp.images import load_image

ARCHIVE = Path(__file__).parent / "pictures.zip"

Kind = Literal["grid", "single", "shape"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what it shows.

    Attributes:
        kind: ``grid`` (four emoji), ``single`` (one emoji) or ``shape`` (of easy-VQA).
        names: The emoji by corner (top left, top right, bottom left, bottom right), the one emoji,
            or colour and shape.
        questions: easy-VQA's questions with their answers.
        image: RGB, 64 x 64.
    """

    kind: Kind
    names: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    image: Image.Image

    @property
    def description(self) -> str:
        """The embedded model's words: "an owl", "a red circle", "a cat, a dog, a key and a bus"."""
        if self.kind == "shape":
            return f"a {' '.join(self.names)}"
        nouns = [with_article(name) for name in self.names]
        return nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}"


def with_article(noun: str) -> str:
    """The noun with "a" or "an", by its first letter only, as the embedded model was trained.

    >>> with_article("owl"), with_article("grapes")
    ('an owl', 'a grapes')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def load_pictures(archive: Path = ARCHIVE) -> list[Picture]:
    """All pictures, in the order of their numbers.

    >>> len(load_pictures())
    352
    """
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as files:
        return [
            Picture(
                entry["kind"],
                tuple(entry["names"]),
                tuple((question, answer) for question, answer in entry["questions"]),
                Image.fromarray(load_image(files.read(entry["file"]), entry["file"])),
            )
            for entry in json.loads(files.read("pictures.json"))
        ]
