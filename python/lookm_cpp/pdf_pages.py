"""Pages of PDF documents, by pypdfium2."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from PIL.Image import Image

from lookm_cpp.brief import brief
from lookm_cpp.image_series import ImageSeries
from lookm_cpp.optional import optional_package
from lookm_cpp.regular_files import path_of, regular_file
from lookm_cpp.sizes import index, number

DPI = 150
MOST_DPI = 1200
MOST_PIXELS = 1 << 26
POINTS = 72
"""Points of a PDF in an inch."""


def read_pdf(
    path: str | os.PathLike[str], *, pages: Sequence[int] | None = None, dpi: float = DPI
) -> ImageSeries:
    """Pages of a PDF document, each with its number. Needs pypdfium2 (``pip install pypdfium2``).

    Args:
        path: The file.
        pages: Their numbers, from 1. Default: all.
        dpi: Pixels in an inch of a page. Default: 150.

    Returns:
        The pages as PNG files in memory.

    Raises:
        ImportError: pypdfium2 is not installed.
        FileNotFoundError: The file does not exist.
        ValueError: It is not a PDF or needs a password, or it does not have one of the pages.
    """
    name = f"pdf {os.fspath(path)!r}"
    file = regular_file(path_of(path, name, "a PDF file"), name, "a PDF file")
    if not 1 <= number("dpi", dpi) <= MOST_DPI:
        raise ValueError(f"dpi is {dpi}, expected 1 to {MOST_DPI}")
    pdfium = optional_package("pypdfium2", "PDF files")
    try:
        document = pdfium.PdfDocument(file)
    except pdfium.PdfiumError as error:
        raise ValueError(f"{name} cannot be read, expected a PDF file: {error}") from None
    try:
        if pages is not None and not isinstance(pages, Sequence):
            raise ValueError(f"pages is {brief(pages)}, expected a list of numbers")
        numbers = [*range(1, len(document) + 1)] if pages is None else [*pages]
        for page in numbers:
            if not 1 <= index("pages", page) <= len(document):
                raise ValueError(f"pages has {page}, expected 1 to {len(document)} for {name}")
        if not numbers:
            raise ValueError(f"pages is empty, expected 1 to {len(document)} for {name}")
        return ImageSeries.of(_rendered(pdfium, document, numbers, dpi, name), "PNG")
    finally:
        document.close()


def _rendered(
    pdfium: Any, document: Any, numbers: Sequence[int], dpi: float, name: str
) -> Iterator[tuple[str, Image]]:
    scale = dpi / POINTS
    for page in numbers:
        try:
            one = document[page - 1]
            width, height = one.get_size()
            if width * height * scale * scale > MOST_PIXELS:
                raise ValueError(
                    f"dpi is {dpi:g}, which makes {int(width * scale)} x {int(height * scale)} "
                    f"pixels of page {page} of {name}; expected at most {MOST_PIXELS}"
                )
            yield f"Page {page}", one.render(scale=scale).to_pil()
        except pdfium.PdfiumError as error:
            raise ValueError(f"page {page} of {name} cannot be read: {error}") from None
