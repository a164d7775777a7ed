"""Answers that must match a schema or a grammar, and the samplers that llama-cpp-python has."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt

SCHEMA = {
    "type": "object",
    "properties": {
        "image": {"type": "integer", "minimum": 1, "maximum": 16},
        "corner": {"enum": ["top left", "top right", "bottom left", "bottom right"]},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2},
    },
    "required": ["image", "corner", "names"],
    "additionalProperties": False,
}
OPENAI = {"type": "json_schema", "json_schema": {"name": "where", "schema": SCHEMA}}
LLAMA_CPP_PYTHON = {"type": "json_object", "schema": SCHEMA}


def _ask(llm: Llava, prompt: DemoPrompt, **options: Any) -> str:
    return llm.ask(prompt.content, prompt.images, **({"max_tokens": 200} | options))


@pytest.mark.parametrize("kv_ratio", [1.0, 0.5, 0.2, 0.05])
@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_json_of_a_schema(
    llm: Llava, prompts: list[DemoPrompt], kv_ratio: float, temperature: float
) -> None:
    """A model that was never trained to write JSON writes it, at any ratio and temperature."""
    how = {"kv_ratio": kv_ratio, "temperature": temperature, "seed": 3}
    for prompt in prompts[:3]:
        found = json.loads(_ask(llm, prompt, response_format=OPENAI, **how))
        jsonschema.validate(found, SCHEMA)
        again = _ask(llm, prompt, response_format=LLAMA_CPP_PYTHON, **how)
        assert json.loads(again) == found


def test_any_json_object(llm: Llava, prompts: list[DemoPrompt]) -> None:
    text = _ask(llm, prompts[0], response_format={"type": "json_object"}, temperature=0)
    # an object that the model does not end is cut off by max_tokens
    assert text.startswith("{")
    assert _ask(llm, prompts[0], response_format={"type": "text"}, temperature=0) == _ask(
        llm, prompts[0], temperature=0
    )


def test_an_empty_schema_is_any_object(llm: Llava, prompts: list[DemoPrompt]) -> None:
    for wanted in ({"type": "json_schema", "json_schema": {"schema": {}}}, {"type": "json_object"}):
        made = _ask(llm, prompts[0], response_format=wanted, temperature=0, max_tokens=40)
        assert made.startswith("{"), made


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_a_grammar(llm: Llava, prompts: list[DemoPrompt], temperature: float) -> None:
    grammar = 'root ::= " "? word ("," word)* "!"\nword ::= [a-c]{1,3}'
    for prompt in prompts[:4]:
        text = _ask(llm, prompt, grammar=grammar, temperature=temperature, max_tokens=60)
        # max_tokens may cut it off
        assert re.fullmatch(r" ?[a-c]{1,3}(,[a-c]{1,3})*[,!]?", text), text


def test_a_grammar_that_allows_the_answer_changes_nothing(
    llm: Llava, prompts: list[DemoPrompt]
) -> None:
    for prompt in prompts[:6]:
        for seed in (1, 2):
            how = {"temperature": 1.5, "seed": seed, "max_tokens": 24}
            free = _ask(llm, prompt, **how)
            assert _ask(llm, prompt, grammar="root ::= [^\\x00]*", **how) == free


def test_a_stream_keeps_to_it(llm: Llava, prompts: list[DemoPrompt]) -> None:
    content = [{"type": "image_url", "image_url": image} for image in prompts[0].images]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": "Which?"}]}]
    options: dict[str, Any] = {"response_format": OPENAI, "temperature": 0, "max_tokens": 200}
    pieces = [
        chunk["choices"][0]["delta"].get("content", "")
        for chunk in llm.create_chat_completion(messages, stream=True, **options)
    ]
    jsonschema.validate(json.loads("".join(pieces)), SCHEMA)


def test_a_conversation_keeps_to_it(llm: Llava, prompts: list[DemoPrompt]) -> None:
    chat = llm.chat()
    chat.ask(prompts[0].content, prompts[0].images)
    text = chat.ask("Which?", response_format=OPENAI, max_tokens=200)
    jsonschema.validate(json.loads(text), SCHEMA)


def test_biases_change_the_choice_as_added_logits_do(llm: Llava, prompts: list[DemoPrompt]) -> None:
    """The oracle is the distribution that the second token is chosen from."""
    session = llm._session
    prompt = prompts[0]
    free = _tokens(llm, prompt)
    log_probs = session.log_probs()
    best, second = (int(token) for token in np.argsort(-log_probs)[:2])
    assert free[1] == best
    gap = float(log_probs[best] - log_probs[second])
    for bias, expected in ((0.9 * gap, best), (1.1 * gap, second)):
        for biases in ({second: bias}, {best: -bias}, {str(second): bias}):
            assert _tokens(llm, prompt, logit_bias=biases)[1] == expected, (bias, biases)
    assert _tokens(llm, prompt, logit_bias={best: -math.inf})[1] == second


def _tokens(llm: Llava, prompt: DemoPrompt, **options: Any) -> list[int]:
    """The first two tokens of an answer, greedily; the first is not changed by the options."""
    request = llm._request(
        [
            {
                "role": "user",
                "content": [
                    *({"type": "image_url", "image_url": image} for image in prompt.images),
                    {"type": "text", "text": prompt.question},
                ],
            }
        ],
        {"temperature": 0.0, "max_tokens": 2, "kv_ratio": 1.0, **options},
    )
    answer = request.begin(llm._session)
    "".join(answer)
    return answer.tokens


@pytest.mark.parametrize(
    ("options", "named", "said"),
    [
        ({"grammar": "root ::= root"}, "grammar", "cannot parse"),
        ({"grammar": "x"}, "grammar", "cannot parse"),
        ({"grammar": "root ::= " + "(" * 129 + '"a"' + ")" * 129}, "grammar", "nested deeper"),
        (
            {"grammar": 'root ::= ( # "\n' + "(" * 99_999 + '"a"' + ")" * 100_000},
            "grammar",
            "nested deeper",
        ),
        ({"grammar": f'root ::= "{"a" * (256 << 10)}"'}, "grammar", "at most 262144"),
        ({"grammar": 5}, "grammar", "expected a string"),
        ({"grammar": 'root ::= "a"', "response_format": OPENAI}, "grammar", "one of them"),
        ({"response_format": {"type": "xml"}}, "response_format", "expected a dict of type"),
        ({"response_format": "json"}, "response_format", "expected a dict of type"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "expected a dict"),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "nothing"}}},
            "response_format",
            "nothing",
        ),
        (
            {"response_format": {"type": "json_object", "schema": {"x": {1, 2}}}},
            "response_format",
            "not JSON",
        ),
        ({"logit_bias": {616: 1.0}}, "logit_bias", "tokens below 616"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias", "there is no token -1"),
        ({"logit_bias": {1: math.inf}}, "logit_bias", "expected a number or -inf"),
        ({"logit_bias": {1: math.nan}}, "logit_bias", "expected a number or -inf"),
        ({"logit_bias": {"a": 1.0}}, "logit_bias", "expected tokens"),
        ({"logit_bias": [1]}, "logit_bias", "expected a dict"),
        ({"mirostat_mode": 3}, "mirostat_mode", "expected 0 (off), 1 or 2"),
        ({"mirostat_tau": -1.0}, "mirostat_tau", "0 or more"),
        ({"typical_p": 0.0}, "typical_p", "(0, 1]"),
    ],
)
def test_what_cannot_be_used(llm: Llava, options: dict[str, Any], named: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}") as error:
        llm.ask("Hello", **options)
    assert said in str(error.value)


def test_a_deep_schema(llm: Llava) -> None:
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"items": schema}
    with pytest.raises(ValueError, match=r"^response_format: .*nested deeper"):
        llm.ask("Hello", response_format={"type": "json_object", "schema": schema})


@pytest.mark.parametrize(
    "options", [{"mirostat_mode": 1}, {"mirostat_mode": 2}, {"typical_p": 0.1}]
)
def test_samplers_choose_otherwise(llm: Llava, options: dict[str, Any]) -> None:
    """The same seed gives the same answer, and another one than without the option."""
    hot: dict[str, Any] = {"temperature": 4.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 7}
    answers = [llm.ask("Hello", max_tokens=24, **hot, **more) for more in (options, options, {})]
    assert answers[0] == answers[1] != answers[2]
