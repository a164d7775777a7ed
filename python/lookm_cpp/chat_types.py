"""The dicts of OpenAI's completions, in the form that users of llama-cpp-python know."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypedDict

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]
"""``stop``: the model ended the answer, or a stop string came.

``length``: ``max_tokens`` was reached, or the context is full. ``tool_calls``: the model ended the
answer with calls of tools.
"""


class Usage(TypedDict):
    """Tokens of the prompt (image cells included) and of the answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CalledFunction(TypedDict, total=False):
    """A function and its arguments, as JSON text; in a stream, what is added to them."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ToolCallDelta(TypedDict, total=False):
    """What a chunk adds to a call: ``id``, ``type`` and name first, then arguments."""

    index: int
    id: str
    type: Literal["function"]
    function: CalledFunction


class _Message(TypedDict):
    role: Literal["assistant"]
    content: str


class Message(_Message, total=False):
    """The answer of a completion."""

    reasoning_content: str
    tool_calls: list[ToolCall]


class TopLogProb(TypedDict):
    """A token, its log-probability in nats, and the bytes of its text in UTF-8."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogProb(TopLogProb):
    """A token of the answer, and the most likely tokens in its place, the likeliest first."""

    top_logprobs: list[TopLogProb]


class LogProbs(TypedDict):
    """The tokens of an answer or of a chunk."""

    content: list[TokenLogProb]
    refusal: None


class Choice(TypedDict):
    """One answer."""

    index: int
    message: Message
    logprobs: LogProbs | None
    finish_reason: FinishReason


class ChatCompletion(TypedDict):
    """What ``create_chat_completion`` returns.

    ``stats`` is ``Stats.as_dict()`` of this prompt and its (last) answer.
    """

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    stats: dict[str, Any]


class Delta(TypedDict, total=False):
    """What a chunk adds: the role first, then parts of the message, nothing at the end."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str
    tool_calls: list[ToolCallDelta]


class ChunkChoice(TypedDict):
    """A chunk's part of an answer."""

    index: int
    delta: Delta
    logprobs: LogProbs | None
    finish_reason: FinishReason | None


class _Chunk(TypedDict):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]


class ChatCompletionChunk(_Chunk, total=False):
    """What ``create_chat_completion(stream=True)`` yields.

    With ``stream_options={"include_usage": True}``, the last one has ``usage`` and no choice.
    """

    usage: Usage


class TextLogProbs(TypedDict):
    """Tokens of a text completion, where they begin in the text, and the likeliest in each place.

    Log-probabilities are in nats.
    """

    tokens: list[str]
    text_offset: list[int]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]


class TextChoice(TypedDict):
    """One text, or a chunk of it."""

    text: str
    index: int
    logprobs: TextLogProbs | None
    finish_reason: FinishReason | None


class _TextCompletion(TypedDict):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]


class TextCompletion(_TextCompletion, total=False):
    """What ``create_completion`` returns, and a chunk of it without ``usage`` and ``stats``."""

    usage: Usage
    stats: dict[str, Any]
