"""Images in every form that a prompt accepts, converted to RGB arrays."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from lookm_cpp.brief import brief
from lookm_cpp.image_bytes import bytes_or_path, plain_base64
from lookm_cpp.known_images import Known, KnownImages, digest_of
from lookm_cpp.rgb import check_mode, to_rgb
from lookm_cpp.sizes import index

ImageLike: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Image.Image
    | npt.NDArray[np.uint8]
)
"""An image, in one of these forms.

Encoded: a file path, a ``file://`` or ``data:`` URI, base64 text, bytes, or an open binary file.
Decoded: a PIL image, or a NumPy array of bytes, ``[height, width, 3]`` RGB,
``[height, width, 4]`` RGBA or ``[height, width]`` grey.
"""

Images: TypeAlias = Sequence[ImageLike] | ImageLike | None
"""Several images, one, or none."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA")
"""The formats that Pillow may read.

Their headers state the size of the image, and Pillow decodes them itself. For others, such as
EPS, it would start a program.
"""

MAX_PIXELS = 8192 * 8192
"""The default of ``max_pixels``: enough for 64-megapixel cameras.

Decoding takes seven bytes a pixel (WebP 16, JPEG 2000 19), which is 450 MiB for such an image.
"""

MOST_PIXELS = 178_956_970
"""The largest allowed ``max_pixels``, above which Pillow reports a decompression bomb."""

_KNOWN = KnownImages()

TAKEN = "a path, URI, base64 text, bytes, open file, PIL image or NumPy array"


def image_list(images: Images) -> list[ImageLike]:
    """A list of images, from one, several or none.

    Raises:
        TypeError: The argument is neither an image nor several.

    >>> image_list("a.png"), image_list(["a.png", "b.png"]), image_list(None)
    (['a.png'], ['a.png', 'b.png'], [])
    """
    if images is None:
        return []
    one = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image, np.ndarray, Mapping)
    if isinstance(images, one) or hasattr(images, "read"):
        return [cast("ImageLike", images)]
    try:
        return list(images)
    except TypeError:
        raise TypeError(
            f"images is {brief(images)} of type {type(images).__name__}, "
            f"expected an image or several: {TAKEN}"
        ) from None


def pixel_limit(argument: str, pixels: int) -> int:
    """Check a maximum number of pixels.

    Raises:
        ValueError: It is not a whole number, or not a possible one.
    """
    if not 1 <= index(argument, pixels) <= MOST_PIXELS:
        raise ValueError(f"{argument} is {pixels}, expected 1 to {MOST_PIXELS}")
    return pixels


class Picture:
    """An image that is decoded when its pixels are requested, and not kept afterwards.

    Its header is checked at once. It is turned upright according to its EXIF data. Transparent
    pixels become white. Of an animation, the first frame is used. Nothing is fetched over the
    network.

    Args:
        image: The image, or where it is.
        name: Its name in error messages, such as ``image 2``.
        max_pixels: Maximum number of pixels.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is empty, not an image in one of ``FORMATS``, too large, a network address,
            or has 32-bit pixels, for which it is unknown which value is white.
        TypeError: It is not an ``ImageLike``.
    """

    def __init__(self, image: ImageLike, name: str, max_pixels: int = MAX_PIXELS) -> None:
        if isinstance(image, Mapping):  # the form of OpenAI's clients
            image = image.get("url", image)
        self._label = f"{name} {_describe(image)}"
        self._max_pixels = max_pixels
        self._source = self._checked(image)
        self._decoded: tuple[bytes, int, int] | None = None

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The pixels in RGB, ``[height, width, 3]``.

        Raises:
            ValueError: The image is damaged, or its file has changed.
        """
        if isinstance(self._source, np.ndarray):
            return self._source
        if isinstance(self._source, Image.Image):
            return self._rgb(self._source, own=False)
        key = self._key()
        with self._opened(self._source) as picture:
            pixels = self._rgb(picture, own=True)
        self._decoded = (key, pixels.shape[1], pixels.shape[0])
        return pixels

    def known(self) -> Known | None:
        """What ``pixels`` would return, if that is known without decoding the image.

        Raises:
            ValueError: The file cannot be read any more.
        """
        if isinstance(self._source, np.ndarray):
            height, width, _ = self._source.shape
            return Known(digest_of(self._source.tobytes()).hex(), width, height)
        return None if isinstance(self._source, Image.Image) else _KNOWN.get(self._key())

    def remember(self, digest: str) -> None:
        """Tell the digest of what ``pixels`` returned, for ``known`` of later images."""
        if self._decoded is not None:
            key, width, height = self._decoded
            if self._key() == key:  # else the file changed meanwhile
                _KNOWN.put(key, Known(digest, width, height))

    def encoded(self) -> bytes:
        """The image as a file's bytes: as it was given, or PNG if it was given decoded.

        Raises:
            ValueError: The image is damaged, or its file has changed.
        """
        if isinstance(self._source, bytes):
            return self._source
        if isinstance(self._source, Path):
            with self._opened(self._source):
                return self._source.read_bytes()
        out = io.BytesIO()
        Image.fromarray(self.pixels()).save(out, "PNG", compress_level=1)
        return out.getvalue()

    def _key(self) -> bytes:
        assert isinstance(self._source, (bytes, Path))
        try:
            return digest_of(self._source)
        except OSError as error:
            raise ValueError(
                f"{self._label} cannot be read, expected an image file: {error.strerror}"
            ) from error

    def _checked(self, image: ImageLike) -> bytes | Path | Image.Image | npt.NDArray[np.uint8]:
        if isinstance(image, np.ndarray):
            return self._array(image)
        if isinstance(image, Image.Image):
            if isinstance(image, ImageFile.ImageFile) and image.format not in FORMATS:
                raise ValueError(
                    f"{self._label} has the format {image.format}, for which Pillow may start a "
                    f"program; expected one of {', '.join(FORMATS)}, or image.convert('RGB')"
                )
            self._check(image)
            return image
        try:
            source = bytes_or_path(image, self._label)
        except FileNotFoundError:
            source = plain_base64(image)
            if source is None or not self._is_image(source):
                raise
        if source is None:
            raise TypeError(f"{self._label} is of type {type(image).__name__}, expected {TAKEN}")
        with self._opened(source):
            return source

    def _is_image(self, data: bytes) -> bool:
        try:
            with self._opened(data):
                return True
        except ValueError:
            return False

    def _array(self, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        height, width, *channels = array.shape if array.ndim in (2, 3) else (0, 0, 0)
        if array.dtype != np.uint8 or channels not in ([], [3], [4]) or not height or not width:
            raise ValueError(
                f"{self._label} has shape {array.shape} of {array.dtype}, "
                "expected uint8 [height, width, 3]"
            )
        self._check_size(width, height)
        return array if channels == [3] else to_rgb(Image.fromarray(array), own=True)

    @contextmanager
    def _opened(self, source: bytes | Path) -> Iterator[Image.Image]:
        """Open an encoded image and check its header; its pixels are read later."""
        try:
            file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        except OSError as error:
            raise ValueError(
                f"{self._label} cannot be read, expected an image file: {error.strerror}"
            ) from error
        with file:
            if not file.read(1):
                raise ValueError(f"{self._label} is empty (0 bytes), expected an image")
            try:
                # Pillow warns above half of its own limit; the limit here may be lower or higher.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                    picture = Image.open(file, formats=_formats())
            except Image.DecompressionBombError as error:
                raise ValueError(
                    f"{self._label} is too large, expected at most {self._most()}: {error}"
                ) from error
            except MemoryError:
                raise
            # Pillow's readers raise anything from SyntaxError to struct.error.
            except Exception as error:
                raise ValueError(
                    f"{self._label} is not a readable image, expected one of {', '.join(FORMATS)}"
                ) from error
            with picture:
                self._check(picture)
                yield picture

    def _check(self, picture: Image.Image) -> None:
        self._check_size(*picture.size)
        check_mode(picture, self._label)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise ValueError(
                f"{self._label} has {width} x {height} pixels, expected at most {self._most()}"
            )
        if width * height == 0:
            raise ValueError(f"{self._label} has {width} x {height} pixels, expected at least one")

    def _most(self) -> str:
        return f"{self._max_pixels} pixels (max_pixels)"

    def _rgb(self, picture: Image.Image, *, own: bool) -> npt.NDArray[np.uint8]:
        try:
            return to_rgb(picture, own=own)
        except MemoryError:
            raise
        except Exception as error:
            why = str(error) or type(error).__name__
            raise ValueError(
                f"{self._label} is damaged, expected a complete image: {why}"
            ) from error


def load_image(image: ImageLike, name: str, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode an image; see ``Picture``.

    >>> load_image(Image.new("L", (4, 3), 255), "white").shape
    (3, 4, 3)
    """
    return Picture(image, name, max_pixels).pixels()


def _formats() -> list[str]:
    """Those of ``FORMATS`` that this Pillow can read."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _describe(image: object) -> str:
    if isinstance(image, Image.Image):
        return "(PIL image)"
    if isinstance(image, np.ndarray):
        return "(NumPy array)"
    if isinstance(image, (bytes, bytearray)):
        return f"({len(image)} bytes)"
    if isinstance(image, memoryview):
        return f"({image.nbytes} bytes)"
    if hasattr(image, "read"):
        return f"(open file {str(getattr(image, 'name', ''))!r})"
    text = str(image) if isinstance(image, (str, os.PathLike)) else brief(image)
    return repr(text if len(text) <= 200 else f"{text[:40]}...{text[-40:]}")
