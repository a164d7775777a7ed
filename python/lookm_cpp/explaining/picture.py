"""Heat maps in one picture: a row of images for each method."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFont

from lookm_cpp.explaining.cells import ExplainedPrompt, MethodCells
from lookm_cpp.explaining.colours import DARK, LIGHT, OVER_KEPT, PADDING, RGB, Theme
from lookm_cpp.explaining.page import shown
from lookm_cpp.explaining.views import Box, View, views_of

Shares = npt.NDArray[np.float64]
Area = tuple[int, int, int, int]
"""Left, upper, right and lower edge, in pixels."""

WIDTH, MARGIN, GAP = 1600, 48, 20
LABEL = 400
"""Width of the column with the methods' names."""
MOST, LEAST = 268, 120
"""Largest and smallest width of a view."""
TALLEST = 1.25
"""Largest height of a view, relative to its width."""
APART = 12
"""Side of a cell without a place."""


def picture(
    explanation: ExplainedPrompt, *, layer: int | None = None, dark: bool = False
) -> Image.Image:
    """Draw what ``Explanation.picture`` returns.

    Raises:
        ValueError: A method has no layer of this index.
    """
    for method in explanation.methods:
        if layer is not None and not 0 <= layer < len(method.layers):
            raise ValueError(
                f"layer is {layer}, expected 0 to {len(method.layers) - 1}: {method.method}"
            )
    return _Painter(explanation, DARK if dark else LIGHT, layer).paint()


def heat_map(
    explanation: ExplainedPrompt, view: View, share: Shares, theme: Theme, most: int
) -> Image.Image:
    """One view with the ``share`` of each cell over it, at most ``most`` pixels wide."""
    x0, y0, x1, y1 = view.frame
    tall = (y1 - y0) / (x1 - x0) / view.aspect
    width = max(1, round(min(most, TALLEST * most / tall)))
    scale, height = width / (x1 - x0), max(1, round(width * tall))
    canvas = Image.new("RGB", (width, height), PADDING)
    if view.has_picture:
        size = (max(1, round(scale)), max(1, round(scale / view.aspect)))
        grey = _grey(explanation.images[view.image]).resize(size, Image.Resampling.BICUBIC)
        canvas.paste(grey, (round(-x0 * scale), round(-y0 * scale / view.aspect)))

    def pixels(box: Box) -> Area:
        left, right = (round((x - x0) * scale) for x in (box[0], box[2]))
        upper, lower = (round((y - y0) * scale / view.aspect) for y in (box[1], box[3]))
        return left, upper, right, lower

    for one in view.boxes:
        _cover(canvas, pixels(one.box), float(np.mean(share[list(one.cells)])), theme)
    for unread in view.pruned:
        canvas.paste(theme.pruned, pixels(unread))
    return canvas


def _cover(canvas: Image.Image, area: Area, share: float, theme: Theme) -> None:
    if area[0] >= area[2] or area[1] >= area[3]:
        return
    under = canvas.crop(area)
    colour = Image.new("RGB", under.size, theme.colour(share))
    over = ImageChops.multiply(under, colour) if share > 0 else colour
    canvas.paste(Image.blend(under, over, OVER_KEPT if share > 0 else theme.over_evicted), area)


class _Painter:
    def __init__(self, explanation: ExplainedPrompt, theme: Theme, layer: int | None) -> None:
        self.explanation, self.theme, self.layer = explanation, theme, layer
        self.views = views_of(explanation)
        room = WIDTH - 2 * MARGIN - LABEL
        n_columns = max(1, min(len(self.views), (room + GAP) // (LEAST + GAP)))
        n_lines = math.ceil(len(self.views) / n_columns) or 1
        self.n_columns = math.ceil(len(self.views) / n_lines) or 1
        self.width = min(MOST, (room + GAP) // self.n_columns - GAP)
        self.sheet = Image.new(
            "RGB", (WIDTH, 400 + len(explanation.methods) * (n_lines * 900 + 200)), theme.page
        )
        self.draw = ImageDraw.Draw(self.sheet)

    def paint(self) -> Image.Image:
        e, y = self.explanation, MARGIN
        y = self._text(MARGIN, y, shown(e.question), 34, self.theme.ink, WIDTH - 2 * MARGIN, most=3)
        stats = e.stats
        context = f", {stats.context_cells} context" if stats.context_cells else ""
        cells = f"{stats.text_cells} text, {stats.image_cells} image{context}"
        which = (
            "all layers"
            if self.layer is None
            else f"layer {self.explanation.methods[0].layers[self.layer].il}"
        )
        about = f"{e.model}  ·  {stats.prompt_cells} cells ({cells})  ·  {which}"
        y = self._text(MARGIN, y + 6, about, 22, self.theme.faint, WIDTH - 2 * MARGIN)
        y = self._text(
            MARGIN,
            y + 14,
            f"Full cache: {e.answer}",
            24,
            self.theme.ink,
            WIDTH - 2 * MARGIN,
            most=3,
        )
        self._legend(WIDTH - MARGIN - 300, MARGIN)
        for method in e.methods:
            y += 28
            self.draw.line([(MARGIN, y), (WIDTH - MARGIN, y)], self.theme.line, 2)
            y = self._row(method, y + 28)
        return self.sheet.crop((0, 0, WIDTH, y + MARGIN))

    def _row(self, method: MethodCells, top: int) -> int:
        share = method.share_kept(self.layer)
        ratio = f"{method.stats.kept_cells} cells kept, {method.stats.kv_ratio:.0%}"
        y = self._text(MARGIN, top, method.method, 26, self.theme.ink, LABEL - 40)
        y = self._text(MARGIN, y + 4, ratio, 22, self.theme.faint, LABEL - 40)
        y = self._text(
            MARGIN,
            y + 4,
            f"of text {_mean(share[self.explanation.is_text])}",
            22,
            self.theme.faint,
            LABEL,
        )
        images = share[self.explanation.piece >= 0]
        y = self._text(
            MARGIN, y + 4, f"of images {_mean(images)}", 22, self.theme.faint, LABEL - 40
        )
        y = self._text(MARGIN, y + 14, method.answer, 24, self.theme.ink, LABEL - 40, most=6)
        if method.stats.note:
            y = self._text(
                MARGIN, y + 6, method.stats.note, 20, self.theme.faint, LABEL - 40, most=4
            )
        bottom, line_top = y, top
        for first in range(0, len(self.views), self.n_columns):
            heights = [
                self._view(view, share, MARGIN + LABEL + i * (self.width + GAP), line_top)
                for i, view in enumerate(self.views[first : first + self.n_columns])
            ]
            line_top += max(heights) + GAP
        return max(bottom, line_top - GAP if self.views else 0)

    def _view(self, view: View, share: Shares, left: int, top: int) -> int:
        """Draw a view, and return the height that it took."""
        canvas = heat_map(self.explanation, view, share, self.theme, self.width)
        self.sheet.paste(canvas, (left, top))
        return (
            canvas.height
            + self._apart(view, share, left, top + canvas.height + 8)
            + self._caption(view, left, top + canvas.height)
        )

    def _caption(self, view: View, left: int, top: int) -> int:
        name = f"image {view.image + 1}" + (f", {view.title}" if view.title else "")
        rows = math.ceil(len(view.apart) / (self.width // APART))
        return (
            self._text(left, top + 8 + rows * APART, name, 18, self.theme.faint, self.width)
            - top
            - rows * APART
        )

    def _apart(self, view: View, share: Shares, left: int, top: int) -> int:
        per_row = self.width // APART
        for i, cell in enumerate(view.apart):
            x, y = left + i % per_row * APART, top + i // per_row * APART
            colour = self.theme.colour(float(share[cell]))
            self.draw.rectangle((x, y, x + APART - 4, y + APART - 4), colour, self.theme.line)
        return math.ceil(len(view.apart) / per_row) * APART

    def _legend(self, left: int, top: int) -> None:
        for i in range(300):
            self.draw.line(
                [(left + i, top), (left + i, top + 16)], self.theme.colour((i + 1) / 300)
            )
        self.draw.rectangle((left, top, left + 299, top + 16), None, self.theme.line)
        pale = Image.blend(
            _grey(Image.new("RGB", (1, 1), (128, 128, 128))),
            Image.new("RGB", (1, 1), self.theme.page),
            self.theme.over_evicted,
        )
        self.sheet.paste(pale.resize((70, 16)), (left - 90, top))
        self.draw.rectangle((left - 90, top, left - 21, top + 16), None, self.theme.line)
        self.draw.text((left - 90, top + 20), "evicted", self.theme.faint, _font(18))
        if any(view.pruned for view in self.views):
            self.draw.rectangle(
                (left - 190, top, left - 121, top + 16), self.theme.pruned, self.theme.line
            )
            self.draw.text((left - 190, top + 20), "never read", self.theme.faint, _font(18))
        self.draw.text((left, top + 20), "kept by few", self.theme.faint, _font(18))
        self.draw.text(
            (left + 299, top + 20), "by all heads", self.theme.faint, _font(18), anchor="ra"
        )

    def _text(
        self, x: int, y: int, text: str, size: int, colour: RGB, width: int, *, most: int = 2
    ) -> int:
        """Write a text, and return its lower edge."""
        for line in _lines(text, size, width if y > MARGIN + 40 else width - 430, most):
            self.draw.text((x, y), line, colour, _font(size))
            y += round(size * 1.3)
        return y


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _grey(image: Image.Image) -> Image.Image:
    """A pale grey picture, so that colours over it keep their meaning."""
    return image.convert("L").point([round(153 + 0.4 * v) for v in range(256)]).convert("RGB")


def _mean(values: Shares) -> str:
    return f"{values.mean():.0%}" if len(values) else "none"


def _lines(text: str, size: int, width: int, most: int) -> list[str]:
    """Break a text between words to fit; the last line ends in dots if there is more."""
    font, lines = _font(size), [""]
    for word in text.split() or [""]:
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} ..."]
    return lines
