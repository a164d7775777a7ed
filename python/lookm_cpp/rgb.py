"""From a Pillow image to RGB, without a second copy of it at full size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

_16_BITS_AS_32 = ("PNG", "PPM")
"""Formats whose grey pixels of 16 bits Pillow may give as mode I."""

_STRIP_PIXELS = 1 << 15
"""What is converted at once."""


def check_mode(picture: Image.Image, label: str) -> None:
    """Make sure that it is known how bright a pixel is.

    Raises:
        ValueError: Its numbers have 32 bits or a sign, and white may be any of them.
    """
    if picture.mode in ("F", "I") and (picture.mode == "F" or picture.format not in _16_BITS_AS_32):
        raise ValueError(
            f"{label} has 32 bits a pixel, or signed numbers (mode {picture.mode!r}), expected 8 or 16 bits a channel"
        )


def to_rgb(picture: Image.Image, *, own: bool) -> npt.NDArray[np.uint8]:
    """Pixels of the upright image, ``[height, width, 3]``; what is transparent is white.

    Args:
        picture: Any mode that ``check_mode`` lets pass.
        own: Whether nobody else needs it: then it may be changed.
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
    strip = strip.convert("RGBA")  # colours that nobody sees may lie below
    return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
