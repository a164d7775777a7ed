"""Questions about pictures of sixteen things, whose cells are nearly all of the prompt."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.numbered_images import numbered_images, which_code, which_image
from lookm_cpp.evaluation.pictures import Picture
from lookm_cpp.evaluation.suite import Context, Question

N_PICTURES = 8
TASKS = ("retrieval", "choice", "listing", "text_needle")


def make_context(pool: Sequence[Picture], number: int, seed: int) -> Context:
    """Eight pictures, with the codes of two people between them."""
    rng = random.Random(f"lookm eval large {seed} {number}")
    shown = rng.sample(list(pool), N_PICTURES)
    text, codes = numbered_images(rng, N_PICTURES)
    questions = (*_about_pictures(rng, shown), which_code(rng, codes))
    return Context(number, text, tuple(picture.image for picture in shown), (), questions)


def _about_pictures(rng: random.Random, shown: Sequence[Picture]) -> tuple[Question, ...]:
    seen = Counter(name for picture in shown for name in set(picture.names))
    lone = [
        (i, name)
        for i, picture in enumerate(shown, start=1)
        for name in sorted(set(picture.names))
        if seen[name] == 1 and len(name) > 1
    ]
    place, name = rng.choice(lone)
    retrieval = which_image(name, place)
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
