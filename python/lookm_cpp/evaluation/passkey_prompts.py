"""A number hidden in a long text, every part of which may be evicted."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.evaluation.pictures import Picture
from lookm_cpp.evaluation.suite import Context, Question
from lookm_cpp.evaluation.tiny_prompts import PEOPLE

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

_TASK = "Somewhere in the following text a secret number is hidden. Find it and keep it in mind.\n"
_FILLER = (
    "The river runs past the old mill.",
    "A cart stands in the shade of the barn.",
    "In the evening the swallows come back.",
    "The road to the village is long and dusty.",
)
_QUESTION = "What is the secret number?"
_BEGINS = "The secret number is"


@dataclass(frozen=True)
class NumberQuestion(Question):
    """A question that is answered by a number, whatever text is around it."""

    def score(self, answer: str) -> float:
        """Whether the number is one of the answer's numbers, as a whole.

        >>> asked = NumberQuestion("", "", "48213")
        >>> asked.score("It is 48213."), asked.score("148213"), asked.score("48 213")
        (1.0, 0.0, 0.0)
        """
        only_digits = "".join(character if character.isdigit() else " " for character in answer)
        return float(self.answer in only_digits.split())


def text_contexts(n_filler: int, n_trials: int, seed: int) -> list[Context]:
    """For each trial, the number at five depths of a text of ``n_filler`` sentences."""
    contexts = []
    for trial in range(n_trials):
        key = _key(seed, trial)
        for depth in DEPTHS:
            asked = _asked(f"depth_{depth:.0%}", key)
            contexts.append(Context(trial, "", (), (_text(n_filler, key, depth),), (asked,)))
    return contexts


def sized_contexts(
    cells: Sequence[int], n_trials: int, seed: int, count: Callable[[str], int]
) -> list[Context]:
    """For each trial and each of ``cells``, the number in the longest text that takes that many.

    The depth is another one in each of five trials.

    Args:
        cells: Lengths of the texts, in cells.
        n_trials: Number of numbers.
        seed: Random seed of the numbers.
        count: The number of cells that a text takes.

    Raises:
        ValueError: A length is too short for the task and the number alone.
    """
    contexts = []
    for trial in range(n_trials):
        key, depth = _key(seed, trial), DEPTHS[trial % len(DEPTHS)]
        for limit in cells:

            def size(n_filler: int, key: str = key, depth: float = depth) -> int:
                return count(_text(n_filler, key, depth))

            if size(0) > limit:
                raise ValueError(f"--cells has {limit}, expected at least {size(0)}")
            n_filler = bisect_right(range(limit), limit, key=size) - 1
            asked = _asked(f"{limit}_cells", key)
            contexts.append(Context(trial, "", (), (_text(n_filler, key, depth),), (asked,)))
    return contexts


def _key(seed: int, trial: int) -> str:
    return str(random.Random(f"lookm eval passkey {seed} {trial}").randint(10000, 99999))


def _asked(task: str, key: str) -> NumberQuestion:
    return NumberQuestion(task, _QUESTION, key, begins=_BEGINS, max_tokens=12)


def _text(n_filler: int, key: str, depth: float) -> str:
    filler = [_FILLER[i % len(_FILLER)] for i in range(n_filler)]
    filler.insert(round(depth * n_filler), f"The secret number is {key}. Remember it: {key}.")
    return _TASK + " ".join(filler)


def embedded_contexts(pool: Sequence[Picture], n_trials: int, seed: int) -> list[Context]:
    """Contexts that the embedded model can read: codes of 1, 3 and 10 people, then four pictures.

    The codes are evictable text, and the pictures are evictable as always.
    """
    contexts = []
    for trial in range(n_trials):
        rng = random.Random(f"lookm eval passkey {seed} {trial}")
        pictures = tuple(picture.image for picture in rng.sample(pool, 4))
        text = "".join(
            f" Image {place}:{PLACEHOLDER}" for place in range(1, len(pictures) + 1)
        ).lstrip()
        for n_people in (1, 3, 10):
            codes = {
                person: str(rng.randint(2000, 9999)) for person in rng.sample(PEOPLE, n_people)
            }
            person = rng.choice(list(codes))
            told = " ".join(f"The code of {name} is {code}." for name, code in codes.items())
            asked = NumberQuestion(
                f"{n_people}_codes", f" What is the code of {person}?", codes[person]
            )
            contexts.append(Context(trial, text, pictures, (told,), (asked,)))
    return contexts
