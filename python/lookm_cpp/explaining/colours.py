"""One scale of colours for fractions, for light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Theme:
    """Colours of a page.

    ``pruned`` is the colour of cells that were never read. ``over_evicted`` is how much of the
    picture an evicted cell covers with the page's colour.
    ``scale`` has the colours of fractions from just above 0 to 1.
    """

    page: RGB
    card: RGB
    line: RGB
    ink: RGB
    faint: RGB
    focus: RGB
    pruned: RGB
    over_evicted: float
    scale: tuple[RGB, ...]

    def colour(self, share: float) -> RGB:
        """The colour of a fraction; that of 0 is the page's own."""
        if share <= 0:
            return self.page
        red, green, blue = (self._channel(share, i) for i in range(3))
        return red, green, blue

    def _channel(self, share: float, i: int) -> int:
        stops: npt.NDArray[np.float64] = np.linspace(0, 1, len(self.scale))
        return round(float(np.interp(share, stops, [stop[i] for stop in self.scale])))


LIGHT = Theme(
    page=(255, 255, 255),
    card=(246, 247, 249),
    line=(217, 221, 227),
    ink=(27, 31, 36),
    faint=(101, 109, 118),
    focus=(9, 105, 218),
    pruned=(176, 202, 232),
    over_evicted=0.5,
    scale=((253, 224, 150), (250, 164, 86), (229, 89, 80), (168, 44, 108), (92, 19, 110)),
)
DARK = Theme(
    page=(13, 17, 23),
    card=(22, 27, 34),
    line=(48, 54, 61),
    ink=(230, 237, 243),
    faint=(139, 148, 158),
    focus=(88, 166, 255),
    pruned=(38, 66, 104),
    over_evicted=0.72,
    scale=((74, 24, 94), (150, 38, 103), (221, 81, 58), (251, 155, 36), (252, 231, 130)),
)

OVER_KEPT = 0.95
"""How much of a grey picture a kept cell covers, like a transparent colour."""
PADDING: RGB = (203, 208, 214)
"""The colour around an image that does not fill the encoder's canvas."""


def css(colour: RGB) -> str:
    """The colour in a style sheet's notation.

    >>> css((255, 0, 16))
    '#ff0010'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)
