"""Chat templates as users give them: by name, as a file, or as text."""

from __future__ import annotations

import os
import re

from lookm_cpp import _core
from lookm_cpp.brief import brief
from lookm_cpp.files import check_text, read_text

_JINJA = re.compile(r"{[{%#]")


def template_text(given: str | os.PathLike[str] | None) -> str:
    """A template as the core takes it: a name that llama.cpp knows, or Jinja text.

    Args:
        given: A name, text that contains ``{{``, ``{%`` or ``{#``, or else a file. ``None`` is the
            model's own template, ``""`` for the core.

    Raises:
        FileNotFoundError: It is neither a name nor Jinja text, and there is no such file.
        ValueError: The file cannot be read or does not contain a template.

    >>> template_text("vicuna"), template_text("{{ messages[0].content }}"), template_text(None)
    ('vicuna', '{{ messages[0].content }}', '')
    """
    if given is None:
        return ""
    if not isinstance(given, (str, os.PathLike)):
        raise ValueError(
            f"chat_template is {brief(given)}, expected a name, a file or the template's text"
        )
    if isinstance(given, str) and (given in _core.chat_templates() or _JINJA.search(given)):
        check_text(given, "chat_template")
        return given
    try:
        text = read_text(given, "chat_template")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"chat_template {os.fspath(given)!r:.80} is not a file, expected one, the template's "
            f"text, or one of {', '.join(_core.chat_templates())}"
        ) from None
    if not _JINJA.search(text):
        raise ValueError(
            f"chat_template {os.fspath(given)!r} contains no Jinja, expected a chat template"
        )
    return text
