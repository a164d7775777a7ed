"""Encoded pictures with something wrong: in a chunk, a segment, a header, or any byte."""

from __future__ import annotations

import base64
import functools
import io
import random
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lookm_cpp import Llava
from lookm_cpp.images import MAX_PIXELS, load_image
from PIL import Image, features

from fuzz.bytes_changed import EDGES, changed
from fuzz.embedded_model import EmbeddedModel
from fuzz.target import Library, LibraryTarget
from fuzz.things import Plain, Thing

PNG_HEAD = 8
SIZES = (0, 1, 7, 64, 255, 65535, 65536, 13377, 100_000, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


@functools.cache
def whole_pictures() -> tuple[bytes, ...]:
    """Right ones, of each format and mode that Pillow writes and we read."""
    noise = random.Random(0)
    rgb = Image.frombytes("RGB", (23, 17), noise.randbytes(23 * 17 * 3))
    found: list[bytes] = []
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        found.append(_written(rgb.convert("L" if mode == "I;16" else mode).convert(mode), "PNG"))
    found += [_written(rgb, "PNG", interlace=1), _written(rgb.convert("P"), "GIF")]
    found.append(
        _written(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90), rgb.rotate(180)])
    )
    for mode in ("L", "RGB", "CMYK"):
        found += [_written(rgb.convert(mode), "JPEG"), _written(rgb.convert(mode), "TIFF")]
    found.append(_written(rgb, "JPEG", progressive=True, exif=_exif()))
    found += [
        _written(rgb, "TIFF", compression=way)
        for way in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")
    ]
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        found.append(_written(rgb.convert(mode), "BMP"))
    for mode in ("1", "L", "RGB"):
        found.append(_written(rgb.convert(mode), "PPM"))
    for mode in ("L", "P", "RGB", "RGBA"):
        found.append(
            _written(rgb.convert(mode), "TGA", compression="tga_rle" if mode == "RGB" else None)
        )
    found.append(_written(rgb, "MPO", save_all=True, append_images=[rgb.rotate(90)]))
    if features.check("webp"):
        found += [_written(rgb, "WEBP"), _written(rgb.convert("RGBA"), "WEBP", lossless=True)]
        found.append(_written(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]))
    if features.check("jpg_2000"):
        found += [_written(rgb, "JPEG2000"), _written(rgb.convert("RGBA"), "JPEG2000")]
    if features.check("avif"):
        found.append(_written(rgb, "AVIF"))
    return tuple(found)


def _written(picture: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def spoiled(rng: random.Random) -> bytes:
    """A picture with something wrong."""
    data = rng.choice(whole_pictures())
    if rng.random() < 0.5 and data[:4] == b"\x89PNG":
        return _png(data, rng)
    if rng.random() < 0.4 and data[:2] == b"\xff\xd8":
        return _jpeg(data, rng)
    if rng.random() < 0.05:
        return data[: rng.randrange(len(data))] + rng.choice(whole_pictures())
    return changed(data, rng, rng.choice((1, 1, 2, 4, 16)))


def _png(data: bytes, rng: random.Random) -> bytes:
    """One chunk is another, with a checksum that is right."""
    chunks: list[tuple[bytes, bytes]] = []
    at = PNG_HEAD
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(rng.choice((1, 1, 2))):
        i = rng.randrange(len(chunks))
        kind, body = chunks[i]
        what = rng.randrange(6)
        if what == 0 and kind == b"IHDR":
            width, height = rng.choice(SIZES), rng.choice((17, *SIZES))
            chunks[i] = (kind, struct.pack(">II", width, height) + body[8:])
        elif what == 1:
            chunks.insert(rng.randrange(len(chunks) + 1), chunks[i])
        elif what == 2 and len(chunks) > 1:
            del chunks[i]
        elif what == 3:
            name = rng.choice(
                (b"tRNS", b"PLTE", b"iCCP", b"zTXt", b"eXIf", b"acTL", b"fcTL", b"gAMA", b"IEND")
            )
            chunks.insert(rng.randrange(len(chunks) + 1), (name, changed(body, rng)))
        elif what == 4 and kind == b"IDAT":
            chunks[i] = (kind, zlib.compress(changed(_unpacked(body), rng)))
        else:
            chunks[i] = (kind, changed(body, rng))
    parts = [
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks
    ]
    return data[:PNG_HEAD] + b"".join(parts)


def _unpacked(body: bytes) -> bytes:
    """A chunk's pixels; nothing where an earlier change has spoiled them."""
    try:
        return zlib.decompress(body)
    except zlib.error:
        return b""


def _jpeg(data: bytes, rng: random.Random) -> bytes:
    """A segment has another length, marker or content, or is not there."""
    starts = [i for i in range(len(data) - 4) if data[i] == 0xFF and data[i + 1] not in (0, 0xFF)]
    at = rng.choice(starts)
    what = rng.randrange(4)
    if what == 0:
        return data[: at + 2] + rng.choice(EDGES)[:2].ljust(2, b"\0") + data[at + 4 :]
    if what == 1:
        return data[: at + 1] + rng.randbytes(1) + data[at + 2 :]
    (length,) = struct.unpack_from(">H", data, at + 2)
    if what == 2:
        return data[:at] + data[at + 2 + length :]
    return data[:at] + changed(data[at : at + 2 + length], rng) + data[at + 2 + length :]


def _form(data: bytes, rng: random.Random) -> Plain:
    """As a user may hand it over."""
    kind = rng.randrange(12)
    if kind == 0:
        return Thing("file", data)
    if kind == 1:
        return Thing(rng.choice(("bytearray", "memoryview")), data)
    if kind == 2:
        return base64.b64encode(data).decode()
    if kind == 3:
        uri = "data:image/png;base64," + base64.b64encode(data).decode()
        return "".join(_letter(c, rng) for c in uri) if rng.random() < 0.3 else uri
    if kind == 4:
        return {"url": Thing("file", data)}
    return data


def _letter(letter: str, rng: random.Random) -> str:
    return letter if rng.random() < 0.99 else rng.choice(("", "\n", "%", "é", letter * 2, "="))


class _Pictures(EmbeddedModel):
    documented = (FileNotFoundError,)  # base64 text that is none is taken for a name

    def take(self, given: Any) -> None:
        load_image(given["image"], "image 1", given.get("max_pixels") or MAX_PIXELS)
        if given.get("ask"):
            self.llm.ask("What is in image 1?", given["image"], max_tokens=1)


class Pictures(LibraryTarget):
    name = "pictures"

    def make(self, rng: random.Random) -> Plain:
        image = _form(spoiled(rng), rng)
        # decoding what says that it is huge takes a while, so it is allowed seldom
        limit = None if rng.random() < 0.02 else 1 << 20
        return {"image": image, "max_pixels": limit, "ask": rng.random() < 0.3}

    @contextmanager
    def library(self, folder: Path) -> Iterator[Library]:
        with Llava.embedded(max_pixels=1 << 20) as llm:
            yield _Pictures(llm)
