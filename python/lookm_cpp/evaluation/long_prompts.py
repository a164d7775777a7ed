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
TASKS = ("people", "projects", "report")

_ABOUT_FIRM = ("founded", "staff", "site", "product", "weekday")


@dataclass(frozen=True)
class ListQuestion(FactsQuestion):
    """A question whose answer says something about each of several names.

    Attributes:
        names: For each of ``facts``, the name that it belongs to. A fact is found only between its
            name and the next name that the answer mentions.
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
        _, *parts = re.split(rf"\b({pattern})\b", answer)
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            said[name] += f"{text}\n"
        return sum(
            FactsQuestion("", "", "", facts=(spellings,)).score(said[name])
            for name, spellings in zip(self.names, self.facts, strict=True)
        ) / len(self.facts)


def make_context(number: int, seed: int, n_words: int = N_WORDS) -> Context:
    """A document of about ``n_words`` words, and a question of each kind."""
    rng = random.Random(f"lookm eval long {seed} {number}")
    text, facts = make_document(rng, n_words, uniform=True)
    firm = rng.choice([fact.name for fact in facts if fact.kind == "founded"])
    questions: tuple[Question, ...] = (
        _list(
            "people",
            "List all people who have a telephone number, each in one line with the name, the town"
            " they live in, and the number.",
            "1.",
            200,
            [fact for fact in facts if fact.kind in ("home", "phone")],
        ),
        _list(
            "projects",
            "List all projects, each in one line with its name, its leader, its budget, and the day"
            " on which it will be finished.",
            "1. The",
            256,
            [fact for fact in facts if fact.kind in ("leader", "budget", "end")],
        ),
        _report(firm, [fact for fact in facts if fact.name == firm]),
    )
    return Context(number, "", (), (text,), questions)


def _list(task: str, text: str, begins: str, max_tokens: int, facts: Sequence[Fact]) -> Question:
    return ListQuestion(
        task,
        text,
        "; ".join(f"{fact.name}: {fact.value}" for fact in facts),
        begins=begins,
        max_tokens=max_tokens,
        facts=tuple(fact.spellings() for fact in facts),
        names=tuple(fact.name for fact in facts),
    )


def _report(firm: str, facts: Sequence[Fact]) -> Question:
    told = sorted(
        (fact for fact in facts if fact.kind in _ABOUT_FIRM),
        key=lambda fact: _ABOUT_FIRM.index(fact.kind),
    )
    return FactsQuestion(
        "report",
        f"Write a short report on {firm}: in which year it was founded, how many people it employs,"
        " where its head office stands, what it makes, and on which day nobody works there.",
        "; ".join(fact.value for fact in told),
        begins=f"{firm} was founded in",
        max_tokens=96,
        facts=tuple(fact.spellings() for fact in told),
    )
