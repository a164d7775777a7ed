"""Images at a terminal that has colours: two pixels, one above the other, in each character."""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image
from rich.color import Color
from rich.columns import Columns
from rich.console import Console, Group
from rich.style import Style
from rich.text import Text

from lookm_cpp.explaining.colours import DARK, LIGHT
from lookm_cpp.explaining.explanation import Explanation
from lookm_cpp.explaining.picture import heat_map
from lookm_cpp.explaining.views import views_of

UPPER_HALF = "\u2580"
WIDTH = 24
"""Of an image, in characters."""


def half_blocks(image: Image.Image) -> Text:
    """The image, a character wide for each pixel, and half as many lines as it has rows."""
    rows = np.asarray(image.convert("RGB"))
    if len(rows) % 2:
        rows = np.concatenate([rows, rows[-1:]])
    lines = [
        Text.assemble(
            *(
                (UPPER_HALF, Style(color=Color.from_rgb(*a), bgcolor=Color.from_rgb(*b)))
                for a, b in zip(upper.tolist(), lower.tolist(), strict=True)
            )
        )
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
    return Text("\n").join(lines)


def show_kept(found: Explanation, *, dark: bool = False) -> None:
    """For each method, the images with what was kept of them, on stdout."""
    console = Console(highlight=False)
    if not console.is_terminal or console.color_system is None:
        sys.stderr.write("[--show: this is no terminal with colours]\n")
        return
    theme = DARK if dark else LIGHT
    for method in found.methods:
        share = method.share_kept()
        images = [
            Group(
                half_blocks(heat_map(found, view, share, theme, WIDTH)),
                Text(f"image {view.image + 1} {view.title}".strip(), "dim"),
            )
            for view in views_of(found)
        ]
        console.print(Text(method.method, "bold"))
        console.print(Columns(images, padding=(0, 2)))
