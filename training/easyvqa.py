"""Pictures, questions and attributes of the easy-VQA data set (PyPI package `easy-vqa`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import easy_vqa
import numpy as np
from PIL import Image

from .render import Split
from .words import COLOURS, SHAPES


@dataclass
class ShapePicture:
    """One picture's questions with answers, and what they tell about it."""

    questions: list[tuple[str, str]] = field(default_factory=list)
    colour: str | None = None
    shape: str | None = None


def load(split: Split, size: int) -> tuple[np.ndarray, list[ShapePicture]]:
    """Pictures uint8 [N, size, size, 3] of the package's split, and their entries.

    Pictures whose colour or shape does not follow from their questions are left out; the package
    stores neither.
    """
    train = split == "train"
    paths = easy_vqa.get_train_image_paths() if train else easy_vqa.get_test_image_paths()
    entries = {number: ShapePicture() for number in sorted(paths)}
    for question, answer, number in zip(*_questions(split), strict=True):
        entries[number].questions.append((question, answer))
    for entry in entries.values():
        entry.colour, entry.shape = _attributes(entry.questions)
    known = [number for number, entry in entries.items() if entry.colour and entry.shape]
    pictures = np.stack([_open(paths[number], size) for number in known])
    return pictures, [entries[number] for number in known]


def question_texts() -> list[str]:
    """All different question texts of the training split, sorted."""
    return sorted(set(_questions("train")[0]))


def _questions(split: Split) -> tuple[list[str], list[str], list[int]]:
    """Texts, answers and picture numbers, aligned."""
    return easy_vqa.get_train_questions() if split == "train" else easy_vqa.get_test_questions()


def _open(path: str, size: int) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def _attributes(questions: list[tuple[str, str]]) -> tuple[str | None, str | None]:
    """Colour and shape, from an answer that names them or a question that an answer confirms."""
    stated = [answer for _, answer in questions]
    confirmed = [
        word
        for question, answer in questions
        if _confirms(question, answer)
        for word in _words(question)
    ]
    found = stated + confirmed
    colour = next((word for word in found if word in COLOURS), None)
    shape = next((word for word in found if word in SHAPES), None)
    return colour, shape


def _confirms(question: str, answer: str) -> bool:
    """True if the picture has what the question mentions; "no" to a negation counts as yes."""
    if answer not in ("yes", "no"):
        return True
    negated = bool({"not", "no"} & set(_words(question)))
    return (answer == "yes") != negated


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())
