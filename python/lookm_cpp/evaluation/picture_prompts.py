"""Questions about several pictures, for any chat model that can name what they show."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.numbered_images import numbered_images, which_code, which_image
from lookm_cpp.evaluation.pictures import Picture
from lookm_cpp.evaluation.suite import Context, Question

SIZES = (4, 6, 8)
TASKS = ("needle", "detail", "retrieval", "counting", "text_needle", "describe")


def make_context(pool: Sequence[Picture], number: int, seed: int) -> Context:
    """4, 6 or 8 pictures in turn, most of them single things, with the codes of two people."""
    rng = random.Random(f"lookm eval pictures {seed} {number}")
    size = SIZES[number % len(SIZES)]
    singles = [picture for picture in pool if picture.kind == "single"]
    grids = [picture for picture in pool if picture.kind == "grid"]
    n_single = size - size // 4
    shown = _different(rng, singles, n_single - 1)
    shown.append(rng.choice(shown))  # one thing is shown twice
    shown += rng.sample(grids, size - n_single)
    rng.shuffle(shown)
    text, codes = numbered_images(rng, size)
    return Context(
        number, text, tuple(picture.image for picture in shown), (), _questions(rng, shown, codes)
    )


def _different(rng: random.Random, pool: Sequence[Picture], count: int) -> list[Picture]:
    """Pictures of different things."""
    found: dict[tuple[str, ...], Picture] = {}
    for picture in rng.sample(list(pool), len(pool)):
        found.setdefault(picture.names, picture)
    return list(found.values())[:count]


def _questions(
    rng: random.Random, shown: Sequence[Picture], codes: dict[str, str]
) -> tuple[Question, ...]:
    numbered = list(enumerate(shown, start=1))
    place, single = rng.choice([(i, p) for i, p in numbered if p.kind == "single"])
    questions: list[Question] = [
        FactsQuestion(
            "needle",
            f"What is in image {place}? Answer with one word.",
            single.names[0],
            begins='"',
            max_tokens=8,
            facts=(single.names[:1],),
            ends='"',
        )
    ]
    place, grid = rng.choice([(i, p) for i, p in numbered if p.kind == "grid"])
    questions.append(
        FactsQuestion(
            "detail",
            f"Which four things are in image {place}?",
            ", ".join(grid.names),
            begins=f"The four things in image {place} are",
            max_tokens=40,
            facts=tuple((name,) for name in grid.names),
        )
    )
    seen = Counter(name for picture in shown for name in picture.names)
    lone = [(i, p.names[0]) for i, p in numbered if p.kind == "single" and seen[p.names[0]] == 1]
    counted = [
        (next(p.names[0] for p in shown if p.kind == "single" and seen[p.names[0]] > 1), "2")
    ]
    if lone:  # not if the only candidate is in a grid as well
        place, name = rng.choice(lone)
        counted.append((name, "1"))
        questions.append(which_image(name, place))
    asked, right = rng.choice(counted)
    if seen[asked] == int(right):
        questions.append(
            FactsQuestion(
                "counting",
                f"How many images show a {asked}? Answer with a number.",
                right,
                begins=f"The number of images that show a {asked} is",
                max_tokens=4,
                facts=((right, {"1": "one", "2": "two"}[right]),),
            )
        )
    questions.append(which_code(rng, codes))
    if len(shown) == SIZES[0]:
        questions.append(
            FactsQuestion(
                "describe",
                "Describe all images, one after the other.",
                "; ".join(", ".join(p.names) for p in shown),
                begins="Image 1 shows",
                max_tokens=100,
                facts=tuple((name,) for p in shown for name in p.names),
            )
        )
    return tuple(questions)
