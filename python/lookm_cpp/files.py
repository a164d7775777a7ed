"""Which files a model is made of, and texts from files."""

from __future__ import annotations

import os
from pathlib import Path

from lookm_cpp import _core
from lookm_cpp.regular_files import path_of, read_pipe, regular_file, regular_file_or_pipe

MMPROJ_PATTERN = "mmproj*.gguf"
"""The name by which llama.cpp finds the other parts of a model that is split over several files."""
MAGIC = b"GGUF"


def check_text(word: str, argument: str) -> None:
    """Make sure that the core can take it.

    Raises:
        ValueError: It is not UTF-8: a file's name, or an argument, of other bytes.
    """
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{argument} {word!a} is not UTF-8, expected text that is") from None


def existing_file(path: str | os.PathLike[str], argument: str) -> Path:
    """``path`` as a ``Path``; ``argument`` is the name that an error gives it.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: What is there is no regular file, or the name is not UTF-8.
    """
    file = path_of(path, argument, "a GGUF file")
    check_text(str(file), argument)
    return regular_file(file, f"{argument} {str(file)!r}", "a GGUF file")


def model_parts(model: Path) -> list[Path]:
    """The files that llama.cpp reads when it is given this one: the parts of a split model, or the
    file alone.

    >>> [part.name for part in model_parts(Path("a-00001-of-00002.gguf"))]
    ['a-00001-of-00002.gguf', 'a-00002-of-00002.gguf']
    >>> [part.name for part in model_parts(Path("a.gguf"))]
    ['a.gguf']
    """
    return [Path(part) for part in _core.model_parts(str(model))]


def find_mmproj(model: Path) -> Path:
    """The one multimodal projector that lies beside a model.

    Raises:
        ValueError: There is none, or more than one; or the model is no GGUF file.
    """
    found = sorted(model.parent.glob(MMPROJ_PATTERN))
    if len(found) == 1:
        return found[0]
    with model.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{str(model)!r} is not a GGUF file")
    there = (
        f"there are {', '.join(file.name for file in found)}"
        if found
        else f"there is no {MMPROJ_PATTERN}"
    )
    raise ValueError(
        f"mmproj was not given, and beside {str(model)!r} {there}; expected one, or the name of the projector that "
        "belongs to the model"
    )


def read_text(path: str | os.PathLike[str], argument: str) -> str:
    """The text of a UTF-8 file, a byte order mark left out; ``argument`` is the name that an error
    gives it.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It cannot be read, is empty, or is not UTF-8 text.
    """
    name = f"{argument} {str(path)!r}"
    file = regular_file_or_pipe(path_of(path, name, "a text file"), name, "a text file")
    try:
        text = (read_pipe(file, name) if file.is_fifo() else file.read_bytes()).decode("utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"{name} cannot be read, expected a text file: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8 at byte {error.start}, expected a text file"
        ) from error
    if not text:
        raise ValueError(f"{name} is empty, expected a text file")
    if "\0" in text:
        raise ValueError(f"{name} holds a zero byte, expected a text file")
    return text
