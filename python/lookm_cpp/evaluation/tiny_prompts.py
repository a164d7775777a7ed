"""Prompts about several pictures that the embedded model can answer, with their right answers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.evaluation.pictures import Kind, Picture, with_article

SIZES = (4, 8, 16)
DESCRIBED_SIZE = 4  # of more pictures the model describes too few rightly with the full cache
TASKS = ("image_needle", "detail", "text_needle", "retrieval", "easy_vqa", "description")

_CORNERS = ("top left", "top right", "bottom left", "bottom right")
_PEOPLE = ("Anna", "Ben", "Carl", "Dora", "Emma", "Fred", "Gina", "Hugo", "Ivan", "Jane")
_SHARES: dict[Kind, float] = {"grid": 0.5, "single": 0.22, "shape": 0.28}


@dataclass(frozen=True)
class TinyQuestion:
    """A question at the end of a context.

    Attributes:
        task: One of ``TASKS``.
        text: With the space that parts it from the last picture.
        answer: The right answer, word for word.
    """

    task: str
    text: str
    answer: str

    def score(self, answer: str) -> float:
        """1 for the right answer word for word, else 0; of a description the share of sentences that are right.

        >>> asked = TinyQuestion("description", "", "Image 1 shows an owl. Image 2 shows a key.")
        >>> asked.score("Image 1 shows an owl. Image 2 shows a bell.")
        0.5
        """
        if self.task != "description":
            return float(answer == self.answer)
        right, given = _sentences(self.answer), _sentences(answer)
        return sum(one == other for one, other in zip(right, given, strict=False)) / len(right)


@dataclass(frozen=True)
class TinyContext:
    """Pictures with texts between them, and questions about them.

    Attributes:
        number: Which one it is; the same number and seed make the same context.
        pictures: In the order of their placeholders.
        text: The user's turn up to and with the last placeholder.
        questions: At most one of each task.
    """

    number: int
    pictures: tuple[Picture, ...]
    text: str
    questions: tuple[TinyQuestion, ...]


def make_context(pool: Sequence[Picture], number: int, seed: int) -> TinyContext:
    """4, 8 or 16 pictures by turns, at least one of each kind, and the codes of one to three persons among them."""
    rng = random.Random(f"lookm eval tiny {seed} {number}")
    size = SIZES[number % len(SIZES)]
    kinds = [*_SHARES, *rng.choices(list(_SHARES), list(_SHARES.values()), k=size - len(_SHARES))]
    rng.shuffle(kinds)
    pictures = tuple(rng.choice([picture for picture in pool if picture.kind == kind]) for kind in kinds)
    codes = {person: str(rng.randint(2000, 9999)) for person in rng.sample(_PEOPLE, 1 + number // len(SIZES) % 3)}
    told = [""] * size
    for person, code in codes.items():
        told[rng.randrange(size)] += f" The code of {person} is {code}."
    text = "".join(f"{line} Image {place}:{PLACEHOLDER}" for place, line in enumerate(told, start=1))
    return TinyContext(number, pictures, text.lstrip(), _questions(rng, pictures, codes))


def _questions(rng: random.Random, pictures: Sequence[Picture], codes: dict[str, str]) -> tuple[TinyQuestion, ...]:
    def one_of(kind: Kind) -> tuple[int, Picture]:
        return rng.choice([(i, picture) for i, picture in enumerate(pictures, start=1) if picture.kind == kind])

    place, single = one_of("single")
    shown = f"Image {place} shows {single.description}."
    questions = [TinyQuestion("image_needle", f" What is in image {place}?", shown)]

    place, grid = one_of("grid")
    corner, name = rng.choice(list(zip(_CORNERS, grid.names, strict=True)))
    shown = f"The {corner} of image {place} shows {with_article(name)}."
    questions.append(TinyQuestion("detail", f" What is at the {corner} of image {place}?", shown))

    person = rng.choice(list(codes))
    told = f"The code of {person} is {codes[person]}."
    questions.append(TinyQuestion("text_needle", f" What is the code of {person}?", told))

    # where an emoji lies is asked of those that occur once: the model confuses the others with the full cache, too
    seen = Counter(name for picture in pictures if picture.kind != "shape" for name in picture.names)
    lone = [
        (i, corner, name)
        for i, picture in enumerate(pictures, start=1)
        if picture.kind == "grid"
        for corner, name in zip(_CORNERS, picture.names, strict=True)
        if seen[name] == 1
    ]
    if lone:
        place, corner, name = rng.choice(lone)
        found = f"The {name} is at the {corner} of image {place}."
        questions.append(TinyQuestion("retrieval", f" Which corner of image {place} shows the {name}?", found))

    place, shape = one_of("shape")
    answer = rng.choice(sorted({answer for _, answer in shape.questions}))
    text = rng.choice([question for question, given in shape.questions if given == answer])
    questions.append(TinyQuestion("easy_vqa", f" In image {place}, {text}", f"The answer is {answer}."))

    if len(pictures) == DESCRIBED_SIZE:
        sentences = (f"Image {i} shows {picture.description}." for i, picture in enumerate(pictures, start=1))
        questions.append(TinyQuestion("description", " Describe all images.", " ".join(sentences)))
    return tuple(questions)


def _sentences(text: str) -> list[str]:
    return text.rstrip(".").split(". ")
