"""Questions about long documents, for any chat model. All of a document may be evicted."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lookm_cpp.evaluation.documents import DIRECT, KINDS, Fact, make_document
from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.suite import Context

N_WORDS = 1200
TASKS = ("one_fact", "two_facts", "paraphrased")


def make_context(number: int, seed: int, n_words: int = N_WORDS) -> Context:
    """A document of about ``n_words`` words, and a question of each kind.

    Raises:
        ValueError: ``n_words`` is so small that no two facts are alike, or so large that the
            invented names run out.
    """
    rng = random.Random(f"lookm eval documents {seed} {number}")
    text, facts = make_document(rng, n_words)
    return Context(number, "", (), (text,), _questions(rng, facts))


def _questions(rng: random.Random, facts: Sequence[Fact]) -> tuple[FactsQuestion, ...]:
    direct = [fact for fact in facts if fact.kind in DIRECT]
    first = rng.choice(direct)
    pairs = [
        (one, other)
        for one in direct
        for other in direct
        if one.kind == other.kind and KINDS[one.kind].two
        if one is not other and first not in (one, other)
    ]
    if not pairs:
        raise ValueError("n_words is too small for two facts of a kind, expected 700 or more")
    one, other = rng.choice(pairs)
    last = rng.choice([fact for fact in facts if fact.kind not in DIRECT])
    return (
        _asked("one_fact", KINDS[first.kind].question, (first,)),
        _asked("two_facts", KINDS[one.kind].two, (one, other)),
        _asked("paraphrased", KINDS[last.kind].question, (last,)),
    )


def _asked(task: str, question: str, facts: Sequence[Fact]) -> FactsQuestion:
    first, last = facts[0], facts[-1]
    return FactsQuestion(
        task,
        question.format(n=first.name, m=last.name),
        " and ".join(fact.value for fact in facts),
        begins=KINDS[first.kind].begins.format(n=first.name),
        max_tokens=16 if len(facts) == 1 else 48,
        facts=tuple(fact.spellings() for fact in facts),
        ends="\n",
    )
