"""A user's own prompts: a file of JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookm_cpp.brief import brief
from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.evaluation.facts import has_words
from lookm_cpp.files import check_text, read_text
from lookm_cpp.regular_files import path_of, regular_file

KEYS = ("prompt", "images", "contexts", "answer")


@dataclass(frozen=True)
class OwnPrompt:
    """One line of the file.

    Attributes:
        place: File and line, for error messages.
        line: Number of the line, from 1.
        prompt: The user's turn. Each ``<image>`` stands for the next image; without any, the images
            come first.
        images: Image files. A relative path starts from the folder of the JSONL file.
        contexts: Texts at the very beginning that may be evicted like images.
        answer: The right answer, if it is known.
    """

    place: str
    line: int
    prompt: str
    images: tuple[Path, ...] = ()
    contexts: tuple[str, ...] = ()
    answer: str | None = None

    def is_right(self, given: str) -> bool | None:
        """Whether the right answer is in ``given`` (``has_words``); ``None`` if it is not known."""
        return None if self.answer is None else has_words(given, self.answer)


def read_prompts(path: Path) -> list[OwnPrompt]:
    """The prompts of a JSONL file; empty lines count as lines, but not as prompts.

    Raises:
        FileNotFoundError: The file, or an image that it names, does not exist.
        ValueError: The file is not UTF-8 text, a line of it is not a prompt, or it has no prompt.
    """
    lines = read_text(path, "PROMPTS").split("\n")
    found = [
        _prompt(line, number, f"{path.name}, line {number}", path.parent)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not found:
        raise ValueError(
            f'PROMPTS {str(path)!r} has no prompts, expected lines of {{"prompt": ...}}'
        )
    return found


def _prompt(line: str, number: int, place: str, folder: Path) -> OwnPrompt:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'{place} is {brief(line)}, expected JSON such as {{"prompt": "..."}}: {error}'
        ) from error
    if not isinstance(given, dict):
        raise ValueError(
            f'{place} is {brief(given)}, expected an object such as {{"prompt": "..."}}'
        )
    for key in given:
        if key not in KEYS:
            raise ValueError(f"{place} has the key {brief(key)}, expected only {', '.join(KEYS)}")
    if "prompt" not in given:
        raise ValueError(f"{place} has no prompt, expected a text")
    prompt = _text(given["prompt"], f"{place}: prompt")
    images = _texts(given.get("images"), f"{place}: images")
    contexts = _texts(given.get("contexts"), f"{place}: contexts")
    answer = given.get("answer")
    if answer is not None and not _text(answer, f"{place}: answer").strip():
        raise ValueError(f"{place}: answer is {brief(answer)}, expected a text or no such key")
    files = tuple(_image(name, folder, f"{place}: images[{i}]") for i, name in enumerate(images))
    marks = prompt.count(PLACEHOLDER)
    if marks not in (0, len(files)):
        raise ValueError(
            f"{place}: prompt has {marks} {PLACEHOLDER} for {len(files)} images, expected one each"
        )
    return OwnPrompt(place, number, prompt, files, contexts, answer)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {brief(value)}, expected a text")
    check_text(value, name)
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{name} is {brief(value)}, expected a list of texts")
    return tuple(_text(one, f"{name}[{i}]") for i, one in enumerate(value or ()))


def _image(name: str, folder: Path, called: str) -> Path:
    expected = "an image file"
    return regular_file(
        folder / path_of(name, called, expected), f"{called} {brief(name)}", expected
    )
