"""The files of a model, and text files."""

from __future__ import annotations

import os
from pathlib import Path

from lookm_cpp import _core
from lookm_cpp.regular_files import path_of, read_pipe, regular_file, regular_file_or_pipe

MMPROJ_PATTERN = "mmproj*.gguf"
"""The names by which a projector is found in a model's folder."""
MAGIC = b"GGUF"


def check_text(word: str, argument: str) -> None:
    """Check that the core can take a text.

    Raises:
        ValueError: It is not valid Unicode, such as a file name that is not UTF-8.
    """
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{argument} {word!a} is not UTF-8, expected UTF-8 text") from None


def existing_file(path: str | os.PathLike[str], argument: str) -> Path:
    """A path to a regular file; ``argument`` is its name in error messages.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not a regular file, or its name is not UTF-8.
    """
    file = path_of(path, argument, "a GGUF file")
    check_text(str(file), argument)
    return regular_file(file, f"{argument} {str(file)!r}", "a GGUF file")


def model_parts(model: Path) -> list[Path]:
    """The files that llama.cpp reads for this one: all parts of a split model, or the file alone.

    >>> [part.name for part in model_parts(Path("a-00001-of-00002.gguf"))]
    ['a-00001-of-00002.gguf', 'a-00002-of-00002.gguf']
    >>> [part.name for part in model_parts(Path("a.gguf"))]
    ['a.gguf']
    """
    return [Path(part) for part in _core.model_parts(str(model))]


def find_mmproj(model: Path) -> Path:
    """The only projector in the folder of a model.

    Raises:
        ValueError: There is none, or more than one, or the model is not a GGUF file.
    """
    found = sorted(model.parent.glob(MMPROJ_PATTERN))
    if len(found) == 1:
        return found[0]
    with model.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{str(model)!r} is not a GGUF file")
    there = ", ".join(file.name for file in found) if found else f"no {MMPROJ_PATTERN}"
    raise ValueError(
        f"mmproj was not given, and the folder of {str(model)!r} has {there}; "
        "expected exactly one, or mmproj= with the model's projector"
    )


def read_text(path: str | os.PathLike[str], argument: str) -> str:
    """The text of a UTF-8 file, without a byte order mark; ``argument`` is its name in errors.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It cannot be read, is empty, or is not UTF-8 text.
    """
    name = f"{argument} {str(path)!r}"
    file = regular_file_or_pipe(path_of(path, name, "a text file"), name, "a text file")
    try:
        data = read_pipe(file, name) if file.is_fifo() else file.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{name} cannot be read, expected a text file: {error.strerror}"
        ) from error
    return text_of(data, name)


def text_of(data: bytes, name: str, expected: str = "a text file") -> str:
    """Decode UTF-8 without its byte order mark; ``name`` is what errors call the text.

    Raises:
        ValueError: There are no bytes, they are not UTF-8, or one is zero.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8 at byte {error.start}, expected {expected}"
        ) from error
    if not text:
        raise ValueError(f"{name} is empty, expected {expected}")
    if "\0" in text:
        raise ValueError(f"{name} contains a zero byte, expected {expected}")
    return text
