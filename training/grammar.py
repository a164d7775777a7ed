"""The prompt grammar: several pictures with codes between them, and questions about them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .data import Picture, Pool
from .words import CORNERS, PEOPLE, enumerate_nouns, with_article

TASKS = ("local", "corner", "needle", "evqa", "code", "describe")
USER, ASSISTANT = "USER:", " ASSISTANT:"
# Share of each kind of picture in a prompt.
_KINDS = {"grid": 0.50, "single": 0.22, "shape": 0.28}


@dataclass(frozen=True)
class Question:
    """A question behind a context. `variant` splits a task into what is reported separately."""

    task: str
    text: str
    answer: str
    variant: str

    @property
    def prompt(self) -> str:
        """The text behind the last picture, up to where the model answers."""
        return self.text + ASSISTANT


@dataclass(frozen=True)
class Context:
    """Pictures (numbers in the pool), the text before each, and every question by task."""

    pictures: list[int]
    leads: list[str]
    questions: dict[str, list[Question]]


class Grammar:
    """Draws contexts over one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._numbers = {kind: pool.of_kind(kind) for kind in _KINDS}

    def context(self, rng: random.Random, size: int, people: int) -> Context:
        """A context of `size` pictures in which the codes of `people` persons are told.

        No space or line break touches a picture, so that the text pieces are tokenized alike here
        and in llama.cpp.
        """
        kinds = rng.choices(list(_KINDS), list(_KINDS.values()), k=size)
        pictures = [rng.choice(self._numbers[kind]) for kind in kinds]
        told: list[list[str]] = [[] for _ in pictures]
        codes = {person: str(rng.randint(2000, 9999)) for person in rng.sample(PEOPLE, people)}
        for person, code in codes.items():
            told[rng.randrange(size)].append(f" The code of {person} is {code}.")
        leads = [f"{''.join(lines)} Image {place}:" for place, lines in enumerate(told, start=1)]
        leads[0] = USER + leads[0]
        return Context(
            pictures, leads, self._questions(rng, [self.pool.pictures[n] for n in pictures], codes)
        )

    def _questions(
        self, rng: random.Random, pictures: Sequence[Picture], codes: Mapping[str, str]
    ) -> dict[str, list[Question]]:
        questions: dict[str, list[Question]] = {task: [] for task in TASKS}
        seen = [name for picture in pictures if picture.kind != "shape" for name in picture.names]
        for place, picture in enumerate(pictures, start=1):
            for question in _picture_questions(rng, place, picture, seen):
                questions[question.task].append(question)
        variant = "code, 1 name" if len(codes) == 1 else "code, 2-3 names"
        for person, code in codes.items():
            answer = f" The code of {person} is {code}."
            questions["code"].append(
                Question("code", f" What is the code of {person}?", answer, variant)
            )
        sentences = [
            f" Image {place} shows {describe(picture)}."
            for place, picture in enumerate(pictures, start=1)
        ]
        questions["describe"].append(
            Question("describe", " Describe all images.", "".join(sentences), "describe")
        )
        return questions


def describe(picture: Picture) -> str:
    """What a picture shows: "an owl", "a red circle", "a cat, a dog, a key and a bus"."""
    return (
        f"a {' '.join(picture.names)}"
        if picture.kind == "shape"
        else enumerate_nouns(picture.names)
    )


def _picture_questions(
    rng: random.Random, place: int, picture: Picture, seen: Sequence[str]
) -> list[Question]:
    """The questions about the picture at `place` (from 1); `seen` are all emoji of the prompt."""
    if picture.kind == "grid":
        return [
            question
            for corner, name in zip(CORNERS, picture.names, strict=True)
            for question in _corner_questions(place, corner, name, repeated=seen.count(name) > 1)
        ]
    if picture.kind == "single":
        answer = f" Image {place} shows {with_article(picture.names[0])}."
        return [Question("needle", f" What is in image {place}?", answer, "needle")]
    # One question for each different answer, or else yes and no would make up most of them.
    by_answer: dict[str, list[str]] = {}
    for text, answer in picture.questions:
        by_answer.setdefault(answer, []).append(text)
    return [
        Question(
            "evqa", f" In image {place}, {rng.choice(texts)}", f" The answer is {answer}.", "evqa"
        )
        for answer, texts in by_answer.items()
    ]


def _corner_questions(
    place: int, corner: str, name: str, repeated: bool
) -> tuple[Question, Question]:
    """What is there, and where is it?

    The second is ambiguous to a model that ignores the picture's number.
    """
    shown = f" The {corner} of image {place} shows {with_article(name)}."
    found = f" The {name} is at the {corner} of image {place}."
    variant = "corner, repeated emoji" if repeated else "corner, unique emoji"
    return (
        Question("local", f" What is at the {corner} of image {place}?", shown, "local"),
        Question("corner", f" Which corner of image {place} shows the {name}?", found, variant),
    )


def pick(
    rng: random.Random, context: Context, count: int, weights: Mapping[str, float]
) -> list[Question]:
    """Up to `count` different questions, the tasks drawn by weight."""
    tasks = [task for task in TASKS if context.questions[task] and weights.get(task, 0) > 0]
    chosen: dict[Question, None] = {}
    for task in rng.choices(tasks, [weights[task] for task in tasks], k=3 * count):
        chosen.setdefault(rng.choice(context.questions[task]))
        if len(chosen) == count:
            break
    return list(chosen)
