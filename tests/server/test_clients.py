"""The clients that people use: openai and langchain-openai."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from lookm_cpp import Llava
from lookm_cpp.embedded import DEMO, DemoPrompt
from openai import BadRequestError, OpenAI
from pydantic import SecretStr

from server.conftest import RATIO
from server.servers import Server, messages

MODEL = "any"


def asked(prompts: list[DemoPrompt]) -> Any:
    """The first prompt; untyped, as plain dictionaries are no ChatCompletionMessageParam."""
    return messages(prompts[0])


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture
def expected(llm: Llava, short: list[DemoPrompt]) -> str:
    return llm.ask(short[0].content, short[0].images, kv_ratio=RATIO).strip()


def test_openai_chat(client: OpenAI, short: list[DemoPrompt], expected: str) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=asked(short), temperature=0)
    assert (answer.choices[0].message.content or "").strip() == expected
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    timings = (answer.model_extra or {})["timings"]
    assert answer.usage.prompt_tokens == timings["prompt_cells"] > timings["kept_cells"]


def test_openai_stream(client: OpenAI, short: list[DemoPrompt], expected: str) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=asked(short),
        temperature=0,
        stream=True,
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text.strip() == expected


def test_openai_two_answers(client: OpenAI, short: list[DemoPrompt], expected: str) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=asked(short), temperature=0, n=2)
    assert [(choice.message.content or "").strip() for choice in answer.choices] == [expected] * 2


def test_openai_json_schema(client: OpenAI, short: list[DemoPrompt]) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = client.chat.completions.create(
        model=MODEL,
        messages=asked(short),
        temperature=0,
        max_tokens=64,
        response_format=wanted,
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["yes"], bool)


def test_openai_extra_body(client: OpenAI, llm: Llava, short: list[DemoPrompt]) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=asked(short),
        temperature=0,
        extra_body={"kv_ratio": 1},
    )
    assert (answer.choices[0].message.content or "").strip() == llm.ask(
        short[0].content, short[0].images
    ).strip()
    with pytest.raises(BadRequestError, match="kv_ratio: 2 is out of range"):
        client.chat.completions.create(
            model=MODEL,
            messages=asked(short),
            extra_body={"kv_ratio": 2},
        )


def test_langchain(server: Server, short: list[DemoPrompt], expected: str) -> None:
    chat = ChatOpenAI(
        model=MODEL, base_url=f"{server.url}/v1", api_key=SecretStr("none"), temperature=0
    )
    question = [HumanMessage(messages(short[0])[0]["content"])]
    assert str(chat.invoke(question).content).strip() == expected
    assert "".join(str(chunk.content) for chunk in chat.stream(question)).strip() == expected


def test_the_example_of_an_agent(server: Server) -> None:
    """Each turn reads its own screenshot alone, however many came before."""
    shots = [str(DEMO / f"pic0{i}.png") for i in (3, 8, 1)]
    example = Path(__file__).parents[2] / "examples" / "screenshots.py"
    command = [sys.executable, str(example), server.url, *shots, "--max-tokens", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.strip().splitlines()
    assert lines[0].startswith("Image 1 shows an umbrella.")
    read = [int(line.rpartition("(")[2].split()[0]) for line in lines]
    assert len(read) == 3
    assert max(read) < 110  # 64 cells of a screenshot, and the text of one turn
