"""From messages in OpenAI's or ollama's form to the input of a chat template."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lookm_cpp.brief import brief
from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.files import check_text
from lookm_cpp.images import MAX_PIXELS, ImageLike, Images, Picture, image_list

TEMPLATE_FIELDS = {
    "tool_calls": "tool_calls",
    "tool_call_id": "tool_call_id",
    "name": "name",
    "reasoning_content": "reasoning_content",
    "tool_name": "name",  # these two are ollama's
    "thinking": "reasoning_content",
}
"""Further fields of a message, and their names in chat templates."""
WITHOUT_EFFECT = ("cache_control", "annotations")
"""Fields that clients send and that do not change the prompt."""
MESSAGE_KEYS = ("role", "content", "images", "refusal", *TEMPLATE_FIELDS, *WITHOUT_EFFECT)
TEXT_KEYS = ("type", "text", "evictable", "cache_control")
IMAGE_KEYS = ("type", "image_url", "evictable", "cache_control")
URL_KEYS = ("url", "detail")


class TemplateInput(NamedTuple):
    """JSON for ``Session.apply_template``, and what its markers stand for, in order."""

    messages: str
    images: list[Picture]
    contexts: list[str]


def template_input(
    messages: Sequence[Mapping[str, Any]],
    media_marker: str,
    context_marker: str,
    max_pixels: int = MAX_PIXELS,
) -> TemplateInput:
    """Replace each image and each evictable text by a marker.

    Keys without a value are ignored. ``max_pixels`` limits the size of each image.

    Raises:
        ValueError: A message or a part of it has neither form or an unknown key, or an image cannot
            be used.
    """
    if not isinstance(messages, Iterable) or isinstance(messages, (str, bytes, Mapping)):
        raise ValueError(f"messages is {brief(messages)}, expected a list of dicts")
    reader = _Reader(media_marker, context_marker, max_pixels)
    plain = [reader.message(message, f"messages[{i}]") for i, message in enumerate(messages)]
    if not plain:
        raise ValueError("messages is empty, expected at least one message")
    texts = [_as_json(message, f"messages[{i}]") for i, message in enumerate(plain)]
    return TemplateInput(f"[{', '.join(texts)}]", reader.images, reader.contexts)


def text_input(
    text: str, images: Images, media_marker: str, max_pixels: int = MAX_PIXELS
) -> tuple[str, TemplateInput]:
    """A prompt that is not of a template: each ``<image>`` in it becomes a marker.

    Raises:
        ValueError: The text is not Unicode text, or there are not as many ``<image>`` as images.
    """
    if not isinstance(text, str):
        raise ValueError(f"prompt is {brief(text)}, expected a string")
    check_text(text, "prompt")
    given, n = image_list(images), text.count(PLACEHOLDER)
    if given and n != len(given):
        raise ValueError(
            f"prompt has {n} placeholders {PLACEHOLDER} for {len(given)} images, expected one each"
        )
    pictures = [Picture(image, f"image {i}", max_pixels) for i, image in enumerate(given, 1)]
    marked = text.replace(PLACEHOLDER, media_marker) if pictures else text
    return marked, TemplateInput("", pictures, [])


def with_own_images(
    messages: Sequence[Mapping[str, Any]], max_pixels: int = MAX_PIXELS
) -> list[dict[str, Any]]:
    """The messages with each image as a ``data:`` URI, so that no file is needed any more.

    The messages are ones that ``template_input`` accepts.

    Raises:
        ValueError: An image cannot be read any more.
    """

    def uri(image: ImageLike) -> str:
        data = Picture(image, "image", max_pixels).encoded()
        return f"data:;base64,{base64.b64encode(data).decode()}"

    return with_images(messages, uri)


def with_images(
    messages: Sequence[Mapping[str, Any]], change: Callable[[ImageLike], Any]
) -> list[dict[str, Any]]:
    """The messages with ``change(image)`` for each image, which is called in their order.

    The messages are ones that ``template_input`` accepts.
    """

    def part_of(part: Any) -> Any:
        if not isinstance(part, Mapping) or part.get("type") != "image_url":
            return part
        image = part["image_url"]
        return {**part, "image_url": change(image["url"] if isinstance(image, Mapping) else image)}

    made = []
    for message in messages:
        own: dict[str, Any] = {**message}
        if own.get("images") is not None:
            own["images"] = [change(image) for image in image_list(own["images"])]
        if isinstance(own.get("content"), (list, tuple)):
            own["content"] = [part_of(part) for part in own["content"]]
        made.append(own)
    return made


def last_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last message, without its images.

    >>> last_text([{"role": "user", "content": [{"type": "text", "text": "Who?"}]}])
    'Who?'
    """
    content = messages[-1].get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


class _Reader:
    """Reads messages in order, and collects what the markers stand for."""

    def __init__(self, media_marker: str, context_marker: str, max_pixels: int) -> None:
        self._media_marker = media_marker
        self._context_marker = context_marker
        self._max_pixels = max_pixels
        self.images: list[Picture] = []
        self.contexts: list[str] = []

    def message(self, message: object, name: str) -> dict[str, Any]:
        """The message as the template gets it."""
        role = _get(message, "role", str, name)
        known = _known(message, MESSAGE_KEYS, name)
        # ollama puts a message's images before its text
        images = [self._image(image) for image in image_list(known.get("images"))]
        content = known.get("content")
        if content is None and role == "assistant":
            content = known.get("refusal", "")
        if content is None and not (images or "tool_calls" in known):
            content = _get(message, "content", (str, list, tuple), name)
        if isinstance(content, (list, tuple)):
            content = [self._part(part, f"{name}.content[{j}]") for j, part in enumerate(content)]
        elif content is not None and not isinstance(content, str):
            _get(known, "content", (str, list, tuple), name)
        if images:
            content = [*images, *_as_parts(content)]
        told = {
            TEMPLATE_FIELDS[key]: value for key, value in known.items() if key in TEMPLATE_FIELDS
        }
        return {"role": role, "content": content or "", **told}

    def _part(self, part: object, name: str) -> dict[str, str]:
        kind = _get(part, "type", str, name)
        if kind == "text":
            text = _get(part, "text", str, name)
            if not _known(part, TEXT_KEYS, name).get("evictable"):
                return {"type": "text", "text": text}
            self.contexts.append(_context_text(text, f"{name}.text"))
            return {"type": "text", "text": self._context_marker}
        if kind != "image_url":
            raise ValueError(f"{name}.type is {kind!r}, expected 'text' or 'image_url'")
        image = _get(part, "image_url", object, name)
        if _known(part, IMAGE_KEYS, name).get("evictable") is False:
            raise ValueError(
                f"{name}.evictable is False, expected True or no such key: "
                "an image's cells may always be evicted"
            )
        if isinstance(image, Mapping):
            name = f"{name}.image_url"
            _get(image, "url", object, name)
            image = _known(image, URL_KEYS, name).get("url")
        return self._image(image)

    def _image(self, image: Any) -> dict[str, str]:
        taken: ImageLike = image
        self.images.append(Picture(taken, f"image {len(self.images) + 1}", self._max_pixels))
        return {"type": "media_marker", "text": self._media_marker}


def _as_parts(content: str | list[dict[str, str]] | None) -> list[dict[str, str]]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _known(mapping: Mapping[str, Any] | object, keys: Sequence[str], name: str) -> dict[str, Any]:
    """The keys that have a value; an unknown key is an error."""
    assert isinstance(mapping, Mapping)
    known = {key: value for key, value in mapping.items() if value is not None}
    for key in known:
        if key not in keys:
            raise ValueError(f"{name} has the key {brief(key)}, expected only {', '.join(keys)}")
    if not isinstance(known.get("evictable", False), bool):
        raise ValueError(f"{name}.evictable is {brief(known['evictable'])}, expected bool")
    return known


def _get(mapping: object, key: str, kinds: type | tuple[type, ...], name: str) -> Any:
    if not isinstance(mapping, Mapping) or key not in mapping:
        raise ValueError(f"{name} is {brief(mapping)}, expected a dict with {key!r}")
    if not isinstance(mapping[key], kinds):
        names = " or ".join(
            kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))
        )
        raise ValueError(f"{name}.{key} is {brief(mapping[key])}, expected {names}")
    return mapping[key]


def _as_json(message: dict[str, Any], name: str) -> str:
    try:
        text = json.dumps(message, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        fields = ", ".join(TEMPLATE_FIELDS)
        raise ValueError(f"{name}: {error}, expected JSON values in {fields}") from error
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} has text with a lone surrogate, expected Unicode text") from None
    return text


def _context_text(text: str, name: str) -> str:
    if not text:
        raise ValueError(f"{name} is empty, expected text in an evictable part")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} has a lone surrogate at {error.start}, expected Unicode text"
        ) from error
    return text
