"""From OpenAI-style messages to a chat template's input, and from text to OpenAI-style answers."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lookm_cpp.answer import Answer
from lookm_cpp.chat_types import ChatCompletion, ChatCompletionChunk, Delta, FinishReason
from lookm_cpp.images import MAX_PIXELS, ImageLike, Images, Picture, image_list

PLACEHOLDER = "<image>"
TOOL_FIELDS = ("tool_calls", "tool_call_id", "name", "reasoning_content")
"""What a message may say beside its content; it is for the chat template to show."""


def question_messages(
    question: str, images: Images, contexts: Sequence[str] = (), system: str | None = None
) -> list[dict[str, Any]]:
    """One user message; images stand where ``<image>`` is, or before the question when it has no placeholder.

    Contexts come first, each with a line break after it unless it ends in one; a system message comes before it all.

    Raises:
        ValueError: The number of placeholders is not the number of images, a context is empty, or the question or
            ``system`` is no text.

    >>> question_messages("Is <image> larger than <image>?", ["a.png", "b.png"])[0]["content"]
    ... # doctest: +NORMALIZE_WHITESPACE
    [{'type': 'text', 'text': 'Is '}, {'type': 'image_url', 'image_url': 'a.png'},
     {'type': 'text', 'text': ' larger than '}, {'type': 'image_url', 'image_url': 'b.png'},
     {'type': 'text', 'text': '?'}]
    >>> question_messages("Who?", [], ["A long story."])[0]["content"]
    [{'type': 'text', 'text': 'A long story.\\n', 'evictable': True}, {'type': 'text', 'text': 'Who?'}]
    """
    for name, text in (("question", question), ("system", "" if system is None else system)):
        if not isinstance(text, str):
            raise ValueError(f"{name} is {text!r:.80}, expected a text")
    images = image_list(images)
    first, *rest = question.split(PLACEHOLDER)
    if rest and len(rest) != len(images):
        raise ValueError(
            f"question has {len(rest)} placeholders {PLACEHOLDER} for {len(images)} images, expected one each"
        )
    content = [_image_part(image) for image in images] if not rest else []
    content.append({"type": "text", "text": first})
    for image, text in zip(images, rest, strict=False):
        content += [_image_part(image), {"type": "text", "text": text}]
    content = [part for part in content if part.get("text") != ""]
    message = {"role": "user", "content": [*map(_context_part, contexts), *content]}
    return [{"role": "system", "content": system}, message] if system else [message]


def contexts_of(context: str | Sequence[str] | None) -> tuple[str, ...]:
    """``context`` as ``Llava.ask`` takes it: nothing, one text, or several.

    Raises:
        ValueError: It is something else.
    """
    if context is not None and not isinstance(context, Sequence):
        raise ValueError(f"context is {context!r:.80}, expected a text or several")
    return (context,) if isinstance(context, str) else tuple(context or ())


def _context_part(text: str) -> dict[str, Any]:
    if not isinstance(text, str) or not text:
        raise ValueError(f"context has {text!r:.80}, expected text that is not empty")
    return {"type": "text", "text": text if text.endswith("\n") else f"{text}\n", "evictable": True}


def _image_part(image: ImageLike) -> dict[str, Any]:
    return {"type": "image_url", "image_url": image}


class TemplateInput(NamedTuple):
    """JSON for ``Session.apply_template``, and in order what markers stand for in it."""

    messages: str
    images: list[Picture]
    contexts: list[str]


def template_input(
    messages: Sequence[Mapping[str, Any]], media_marker: str, context_marker: str, max_pixels: int = MAX_PIXELS
) -> TemplateInput:
    """Put a marker in the place of each image, of at most so many pixels, and of each evictable text.

    Raises:
        ValueError: A message or a part of it has not the OpenAI shape, or an image cannot be used.
    """
    if not messages:
        raise ValueError("messages is empty, expected at least one message")
    found = TemplateInput("", [], [])
    markers = _Markers(media_marker, context_marker, max_pixels)
    plain: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        name = f"messages[{i}]"
        role = _get(message, "role", str, name)
        tools = {key: message[key] for key in TOOL_FIELDS if message.get(key) is not None}
        if "tool_calls" in tools and message.get("content") is None:
            plain.append({"role": role, "content": "", **tools})
            continue
        content = _get(message, "content", (str, list, tuple), name)
        if not isinstance(content, str):
            content = [_part(part, f"{name}.content[{j}]", markers, found) for j, part in enumerate(content)]
        plain.append({"role": role, "content": content, **tools})
    try:
        return found._replace(messages=json.dumps(plain))
    except TypeError as error:
        raise ValueError(f"messages: {error}, expected fields of JSON in {', '.join(TOOL_FIELDS)}") from error


class _Markers(NamedTuple):
    media: str
    context: str
    max_pixels: int


def _get(mapping: object, key: str, kinds: type | tuple[type, ...], name: str) -> Any:
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise ValueError(f"{name} is {mapping!r:.80}, expected a dict with {key!r}")
    if not isinstance(mapping[key], kinds):
        names = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise ValueError(f"{name}.{key} is {mapping[key]!r:.80}, expected {names}")
    return mapping[key]


def _part(part: object, name: str, markers: _Markers, found: TemplateInput) -> dict[str, str]:
    kind = _get(part, "type", str, name)
    if kind == "text":
        text = _get(part, "text", str, name)
        if not _evictable(part, name):
            return {"type": "text", "text": text}
        found.contexts.append(_context_text(text, f"{name}.text"))
        return {"type": "text", "text": markers.context}
    if kind != "image_url":
        raise ValueError(f"{name}.type is {kind!r}, expected 'text' or 'image_url'")
    image = _get(part, "image_url", object, name)
    if isinstance(image, Mapping):
        name = f"{name}.image_url"
        image = _get(image, "url", object, name)
    found.images.append(Picture(image, f"image {len(found.images) + 1}", markers.max_pixels))
    return {"type": "media_marker", "text": markers.media}


def _evictable(part: object, name: str) -> bool:
    if not isinstance(part, Mapping) or "evictable" not in part:
        return False
    return bool(_get(part, "evictable", bool, name))


def _context_text(text: str, name: str) -> str:
    if not text:
        raise ValueError(f"{name} is empty, expected text where it is evictable")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} has a lone surrogate at {error.start}, expected Unicode text") from error
    return text


class Reply:
    """The frame around one answer: the same id, time and model in every chunk."""

    def __init__(self, model: str) -> None:
        self._id = f"chatcmpl-{uuid.uuid4()}"
        self._created = int(time.time())
        self._model = model

    def completion(self, text: str, answer: Answer, prompt_tokens: int) -> ChatCompletion:
        """The whole answer."""
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "logprobs": None,
                    "finish_reason": answer.finish_reason,
                }
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": answer.n_tokens,
                "total_tokens": prompt_tokens + answer.n_tokens,
            },
        }

    def chunk(self, delta: Delta, finish_reason: FinishReason | None = None) -> ChatCompletionChunk:
        """A piece of the answer."""
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
        }
