"""Content, reasoning and tool calls of an answer, told apart while it is generated."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from lookm_cpp.chat_types import CalledFunction, Delta, Message

if TYPE_CHECKING:
    from lookm_cpp import _core
    from lookm_cpp.answer import Answer


class AnswerParts:
    """Takes the text of an answer piece by piece, and gives what each piece adds.

    Args:
        prompt: What is answered. Its chat template tells the form of the answer; ``None`` where
            there was no template.
    """

    def __init__(self, prompt: _core.ChatPrompt | None) -> None:
        self._prompt = None if prompt is None or prompt.is_plain else prompt
        self._text = ""
        self._content = ""
        self._reasoning = ""
        self._calls: list[dict[str, str]] = []

    @property
    def message(self) -> Message:
        """All parts so far."""
        message: Message = {"role": "assistant", "content": self._content}
        if self._reasoning:
            message["reasoning_content"] = self._reasoning
        if self._calls:
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in self._calls
            ]
        return message

    def feed(self, text: str) -> list[Delta]:
        """Take a piece."""
        if not self._prompt:
            self._content += text
            return [{"content": text}] if text else []
        self._text += text
        return self._added(json.loads(self._prompt.parse(self._text, is_partial=True)), False)

    def end(self, text: str = "", *, is_cut: bool) -> list[Delta]:
        """The answer has ended with this text; ``is_cut``: by a limit."""
        if not self._prompt:
            return self.feed(text)
        self._text += text
        return self._added(json.loads(self._prompt.parse(self._text, is_partial=is_cut)), True)

    def _added(self, message: dict[str, Any], is_last: bool) -> list[Delta]:
        deltas: list[Delta] = []
        reasoning = _growth(self._reasoning, message.get("reasoning_content") or "")
        if reasoning:
            self._reasoning += reasoning
            deltas.append({"reasoning_content": reasoning})
        content = _growth(self._content, message.get("content") or "")
        if content:
            self._content += content
            deltas.append({"content": content})
        calls = message.get("tool_calls") or []
        for i, call in enumerate(calls):
            # a name may still grow until arguments follow it
            is_settled = is_last or i + 1 < len(calls) or call["function"]["arguments"]
            if is_settled and call["function"]["name"]:
                deltas += self._call(i, call)
        return deltas

    def _call(self, i: int, call: dict[str, Any]) -> list[Delta]:
        deltas: list[Delta] = []
        function = call["function"]
        if i == len(self._calls):
            made = {
                "id": call.get("id") or uuid.uuid4().hex,
                "name": function["name"],
                "arguments": "",
            }
            self._calls.append(made)
            begun: CalledFunction = {"name": made["name"], "arguments": ""}
            deltas.append(
                {
                    "tool_calls": [
                        {"index": i, "id": made["id"], "type": "function", "function": begun}
                    ]
                }
            )
        if i < len(self._calls):
            more = _growth(self._calls[i]["arguments"], function["arguments"])
            if more:
                self._calls[i]["arguments"] += more
                deltas.append({"tool_calls": [{"index": i, "function": {"arguments": more}}]})
        return deltas


def content_of(answer: Answer, prompt: _core.ChatPrompt | None) -> str:
    """The content of an answer, which is generated to its end, without white space around it."""
    return parts_of(answer, prompt).message["content"].strip()


def parts_of(answer: Answer, prompt: _core.ChatPrompt | None) -> AnswerParts:
    """All parts of an answer, which is generated to its end."""
    parts, text = AnswerParts(prompt), "".join(answer)
    parts.end(text, is_cut=answer.finish_reason == "length")
    return parts


def _growth(told: str, now: str) -> str:
    """What ``now`` adds to what was told; nothing while it takes something back."""
    return now[len(told) :] if now.startswith(told) else ""
