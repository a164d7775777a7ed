"""Tools that an answer may call, in OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from lookm_cpp.brief import brief

Tool: TypeAlias = Mapping[str, Any]
"""``{"type": "function", "function": {"name": ..., "description": ..., "parameters": SCHEMA}}``."""
ToolChoice: TypeAlias = str | Mapping[str, Any]
"""``"auto"``, ``"none"``, ``"required"``, or ``{"type": "function", "function": {"name": ...}}``
for one that must be called."""

CHOICES = ("auto", "none", "required")


class Tools(NamedTuple):
    """JSON of the tools, empty for none, and llama.cpp's word for the choice."""

    text: str
    choice: str


def tools_of(tools: Sequence[Tool] | None, choice: ToolChoice | None) -> Tools:
    """What ``create_chat_completion`` is given as ``tools`` and ``tool_choice``.

    Raises:
        ValueError: They have another form, or the choice is not among the tools.

    >>> tools_of([{"type": "function", "function": {"name": "zoom"}}], None)
    Tools(text='[{"type": "function", "function": {"name": "zoom"}}]', choice='auto')
    """
    if tools is None:
        tools = []
    if not isinstance(tools, Sequence) or isinstance(tools, (str, bytes)):
        raise ValueError(f"tools is {brief(tools)}, expected a list of dicts")
    names = [_name(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
    word = "auto" if choice is None else choice
    if isinstance(word, Mapping):
        function = word.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        if name not in names:
            raise ValueError(f"tool_choice is {brief(word)}, expected the name of one of tools")
        tools, word = [tools[names.index(name)]], "required"
    if word not in CHOICES:
        raise ValueError(
            f"tool_choice is {brief(word)}, expected {', '.join(CHOICES)}, or a dict that names one"
        )
    if word == "required" and not tools:
        raise ValueError("tool_choice is 'required', expected tools beside it")
    try:
        return Tools(json.dumps([*tools], allow_nan=False) if tools else "", word)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"tools cannot be written as JSON: {error}") from None


def _name(tool: Tool, place: str) -> str:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    is_function = isinstance(tool, Mapping) and tool.get("type") == "function"
    if not is_function or not isinstance(function, Mapping) or not isinstance(name, str):
        raise ValueError(
            f"{place} is {brief(tool)}, expected a dict of type function with a function that has "
            "a name"
        )
    parameters = function.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise ValueError(f"{place}.parameters is {brief(parameters)}, expected a JSON schema")
    return name
