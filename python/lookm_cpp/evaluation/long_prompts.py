"""Questions with long answers, for any chat model, judged by the facts that they tell.

The documents are those of ``documents``. While an answer is generated, its errors grow.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lookm_cpp.evaluation.documents import Fact, make_document
from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.suite import Context, Question

N_WORDS = 1200
TASKS = ("person", "project", "firm", "two_firms")

# The points of a report, by kind of fact.
_PERSON = {
    "home": "Town",
    "phone": "Telephone number",
    "job": "Profession",
    "pet": "Animal",
    "country": "Holiday country",
}
_PROJECT = {"leader": "Led by", "budget": "Budget", "end": "To be finished on"}
_FIRM = {
    "founded": "Founded in",
    "staff": "Number of people",
    "site": "Head office",
    "product": "Product",
    "weekday": "Weekday on which it is closed",
}


@dataclass(frozen=True)
class ListQuestion(FactsQuestion):
    """A question whose answer says something about each of several names.

    Attributes:
        names: For each of ``facts``, the name that it belongs to. A fact is found only between its
            name and the next name in the answer, of which ``begins`` is the first part.
    """

    names: tuple[str, ...] = ()

    def score(self, answer: str) -> float:
        """The share of facts found where they belong.

        >>> facts, names = (("Ashton",), ("Denham",)), ("Nora", "Otto")
        >>> asked = ListQuestion("", "", "", facts=facts, names=names)
        >>> asked.score("1. Nora, Ashton 2. Otto, Denham")
        1.0
        >>> asked.score("Nora: Denham, Otto: Denham")
        0.5
        """
        said = dict.fromkeys(self.names, "")
        pattern = "|".join(re.escape(name) for name in said)
        _, *parts = re.split(rf"\b({pattern})\b", f"{self.begins} {answer}")
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            said[name] += f"{text}\n"
        return sum(
            FactsQuestion("", "", "", facts=(spellings,)).score(said[name])
            for name, spellings in zip(self.names, self.facts, strict=True)
        ) / len(self.facts)


def make_context(number: int, seed: int, n_words: int = N_WORDS) -> Context:
    """A document of about ``n_words`` words, and a question of each kind.

    Raises:
        ValueError: ``n_words`` is too small for two firms, or so large that the invented names
            run out.
    """
    rng = random.Random(f"lookm eval long {seed} {number}")
    text, facts = make_document(rng, n_words, uniform=True)
    person, project = (
        rng.choice([fact.name for fact in facts if fact.kind == kind]) for kind in ("home", "end")
    )
    founded = [fact.name for fact in facts if fact.kind == "founded"]
    if len(founded) < 2:
        raise ValueError(f"n_words is {n_words}, expected enough for two firms")
    firms = rng.sample(founded, 2)
    questions: tuple[Question, ...] = (
        _report("person", _PERSON, [person], facts, 96),
        _report("project", _PROJECT, [project], facts, 64),
        _report("firm", _FIRM, firms[:1], facts, 96),
        _report("two_firms", _FIRM, firms, facts, 192),
    )
    return Context(number, "", (), (text,), questions)


def _report(
    task: str, wanted: dict[str, str], names: Sequence[str], facts: Sequence[Fact], max_tokens: int
) -> Question:
    """A report on one or two names, with the points of ``wanted`` in their order."""
    told = [
        fact
        for name in names
        for kind in wanted
        for fact in facts
        if (fact.name, fact.kind) == (name, kind)
    ]
    first, *_ = points = list(wanted.values())
    subjects = [f"the {name} project" if task == "project" else name for name in names]
    if len(names) == 1:
        text = f"Write a short report on {subjects[0]}, a list with these points"
    else:
        text = f"Write two short reports, first on {names[0]}, then on {names[1]}, each a list with"
        text += " these points"
    return ListQuestion(
        task,
        f"{text}: {', '.join(points)}.",
        "; ".join(f"{fact.name}: {fact.value}" for fact in told),
        begins=f"Report on {subjects[0]}:\n- {first}:",
        max_tokens=max_tokens,
        facts=tuple(fact.spellings() for fact in told),
        names=tuple(fact.name for fact in told),
    )
