"""Servers of the embedded model, started once for all tests of a kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt, demo_prompts

from server.servers import Server, running

RATIO = 0.2


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def llm() -> Iterator[Llava]:
    with Llava.embedded(n_threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def prompts() -> list[DemoPrompt]:
    return demo_prompts()


@pytest.fixture(scope="session")
def short(prompts: list[DemoPrompt]) -> list[DemoPrompt]:
    """The prompts of the fewest pictures, four of them."""
    return sorted(prompts, key=lambda prompt: len(prompt.images))[:4]


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Server]:
    """Four slots that share one cache."""
    with running(folder, "--kv-ratio", str(RATIO), "-c", "4096") as started:
        yield started


@pytest.fixture(scope="session")
def sums(folder: Path) -> Iterator[Server]:
    """Text prompts are compressed, too: method h2o, in small batches."""
    flags = ("--kv-ratio", "0.3", "--kv-method", "h2o", "-c", "2048", "-b", "64", "-ub", "64")
    with running(folder, *flags) as started:
        yield started
