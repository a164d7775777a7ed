"""What is kept of a prompt, and so its answer, does not depend on what other slots are doing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lookm_cpp.embedded import DemoPrompt

from server.servers import Json, Server, messages, running

N_TOKENS = 40
NOISE = 0.3
"""Log-probabilities of a full cache move by up to half of this beside neighbours: an answer's
tokens share batches and
cells with them, and products round differently. Other kept cells move them by more, up to 4.3."""


def _logprobs(server: Server, prompt: DemoPrompt, kv_ratio: float) -> list[tuple[str, float]]:
    options = {
        "ignore_eos": True,
        "cache_prompt": False,
        "logprobs": True,
        "top_logprobs": 1,
        "id_slot": 0,
    }
    answer = server.chat(prompt, max_tokens=N_TOKENS, kv_ratio=kv_ratio, **options)
    tokens: list[Json] = answer["choices"][0]["logprobs"]["content"]
    assert len(tokens) == N_TOKENS
    return [(token["token"], token["logprob"]) for token in tokens]


def _distance(alone: list[tuple[str, float]], beside: list[tuple[str, float]]) -> float:
    """The largest difference of log-probabilities up to the first other token."""
    far = 0.0
    for (token, logprob), (other, logprob_beside) in zip(alone, beside, strict=True):
        far = max(far, abs(logprob - logprob_beside))
        if token != other:
            break
    return far


@contextlib.contextmanager
def _answering(server: Server, prompt: DemoPrompt, slot: int, **options: object) -> Iterator[None]:
    """A neighbour whose answer is under way, until it is broken off."""
    begun, enough = threading.Event(), threading.Event()
    body = {
        "messages": messages(prompt),
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
        "id_slot": slot,
    }

    def answer() -> None:
        with server.http.stream(
            "POST", "/v1/chat/completions", json=body | {"max_tokens": 3000} | options
        ) as lines:
            for n, _ in enumerate(lines.iter_lines()):
                if n == 6:
                    begun.set()
                if enough.is_set():
                    return

    thread = threading.Thread(target=answer)
    thread.start()
    assert begun.wait(60)
    yield
    enough.set()
    thread.join()


@contextlib.contextmanager
def _coming_and_going(server: Server, prompts: list[DemoPrompt], slot: int) -> Iterator[None]:
    """Neighbours that are read, answered in a few tokens, and freed, one after the other."""
    enough = threading.Event()

    def ask() -> None:
        n = 0
        while not enough.is_set():
            server.chat(
                prompts[n % len(prompts)], max_tokens=5, id_slot=slot, kv_ratio=(1, 0.3)[n % 2]
            )
            n += 1

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    enough.set()
    thread.join()


@pytest.mark.parametrize(
    ("cache", "flash_attn"),
    [("--kv-unified", "on"), ("--kv-unified", "off"), ("--no-kv-unified", "on")],
)
def test_answers_beside_neighbours(
    folder: Path, prompts: list[DemoPrompt], cache: str, flash_attn: str
) -> None:
    """Prompts 3 and 19 were up to 4.3 nats off when they shared batches and runs of cells with
    their neighbours.
    """
    by_images = sorted(prompts, key=lambda prompt: len(prompt.images))
    flags = (
        "--kv-ratio",
        "0.3",
        "--kv-method",
        "text_prior_pivot_merge",
        "-np",
        "4",
        "-c",
        "16384",
        cache,
    )
    far = {}
    with running(folder, *flags, "-fa", flash_attn) as server:
        for i in (3, 19):
            server.erase_slots()
            alone = _logprobs(server, prompts[i], 0.5)
            for other in (by_images[0], by_images[12], by_images[-1]):
                server.erase_slots()
                with _answering(server, other, slot=1, kv_ratio=0.5):
                    far[i, len(other.images)] = _distance(alone, _logprobs(server, prompts[i], 0.5))
            with (
                _answering(server, by_images[0], slot=1),
                _coming_and_going(server, by_images[:6], slot=2),
                _coming_and_going(server, by_images[6:12], slot=3),
            ):
                far[i, 0] = _distance(alone, _logprobs(server, prompts[i], 0.5))
    assert max(far.values()) < NOISE, far


def test_prompts_read_through_a_cap(folder: Path, prompts: list[DemoPrompt]) -> None:
    """They squeeze out cells while they are read: by themselves, so that the first token's logits
    are the same bits.
    """
    by_images = sorted(prompts, key=lambda prompt: len(prompt.images))
    flags = (
        "--kv-ratio",
        "0.3",
        "--kv-method",
        "text_prior_pivot_merge",
        "-np",
        "4",
        "--kv-unified",
        "-c",
        "16384",
    )
    far = {}
    with running(folder, *flags, "--kv-cells", "2048") as server:
        for i in (3, 19):
            server.erase_slots()
            alone = _logprobs(server, prompts[i], 0.5)
            assert server.says("read through 512 cells")
            with (
                _answering(server, by_images[0], slot=1),
                _coming_and_going(server, by_images[:6], slot=2),
                _coming_and_going(server, by_images[6:12], slot=3),
            ):
                for n in range(3):
                    beside = _logprobs(server, prompts[i], 0.5)
                    assert beside[0] == alone[0]
                    far[i, n] = _distance(alone, beside)
    assert max(far.values()) < NOISE, far


def test_a_client_that_leaves_frees_what_was_held(folder: Path, prompts: list[DemoPrompt]) -> None:
    """While a prompt is read, cells are held for all of it; they come back when nobody waits for
    its answer.
    """
    long, short = prompts[-1], prompts[0]
    flags = ("--kv-ratio", "0.3", "-np", "2", "--kv-unified", "-c", "2048", "-b", "32", "-ub", "32")
    with running(folder, *flags) as server:
        alone = _logprobs(server, short, 0.3)
        with _answering(server, short, slot=1, kv_ratio=0.3):
            for seconds in (0.02, 0.05, 0.1, 0.15):
                with contextlib.suppress(Exception):
                    server.http.post(
                        "/v1/chat/completions",
                        json={"messages": messages(long), "max_tokens": 4, "id_slot": 0},
                        timeout=seconds,
                    )
            assert _distance(alone, _logprobs(server, short, 0.3)) <= NOISE
        server.erase_slots()
        assert server.uses_cells(0)
