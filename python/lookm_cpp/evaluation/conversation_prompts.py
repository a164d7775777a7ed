"""Conversations about pictures and notes, for any chat model that can name what pictures show."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.pictures import Picture
from lookm_cpp.evaluation.suite import Context
from lookm_cpp.evaluation.tiny_prompts import PEOPLE

N_TURNS = 6
PICTURES_A_TURN = 2
LATER = 4
"""Number of turns after which a picture or a note is asked about again."""
TASKS = ("new", "asked_again", "fact_again")

_FILLER = (
    "The meeting began at ten and ended after lunch.",
    "Most of the time was spent on the new timetable.",
    "Somebody had left the window open all night.",
    "There was tea, and later also cake.",
    "Nothing was decided about the garden.",
    "The heating will be checked next week.",
    "Two chairs are missing from the hall.",
    "The choir sang at the end.",
)


@dataclass(frozen=True)
class ChatTurn:
    """One turn of the user.

    Attributes:
        text: The turn; each ``<image>`` stands for the next image.
        images: The images.
        context: A text before the turn that may be evicted like images; empty for none.
        question: What its answer is judged by. A task may occur several times in a conversation:
            the score of a conversation is then their mean.
    """

    text: str
    images: tuple[Image.Image, ...]
    context: str
    question: FactsQuestion


@dataclass(frozen=True)
class Conversation(Context):
    """A context that is told and asked about in ``turns``."""

    turns: tuple[ChatTurn, ...]


def make_conversation(pool: Sequence[Picture], number: int, seed: int) -> Conversation:
    """Six turns.

    Each of the first four brings two pictures of single things and asks about one of them
    (``new``), the first two bring a note as well. The fifth turn asks about the other picture of
    the first (``asked_again``), and the sixth about the note of the second (``fact_again``). What
    is asked there was not asked before, so no earlier answer in the cache gives it away.

    Raises:
        ValueError: The pool shows too few single things.
    """
    rng = random.Random(f"lookm eval conversations {seed} {number}")
    shown = _different(rng, pool, (N_TURNS - 2) * PICTURES_A_TURN)
    people = rng.sample(PEOPLE, 2)
    codes = rng.sample(range(2000, 10000), len(people))
    turns = []
    for i in range(N_TURNS - 2):
        first = PICTURES_A_TURN * i
        pictures = shown[first : first + PICTURES_A_TURN]
        asked = rng.randrange(PICTURES_A_TURN)
        if i == 0:
            left = 1 - asked
        note = _note(rng, people[i], codes[i]) if i < len(people) else ""
        lines = [
            f"Picture {first + place}:{PLACEHOLDER}\n" for place in range(1, 1 + PICTURES_A_TURN)
        ]
        question = _about_picture("new", first + asked + 1, pictures[asked])
        turns.append(
            ChatTurn(
                "".join(lines) + question.text,
                tuple(picture.image for picture in pictures),
                note,
                question,
            )
        )
    again = _about_picture("asked_again", left + 1, shown[left])
    fact = FactsQuestion(
        "fact_again",
        f"What is the code of {people[1]}? Answer with the number.",
        str(codes[1]),
        facts=((str(codes[1]),),),
    )
    turns += [ChatTurn(question.text, (), "", question) for question in (again, fact)]
    questions = tuple(turn.question for turn in turns)
    return Conversation(number, "", (), (), questions, tuple(turns))


def _different(rng: random.Random, pool: Sequence[Picture], count: int) -> list[Picture]:
    """Pictures of single things, no two alike."""
    singles = [picture for picture in pool if picture.kind == "single"]
    found = {picture.names[0]: picture for picture in rng.sample(singles, len(singles))}
    if len(found) < count:
        raise ValueError(f"the archive shows {len(found)} single things, expected {count} or more")
    return list(found.values())[:count]


def _note(rng: random.Random, person: str, code: int) -> str:
    lines = rng.sample(_FILLER, 4)
    lines.insert(rng.randint(0, len(lines)), f"The code of {person} is {code}.")
    return "Note: " + " ".join(lines)


def _about_picture(task: str, place: int, picture: Picture) -> FactsQuestion:
    (right,) = picture.names
    text = f"What is in picture {place}? Answer with one word."
    return FactsQuestion(task, text, right, facts=((right,),))
