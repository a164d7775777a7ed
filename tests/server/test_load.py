"""Many clients on few slots: every finished answer is the one that the request gets when it is
served alone.
"""

from __future__ import annotations

import concurrent.futures
import os
import random
from pathlib import Path

import httpx
import pytest
from lookm_cpp.embedded import DemoPrompt

from server.servers import SANITIZED, Json, Server, content, messages, running

N_CLIENTS = 8
N_REQUESTS = int(os.environ.get("LOOKM_LOAD_REQUESTS", "6"))
"""Of each client; ``make test-load`` asks for fifty."""
MAX_TOKENS = 24
TIE = 0.05
"""Tokens whose log-probabilities are nearer than this may change places: llama.cpp's products round
differently in
batches of other sizes, with and without compression."""


def _bodies(prompts: list[DemoPrompt]) -> list[Json]:
    """Requests of mixed lengths, image counts and ratios."""
    bodies: list[Json] = []
    for i, prompt in enumerate(prompts[::3]):
        bodies.append(
            {"messages": messages(prompt)} | ({} if i % 2 else {"kv_ratio": (0.1, 0.5, 1)[i % 3]})
        )
    bodies.append({"messages": [{"role": "user", "content": "What is in image 1? " * 8}]})
    return [body | {"temperature": 0, "max_tokens": MAX_TOKENS} for body in bodies]


def _tokens(server: Server, body: Json) -> list[Json]:
    """The answer, token by token, each with its two best candidates."""
    answer = server.post("/v1/chat/completions", **body, logprobs=True, top_logprobs=2)
    tokens: list[Json] = answer["choices"][0]["logprobs"]["content"]
    return tokens


def _sure(tokens: list[Json]) -> list[str]:
    """The tokens before the first near-tie."""
    margins = [
        token["top_logprobs"][0]["logprob"] - token["top_logprobs"][1]["logprob"]
        for token in tokens
    ]
    end = next((i for i, margin in enumerate(margins) if margin < TIE), len(margins))
    return [token["token"] for token in tokens[:end]]


def _break_off(server: Server, body: Json) -> None:
    """Read one piece of the answer, and go."""
    with server.http.stream(
        "POST", "/v1/chat/completions", json=body | {"stream": True}
    ) as response:
        next(response.iter_lines())


def _rss(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@pytest.mark.parametrize(
    "cache", [("--kv-unified", "-c", "2048"), ("--no-kv-unified", "-c", "5120")]
)
def test_answers_under_load(
    folder: Path, prompts: list[DemoPrompt], cache: tuple[str, ...]
) -> None:
    flags = (
        "--kv-ratio",
        "0.2",
        "-b",
        "256",
        "-ub",
        "128",
        "--cache-ram",
        "16",
        "-np",
        "4",
        *cache,
    )
    with running(folder, *flags) as server:
        bodies = _bodies(prompts)
        alone = []
        n_tokens = 0
        for body in bodies:
            server.erase_slots()
            tokens = _tokens(server, body)
            n_tokens += len(tokens)
            alone.append(_sure(tokens))
        assert sum(map(len, alone)) > 0.8 * n_tokens
        before = _rss(server)

        def client(number: int) -> list[tuple[int, list[str]]]:
            draw = random.Random(number)
            finished = []
            for _ in range(N_REQUESTS):
                i = draw.randrange(len(bodies))
                body = bodies[i] | {"cache_prompt": draw.random() < 0.5}
                if draw.random() < 0.2:
                    _break_off(server, body)
                else:
                    finished.append((i, [token["token"] for token in _tokens(server, body)]))
            return finished

        with concurrent.futures.ThreadPoolExecutor(N_CLIENTS) as pool:
            answers = [answer for done in pool.map(client, range(N_CLIENTS)) for answer in done]
        assert len(answers) >= N_CLIENTS * N_REQUESTS / 2
        assert [(i, tokens) for i, tokens in answers if tokens[: len(alone[i])] != alone[i]] == []
        server.erase_slots()
        assert server.uses_cells(0)
        # KiB; the prompt cache may take 16 MiB of it
        assert SANITIZED or _rss(server) - before < 128 * 1024


def test_freed_cells_serve_others(folder: Path, prompts: list[DemoPrompt]) -> None:
    """Four prompts of about 570 cells, in a cache of 1024: two do not fit together, but all do when
    compressed.
    """
    asked = [prompt for prompt in prompts if len(prompt.images) == 8][:4]
    flags = ("--kv-ratio", "0.2", "-c", "1024", "-np", "4", "--kv-unified", "--cache-ram", "0")
    with running(folder, *flags) as server:
        alone = [content(server.chat(prompt, max_tokens=32)) for prompt in asked]
        server.erase_slots()
        with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
            answers = list(pool.map(lambda prompt: server.chat(prompt, max_tokens=32), asked))
        assert [content(answer) for answer in answers] == alone
        assert sum(answer["timings"]["prompt_cells"] for answer in answers) > 2 * 1024
        assert server.metrics()["lookm:kv_cells_allocated"] == 1024
        kept = {answer["timings"]["kept_cells"] for answer in answers}
        assert server.metrics()["lookm:kv_cells_used"] > 3 * min(kept)  # they are there together
        # without compression they go one by one, and each slot that was used before makes room
        whole = server.chat(asked[0], max_tokens=8, kv_ratio=1)
        assert whole["timings"]["kept_cells"] == whole["timings"]["prompt_cells"]


def test_a_waiting_prompt_can_be_given_up(folder: Path, prompts: list[DemoPrompt]) -> None:
    flags = ("--kv-ratio", "0.2", "-c", "1024", "-np", "2", "--kv-unified", "--cache-ram", "0")
    asked = [prompt for prompt in prompts if len(prompt.images) == 8][:2]
    with running(folder, *flags) as server:
        alone = content(server.chat(asked[0], max_tokens=16))
        body = {"messages": messages(asked[1]), "max_tokens": 16}
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            first = pool.submit(server.chat, asked[0], max_tokens=16)
            for timeout in (0.005, 0.01, 0.02, 0.05):
                with pytest.raises(httpx.TimeoutException):
                    server.http.post("/v1/chat/completions", json=body, timeout=timeout)
            assert content(first.result()) == alone
        assert content(server.chat(asked[0], max_tokens=16)) == alone
        server.erase_slots()
        assert server.uses_cells(0)
