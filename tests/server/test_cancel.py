"""Requests that go before they are answered, and requests of different ratios side by side."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path

import numpy as np
import pytest

from server.servers import Json, Server, running

N_CTX = 1024


def _tokens(n: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(40, 400, n)]


A, B, LONGER = (
    _tokens(400, seed=21),
    _tokens(300, seed=22),
    _tokens(400, seed=21) + _tokens(40, seed=23),
)


def _answer(server: Server, tokens: list[int], **options: object) -> tuple[list[int], int, int]:
    answer: Json = server.complete(tokens, **options)
    return answer["tokens"], answer["timings"]["prompt_cells"], answer["timings"]["kept_cells"]


def _leave(server: Server, tokens: list[int], share: float) -> None:
    """Ask in slot 0, and go when so much of the prompt has been read."""
    body = {
        "prompt": tokens,
        "id_slot": 0,
        "n_predict": 400,
        "stream": True,
        "return_progress": True,
    }
    with server.http.stream("POST", "/completion", json=body) as response:
        for line in response.iter_lines():
            progress = (
                json.loads(line[6:])["prompt_progress"]
                if line.startswith("data: ")
                else {"processed": 0}
            )
            if progress["processed"] >= share * len(tokens):
                assert progress["processed"] < len(tokens)
                return


@pytest.mark.parametrize("cache", ["--kv-unified", "--no-kv-unified"])
def test_a_client_that_leaves_while_its_prompt_is_read(folder: Path, cache: str) -> None:
    """Batches of 16: a prompt is read in two dozen rounds.

    Its half-read cells and sums must not reach the next one.
    """
    flags = (
        "--kv-ratio",
        "0.3",
        "--kv-method",
        "h2o",
        "-c",
        str(2 * N_CTX),
        "-np",
        "2",
        "-b",
        "16",
        "-ub",
        "16",
        "--cache-ram",
        "0",  # else a prompt that came before is not read again
    )
    with running(folder, *flags, cache) as server:
        alone = {}
        for name, tokens in (("A", A), ("B", B), ("longer", LONGER)):
            server.erase_slots()
            alone[name] = _answer(server, tokens, id_slot=0)
        for share in (0.1, 0.5):
            server.erase_slots()
            _leave(server, A, share)
            assert _answer(server, B, id_slot=1) == alone["B"]
            assert _answer(server, A, id_slot=0) == alone["A"]
            _leave(server, LONGER, share)
            assert _answer(server, LONGER, id_slot=0) == alone["longer"]
        # the next turn, given up half way: what is left of it has no scores
        server.erase_slots()
        _answer(server, A, id_slot=0)
        _leave(server, LONGER, 0.95)
        answer = server.complete(LONGER, id_slot=0)
        assert (answer["tokens"], answer["timings"]["cache_n"]) == (alone["longer"][0], 0)
        assert len(server.lines("cancel task, id_task")) == 5
        server.erase_slots()
        assert server.uses_cells(0)


def test_two_ratios_side_by_side(folder: Path) -> None:
    flags = (
        "--kv-ratio",
        "0.3",
        "--kv-method",
        "h2o",
        "-c",
        str(N_CTX),
        "-np",
        "3",
        "--kv-unified",
        "-b",
        "32",
    )
    with running(folder, *flags, "-ub", "32") as server:
        asked = [(A, 0.1), (B, 0.6), (A[:150], 1.0)]
        alone = []
        for tokens, ratio in asked:
            server.erase_slots()
            alone.append(_answer(server, tokens, kv_ratio=ratio, id_slot=0))
        assert [cells[1:] for cells in alone] == [(400, 40), (300, 180), (150, 150)]
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for turn in range(2):
                waiting = [
                    pool.submit(_answer, server, tokens, kv_ratio=ratio, id_slot=(i + turn) % 3)
                    for i, (tokens, ratio) in enumerate(asked)
                ]
                assert [one.result()[1:] for one in waiting] == [cells[1:] for cells in alone]
                assert [one.result()[0] for one in waiting] == [cells[0] for cells in alone]
