"""The frames of OpenAI's format around answers."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeAlias, TypeVar

from lookm_cpp.chat_types import (
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    Delta,
    FinishReason,
    LogProbs,
    Message,
    TextChoice,
    TextCompletion,
    TextLogProbs,
    TokenLogProb,
    Usage,
)
from lookm_cpp.stats import Stats

Tokens: TypeAlias = Sequence[TokenLogProb] | None
"""With log-probabilities; ``None`` where they were not asked for."""
OneT = TypeVar("OneT")
ChunkT = TypeVar("ChunkT")
WholeT = TypeVar("WholeT")


class Reply(ABC, Generic[OneT, ChunkT, WholeT]):
    """The frame around the answers to one prompt: the same id, time and model in every chunk."""

    kind: str

    def __init__(self, model: str) -> None:
        self._id = f"{self.kind}-{uuid.uuid4()}"
        self._created = int(time.time())
        self._model = model

    @abstractmethod
    def first(self, index: int) -> list[ChunkT]:
        """What comes before an answer."""

    @abstractmethod
    def chunk(
        self, index: int, delta: Delta, tokens: Tokens, reason: FinishReason | None = None
    ) -> ChunkT:
        """A piece of an answer; at its end, with the reason."""

    @abstractmethod
    def last(self, used: Usage) -> ChunkT:
        """What comes after all answers."""

    @abstractmethod
    def choice(self, index: int, message: Message, tokens: Tokens, reason: FinishReason) -> OneT:
        """One whole answer."""

    @abstractmethod
    def whole(self, choices: list[OneT], used: Usage, stats: Stats) -> WholeT:
        """All answers."""


class ChatReply(Reply[Choice, ChatCompletionChunk, ChatCompletion]):
    """The frame around answers to messages."""

    kind = "chatcmpl"

    def first(self, index: int) -> list[ChatCompletionChunk]:
        """The role."""
        return [self.chunk(index, {"role": "assistant"}, None)]

    def chunk(
        self, index: int, delta: Delta, tokens: Tokens, reason: FinishReason | None = None
    ) -> ChatCompletionChunk:
        """A piece of an answer."""
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "index": index,
                    "delta": delta,
                    "logprobs": _log_probs(tokens),
                    "finish_reason": reason,
                }
            ],
        }

    def last(self, used: Usage) -> ChatCompletionChunk:
        """The numbers of tokens."""
        return {**self.chunk(0, {}, None), "choices": [], "usage": used}

    def choice(self, index: int, message: Message, tokens: Tokens, reason: FinishReason) -> Choice:
        """One whole answer."""
        return {
            "index": index,
            "message": message,
            "logprobs": _log_probs(tokens),
            "finish_reason": reason,
        }

    def whole(self, choices: list[Choice], used: Usage, stats: Stats) -> ChatCompletion:
        """All answers."""
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": choices,
            "usage": used,
            "stats": stats.as_dict(),
        }


class TextReply(Reply[TextChoice, TextCompletion, TextCompletion]):
    """The frame around texts that continue a text; ``echo`` comes before each of them."""

    kind = "cmpl"

    def __init__(self, model: str, echo: str = "") -> None:
        super().__init__(model)
        self._echo = echo

    def first(self, index: int) -> list[TextCompletion]:
        """The echo."""
        return [self.chunk(index, {"content": self._echo}, None)] if self._echo else []

    def chunk(
        self, index: int, delta: Delta, tokens: Tokens, reason: FinishReason | None = None
    ) -> TextCompletion:
        """A piece of a text."""
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "text": delta.get("content", ""),
                    "index": index,
                    "logprobs": _text_log_probs(tokens),
                    "finish_reason": reason,
                }
            ],
        }

    def last(self, used: Usage) -> TextCompletion:
        """The numbers of tokens."""
        return {**self.chunk(0, {}, None), "choices": [], "usage": used}

    def choice(
        self, index: int, message: Message, tokens: Tokens, reason: FinishReason
    ) -> TextChoice:
        """One whole text."""
        text = f"{self._echo}{message['content']}"
        return self.chunk(index, {"content": text}, tokens, reason)["choices"][0]

    def whole(self, choices: list[TextChoice], used: Usage, stats: Stats) -> TextCompletion:
        """All texts."""
        made = self.last(used)
        return {**made, "choices": choices, "stats": stats.as_dict()}


def _log_probs(tokens: Tokens) -> LogProbs | None:
    return None if tokens is None else {"content": [*tokens], "refusal": None}


def _text_log_probs(tokens: Tokens) -> TextLogProbs | None:
    if tokens is None:
        return None
    ends = [0]
    for token in tokens:
        ends.append(ends[-1] + len(token["token"]))
    return {
        "tokens": [token["token"] for token in tokens],
        "text_offset": ends[:-1],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            {other["token"]: other["logprob"] for other in token["top_logprobs"]}
            for token in tokens
        ],
    }
