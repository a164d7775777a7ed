"""The dict shapes of OpenAI's chat completions, as llama-cpp-python's users know them."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

FinishReason: TypeAlias = Literal["stop", "length"]
"""``stop``: the model ended or a stop string came.

``length``: ``max_tokens`` reached or the context full.
"""


class Usage(TypedDict):
    """Tokens of prompt (image cells included) and answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Message(TypedDict):
    """The answer of a completion."""

    role: Literal["assistant"]
    content: str


class Choice(TypedDict):
    """One answer; there is always exactly one."""

    index: int
    message: Message
    logprobs: None
    finish_reason: FinishReason


class ChatCompletion(TypedDict):
    """What ``create_chat_completion`` returns."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Delta(TypedDict, total=False):
    """What a chunk adds: the role first, then text, nothing at the end."""

    role: Literal["assistant"]
    content: str


class ChunkChoice(TypedDict):
    """A chunk's part of the one answer."""

    index: int
    delta: Delta
    logprobs: None
    finish_reason: FinishReason | None


class ChatCompletionChunk(TypedDict):
    """What ``create_chat_completion(stream=True)`` yields."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
