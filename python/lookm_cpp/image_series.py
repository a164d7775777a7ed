"""Images that belong together: frames of a video, pages of a document."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL.Image import Image

from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.images import ImageLike


@dataclass(frozen=True)
class ImageSeries:
    """Images for ``ask`` and its siblings: ``llm.ask(f"{one.text} What is it?", one.images)``.

    Attributes:
        text: A line for each image: what it is, and ``<image>``.
        images: The images, as files in memory.
        size: Width and height of the largest of them.
    """

    text: str
    images: tuple[bytes, ...]
    size: tuple[int, int]

    @classmethod
    def of(cls, named: Iterable[tuple[str, Image]], file_format: str) -> ImageSeries:
        """Encode images as they come, so that no more than one is there as pixels."""
        lines, files, size = [], [], (0, 0)
        for name, image in named:
            file = io.BytesIO()
            image.convert("RGB").save(file, file_format, quality=92)
            lines.append(f"{name}: {PLACEHOLDER}\n")
            files.append(file.getvalue())
            size = max(size, image.size, key=lambda wh: wh[0] * wh[1])
        return cls("".join(lines), tuple(files), size)

    def before(self, question: str, images: Sequence[ImageLike]) -> tuple[str, list[ImageLike]]:
        """A question and its images, with these before them."""
        if PLACEHOLDER not in question:
            question = PLACEHOLDER * len(images) + question
        return f"{self.text}{question}", [*self.images, *images]
