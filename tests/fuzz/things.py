"""Python values that JSON has no word for, said in plain data.

An input of the fuzzer is plain: None, booleans, numbers, strings, bytes, lists, dicts with strings
as keys, and ``Thing``s, which become Python objects where the input is used.
"""

from __future__ import annotations

import base64
import fractions
import io
import json
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

Plain: TypeAlias = Any


@dataclass(frozen=True)
class Thing:
    """An object that is made when it is needed; ``about`` says how."""

    name: str
    about: Plain = None


def _nested(n: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(n):
        value = [value]
    return value


def _circle(_: Plain) -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def _closed_image(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.close()
    return picture


def _closed_file(data: bytes) -> io.BytesIO:
    file = io.BytesIO(data)
    file.close()
    return file


MAKERS: dict[str, Callable[[Any], Any]] = {
    "object": lambda _: object(),
    "type": lambda _: dict,
    "function": lambda _: len,
    "set": set,
    "tuple": tuple,
    "iterator": iter,
    "mapping": UserDict,
    "keys": dict,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "words": lambda data: memoryview(bytes(data)[: len(data) // 4 * 4]).cast("I"),
    "file": io.BytesIO,
    "closed file": _closed_file,
    "text file": io.StringIO,
    "path": Path,
    "complex": lambda _: 1j,
    "fraction": lambda pair: fractions.Fraction(*pair),
    "numpy int": np.int64,
    "numpy float": np.float32,
    "array": lambda about: np.zeros(about[0], dtype=about[1]),
    "picture": lambda about: Image.new(about[0], tuple(about[1])),
    "closed picture": _closed_image,
    "nested": _nested,
    "circle": _circle,
    "long": lambda about: about[0] * about[1],
}


def real(plain: Plain) -> Any:
    """The values that an input stands for.

    >>> real({"a": [Thing("tuple", [1, 2])]})
    {'a': [(1, 2)]}
    """
    if isinstance(plain, Thing):
        return MAKERS[plain.name](real(plain.about))
    if isinstance(plain, dict):
        return {key: real(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [real(value) for value in plain]
    return plain


def to_json(plain: Plain) -> str:
    """Text to keep an input in.

    >>> from_json(to_json([b"x", Thing("object"), float("inf")]))
    [b'x', Thing(name='object', about=None), inf]
    """
    return json.dumps(_spelled(plain), indent=1)


def from_json(text: str) -> Plain:
    """An input that ``to_json`` wrote."""
    return _read(json.loads(text))


def _spelled(plain: Plain) -> Any:
    if isinstance(plain, Thing):
        return {"thing": plain.name, "about": _spelled(plain.about)}
    if isinstance(plain, bytes):
        return {"base64": base64.b64encode(plain).decode()}
    if isinstance(plain, dict):
        return {"dict": {key: _spelled(value) for key, value in plain.items()}}
    if isinstance(plain, list):
        return [_spelled(value) for value in plain]
    return plain


def _read(value: Any) -> Plain:
    if isinstance(value, list):
        return [_read(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "base64" in value:
        return base64.b64decode(value["base64"])
    if "thing" in value:
        return Thing(value["thing"], _read(value["about"]))
    return {key: _read(item) for key, item in value["dict"].items()}
