"""The result of ``Llava.explain``: an explained prompt that can be shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lookm_cpp.brief import brief
from lookm_cpp.explaining.cells import ExplainedPrompt
from lookm_cpp.explaining.page import page
from lookm_cpp.explaining.picture import picture


@dataclass(frozen=True)
class Explanation(ExplainedPrompt):
    """A prompt, cell by cell, and what each method kept of it; made by ``Llava.explain``.

    Attributes:
        model: The model's name.
        question: The question.
        images: The images, upright.
        answer: The answer with the full cache.
        stats: Statistics with the full cache.
        is_text: ``[n_cells]``: whether a cell counts as text. Cells of images and contexts do not.
        piece: ``[n_cells]``: index into ``pieces``; -1 for cells of text and contexts.
        place: ``[n_cells, 2]``: column and row in the piece's grid; -1 for cells without a place,
            such as row breaks.
        text: The token of each cell as bytes, possibly part of a UTF-8 character; empty for images.
        pieces: Pieces of the images, in the order of the prompt.
        methods: One entry for each method.
    """

    def __repr__(self) -> str:  # without the arrays, which would fill pages
        kept = ", ".join(f"{cells.method} keeps {cells.stats.kept_cells}" for cells in self.methods)
        n = len(self.images)
        about = f"{n} image{'s' * (n != 1)}, {self.stats.prompt_cells} cells"
        return f"<Explanation of {brief(self.question)} by {self.model}: {about}; {kept}>"

    def html(self) -> str:
        """One page that contains everything, pictures and script included."""
        return page(self)

    def picture(self, *, layer: int | None = None, dark: bool = False) -> Image.Image:
        """For each method, a row of heat maps and the answer.

        ``layer`` is an index into ``MethodCells.layers``. By default all layers are added up.
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
    """Raise ``ValueError`` if ``Explanation.save`` cannot write a file of this name."""
    if path.suffix not in (".html", ".png"):
        raise ValueError(f"output {str(path)!r}, expected a name that ends in .html or .png")
