"""From a question to messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lookm_cpp.brief import brief
from lookm_cpp.images import ImageLike, Images, image_list

PLACEHOLDER = "<image>"


def question_messages(
    question: str, images: Images, contexts: Sequence[str] = (), system: str | None = None
) -> list[dict[str, Any]]:
    """One user message, after a system message if there is one.

    Contexts come first, each followed by a line break unless it ends with one. Images replace
    ``<image>``, or come before the question if it has no placeholder.

    Raises:
        ValueError: The numbers of placeholders and of images differ, a context is empty, or the
            question or ``system`` is not a string.

    >>> question_messages("Is <image> larger than <image>?", ["a.png", "b.png"])[0]["content"]
    ... # doctest: +NORMALIZE_WHITESPACE
    [{'type': 'text', 'text': 'Is '}, {'type': 'image_url', 'image_url': 'a.png'},
     {'type': 'text', 'text': ' larger than '}, {'type': 'image_url', 'image_url': 'b.png'},
     {'type': 'text', 'text': '?'}]
    >>> question_messages("Who?", [], ["A long story."])[0]["content"]
    ... # doctest: +NORMALIZE_WHITESPACE
    [{'type': 'text', 'text': 'A long story.\\n', 'evictable': True},
     {'type': 'text', 'text': 'Who?'}]
    """
    for name, text in (("question", question), ("system", "" if system is None else system)):
        if not isinstance(text, str):
            raise ValueError(f"{name} is {brief(text)}, expected a string")
    images = image_list(images)
    first, *rest = question.split(PLACEHOLDER)
    if rest and len(rest) != len(images):
        raise ValueError(
            f"question has {len(rest)} placeholders {PLACEHOLDER} for {len(images)} images, "
            "expected one each"
        )
    content = [_image_part(image) for image in images] if not rest else []
    content.append({"type": "text", "text": first})
    for image, text in zip(images, rest, strict=False):
        content += [_image_part(image), {"type": "text", "text": text}]
    content = [part for part in content if part.get("text") != ""]
    message = {"role": "user", "content": [*map(_context_part, contexts), *content]}
    return [{"role": "system", "content": system}, message] if system else [message]


def messages_alone(messages: Sequence[Any], **others: Any) -> Sequence[Any]:
    """Messages that were given where a text may be given, with nothing else beside them.

    Raises:
        ValueError: There is something else, or there are no messages.

    >>> messages_alone([{"role": "user", "content": "?"}], images=(), system=None)
    [{'role': 'user', 'content': '?'}]
    """
    for name, value in others.items():
        if value is not None and not (isinstance(value, (tuple, list)) and not value):
            raise ValueError(
                f"{name} is given together with messages, expected it in one of the messages"
            )
    if not isinstance(messages, Sequence) or not messages:
        raise ValueError(f"text is {brief(messages)}, expected a string, or a list of messages")
    return messages


def contexts_of(context: str | Sequence[str] | None) -> tuple[str, ...]:
    """``context`` as ``Llava.ask`` takes it: ``None``, one text, or several.

    Raises:
        ValueError: It is something else.
    """
    if context is not None and not isinstance(context, Sequence):
        raise ValueError(f"context is {brief(context)}, expected a string or several")
    return (context,) if isinstance(context, str) else tuple(context or ())


def _context_part(text: str) -> dict[str, Any]:
    if not isinstance(text, str) or not text:
        raise ValueError(f"context has {brief(text)}, expected strings that are not empty")
    return {"type": "text", "text": text if text.endswith("\n") else f"{text}\n", "evictable": True}


def _image_part(image: ImageLike) -> dict[str, Any]:
    return {"type": "image_url", "image_url": image}
