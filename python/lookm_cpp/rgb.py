"""From a Pillow image to RGB, without a second copy of it at full size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

_16_BITS_AS_32 = ("PNG", "PPM")
"""Formats whose 16-bit grey pixels Pillow may return in mode I."""

_STRIP_PIXELS = 1 << 15
"""Number of pixels that are converted at once."""


def check_mode(picture: Image.Image, label: str) -> None:
    """Check that the brightness of a pixel is known.

    Raises:
        ValueError: Pixels have 32 bits or a sign, so any value may be white.
    """
    if picture.mode in ("F", "I") and (picture.mode == "F" or picture.format not in _16_BITS_AS_32):
        raise ValueError(
            f"{label} has 32-bit or signed pixels (mode {picture.mode!r}), "
            "expected 8 or 16 bits a channel"
        )


def to_rgb(picture: Image.Image, *, own: bool) -> npt.NDArray[np.uint8]:
    """Pixels of the upright image, ``[height, width, 3]``; transparent ones are white.

    Args:
        picture: An image in any mode that ``check_mode`` accepts.
        own: Whether the image may be changed, because nobody else uses it.
    """
    picture.load()
    if own:
        ImageOps.exif_transpose(picture, in_place=True)
    elif picture.getexif().get(_ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    width, height = picture.size
    out = np.empty((height, width, 3), dtype=np.uint8)
    n_rows = max(1, _STRIP_PIXELS // width)
    for y in range(0, height, n_rows):
        strip = picture.crop((0, y, width, min(y + n_rows, height)))
        out[y : y + n_rows] = np.asarray(_opaque(_8_bits(strip)).convert("RGB"))
    return out


_ORIENTATION = 0x0112


def _8_bits(strip: Image.Image) -> Image.Image:
    if not strip.mode.startswith("I"):
        return strip
    # Pillow's own conversion cuts off what is above 255
    return Image.fromarray(np.rint(np.asarray(strip, dtype=np.float64) / 257).astype(np.uint8))


def _opaque(strip: Image.Image) -> Image.Image:
    if not strip.has_transparency_data:
        return strip
    strip = strip.convert("RGBA")  # transparent pixels may have any colour
    return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
