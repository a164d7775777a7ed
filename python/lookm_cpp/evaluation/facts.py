"""Questions that are answered by facts, whatever words a model puts around them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lookm_cpp.evaluation.suite import Question


@dataclass(frozen=True)
class FactsQuestion(Question):
    """A question whose score is the share of facts found in the answer.

    Attributes:
        facts: The facts; each is a tuple of spellings, one of which is enough. A fact is found as
            whole words, in upper or lower case, a plural included.
        ends: If set, what follows its first occurrence in the answer does not count.
    """

    facts: tuple[tuple[str, ...], ...] = ()
    ends: str = ""

    def score(self, answer: str) -> float:
        """The share of facts found.

        >>> asked = FactsQuestion("", "", "", facts=(("owl",), ("cat", "kitten")), ends=".")
        >>> asked.score("Two Owls and a dog."), asked.score("a catfish"), asked.score("kitten. owl")
        (0.5, 0.0, 0.5)
        """
        said = answer.partition(self.ends)[0] if self.ends else answer
        return sum(any(_found(word, said) for word in words) for words in self.facts) / len(
            self.facts
        )


def _found(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(e?s)?(?!\w)", text, re.IGNORECASE) is not None
