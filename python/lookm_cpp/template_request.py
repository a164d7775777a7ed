"""From messages and options to a prompt, by the session's chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lookm_cpp.brief import brief
from lookm_cpp.response_format import schema_text
from lookm_cpp.tools import tools_of
from lookm_cpp.words import flag

if TYPE_CHECKING:
    from lookm_cpp import _core


def prompt_of(session: _core.Session, messages: str, given: dict[str, Any]) -> _core.ChatPrompt:
    """The prompt for messages, JSON text of ``template_input``.

    Takes the options from ``given`` that concern the template: ``tools``, ``tool_choice``,
    ``parallel_tool_calls``, ``response_format`` and ``chat_template_kwargs``.

    Raises:
        ValueError: One of them is invalid, or the template cannot be used.
    """
    tools = tools_of(given.pop("tools", None), given.pop("tool_choice", None))
    fields: dict[str, Any] = {}
    if (parallel := given.pop("parallel_tool_calls", None)) is not None:
        fields["parallel_tool_calls"] = flag("parallel_tool_calls", parallel)
    return session.chat_prompt(
        messages=messages,
        tools=tools.text,
        tool_choice=tools.choice,
        json_schema=schema_text(given.pop("response_format", None)),
        template_arguments=_arguments_text(given.pop("chat_template_kwargs", None)),
        **fields,
    )


def _arguments_text(arguments: Mapping[str, Any] | None) -> str:
    if arguments is None:
        return ""
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
        raise ValueError(f"chat_template_kwargs is {brief(arguments)}, expected a dict of names")
    try:
        return json.dumps({**arguments}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"chat_template_kwargs cannot be written as JSON: {error}") from None
