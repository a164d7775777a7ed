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
        return sum(
            any(has_words(said, spelling, plural=True) for spelling in fact) for fact in self.facts
        ) / len(self.facts)


def has_words(text: str, words: str, *, plural: bool = False) -> bool:
    """Whether a text has these words, whole and in this order.

    Upper and lower case are the same, and so is all white space. ``plural``: the last word may end
    with s or es.

    >>> has_words("This is An  Owl.", "an owl"), has_words("an owlet", "an owl")
    (True, False)
    """
    pattern = r"\s+".join(re.escape(word) for word in words.split())
    ending = "(e?s)?" if plural else ""
    return re.search(rf"(?<!\w){pattern}{ending}(?!\w)", text, re.IGNORECASE) is not None
