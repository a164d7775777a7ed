"""The dicts of OpenAI's chat completions, in the form that users of llama-cpp-python know."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

FinishReason: TypeAlias = Literal["stop", "length"]
"""``stop``: the model ended the answer, or a stop string came.

``length``: ``max_tokens`` was reached, or the context is full.
"""


class Usage(TypedDict):
    """Tokens of the prompt (image cells included) and of the answer."""

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
    """A chunk's part of the only answer."""

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
