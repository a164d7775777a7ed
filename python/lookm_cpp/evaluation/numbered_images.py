"""Prompts of numbered images with codes told between them, and the questions about these."""

from __future__ import annotations

import random
from collections.abc import Mapping

from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.tiny_prompts import PEOPLE


def numbered_images(rng: random.Random, size: int) -> tuple[str, dict[str, str]]:
    """The text of ``size`` numbered images, and the codes of two people that it tells."""
    codes = {name: str(rng.randint(2000, 9999)) for name in rng.sample(PEOPLE, 2)}
    told = [""] * size
    for name, code in codes.items():
        told[rng.randrange(size)] += f"The code of {name} is {code}.\n"
    text = "".join(f"{line}Image {i}:{PLACEHOLDER}\n" for i, line in enumerate(told, start=1))
    return text, codes


def which_code(rng: random.Random, codes: Mapping[str, str]) -> FactsQuestion:
    """Asks for one of the codes."""
    person = rng.choice(list(codes))
    return FactsQuestion(
        "text_needle",
        f"What is the code of {person}?",
        codes[person],
        begins=f"The code of {person} is",
        max_tokens=10,
        facts=((codes[person],),),
    )


def which_image(name: str, place: int) -> FactsQuestion:
    """Asks for the number of the image that shows something."""
    return FactsQuestion(
        "retrieval",
        f"Which image shows a {name}? Answer with the number of the image.",
        str(place),
        begins="Image",
        max_tokens=4,
        facts=((str(place),),),
    )
