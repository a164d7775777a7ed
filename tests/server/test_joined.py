"""Images and short texts that the server reads in full batches.

The oracles are the library, which reads the same batches (tests/zoo/test_joined.py counts them),
and a server that reads each piece by itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt

from server import servers
from server.conftest import RATIO
from server.servers import Json, Server, asked, content, messages, running, same

COMPRESSED = ("--kv-ratio", str(RATIO))
SAME = 1e-4  # the server rounds probabilities before it takes their logarithms
PRUNED = ("--image-ratio", "0.5", "--pruner", "grid")


def told(answer: Json) -> list[float]:
    """Log-probabilities of the five likeliest tokens at each place of an answer."""
    places = answer["choices"][0]["logprobs"]["content"]
    return [token["logprob"] for place in places for token in place["top_logprobs"]]


def far_apart(some: list[list[float]], others: list[list[float]]) -> float:
    pairs = zip(some, others, strict=True)
    return max(float(np.abs(np.subtract(a, b)).max()) for a, b in pairs)


def by_the_library(prompt: DemoPrompt, **how: Any) -> list[float]:
    with Llava.embedded(n_threads=2, **how) as llm:
        answer: Any = llm.create_chat_completion(
            messages(prompt), temperature=0, max_tokens=8, logprobs=True, top_logprobs=5
        )
        return told(answer)


@pytest.mark.parametrize(
    ("flags", "how"),
    [
        (COMPRESSED, {"kv_ratio": RATIO}),
        (PRUNED, {"image_ratio": 0.5, "pruner": "grid"}),
        (COMPRESSED + PRUNED, {"kv_ratio": RATIO, "image_ratio": 0.5, "pruner": "grid"}),
    ],
)
def test_the_librarys_batches(
    flags: tuple[str, ...],
    how: dict[str, Any],
    folder: Path,
    short: list[DemoPrompt],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights of q8_0 make sums that depend on the batches."""

    def by_the_server() -> list[list[float]]:
        with running(folder, *flags, "-c", "4096") as server:
            options: dict[str, Any] = {"ignore_eos": False, "cache_prompt": False}
            return [told(asked(server, prompt, **options)) for prompt in short]

    joined = [by_the_library(prompt, **how) for prompt in short]
    assert far_apart(by_the_server(), joined) < SAME
    monkeypatch.setenv("LOOKM_JOIN", "off")
    monkeypatch.setitem(servers.QUIET_ENVIRONMENT, "LOOKM_JOIN", "off")
    one_by_one = [by_the_library(prompt, **how) for prompt in short]
    assert far_apart(by_the_server(), one_by_one) < SAME
    assert far_apart(joined, one_by_one) > 100 * SAME


def leave(server: Server, prompt: DemoPrompt, share: float) -> None:
    """Ask in slot 0, and go when so much of the prompt has been taken for read."""
    body = {"messages": messages(prompt), "id_slot": 0, "stream": True, "return_progress": True}
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if "prompt_progress" not in line:
                continue
            progress = json.loads(line[6:])["prompt_progress"]
            if progress["processed"] >= share * progress["total"]:
                assert progress["processed"] < progress["total"]
                return


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("flags", [COMPRESSED, PRUNED])
def test_a_client_that_leaves_while_rows_wait(
    flags: tuple[str, ...], share: float, folder: Path, prompts: list[DemoPrompt]
) -> None:
    """What its slot holds afterwards is in the cache: others go on from it."""
    longest = max(prompts, key=lambda prompt: len(prompt.images))
    with running(folder, *flags, "-c", "8192", "-np", "2") as server:
        alone = asked(server, longest, id_slot=1, cache_prompt=False)
        leave(server, longest, share)
        again = asked(server, longest, id_slot=0)
        # rows that were decoded early are in other batches
        assert told(again)[::5] == pytest.approx(told(alone)[::5], abs=0.01)
        assert content(again) == content(alone)
        assert same(asked(server, longest, id_slot=0, cache_prompt=False), alone)


def test_pruned_prompts_beside_an_answer(folder: Path, short: list[DemoPrompt]) -> None:
    """Without compression, an answer's tokens are in the batches of a prompt's texts."""
    with running(folder, *PRUNED, "-c", "8192", "-np", "2") as server:
        alone = [asked(server, prompt, id_slot=0, cache_prompt=False) for prompt in short]
        body = {"messages": messages(short[0]), "id_slot": 1, "stream": True, "max_tokens": 400}
        body |= {"ignore_eos": True}
        with server.http.stream("POST", "/v1/chat/completions", json=body) as other:
            lines = other.iter_lines()
            for prompt, expected in zip(short, alone, strict=True):
                next(lines)
                found = asked(server, prompt, id_slot=0, cache_prompt=False)
                assert content(found) == content(expected)
                assert told(found)[::5] == pytest.approx(told(expected)[::5], abs=0.01)
            assert any('"content"' in line for line in lines)
