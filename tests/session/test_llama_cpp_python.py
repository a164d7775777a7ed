"""What llama-cpp-python's README shows works when the import is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import jsonschema  # type: ignore[import-untyped]
import pytest
from lookm_cpp import Llava as Llama
from lookm_cpp import embedded

TEAM = {
    "type": "object",
    "properties": {"team_name": {"type": "string", "maxLength": 20}},
    "required": ["team_name"],
}


@pytest.fixture(scope="module")
def llm() -> Iterator[Llama]:
    with Llama(model_path=str(embedded.MODEL), seed=1337, n_ctx=2048, verbose=False) as opened:
        yield opened


def test_a_text_is_continued(llm: Llama) -> None:
    prompt = "Q: Name the planets in the solar system? A: "
    output = llm(prompt, max_tokens=32, stop=["Q:", "\n"], echo=True)
    assert output["object"] == "text_completion"
    (choice,) = output["choices"]
    assert choice["text"].startswith(prompt)
    assert choice["finish_reason"] in ("stop", "length")
    usage = output["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    pieces = [chunk["choices"][0]["text"] for chunk in llm(prompt, max_tokens=8, stream=True)]
    assert prompt + "".join(pieces) == llm(prompt, max_tokens=8, echo=True)["choices"][0]["text"]


def test_chat_completion(llm: Llama) -> None:
    output = llm.create_chat_completion(
        messages=[
            {
                "role": "system",
                "content": "You are an assistant who perfectly describes images.",
            },
            {"role": "user", "content": "Describe this image in detail please."},
        ],
        max_tokens=16,
    )
    assert output["object"] == "chat.completion"
    assert output["choices"][0]["message"]["role"] == "assistant"
    assert isinstance(output["choices"][0]["message"]["content"], str)


@pytest.mark.parametrize("schema", [None, TEAM])
def test_json(llm: Llama, schema: dict[str, object] | None) -> None:
    form: dict[str, object] = {"type": "json_object"} | ({"schema": schema} if schema else {})
    output = llm.create_chat_completion(
        messages=[
            {
                "role": "system",
                "content": "You are a helpful assistant that outputs in JSON.",
            },
            {"role": "user", "content": "Who won the world series in 2020"},
        ],
        response_format=form,
        temperature=0.7,
        max_tokens=200,
    )
    found = json.loads(output["choices"][0]["message"]["content"])
    jsonschema.validate(found, schema or {"type": "object"})


def test_an_image_in_a_message(llm: Llama) -> None:
    text = {"type": "text", "text": " What is in image 1?"}
    image = {"type": "image_url", "image_url": {"url": (embedded.DEMO / "pic08.png").as_uri()}}
    output = llm.create_chat_completion(
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Image 1:"}, image, text]},
        ]
    )
    assert "owl" in output["choices"][0]["message"]["content"]


def test_tokens(llm: Llama) -> None:
    text = "Q: Name the planets"
    tokens = llm.tokenize(text.encode())
    assert all(isinstance(token, int) for token in tokens)
    assert llm.detokenize(tokens).decode() == text
