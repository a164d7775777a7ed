"""Room in a cache that all slots share: who waits, for what, and who does not."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from lookm_cpp.embedded import DemoPrompt
from session.tiny_models import write_llama

from server.servers import ONE_REQUEST_EACH, Json, Server, drafts_by, messages, running

SHARED = ("-c", "1024", "-np", "4", "--kv-unified", "--cache-ram", "0")


def _tokens(n: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(40, 400, n)]


@pytest.fixture(scope="module")
def h2o(folder: Path) -> object:
    with running(folder, "--kv-ratio", "0.3", "--kv-method", "h2o", *SHARED) as started:
        yield started


def test_a_draft_model_keeps_every_token(folder: Path, tmp_path: Path) -> None:
    """Its cache is as large and is not compressed: prompts wait until it has room, too."""
    model = str(write_llama(tmp_path / "model.gguf", 256, n_ctx=4096))
    with running(
        folder, "-m", model, *drafts_by(model), "--kv-ratio", "0.2", "--kv-method", "h2o", *SHARED
    ) as server:
        prompts = [[3 + token % 250 for token in _tokens(600, seed)] for seed in range(4)]
        for prompt in prompts:
            assert server.complete(prompt)["timings"]["kept_cells"] == 120
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(server.complete, prompts))
        assert [answer["timings"]["kept_cells"] for answer in answers] == [120] * 4


def test_a_prompt_past_the_context_takes_nothing_and_waits_for_nobody(h2o: Server) -> None:
    h2o.erase_slots()
    first = h2o.complete(_tokens(300, 1), id_slot=0)
    longer = _tokens(300, 1) + first["tokens"] + _tokens(30, 2)
    long_answer = {"n_predict": 600, "ignore_eos": True, "temperature": 0}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        busy = pool.submit(h2o.complete, _tokens(50, 3), id_slot=1, **long_answer)
        while not h2o.http.get("/slots").json()[1].get("next_token", [{}])[0].get("n_decoded"):
            time.sleep(0.01)
        response = h2o.http.post("/completion", json={"prompt": _tokens(1200, 4), "n_predict": 4})
        assert not busy.done()
        assert response.status_code == 400
        assert "1200 tokens" in response.text
        busy.result()
    assert h2o.complete(longer, id_slot=0)["timings"]["cache_n"] == 300 + len(first["tokens"]) - 1


@contextlib.contextmanager
def _images_keep_coming(server: Server, asked: list[DemoPrompt]) -> Iterator[Callable[[], int]]:
    """Three clients ask on and on; the function says how many answers there were."""
    done, enough = [0], threading.Event()

    def ask_on(first: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60, limits=ONE_REQUEST_EACH) as http:
            while not enough.is_set():
                body = {
                    "messages": messages(asked[(first + done[0]) % len(asked)]),
                    "max_tokens": 8,
                }
                assert http.post("/v1/chat/completions", json=body).status_code == 200
                done[0] += 1

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(ask_on, first) for first in range(3)]
        while done[0] < 3:
            time.sleep(0.01)
        try:
            yield lambda: done[0]
        finally:
            enough.set()
        for client in clients:
            client.result()


def test_a_turn_past_the_context_takes_nothing_from_its_conversation(h2o: Server) -> None:
    h2o.erase_slots()
    first = h2o.complete(_tokens(300, 1), id_slot=0)
    begun = _tokens(300, 1) + first["tokens"]
    response = h2o.http.post(
        "/completion", json={"prompt": begun + _tokens(900, 2), "n_predict": 4, "id_slot": 0}
    )
    assert response.status_code == 400
    assert h2o.complete(begun + _tokens(30, 3), id_slot=0)["timings"]["cache_n"] == len(begun) - 1


def test_text_is_read_while_images_keep_coming(folder: Path, prompts: list[DemoPrompt]) -> None:
    """It has its turn by the time when it came."""
    asked = [prompt for prompt in prompts if len(prompt.images) == 8]
    with (
        running(folder, "--kv-ratio", "0.2", *SHARED) as server,
        _images_keep_coming(server, asked) as done,
    ):
        before = done()
        assert server.complete(_tokens(900, 1), n_predict=4)["timings"]["prompt_n"] == 900
        assert done() - before < 8


@pytest.mark.parametrize("max_tokens", [100, 256])
def test_answers_have_room_for_what_they_may_take(
    folder: Path, prompts: list[DemoPrompt], max_tokens: int
) -> None:
    """Four prompts of 570 cells fit when they are compressed; whose answers would not fit beside
    the others', waits.
    """
    asked = [prompt for prompt in prompts if len(prompt.images) == 8][:4]

    def answer(server: Server, prompt: DemoPrompt) -> Json:
        return server.chat(prompt, max_tokens=max_tokens, ignore_eos=True)

    with running(folder, "--kv-ratio", "0.2", *SHARED) as server:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda prompt: answer(server, prompt), asked))
        assert [found["usage"]["completion_tokens"] for found in answers] == [max_tokens] * 4


def test_small_texts_have_room_for_their_answers(h2o: Server) -> None:
    """Four that fit for now, and whose answers do not, wait; so do those that come beside a longer
    prompt.
    """
    h2o.erase_slots()
    for lengths in ((50, 50, 50, 50), (500, 40, 40, 40)):
        prompts = [_tokens(n, seed) for seed, n in enumerate(lengths)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda prompt: h2o.complete(prompt, n_predict=256), prompts))
        assert [len(answer["tokens"]) for answer in answers] == [256] * 4


def test_children_have_room_for_their_answers(h2o: Server) -> None:
    h2o.erase_slots()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        busy = pool.submit(h2o.complete, _tokens(200, 1), n_predict=250)
        body = {
            "prompt": _tokens(200, 2),
            "n_cmpl": 3,
            "n_predict": 250,
            "temperature": 1,
            "ignore_eos": True,
        }
        family = pool.submit(h2o.http.post, "/completion", json=body)
        assert len(busy.result()["tokens"]) == 250
        assert [answer["tokens_predicted"] for answer in family.result().json()] == [250] * 3


def test_a_turn_that_waits_gives_up_its_cells_for_answers(h2o: Server) -> None:
    """llama-server frees those of idle slots alone, and a conversation whose next turn has come is
    idle no more.
    """
    h2o.erase_slots()
    first = h2o.complete(_tokens(560, 1), kv_ratio=0.7, n_predict=16, id_slot=0)
    longer = _tokens(560, 1) + first["tokens"] + _tokens(200, 2)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = [
            pool.submit(h2o.complete, _tokens(n, n), n_predict=256, id_slot=n // 100)
            for n in (100, 200)
        ]
        while sum(slot["is_processing"] for slot in h2o.http.get("/slots").json()) < 2:
            time.sleep(0.005)
        turn = pool.submit(h2o.complete, longer, kv_ratio=0.7, id_slot=0)
        assert [len(answer.result()["tokens"]) for answer in answers] == [256] * 2
        assert turn.result()["timings"]["prompt_cells"] == len(longer)


def test_embeddings_are_read_while_images_keep_coming(
    folder: Path, prompts: list[DemoPrompt]
) -> None:
    asked = [prompt for prompt in prompts if len(prompt.images) == 8]
    flags = (
        "--embeddings",
        "--pooling",
        "last",
        "-b",
        "1024",
        "-ub",
        "1024",
        "--kv-ratio",
        "0.2",
        *SHARED,
    )
    with running(folder, *flags) as server, _images_keep_coming(server, asked) as done:
        before = done()
        found = server.http.post("/embedding", json={"content": _tokens(900, 1)}, timeout=60)
        assert found.status_code == 200
        assert done() - before < 8


def test_the_next_turn_beside_a_sibling(folder: Path) -> None:
    """Cells that a sibling shares are not the turn's to write to, nor does it need as many more for
    them. The sibling goes on as it does without that turn, and the slots are clean afterwards.
    """
    flags = (
        "--kv-ratio",
        "0.9",
        "--kv-method",
        "h2o",
        "--slot-prompt-similarity",
        "0.1",
        "--cache-ram",
        "0",
    )
    with running(folder, *flags, "-c", "1024", "-np", "2", "--kv-unified") as server:
        turns = []
        for seed in range(20):
            turn, beside = _sibling(server, seed, with_turn=True)
            if turn:
                _, alone = _sibling(server, seed, with_turn=False)
                turns.append((turn, beside == alone, len(alone)))
    assert turns
    assert all(turn["timings"]["prompt_cells"] > 700 for turn, _, _ in turns)
    # a token that is almost as likely as another may be chosen otherwise in another batch
    same = [same for _, same, n in turns if n > 8]
    assert sum(same) >= 0.8 * len(same) > 0, turns


def _sibling(server: Server, seed: int, *, with_turn: bool) -> tuple[Json | None, list[int]]:
    """The next turn of a parent whose answer ends first, read while its child's goes on, and the
    child's answer.
    """
    prompt, turn = _tokens(560, 3), None
    tokens: dict[int, list[int]] = {0: [], 1: []}
    body = {
        "prompt": prompt,
        "n_cmpl": 2,
        "n_predict": 200,
        "temperature": 1.0,
        "ignore_eos": True,
        "stream": True,
    }
    body |= {"stop": ["7", "b"], "seed": seed, "return_tokens": True}
    server.erase_slots()
    with (
        httpx.Client(base_url=server.url, timeout=60, limits=ONE_REQUEST_EACH) as http,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        with http.stream("POST", "/completion", json=body) as stream:
            ended: list[int] = []
            for line in stream.iter_lines():
                event: Json = (
                    json.loads(line[6:])
                    if line.startswith("data: {")
                    else {"index": 1, "stop": False}
                )
                assert "error" not in event, event
                tokens[event["index"]] += event.get("tokens", [])
                if event["stop"]:
                    ended.append(event["index"])
                    if ended == [0] and with_turn:
                        asked = prompt + tokens[0] + _tokens(150, seed)
                        turn = pool.submit(server.complete, asked, n_predict=4)
        return turn.result() if turn else None, tokens[1]
