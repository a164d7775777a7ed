"""Tool calls and reasoning: told apart in answers, and constrained to the tools' schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from chat_templates import BARE, MARKED, THINKING
from lookm_cpp import Llava
from lookm_cpp.answer_parts import AnswerParts

ZOOM = {
    "type": "object",
    "properties": {
        "image": {"type": "integer", "minimum": 1, "maximum": 16},
        "corner": {"enum": ["top left", "bottom right"]},
    },
    "required": ["image", "corner"],
}
COUNT = {
    "type": "object",
    "properties": {"what": {"type": "string", "maxLength": 12}},
    "required": ["what"],
}
TOOLS = [
    {"type": "function", "function": {"name": "zoom", "description": "Zoom", "parameters": ZOOM}},
    {"type": "function", "function": {"name": "count", "parameters": COUNT}},
]
ASKED = [{"role": "user", "content": "Count the owls."}]


@pytest.fixture(scope="module")
def marked() -> Iterator[Llava]:
    with Llava.embedded(chat_template=MARKED) as opened:
        yield opened


@pytest.fixture(scope="module")
def bare() -> Iterator[Llava]:
    with Llava.embedded(chat_template=BARE) as opened:
        yield opened


@pytest.fixture(scope="module")
def thinking() -> Iterator[Llava]:
    with Llava.embedded(chat_template=THINKING) as opened:
        yield opened


def _prompt(llm: Llava, **options: Any) -> Any:
    return llm._request(ASKED, options).prompt


def _fed(prompt: Any, answer: str, size: int) -> tuple[list[Any], dict[str, Any]]:
    """All deltas of an answer that comes in pieces, and the message at its end."""
    parts, deltas = AnswerParts(prompt), []
    for at in range(0, len(answer), size):
        deltas += parts.feed(answer[at : at + size])
    deltas += parts.end(is_cut=False)
    return deltas, {**parts.message}


def _joined(deltas: list[Any]) -> dict[str, Any]:
    """A message as OpenAI's clients put it together from chunks."""
    found: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for delta in deltas:
        for key in ("content", "reasoning_content"):
            found[key] += delta.get(key, "")
        for call in delta.get("tool_calls", []):
            if call["index"] == len(found["tool_calls"]):
                assert call["type"] == "function"
                found["tool_calls"].append({"id": call["id"], "name": "", "arguments": ""})
            one = found["tool_calls"][call["index"]]
            for key, text in call["function"].items():
                one[key] += text
    return found


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_are_told_apart_piece_by_piece(marked: Llava, size: int) -> None:
    answer = (
        'Let me see.\n<tool_call>\n{"name": "count", "arguments": {"what": "owls"}}\n</tool_call>'
    )
    deltas, message = _fed(_prompt(marked, tools=TOOLS), answer, size)
    joined = _joined(deltas)
    assert joined["content"].strip() == message["content"].strip() == "Let me see."
    assert [call["name"] for call in joined["tool_calls"]] == ["count"]
    assert json.loads(joined["tool_calls"][0]["arguments"]) == {"what": "owls"}
    (call,) = message["tool_calls"]
    assert call["id"] == joined["tool_calls"][0]["id"]
    assert call["function"] == {
        "name": "count",
        "arguments": joined["tool_calls"][0]["arguments"],
    }


def test_a_call_alone_has_no_content(bare: Llava) -> None:
    answer = '{"name": "zoom", "parameters": {"image": 2, "corner": "top left"}}'
    _, message = _fed(_prompt(bare, tools=TOOLS), answer, 4)
    assert message["content"] == ""
    assert message["tool_calls"][0]["function"]["name"] == "zoom"


def test_what_is_no_call_is_content(marked: Llava) -> None:
    for answer in ("An owl.", '{"name": "count"}', "<tool_call>\nnothing"):
        assert _fed(_prompt(marked, tools=TOOLS), answer, 2)[1]["content"].strip() == answer
        no_tools = _prompt(marked, tools=TOOLS, tool_choice="none")
        assert _fed(no_tools, answer, 2)[1]["content"].strip() == answer


@pytest.mark.parametrize("size", [1, 1000])
def test_reasoning_is_not_content(thinking: Llava, size: int) -> None:
    deltas, message = _fed(_prompt(thinking), "<think>\nIt has wings.\n</think>\n\nAn owl.", size)
    joined = _joined(deltas)
    assert joined["content"] == message["content"] == "An owl."
    assert joined["reasoning_content"].strip() == "It has wings."
    assert message["reasoning_content"] == joined["reasoning_content"]


def test_variables_reach_the_template(thinking: Llava) -> None:
    off = _prompt(thinking, chat_template_kwargs={"enable_thinking": False})
    assert off.text == _prompt(thinking).text + "<think>\n\n</think>\n\n"
    _, message = _fed(off, "An owl.", 3)
    assert message == {"role": "assistant", "content": "An owl."}


def _brace(llm: Llava) -> dict[int, float]:
    """A bias for the token that a call begins with, as the model was never taught to call."""
    (token,) = (
        token for token in llm.tokenize("{", add_bos=False) if llm._session.piece_of(token) == b"{"
    )
    return {token: 100.0}


@pytest.mark.parametrize("kv_ratio", [1.0, 0.2])
@pytest.mark.parametrize("temperature", [0.0, 3.0])
@pytest.mark.parametrize("choice", ["required", "zoom"])
def test_calls_match_their_schema(
    bare: Llava, kv_ratio: float, temperature: float, choice: str
) -> None:
    named = {"type": "function", "function": {"name": choice}}
    options: dict[str, Any] = {
        "tools": TOOLS,
        "tool_choice": named if choice == "zoom" else choice,
        "temperature": temperature,
        "kv_ratio": kv_ratio,
        "seed": 5,
        "max_tokens": 200,
        "parallel_tool_calls": False,
        "logit_bias": _brace(bare),
    }
    whole = bare.create_chat_completion(ASKED, **options)["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    (call,) = whole["message"]["tool_calls"]
    name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
    assert choice in (name, "required")
    jsonschema.validate(arguments, ZOOM if name == "zoom" else COUNT)

    chunks = [
        chunk["choices"][0] for chunk in bare.create_chat_completion(ASKED, stream=True, **options)
    ]
    joined = _joined([chunk["delta"] for chunk in chunks])
    assert chunks[-1]["finish_reason"] == "tool_calls"
    (streamed,) = joined["tool_calls"]
    assert (streamed["name"], streamed["arguments"]) == (name, call["function"]["arguments"])


def test_several_calls(bare: Llava) -> None:
    options: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "seed": 1}
    options |= {"temperature": 3.0, "max_tokens": 200, "logit_bias": _brace(bare)}
    calls = bare.create_chat_completion(ASKED, **options)["choices"][0]["message"]["tool_calls"]
    assert len({call["id"] for call in calls}) == len(calls) > 1
    for call in calls[:-1]:  # the last one may be cut by max_tokens
        schema = ZOOM if call["function"]["name"] == "zoom" else COUNT
        jsonschema.validate(json.loads(call["function"]["arguments"]), schema)


DEEP = 200_000


@pytest.mark.parametrize("begin", ["", 'He said "', 'A quote: \\" '])
@pytest.mark.parametrize("is_partial", [True, False])
def test_a_call_nested_without_end(bare: Llava, begin: str, is_partial: bool) -> None:
    """The parser, which is recursive, gets the beginning alone."""
    prompt = _prompt(bare, tools=TOOLS)
    call = '{"name": "count", "parameters": {"what": ' + "[" * DEEP
    message = json.loads(prompt.parse(begin + call, is_partial=is_partial))
    assert len(message["content"]) < 1000
    if not begin:
        assert message["tool_calls"][0]["function"]["name"] == "count"
    # brackets in a text are not nested
    text = '{"name": "count", "parameters": {"what": "' + "[" * 100 + '"}}'
    calls = json.loads(prompt.parse(text, is_partial=False))["tool_calls"]
    assert json.loads(calls[0]["function"]["arguments"]) == {"what": "[" * 100}


def test_a_model_that_nests_without_end(bare: Llava) -> None:
    """In public calls: the answer ends by its limit, whole or streamed."""
    (bracket,) = (t for t in range(616) if bare._session.piece_of(t) == b"[")
    options: dict[str, Any] = {
        "tools": TOOLS,
        "grammar": 'root ::= "{\\"name\\": \\"count\\", \\"parameters\\": {\\"a\\": " "["+',
        "logit_bias": {bracket: 100.0},
        "temperature": 0,
        "max_tokens": 300,
    }
    made = bare.create_chat_completion(ASKED, **options)["choices"][0]
    assert made["finish_reason"] == "length"
    assert made["message"]["tool_calls"][0]["function"]["name"] == "count"
    streamed = [*bare.create_chat_completion(ASKED, stream=True, **options)]
    assert streamed[-1]["choices"][0]["finish_reason"] == "length"
    joined = _joined([chunk["choices"][0]["delta"] for chunk in streamed])
    arguments = made["message"]["tool_calls"][0]["function"]["arguments"]
    assert joined["tool_calls"][0]["arguments"] == arguments


@pytest.mark.parametrize("n", [129, 5_000, DEEP])
def test_arguments_nested_too_deep_are_refused(marked: Llava, n: int) -> None:
    function = {"name": "count", "arguments": "[" * n + "]" * n}
    called = {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}
    with pytest.raises(ValueError, match=r"^messages: .* nested deeper than 128"):
        marked.create_chat_completion([*ASKED, called], max_tokens=1)


def test_a_call_that_must_be_leaves_no_schema(bare: Llava) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "zoom"}}):
        with pytest.raises(ValueError, match=r"^response_format: it is given beside a tool"):
            bare.create_chat_completion(
                ASKED,
                tools=TOOLS,
                tool_choice=choice,
                response_format={"type": "json_object"},
            )


def test_a_result_goes_back(marked: Llava) -> None:
    """What an answer has returned can be sent again, with the tool's result behind it."""
    _, message = _fed(
        _prompt(marked, tools=TOOLS),
        '<tool_call>\n{"name": "count", "arguments": {"what": "owls"}}\n</tool_call>',
        9,
    )
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "3"}
    text = marked._request([*ASKED, message, result], {"tools": TOOLS}).text
    assert '<tool_call>\n{"name": "count", "arguments": {"what": "owls"}}\n</tool_call>' in text
    assert text.endswith("<tool_response>3</tool_response>ASSISTANT: ")


@pytest.mark.parametrize(
    ("options", "named", "said"),
    [
        ({"tools": "zoom"}, "tools", "expected a list of dicts"),
        ({"tools": [{"type": "code"}]}, r"tools\[0\]", "type function"),
        ({"tools": [{"type": "function", "function": {}}]}, r"tools\[0\]", "has a name"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": 5}}]},
            r"tools\[0\].parameters",
            "expected a JSON schema",
        ),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "a", "parameters": {"type": "nothing"}},
                    }
                ]
            },
            "tools",
            "nothing",
        ),
        ({"tools": TOOLS, "tool_choice": "maybe"}, "tool_choice", "auto, none, required"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
            "name of one of tools",
        ),
        ({"tool_choice": "required"}, "tool_choice", "expected tools beside it"),
        ({"tools": TOOLS, "parallel_tool_calls": 2}, "parallel_tool_calls", "True or False"),
        (
            {"tools": TOOLS, "tool_choice": "required", "grammar": 'root ::= "a"'},
            "grammar",
            "beside tools",
        ),
        ({"chat_template_kwargs": [1]}, "chat_template_kwargs", "expected a dict"),
        ({"chat_template_kwargs": {"a": {1}}}, "chat_template_kwargs", "JSON"),
        (
            {"chat_template_kwargs": {"enable_thinking": "no"}},
            "chat_template_kwargs",
            "",
        ),
    ],
)
def test_what_cannot_be_used(marked: Llava, options: Any, named: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}") as error:
        marked.create_chat_completion(ASKED, **options)
    assert said in str(error.value)


def test_tools_need_a_template_in_jinja() -> None:
    with (
        Llava.embedded(chat_template="vicuna") as llm,
        pytest.raises(ValueError, match=r"^tools: .* expected a chat_template in Jinja"),
    ):
        llm.create_chat_completion(ASKED, tools=TOOLS)


@pytest.mark.parametrize("name", ["tools", "n", "stream", "logprobs"])
def test_ask_returns_text_alone(marked: Llava, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is given to ask"):
        marked.ask("Who?", **{name: 1})  # type: ignore[arg-type]
