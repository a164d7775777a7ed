"""What ``Llava.explain`` returns: an explained prompt that can be shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lookm_cpp.explaining.cells import ExplainedPrompt
from lookm_cpp.explaining.page import page
from lookm_cpp.explaining.picture import picture


@dataclass(frozen=True)
class Explanation(ExplainedPrompt):
    """A prompt, cell by cell, and what each method made of it; from ``Llava.explain``.

    Attributes:
        model: The model's name.
        question: As asked.
        images: As given, upright.
        answer: With the full cache.
        stats: Of the full cache.
        is_text: ``[n_cells]``: cells that count as text; those of images and contexts do not.
        piece: ``[n_cells]``: index into ``pieces``, -1 for cells of text and contexts.
        place: ``[n_cells, 2]``: column and row in the piece's grid; -1 for cells without a place,
            such as row breaks.
        text: Each cell's token as bytes, empty for images; maybe part of a UTF-8 character.
        pieces: Of the images, in the order of the prompt.
        methods: One for each method asked for.
    """

    def html(self) -> str:
        """One page that holds everything, pictures and script included."""
        return page(self)

    def picture(self, *, layer: int | None = None, dark: bool = False) -> Image.Image:
        """A row of heat maps for each method, of all layers or of the one with this index, with the
        answers.
        """
        return picture(self, layer=layer, dark=dark)

    def save(self, path: str | Path, *, dark: bool = False) -> None:
        """Write the page (``.html``) or the picture (``.png``).

        Raises:
            ValueError: The name ends in something else.
        """
        target = Path(path)
        check_target(target)
        if target.suffix == ".html":
            target.write_text(self.html(), encoding="utf-8")
        else:
            few = self.picture(dark=dark).quantize(
                256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
            )
            few.save(target, optimize=True)


def check_target(path: Path) -> None:
    """Raise ``ValueError`` unless ``Explanation.save`` knows what to write there."""
    if path.suffix not in (".html", ".png"):
        raise ValueError(f"output {str(path)!r}, expected a name that ends in .html or .png")
