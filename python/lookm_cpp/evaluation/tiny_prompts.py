"""Prompts with several pictures that the embedded model can answer, with their right answers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.evaluation.pictures import Kind, Picture, with_article
from lookm_cpp.evaluation.suite import Context, Question

SIZES = (4, 8, 16)
DESCRIBED_SIZE = 4  # with more pictures, the model describes too few of them correctly
TASKS = ("image_needle", "detail", "text_needle", "retrieval", "easy_vqa", "description")

_CORNERS = ("top left", "top right", "bottom left", "bottom right")
PEOPLE = ("Anna", "Ben", "Carl", "Dora", "Emma", "Fred", "Gina", "Hugo", "Ivan", "Jane")
_SHARES: dict[Kind, float] = {"grid": 0.5, "single": 0.22, "shape": 0.28}


@dataclass(frozen=True)
class TinyContext(Context):
    """Pictures with text between them; ``pictures`` says what they show."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Description(Question):
    """The question what all pictures show; the answer has a sentence for each."""

    def score(self, answer: str) -> float:
        """The fraction of sentences that are right.

        >>> asked = Description("description", "", "Image 1 shows an owl. Image 2 shows a key.")
        >>> asked.score("Image 1 shows an owl. Image 2 shows a bell.")
        0.5
        """
        right, given = (text.rstrip(".").split(". ") for text in (self.answer, answer))
        return sum(one == other for one, other in zip(right, given, strict=False)) / len(right)


def make_context(pool: Sequence[Picture], number: int, seed: int) -> TinyContext:
    """4, 8 or 16 pictures in turn, at least one of each kind, with the codes of 1 to 3 people."""
    rng = random.Random(f"lookm eval tiny {seed} {number}")
    size = SIZES[number % len(SIZES)]
    kinds = [*_SHARES, *rng.choices(list(_SHARES), list(_SHARES.values()), k=size - len(_SHARES))]
    rng.shuffle(kinds)
    pictures = tuple(
        rng.choice([picture for picture in pool if picture.kind == kind]) for kind in kinds
    )
    codes = {
        person: str(rng.randint(2000, 9999))
        for person in rng.sample(PEOPLE, 1 + number // len(SIZES) % 3)
    }
    told = [""] * size
    for person, code in codes.items():
        told[rng.randrange(size)] += f" The code of {person} is {code}."
    text = "".join(
        f"{line} Image {place}:{PLACEHOLDER}" for place, line in enumerate(told, start=1)
    )
    images = tuple(picture.image for picture in pictures)
    return TinyContext(
        number, text.lstrip(), images, (), _questions(rng, pictures, codes), pictures
    )


def _questions(
    rng: random.Random, pictures: Sequence[Picture], codes: dict[str, str]
) -> tuple[Question, ...]:
    def one_of(kind: Kind) -> tuple[int, Picture]:
        return rng.choice(
            [(i, picture) for i, picture in enumerate(pictures, start=1) if picture.kind == kind]
        )

    place, single = one_of("single")
    shown = f"Image {place} shows {single.description}."
    questions = [Question("image_needle", f" What is in image {place}?", shown)]

    place, grid = one_of("grid")
    corner, name = rng.choice(list(zip(_CORNERS, grid.names, strict=True)))
    shown = f"The {corner} of image {place} shows {with_article(name)}."
    questions.append(Question("detail", f" What is at the {corner} of image {place}?", shown))

    person = rng.choice(list(codes))
    told = f"The code of {person} is {codes[person]}."
    questions.append(Question("text_needle", f" What is the code of {person}?", told))

    # Only emoji that occur once are asked for. The model confuses the others even with the full
    # cache.
    seen = Counter(
        name for picture in pictures if picture.kind != "shape" for name in picture.names
    )
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
        questions.append(
            Question("retrieval", f" Which corner of image {place} shows the {name}?", found)
        )

    place, shape = one_of("shape")
    answer = rng.choice(sorted({answer for _, answer in shape.questions}))
    text = rng.choice([question for question, given in shape.questions if given == answer])
    questions.append(Question("easy_vqa", f" In image {place}, {text}", f"The answer is {answer}."))

    if len(pictures) == DESCRIBED_SIZE:
        sentences = (
            f"Image {i} shows {picture.description}." for i, picture in enumerate(pictures, start=1)
        )
        questions.append(Description("description", " Describe all images.", " ".join(sentences)))
    return tuple(questions)
