"""The embedded model, opened once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt, demo_prompts
from lookm_cpp.options import LlavaOptions

from session.servers import rpc_servers


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest) -> Iterator[LlavaOptions]:
    """Options that put a model and its cache on one kind of device (``--backend``)."""
    if request.param == "gpu":
        yield {}
    elif request.param == "cpu":
        yield {"n_gpu_layers": 0}
    else:
        with rpc_servers(2 if request.param == "rpc-2" else 1) as addresses:
            yield {"rpc_servers": addresses}


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
    return next(
        prompt for prompt in prompts if prompt.task == "describe" and len(prompt.images) == 4
    )


@pytest.fixture(scope="session")
def longest(prompts: list[DemoPrompt]) -> DemoPrompt:
    """A prompt of sixteen pictures."""
    return next(prompt for prompt in prompts if len(prompt.images) == 16)
