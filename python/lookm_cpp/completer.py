"""Answers to requests, as a whole or in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lookm_cpp.answer import Answer
from lookm_cpp.answer_parts import AnswerParts, parts_of
from lookm_cpp.chat_types import FinishReason, Usage
from lookm_cpp.reply import ChunkT, OneT, Reply, WholeT
from lookm_cpp.stats import Stats

if TYPE_CHECKING:
    from lookm_cpp import _core
    from lookm_cpp.completion_form import CompletionForm
    from lookm_cpp.request import Request
    from lookm_cpp.turns import Turns


class Completer:
    """Reads the prompts of requests, and generates their answers one after the other.

    Attributes:
        stats: Statistics of the last prompt.
    """

    def __init__(
        self, session: _core.Session, turns: Turns, check_open: Callable[[], None]
    ) -> None:
        self.stats = Stats()
        self._session = session
        self._turns = turns
        self._check_open = check_open

    def whole(
        self, request: Request, form: CompletionForm, reply: Reply[OneT, ChunkT, WholeT]
    ) -> WholeT:
        """All answers."""
        choices, n_tokens = [], 0
        with self._hold():
            for i in range(form.n):
                answer = self._begin(request, form, i)
                parts = parts_of(answer, request.prompt)
                self._note()
                n_tokens += answer.n_tokens
                choices.append(
                    reply.choice(i, parts.message, answer.new_log_probs(), _reason(answer, parts))
                )
            return reply.whole(choices, self._usage(n_tokens), self.stats)

    def stream(
        self, request: Request, form: CompletionForm, reply: Reply[OneT, ChunkT, WholeT]
    ) -> Iterator[ChunkT]:
        """The same in pieces; the prompt is read before this returns."""
        with self._hold():
            first = self._begin(request, form, 0)
            return self._chunks(request, form, reply, first, self._turns.now())

    def _chunks(
        self,
        request: Request,
        form: CompletionForm,
        reply: Reply[OneT, ChunkT, WholeT],
        answer: Answer,
        turn: int,
    ) -> Iterator[ChunkT]:
        n_tokens = 0
        for i in range(form.n):
            if i:
                with self._hold():
                    self._turns.check(turn)
                    answer, turn = self._begin(request, form, i), self._turns.now()
            parts = AnswerParts(request.prompt)
            yield from reply.first(i)
            for text in self._pieces(answer, turn):
                for delta in parts.feed(text):
                    yield reply.chunk(i, delta, answer.new_log_probs())
            for delta in parts.end(is_cut=answer.finish_reason == "length"):
                yield reply.chunk(i, delta, answer.new_log_probs())
            yield reply.chunk(i, {}, answer.new_log_probs(), _reason(answer, parts))
            n_tokens += answer.n_tokens
        if form.usage:
            yield reply.last(self._usage(n_tokens))

    @contextmanager
    def _hold(self) -> Iterator[None]:
        with self._turns.hold():
            self._check_open()
            yield

    def _begin(self, request: Request, form: CompletionForm, i: int) -> Answer:
        """Read the prompt for answer ``i``; the caller holds the session."""
        answer = request.numbered(i).begin(self._session, n_top=form.n_top)
        self._note()
        return answer

    def _pieces(self, answer: Answer, turn: int) -> Iterator[str]:
        text: str | None = ""
        while text is not None:
            with self._hold():
                self._turns.check(turn)
                text = next(answer, None)
                self._note()
            if text is not None:
                yield text

    def _note(self) -> None:
        self.stats = Stats(**self._session.stats)

    def _usage(self, n_tokens: int) -> Usage:
        n_prompt = self.stats.prompt_cells
        return {
            "prompt_tokens": n_prompt,
            "completion_tokens": n_tokens,
            "total_tokens": n_prompt + n_tokens,
        }


def _reason(answer: Answer, parts: AnswerParts) -> FinishReason:
    calls = answer.finish_reason == "stop" and "tool_calls" in parts.message
    return "tool_calls" if calls else answer.finish_reason
