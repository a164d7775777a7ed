"""The embedded model, opened once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt, demo_prompts


@pytest.fixture(scope="session")
def llm() -> Iterator[Llava]:
    with Llava.embedded() as opened:
        yield opened


@pytest.fixture(scope="session")
def prompts() -> list[DemoPrompt]:
    return demo_prompts()


@pytest.fixture(scope="session")
def describe(prompts: list[DemoPrompt]) -> DemoPrompt:
    """The shortest prompt with a long answer: four pictures, about 50 tokens."""
    return next(prompt for prompt in prompts if prompt.task == "describe" and len(prompt.images) == 4)


@pytest.fixture(scope="session")
def longest(prompts: list[DemoPrompt]) -> DemoPrompt:
    """A prompt of sixteen pictures."""
    return next(prompt for prompt in prompts if len(prompt.images) == 16)
