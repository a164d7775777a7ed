"""The server's tool calls, reasoning and log-probabilities are the library's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chat_templates import BARE, THINKING
from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt

from server.servers import Server, messages, running

RATIO = 0.3
PARAMETERS = {
    "type": "object",
    "properties": {
        "image": {"type": "integer", "minimum": 1, "maximum": 16},
        "why": {"type": "string", "maxLength": 20},
    },
    "required": ["image", "why"],
}
TOOLS = [
    {"type": "function", "function": {"name": "zoom", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "count", "parameters": PARAMETERS}},
]


@pytest.fixture(scope="module", params=[BARE, THINKING], ids=["bare", "thinking"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Llava, str]]:
    folder = tmp_path_factory.mktemp("tools")
    template = folder / "template.jinja"
    template.write_text(request.param)
    flags = ("--kv-ratio", str(RATIO), "-c", "4096", "--chat-template-file", str(template))
    with (
        running(folder, "--jinja", *flags) as server,
        Llava.embedded(chat_template=request.param, kv_ratio=RATIO, n_threads=1) as llm,
    ):
        yield server, llm, request.param


def _without_ids(message: dict[str, Any]) -> dict[str, Any]:
    found = {key: value or "" for key, value in message.items() if key != "tool_calls"}
    return found | {"calls": [call["function"] for call in message.get("tool_calls") or []]}


@pytest.mark.parametrize("choice", ["auto", "required", "none"])
def test_the_same_calls(
    both: tuple[Server, Llava, str], short: list[DemoPrompt], choice: str
) -> None:
    server, llm, template = both
    if template is THINKING:
        pytest.skip("this template has no tools")
    (brace,) = (t for t in llm.tokenize("{", add_bos=False) if llm.detokenize([t]) == b"{")
    options: dict[str, Any] = {
        "tools": TOOLS,
        "tool_choice": choice,
        "logit_bias": {str(brace): 100.0} if choice == "required" else None,
        "temperature": 0,
        "max_tokens": 60,
    }
    asked = messages(short[0])
    theirs = server.post("/v1/chat/completions", messages=asked, **options)["choices"][0]
    ours = llm.create_chat_completion(asked, **options)["choices"][0]
    assert _without_ids({**ours["message"]}) == _without_ids(theirs["message"])
    assert bool(ours["message"].get("tool_calls")) == (choice == "required")


@pytest.mark.parametrize("thinks", [True, False])
def test_the_same_text(
    both: tuple[Server, Llava, str], short: list[DemoPrompt], thinks: bool
) -> None:
    server, llm, _ = both
    options: dict[str, Any] = {
        "chat_template_kwargs": {"enable_thinking": thinks},
        "logprobs": True,
        "top_logprobs": 4,
        "temperature": 0,
        "max_tokens": 20,
    }
    asked = messages(short[1 + thinks])  # not one prompt that continues the other
    theirs = server.post("/v1/chat/completions", messages=asked, **options)
    ours = llm.create_chat_completion(asked, **options)
    assert ours["usage"]["prompt_tokens"] == theirs["timings"]["prompt_cells"]
    own, other = ours["choices"][0], theirs["choices"][0]
    assert _without_ids({**own["message"]}) == _without_ids(other["message"])
    assert own["logprobs"] is not None
    content = own["logprobs"]["content"]
    assert "".join(one["token"] for one in content).strip()
    # the server gives the token that ends the answer, too
    for one, two in zip(content, other["logprobs"]["content"][: len(content)], strict=True):
        assert one["token"] == two["token"]
        assert one["logprob"] == pytest.approx(two["logprob"], abs=1e-3)
        likely = [top["logprob"] for top in two["top_logprobs"]]
        assert [top["logprob"] for top in one["top_logprobs"]] == pytest.approx(likely, abs=1e-3)


def test_a_model_that_nests_without_end(
    both: tuple[Server, Llava, str], short: list[DemoPrompt]
) -> None:
    """The server's parser, which is recursive, gets the beginning alone, too."""
    server, llm, template = both
    if template is THINKING:
        pytest.skip("this template has no tools")
    bracket = llm.tokenize("[", add_bos=False)[-1]
    asked = messages(short[0])
    wanted = llm.create_chat_completion(asked, max_tokens=1, tools=TOOLS)
    n_prompt = wanted["usage"]["prompt_tokens"]
    options: dict[str, Any] = {
        "tools": TOOLS,
        "tool_choice": "required",
        "logit_bias": {str(bracket): 100.0},
        "temperature": 0,
        "max_tokens": 4096 - n_prompt - 8,
    }
    made = server.post("/v1/chat/completions", messages=asked, **options)["choices"][0]
    assert made["finish_reason"] == "length"
