"""From OpenAI-style messages to a chat template's input, and from text to OpenAI-style answers."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lookm_cpp.answer import Answer
from lookm_cpp.chat_types import ChatCompletion, ChatCompletionChunk, Delta, FinishReason
from lookm_cpp.images import ImageLike, load_image

PLACEHOLDER = "<image>"


def question_messages(question: str, images: Sequence[ImageLike]) -> list[dict[str, Any]]:
    """One user message; images stand where ``<image>`` is, or before the question when it has no placeholder.

    Raises:
        ValueError: The number of placeholders is not the number of images.

    >>> question_messages("Is <image> larger than <image>?", ["a.png", "b.png"])[0]["content"]
    ... # doctest: +NORMALIZE_WHITESPACE
    [{'type': 'text', 'text': 'Is '}, {'type': 'image_url', 'image_url': 'a.png'},
     {'type': 'text', 'text': ' larger than '}, {'type': 'image_url', 'image_url': 'b.png'},
     {'type': 'text', 'text': '?'}]
    """
    first, *rest = question.split(PLACEHOLDER)
    if rest and len(rest) != len(images):
        raise ValueError(
            f"question has {len(rest)} placeholders {PLACEHOLDER} for {len(images)} images, expected one each"
        )
    content = [_image_part(image) for image in images] if not rest else []
    content.append({"type": "text", "text": first})
    for image, text in zip(images, rest, strict=False):
        content += [_image_part(image), {"type": "text", "text": text}]
    return [{"role": "user", "content": [part for part in content if part.get("text") != ""]}]


def _image_part(image: ImageLike) -> dict[str, Any]:
    return {"type": "image_url", "image_url": image}


def template_input(messages: Sequence[Mapping[str, Any]], media_marker: str) -> tuple[str, list[npt.NDArray[np.uint8]]]:
    """JSON for ``Session.apply_template`` with a marker for each image, and the images in order.

    Raises:
        ValueError: A message or a part of it has not the OpenAI shape, or an image cannot be used.
    """
    if not messages:
        raise ValueError("messages is empty, expected at least one message")
    images: list[npt.NDArray[np.uint8]] = []
    plain: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        name = f"messages[{i}]"
        role = _get(message, "role", str, name)
        content = _get(message, "content", (str, list, tuple), name)
        if not isinstance(content, str):
            content = [_part(part, f"{name}.content[{j}]", media_marker, images) for j, part in enumerate(content)]
        plain.append({"role": role, "content": content})
    return json.dumps(plain), images


def _get(mapping: object, key: str, kinds: type | tuple[type, ...], name: str) -> Any:
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise ValueError(f"{name} is {mapping!r:.80}, expected a dict with {key!r}")
    if not isinstance(mapping[key], kinds):
        names = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise ValueError(f"{name}.{key} is {mapping[key]!r:.80}, expected {names}")
    return mapping[key]


def _part(part: object, name: str, media_marker: str, images: list[npt.NDArray[np.uint8]]) -> dict[str, str]:
    kind = _get(part, "type", str, name)
    if kind == "text":
        return {"type": "text", "text": _get(part, "text", str, name)}
    if kind != "image_url":
        raise ValueError(f"{name}.type is {kind!r}, expected 'text' or 'image_url'")
    image = _get(part, "image_url", object, name)
    if isinstance(image, Mapping):
        name = f"{name}.image_url"
        image = _get(image, "url", object, name)
    images.append(load_image(image, f"image {len(images) + 1}"))
    return {"type": "media_marker", "text": media_marker}


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
