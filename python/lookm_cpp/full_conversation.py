"""A conversation whose whole history stays, for answers that are compressed one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lookm_cpp.answer_text import AnswerText
from lookm_cpp.chat import contexts_of, question_messages
from lookm_cpp.images import Images
from lookm_cpp.messages import with_own_images
from lookm_cpp.options import greedy_unless
from lookm_cpp.stats import Stats

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lookm_cpp.chat_types import ChatCompletionChunk, FinishReason
    from lookm_cpp.compression import Compression
    from lookm_cpp.llava import Llava
    from lookm_cpp.options import AnswerOptions


class FullChat:
    """A conversation of which nothing is lost: each question finds all earlier images and texts.

    ``Llava.chat(keep="all")`` makes one. Each turn is a prompt of its own, the whole history and
    the new question, and compressed for that question. What earlier turns have read is not read
    again: it stays in host memory, within the ``prefix_memory`` of the ``Llava``, up to the last
    image or context. Text after that is read with each question.

    Images are taken as they are when they are given: a file may change afterwards. Other prompts
    to the same ``Llava`` may come between two turns.
    """

    def __init__(
        self,
        llm: Llava,
        compression: Compression,
        system: str | None,
        earlier: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._llm = llm
        self._compression = compression
        self._messages: list[dict[str, Any]] = (
            [{"role": "system", "content": system}] if system else []
        )
        self._messages += with_own_images(earlier, llm.max_pixels)
        self._n_turns = sum(1 for message in self._messages if message["role"] == "user")
        self._stats = Stats()
        self._finish_reason: FinishReason | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: n_turns={self._n_turns}, compression={self._compression}>"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages so far, images as ``data:`` URIs: for ``json`` and other clients."""
        return [{**message} for message in self._messages]

    @property
    def compression(self) -> Compression:
        """How the turns to come are compressed; it may be set."""
        return self._compression

    @compression.setter
    def compression(self, compression: Compression) -> None:
        self._llm.check(compression)
        self._compression = compression

    @property
    def n_turns(self) -> int:
        """Number of questions answered so far."""
        return self._n_turns

    @property
    def stats(self) -> Stats:
        """Statistics of the last turn, which is a prompt with all turns before it."""
        return self._stats

    @property
    def finish_reason(self) -> FinishReason | None:
        """As in ``Chat``."""
        return self._finish_reason

    def ask(
        self,
        question: str,
        images: Images = (),
        *,
        context: str | Sequence[str] | None = None,
        **options: Unpack[AnswerOptions],
    ) -> AnswerText:
        """As in ``Chat``."""
        text = "".join(self.stream(question, images, context=context, **options))
        assert self._finish_reason, "the answer has ended"
        return AnswerText.of(text, self._stats, self._finish_reason)

    def stream(
        self,
        question: str,
        images: Images = (),
        *,
        context: str | Sequence[str] | None = None,
        **options: Unpack[AnswerOptions],
    ) -> Iterator[str]:
        """As in ``Chat``: if it is abandoned, the answer ends with what it gave."""
        options["temperature"] = greedy_unless(options.get("temperature"))
        asked = question_messages(question, images, contexts_of(context))
        messages = [*self._messages, *with_own_images(asked, self._llm.max_pixels)]
        chunks = self._llm.create_chat_completion(
            messages, stream=True, compression=self._compression, **options
        )
        answer: dict[str, Any] = {"role": "assistant", "content": ""}
        self._messages = [*messages, answer]
        self._n_turns += 1
        self._finish_reason = None
        self._stats = self._llm.stats
        return self._pieces(chunks, answer)

    def _pieces(
        self, chunks: Iterator[ChatCompletionChunk], answer: dict[str, Any]
    ) -> Iterator[str]:
        for chunk in chunks:
            choice: Mapping[str, Any] = chunk["choices"][0]
            text = choice["delta"].get("content", "")
            if self._messages[-1] is answer:  # no newer question
                self._finish_reason = choice["finish_reason"]
                self._stats = self._llm.stats
                answer["content"] += text
            if text:
                yield text
