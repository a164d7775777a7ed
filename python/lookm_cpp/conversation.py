"""Several questions and answers in one KV cache."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lookm_cpp.answer import Answer, answer_cells, stop_strings
from lookm_cpp.answer_text import AnswerText
from lookm_cpp.chat import contexts_of, question_messages
from lookm_cpp.chat_types import FinishReason
from lookm_cpp.compression import Compression
from lookm_cpp.images import Images
from lookm_cpp.messages import template_input
from lookm_cpp.options import greedy_unless, method_seed, sampling_of
from lookm_cpp.place import Place
from lookm_cpp.state_header import StateHeader
from lookm_cpp.statefile import read_state, write_state
from lookm_cpp.stats import Stats

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lookm_cpp.options import AnswerOptions


class Chat:
    """A conversation: each question is read after all earlier questions and answers.

    ``Llava.chat`` and ``Llava.load_state`` make one. After each turn has been read, it is
    compressed together with what is left of earlier turns, so that ``kv_ratio`` of all cells so far
    remain, and never more than the ``kv_cells`` of the ``Llava``. Images shrink first, the oldest
    before the newest. Text shrinks only under ``kv_cells``, once no image can shrink further. See
    ``docs/conversations.md``.

    A ``Llava`` holds one conversation at a time. Another conversation, or another prompt, ends it,
    and its next call raises ``RuntimeError``.
    """

    def __init__(
        self,
        place: Place,
        compression: Compression,
        system: str | None,
        *,
        n_turns: int = 0,
        turn: int | None = None,
        stats: Stats | None = None,
    ) -> None:
        self._place = place
        self._compression = compression
        self._system = system
        self._n_turns = n_turns
        self._turn = turn
        self._lost = False
        self._stats = stats or Stats()
        self._finish_reason: FinishReason | None = None

    def __repr__(self) -> str:
        model = self._place.model.name
        return f"<Chat with {model!r}: n_turns={self._n_turns}, compression={self._compression}>"

    @property
    def compression(self) -> Compression:
        """How the turns to come are compressed; it may be set."""
        return self._compression

    @compression.setter
    def compression(self, compression: Compression) -> None:
        self._place.session.check(compression.core())
        self._compression = compression

    @property
    def n_turns(self) -> int:
        """Number of questions answered so far."""
        return self._n_turns

    @property
    def stats(self) -> Stats:
        """Cells and bytes of the whole conversation, including answers; times of the last turn."""
        return self._stats

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the last answer ended; ``None`` before it has.

        ``"stop"``: the model ended it, or a stop string came. ``"length"``: it reached a limit.
        """
        return self._finish_reason

    def ask(
        self,
        question: str,
        images: Images = (),
        *,
        context: str | Sequence[str] | None = None,
        **options: Unpack[AnswerOptions],
    ) -> AnswerText:
        """Ask the next question, and return the answer.

        An invalid argument leaves the conversation as it is.

        Args:
            question: As in ``Llava.ask``.
            images: As in ``Llava.ask``.
            context: As in ``Llava.ask``.
            **options: Those of ``Llava.create_chat_completion`` that concern the answer:
                ``max_tokens``, ``temperature`` (default: 0) and the other sampling options,
                ``seed``, ``stop`` and ``progress``.

        Raises:
            ValueError: As in ``Llava.ask``, or the chat template rewrites earlier turns.
            RuntimeError: Another prompt or conversation has replaced this one, or llama.cpp failed.
        """
        with self._place.turns.hold():
            answer = self._read(question, images, contexts_of(context), options)
            text = "".join(piece for piece in iter(lambda: self._step(answer), None))
            return AnswerText.of(text, self._stats, answer.finish_reason)

    def stream(
        self,
        question: str,
        images: Images = (),
        *,
        context: str | Sequence[str] | None = None,
        **options: Unpack[AnswerOptions],
    ) -> Iterator[str]:
        """``ask``, with the answer in pieces; the turn is read before the call returns.

        You may abandon a stream. The next turn ends it, and continues after the part of the answer
        that was generated.
        """
        with self._place.turns.hold():
            answer = self._read(question, images, contexts_of(context), options)
            return self._pieces(answer, self._n_turns)

    def _pieces(self, answer: Answer, turn: int) -> Iterator[str]:
        text: str | None = ""
        while text is not None:
            with self._place.turns.hold():
                if self._n_turns != turn:
                    raise RuntimeError(
                        "this answer was ended by a newer question of the same conversation"
                    )
                self._place.turns.check(self._turn or 0)
                text = self._step(answer)
            if text is not None:
                yield text

    def _read(
        self, question: str, images: Images, contexts: Sequence[str], options: AnswerOptions
    ) -> Answer:
        """Read a turn; the caller holds the session."""
        place, session = self._place, self._place.session
        given: dict[str, Any] = {**options}
        stops, max_tokens = stop_strings(given.pop("stop", None)), given.pop("max_tokens", None)
        progress = given.pop("progress", None)
        given["seed"] = place.seed if given.get("seed") is None else given["seed"]
        given["temperature"] = greedy_unless(given.get("temperature"))
        sampling = sampling_of(**given)
        session.check_sampling(**sampling)
        n_answer = answer_cells(max_tokens, session.n_ctx)
        message = question_messages(question, images, contexts)[0]
        turn = self._turn
        if self._lost:
            raise RuntimeError(
                "this conversation ended with an error while its last turn was read or answered"
            )
        if turn is not None:
            place.turns.check(turn)
        prompt = self._prompt(message, goes_on=turn is not None)
        try:
            (session.converse_anew if turn is None else session.converse)(
                prompt.text,
                prompt.images,
                self._compression.core(method_seed(sampling)),
                contexts=prompt.contexts,
                n_answer=n_answer,
                progress=progress,
            )
        finally:
            self._lost = turn is not None and not session.talking
        self._turn = place.turns.now()
        session.start(**sampling)
        self._finish_reason = None
        self._n_turns += 1
        self._stats = Stats(**session.stats)
        return Answer(session, stops, max_tokens)

    def _step(self, answer: Answer) -> str | None:
        """The next piece of an answer, or ``None`` after the last."""
        session = self._place.session
        try:
            text = next(answer, None)
        finally:
            self._lost = not session.talking
        self._stats = Stats(**session.stats)
        if text is None:
            self._finish_reason = answer.finish_reason
        return text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation to a file, for ``Llava.load_state``.

        If this fails, the old file stays as it was. A link is followed, and an existing file keeps
        its mode.

        Raises:
            ValueError: No question has been asked yet, the path is empty, or it names something
                other than a regular file.
            RuntimeError: Another prompt or conversation has replaced this one.
            OSError: The file cannot be written.
        """
        place = self._place
        with place.turns.hold():
            if self._turn is None:
                raise ValueError("chat has no turn yet, expected at least one to save")
            place.turns.check(self._turn)
            state = place.session.state()
        header = StateHeader(
            **place.origin().as_dict(),
            compression=self._compression,
            system=self._system,
            turns=self._n_turns,
        )
        write_state(path, header.as_dict(), state)

    @classmethod
    def load(cls, path: str | os.PathLike[str], place: Place) -> Chat:
        """Load a conversation from a file; see ``Llava.load_state``."""
        found, state = read_state(path)
        name = f"state file {os.fspath(path)!r}"
        header = StateHeader.of(found, name)
        header.check(place.origin(), name, place.model, place.projector)
        with place.turns.hold():
            place.session.restore(state, header.compression.core())
            return cls(
                place,
                header.compression,
                header.system,
                n_turns=header.turns,
                turn=place.turns.now(),
                stats=Stats(**place.session.stats),
            )

    def _prompt(self, message: dict[str, Any], *, goes_on: bool) -> _Prompt:
        """The template's text for this turn; of a later turn, what comes after the last answer."""
        place, answer = self._place, f"answer{uuid.uuid4().hex}"
        session = place.session
        earlier: list[dict[str, Any]] = (
            [{"role": "system", "content": self._system}] if self._system else []
        )
        if goes_on:
            earlier += [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        found = template_input(
            [*earlier, message], session.media_marker, session.context_marker, place.max_pixels
        )
        text = session.apply_template(found.messages)
        if goes_on:
            _, *after = text.split(answer)
            if len(after) != 1:
                raise ValueError(
                    f"messages: the chat template shows an answer {len(after)} times, expected once"
                )
            text = after[0]
        return _Prompt(text, found.images, found.contexts)


@dataclass(frozen=True)
class _Prompt:
    text: str
    images: list[Any]
    contexts: list[str]
