"""Questions about pictures of sixteen things, of which images dominate the prompt."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.pictures import Picture
from lookm_cpp.evaluation.suite import Context, Question
from lookm_cpp.evaluation.tiny_prompts import PEOPLE

N_PICTURES = 8
TASKS = ("retrieval", "choice", "listing", "text_needle")


def make_context(pool: Sequence[Picture], number: int, seed: int) -> Context:
    """Eight pictures, with the codes of two people between them."""
    rng = random.Random(f"lookm eval large {seed} {number}")
    shown = rng.sample(list(pool), N_PICTURES)
    codes = {name: str(rng.randint(2000, 9999)) for name in rng.sample(PEOPLE, 2)}
    told = {rng.randrange(N_PICTURES): f"The code of {n} is {c}.\n" for n, c in codes.items()}
    text = "".join(f"{told.get(i, '')}Image {i + 1}:{PLACEHOLDER}\n" for i in range(N_PICTURES))
    person = rng.choice([name for name in codes if name in " ".join(told.values())])
    return Context(
        number,
        text,
        tuple(picture.image for picture in shown),
        (),
        (
            *_about_pictures(rng, shown),
            FactsQuestion(
                "text_needle",
                f"What is the code of {person}?",
                codes[person],
                begins=f"The code of {person} is",
                max_tokens=10,
                facts=((codes[person],),),
            ),
        ),
    )


def _about_pictures(rng: random.Random, shown: Sequence[Picture]) -> tuple[Question, ...]:
    seen = Counter(name for picture in shown for name in set(picture.names))
    lone = [
        (i, name)
        for i, picture in enumerate(shown, start=1)
        for name in sorted(set(picture.names))
        if seen[name] == 1 and len(name) > 1
    ]
    place, name = rng.choice(lone)
    retrieval = FactsQuestion(
        "retrieval",
        f"Which image shows a {name}? Answer with the number of the image.",
        str(place),
        begins="Image",
        max_tokens=4,
        facts=((str(place),),),
    )
    place, name = rng.choice(lone)
    others = rng.sample([n for i, n in lone if i != place], 3)
    offered = rng.sample([name, *others], 4)
    choice = FactsQuestion(
        "choice",
        f"Which of these is in image {place}: {', '.join(offered[:3])} or {offered[3]}? "
        "Answer with one word.",
        name,
        begins='"',
        max_tokens=6,
        facts=((name,),),
        ends='"',
    )
    place = rng.randint(1, len(shown))
    names = sorted({n for n in shown[place - 1].names if len(n) > 1})
    told = FactsQuestion(
        "listing",
        f"List what is in image {place}.",
        ", ".join(names),
        begins=f"Image {place} shows",
        max_tokens=64,
        facts=tuple((n,) for n in names),
    )
    return retrieval, choice, told
