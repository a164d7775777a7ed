"""Room in a cache that all slots share: who waits, for what, and who does not."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from lookm_cpp.embedded import DemoPrompt
from session.tiny_models import write_llama

from server.servers import Json, Server, messages, running

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
    draft = ("-md", model, "--spec-type", "draft-simple", "--spec-draft-n-max", "4", "--spec-draft-p-min", "0")
    with running(folder, "-m", model, *draft, "--kv-ratio", "0.2", "--kv-method", "h2o", *SHARED) as server:
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
        while h2o.http.get("/slots").json()[1]["next_token"][0]["n_decoded"] < 5:
            time.sleep(0.01)
        response = h2o.http.post("/completion", json={"prompt": _tokens(1200, 4), "n_predict": 4})
        assert not busy.done()
        assert response.status_code == 400
        assert "1200 tokens" in response.text
        busy.result()
    assert h2o.complete(longer, id_slot=0)["timings"]["cache_n"] == 300 + len(first["tokens"]) - 1


def test_text_is_read_while_images_keep_coming(folder: Path, prompts: list[DemoPrompt]) -> None:
    """It has its turn by the time when it came."""
    asked = [prompt for prompt in prompts if len(prompt.images) == 8]
    with running(folder, "--kv-ratio", "0.2", *SHARED) as server:
        done, enough = 0, threading.Event()

        def ask_on(first: int) -> None:
            nonlocal done
            with httpx.Client(base_url=server.url, timeout=60) as http:
                while not enough.is_set():
                    body = {"messages": messages(asked[(first + done) % len(asked)]), "max_tokens": 8}
                    assert http.post("/v1/chat/completions", json=body).status_code == 200
                    done += 1

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            clients = [pool.submit(ask_on, first) for first in range(3)]
            while done < 3:
                time.sleep(0.01)
            before = done
            try:
                assert server.complete(_tokens(900, 1), n_predict=4)["timings"]["prompt_n"] == 900
                assert done - before < 8
            finally:
                enough.set()
            for client in clients:
                client.result()


@pytest.mark.parametrize("max_tokens", [100, 300])
def test_answers_have_room_for_what_they_may_take(folder: Path, prompts: list[DemoPrompt], max_tokens: int) -> None:
    """Four prompts of 570 cells fit when they are compressed; whose answers would not fit beside the others', waits."""
    asked = [prompt for prompt in prompts if len(prompt.images) == 8][:4]

    def answer(server: Server, prompt: DemoPrompt) -> Json:
        return server.chat(prompt, max_tokens=max_tokens, ignore_eos=True)

    with running(folder, "--kv-ratio", "0.2", *SHARED) as server:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda prompt: answer(server, prompt), asked))
        assert [found["usage"]["completion_tokens"] for found in answers] == [max_tokens] * 4


def test_the_next_turn_beside_a_sibling(h2o: Server) -> None:
    """Cells that a sibling shares are not the turn's to write to, nor does it need as many more for them."""
    prompt = _tokens(560, 3)
    body = {"prompt": prompt, "n_cmpl": 2, "n_predict": 200, "temperature": 1.0, "ignore_eos": True}
    for seed in range(3):
        h2o.erase_slots()
        stopped: Json = {}
        options = body | {"stream": True, "stop": ["7", "b"], "seed": seed, "return_tokens": True, "kv_ratio": 0.9}
        with h2o.http.stream("POST", "/completion", json=options) as stream:
            tokens: list[int] = []
            turn = None
            for line in stream.iter_lines():
                if not line.startswith("data: {"):
                    continue
                event = httpx.Response(200, content=line[6:]).json()
                assert "error" not in event, event
                if event["index"] == 0:
                    tokens += event.get("tokens", [])
                if event["stop"]:
                    stopped[str(event["index"])] = True
                    if turn is None and stopped == {"0": True}:
                        pool = concurrent.futures.ThreadPoolExecutor(1)
                        longer = prompt + tokens + _tokens(100, seed)
                        turn = pool.submit(h2o.complete, longer, kv_ratio=0.9, n_predict=4)
            if turn is not None:
                assert turn.result()["timings"]["prompt_cells"] >= 660
