"""Images in every form that a prompt may hold, as RGB arrays."""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image
"""A file path, a ``file://`` or ``data:`` URI, an encoded image's bytes, or a PIL image."""

Images: TypeAlias = Sequence[ImageLike] | ImageLike | None
"""Several, one, or none."""

MAX_PIXELS = 178_956_970
"""Where Pillow, too, calls an image a decompression bomb: twice its ``MAX_IMAGE_PIXELS``."""

_16_BITS_AS_32 = ("PNG", "PPM")
"""Formats whose grey pixels of 16 bits Pillow may give as mode I."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def image_list(images: Images) -> list[ImageLike]:
    """Each image by itself.

    >>> image_list("a.png"), image_list(["a.png", "b.png"]), image_list(None)
    (['a.png'], ['a.png', 'b.png'], [])
    """
    if images is None:
        return []
    if isinstance(images, (str, bytes, os.PathLike, Image.Image)):
        return [images]
    return list(images)


def load_image(image: ImageLike, name: str) -> npt.NDArray[np.uint8]:
    """Decode an image and turn it upright as its EXIF data says. Nothing is fetched over the network.

    What is transparent shows white; of an animation the first picture is taken.

    Args:
        image: Where the image is, or the image itself.
        name: What errors call it, such as ``images[2]``.

    Returns:
        RGB, ``[height, width, 3]``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, not an image, damaged, larger than ``MAX_PIXELS``, a network address, or has
            pixels of 32 bits, whose white is anywhere.
        TypeError: It is none of the forms of ``ImageLike``.

    >>> load_image(Image.new("L", (4, 3), 255), "white").shape
    (3, 4, 3)
    """
    label = f"{name} {_describe(image)}"
    if isinstance(image, Image.Image):
        return _rgb(image, label)
    data = _read(image, label)
    if not data:
        raise ValueError(f"{label} is empty (0 bytes), expected an image")
    try:
        picture = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{label} is too large, expected at most {MAX_PIXELS} pixels: {error}") from error
    except Exception as error:  # Pillow's readers raise anything from SyntaxError to struct.error
        raise ValueError(f"{label} is not a readable image, expected one that Pillow opens") from error
    with picture:
        return _rgb(picture, label)


def _rgb(picture: Image.Image, label: str) -> npt.NDArray[np.uint8]:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{label} has {width} x {height} pixels, expected at most {MAX_PIXELS} in all")
    if width * height == 0:
        raise ValueError(f"{label} has {width} x {height} pixels, expected at least one")
    if picture.mode in ("F", "I") and (picture.mode == "F" or picture.format not in _16_BITS_AS_32):
        raise ValueError(f"{label} has 32 bits a pixel (mode {picture.mode!r}), expected 8 or 16 bits a channel")
    try:
        if picture.mode.startswith("I"):  # Pillow's own conversion cuts off what is above 255
            grey = np.asarray(ImageOps.exif_transpose(picture), dtype=np.float64) / 257
            picture = Image.fromarray(np.rint(grey).astype(np.uint8))
        upright = ImageOps.exif_transpose(picture)
        if upright.has_transparency_data:  # colours that nobody sees may lie below
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        return np.asarray(upright.convert("RGB"), dtype=np.uint8)
    except Exception as error:
        raise ValueError(f"{label} is damaged, expected a complete image: {error}") from error


def _describe(image: ImageLike) -> str:
    if isinstance(image, Image.Image):
        return "(PIL image)"
    if isinstance(image, bytes):
        return f"({len(image)} bytes)"
    text = str(image)
    return repr(text if len(text) <= 200 else f"{text[:40]}...{text[-40:]}")


def _read(image: str | os.PathLike[str] | bytes, label: str) -> bytes:
    if isinstance(image, bytes):
        return image
    if not isinstance(image, (str, os.PathLike)):
        raise TypeError(f"{label} is of type {type(image).__name__}, expected a path, URI, bytes or PIL image")
    if isinstance(image, str) and image[:5].lower() == "data:":
        return _data_uri(image, label)
    path = _path(image, label)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{label} does not exist, expected an image file") from None
    except OSError as error:
        raise ValueError(f"{label} cannot be read, expected an image file: {error.strerror}") from error


def _path(image: str | os.PathLike[str], label: str) -> Path:
    scheme = _SCHEME.match(image) if isinstance(image, str) else None
    if scheme is None:
        return Path(image)
    uri = urllib.parse.urlsplit(str(image))
    if scheme[1].lower() != "file" or uri.netloc not in ("", "localhost"):
        raise ValueError(
            f"{label} is a network address, expected a file path, file:// or data: URI; images are never downloaded"
        )
    return Path(urllib.request.url2pathname(uri.path))


def _data_uri(uri: str, label: str) -> bytes:
    header, comma, payload = uri.partition(",")
    if not comma:
        raise ValueError(f"{label} has no comma, expected data:image/TYPE;base64,DATA")
    data = urllib.parse.unquote_to_bytes(payload)
    if not header.endswith(";base64"):
        return data
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{label} is not base64, expected data:image/TYPE;base64,DATA: {error}") from error
