"""One question, answered with the full and with the compressed cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lookm_cpp.answer import Answer
from lookm_cpp.answer_parts import content_of
from lookm_cpp.evaluation.fidelity import MEASURED_TOKENS, Fidelity, Rows, fidelity
from lookm_cpp.stats import Stats

if TYPE_CHECKING:
    from lookm_cpp import _core
    from lookm_cpp.chat_types import FinishReason
    from lookm_cpp.request import Request

COMPARED_RATIO = 0.2
"""The default ratio, if neither the model nor the call has one below 1."""


@dataclass(frozen=True)
class Answered:
    """An answer and what it took.

    Attributes:
        answer: The text, without white space around it.
        finish_reason: Why it ended, as in ``create_chat_completion``; ``None`` if it did not.
        stats: Cells, bytes and times.
    """

    answer: str
    finish_reason: FinishReason | None
    stats: Stats

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "answer": self.answer,
            "finish_reason": self.finish_reason,
            "stats": self.stats.as_dict(),
        }


@dataclass(frozen=True)
class Comparison:
    """What ``Llava.compare`` returns.

    Attributes:
        full: The answer with the full cache.
        compressed: The answer with the compressed cache.
        fidelity: How close the compressed cache's predictions are to the full cache's along the
            full cache's answer, up to its first 256 tokens; ``None`` if that answer is empty or a
            single token.
    """

    full: Answered
    compressed: Answered
    fidelity: Fidelity | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "full": self.full.as_dict(),
            "compressed": self.compressed.as_dict(),
            "fidelity": self.fidelity and self.fidelity.as_dict(),
        }


def compare_caches(session: _core.Session, full: Request, compressed: Request) -> Comparison:
    """Ask both requests, which differ in their compression; the caller holds the session."""
    rows: list[Rows] = []

    def watch() -> None:
        if len(rows) < MEASURED_TOKENS:
            rows.append(session.log_probs())

    full.read(session)
    answer = full.answer(session, watch)
    by_full = _answered(session, answer, full)

    def pairs() -> Iterator[tuple[Rows, Rows]]:
        # one by one, as in an answer: equal cells then give equal bits
        for row, token in zip(rows, answer.tokens, strict=False):
            yield row[None], session.distributions([token])

    compressed.read(session)
    close = fidelity(pairs())
    by_compressed = _answered(session, compressed.answer(session), compressed)
    return Comparison(by_full, by_compressed, close)


def _answered(session: _core.Session, answer: Answer, request: Request) -> Answered:
    text = content_of(answer, request.prompt)
    return Answered(text, answer.finish_reason, Stats(**session.stats))
