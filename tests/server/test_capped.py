"""``--kv-cells``: prompts longer than a slot's cells, against a session with the same cap."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import Llava, embedded
from lookm_cpp.embedded import DemoPrompt
from session.tiny_models import write_llama

from server.servers import Server, content, messages, refused, running

CELLS = 512  # of a slot
RATIO = 0.5


@pytest.fixture(scope="module")
def capped(folder: Path) -> Iterator[Server]:
    with running(
        folder,
        "--kv-cells",
        str(4 * CELLS),
        "--kv-ratio",
        str(RATIO),
        "-c",
        "4096",
        "-np",
        "4",
        "-kvu",
    ) as s:
        yield s


@pytest.fixture(scope="module")
def session() -> Iterator[Llava]:
    with Llava.embedded(kv_cells=CELLS, kv_ratio=RATIO, n_threads=1, n_ctx=4096) as opened:
        yield opened


@pytest.fixture(scope="module")
def long(prompts: list[DemoPrompt]) -> list[DemoPrompt]:
    """Prompts of more cells than a slot has."""
    return [prompt for prompt in prompts if len(prompt.images) >= 8][:6]


def _ask(llm: Llava, prompt: DemoPrompt, **options: Any) -> str:
    answer = llm.create_chat_completion(messages(prompt), temperature=0, **options)
    assert isinstance(answer, dict)
    return content(answer)


def test_same_as_a_session(capped: Server, session: Llava, long: list[DemoPrompt]) -> None:
    assert len(long) == 6
    for prompt in long:
        expected = _ask(session, prompt, max_tokens=64)
        answer = capped.chat(prompt, max_tokens=64)
        timings = answer["timings"]
        assert content(answer) == expected
        assert timings["prompt_cells"] == session.stats.prompt_cells > CELLS
        assert timings["kept_cells"] == session.stats.kept_cells < CELLS
    assert capped.lines(f"read through {CELLS} cells")
    assert capped.metrics()["lookm:kv_cells_allocated"] == 4 * CELLS


def test_scores_of_a_window_that_begins_within_an_image(
    folder: Path, long: list[DemoPrompt]
) -> None:
    flags = (
        "--kv-cells",
        str(CELLS),
        "--kv-ratio",
        "0.3",
        "--kv-method",
        "snapkv",
        "-c",
        "4096",
        "-np",
        "1",
    )
    with (
        Llava.embedded(
            kv_cells=CELLS, kv_ratio=0.3, method="snapkv", n_threads=1, n_ctx=4096
        ) as session,
        running(folder, *flags) as server,
    ):
        for prompt in long:
            assert content(server.chat(prompt, max_tokens=64)) == _ask(
                session, prompt, max_tokens=64
            )


def test_a_server_that_has_slept(folder: Path, long: list[DemoPrompt]) -> None:
    """The model is loaded again, with ``-c`` as it was given; also when it fell asleep over half a
    prompt.
    """
    flags = (
        "--kv-cells",
        "1024",
        "--kv-ratio",
        str(RATIO),
        "-c",
        "4096",
        "-np",
        "2",
        "-kvu",
        "-b",
        "32",
    )
    with running(folder, *flags, "--sleep-idle-seconds", "1") as server:
        answer = content(server.chat(long[0], max_tokens=16))
        body = {
            "messages": messages(long[1]),
            "stream": True,
            "return_progress": True,
            "max_tokens": 16,
        }
        for _ in range(2):
            with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
                next(line for line in response.iter_lines() if "prompt_progress" in line)
            deadline = time.monotonic() + 30
            while not server.http.get("/props").json()["is_sleeping"]:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            again = server.chat(long[0], max_tokens=16)
            assert again["timings"]["prompt_cells"] > 512
            assert content(again) == answer


def test_a_model_trained_for_millions_of_tokens(folder: Path, tmp_path: Path) -> None:
    model = write_llama(tmp_path / "model.gguf", n_ctx=10 * 1024 * 1024)
    with running(folder, "-m", str(model), "--kv-cells", str(4 * CELLS), "-np", "4") as server:
        assert [slot["n_ctx"] for slot in server.http.get("/slots").json()] == [
            10 * 1024 * 1024
        ] * 4


def test_a_slot_that_will_be_read_anew(folder: Path, short: list[DemoPrompt]) -> None:
    """Beside compressed cells that it does not go on from, a prompt too long for the slot is
    refused by itself.
    """
    flags = ("--kv-cells", str(2 * CELLS), "--kv-ratio", "0.2", "-c", "8192", "-np", "2", "-kvu")
    (message,) = messages(short[0])

    def ask(n: int, **options: Any) -> int:
        text = {"type": "text", "text": " word" * n}
        said = [{"role": "user", "content": [*message["content"], text]}]
        body = {"messages": said, "max_tokens": 4, "temperature": 0, "id_slot": 0, **options}
        return server.http.post("/v1/chat/completions", json=body).status_code

    with running(folder, *flags) as server:
        codes = {n: ask(n) for n in range(200, 2200, 100)}
        most = max(n for n, code in codes.items() if code == 200)
        assert set(codes.values()) == {200, 400}
        for options in ({}, {"cache_prompt": False}):
            assert ask(most) == 200
            assert ask(most + 100, **options) == 400
            assert ask(most) == 200


def test_embeddings_of_more_tokens_than_a_slot_has_cells(folder: Path, tmp_path: Path) -> None:
    model = str(write_llama(tmp_path / "model.gguf", n_ctx=4096))
    flags = (
        "--kv-cells",
        str(2 * CELLS),
        "-np",
        "2",
        "-c",
        "4096",
        "--embeddings",
        "--pooling",
        "last",
    )
    with running(folder, "-m", model, *flags) as server:
        for n, expected in ((100, 200), (CELLS + 50, 400), (100, 200)):
            answer = server.http.post("/v1/embeddings", json={"input": "x" * n})
            assert answer.status_code == expected, answer.text


def test_slots_at_once(capped: Server, long: list[DemoPrompt]) -> None:
    alone = [content(capped.chat(prompt, max_tokens=64)) for prompt in long]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda p: content(capped.chat(p, max_tokens=64)), [*long, *long]))
    assert together == [*alone, *alone]
    for slot in capped.http.get("/slots").json():
        assert slot["lookm"]["kv_cells"] == CELLS
        assert slot["n_ctx"] == 4096


@pytest.mark.parametrize("ratio", [1.0, RATIO])
def test_an_answer_longer_than_the_cache(
    capped: Server, long: list[DemoPrompt], ratio: float
) -> None:
    """Its older half goes; the prompt's cells stay, as a session has it."""
    n_predict = 2 * CELLS
    options: dict[str, Any] = {"max_tokens": n_predict}
    answer = capped.chat(
        long[0], ignore_eos=True, logit_bias=[[2, False]], kv_ratio=ratio, **options
    )
    assert answer["usage"]["completion_tokens"] == n_predict
    assert answer["choices"][0]["finish_reason"] == "length"
    again = capped.chat(
        long[0], ignore_eos=True, logit_bias=[[2, False]], kv_ratio=ratio, id_slot=3, **options
    )
    assert content(again) == content(answer)


def test_the_next_turn(capped: Server, long: list[DemoPrompt]) -> None:
    """Whatever a slot holds: squeezed cells, an answer with holes, a prompt that was given up."""
    first = messages(long[0])
    turn = {"temperature": 0, "id_slot": 1, "max_tokens": 24}

    def chat(talk: list[Any], **options: Any) -> str:
        return content(capped.post("/v1/chat/completions", messages=talk, **(turn | options)))

    reply = chat(first, kv_ratio=1)
    longer = [
        *first,
        {"role": "assistant", "content": reply},
        {"role": "user", "content": "And now?"},
    ]
    expected = chat(longer, kv_ratio=1, id_slot=2)
    assert chat(longer, kv_ratio=1) == expected  # after the turn before it
    assert chat(longer, kv_ratio=1) == expected  # after itself
    chat(first, kv_ratio=1, max_tokens=2 * CELLS, ignore_eos=True)
    assert chat(longer, kv_ratio=1) == expected
    assert chat(first, kv_ratio=1) == reply


def test_several_answers(capped: Server, long: list[DemoPrompt]) -> None:
    alone = content(capped.chat(long[1], max_tokens=32))
    both = capped.chat(long[1], max_tokens=32, n=2)
    assert [choice["message"]["content"].strip() for choice in both["choices"]] == [alone, alone]


@pytest.mark.parametrize(
    "flags", [("--no-kv-unified", "-np", "2"), ("-np", "2", "-kvu", "--kv-method", "lookm_plus")]
)
def test_other_servers(folder: Path, long: list[DemoPrompt], flags: tuple[str, ...]) -> None:
    """A cache for each slot; scores by the question's queries alone."""
    method = flags[-1] if "--kv-method" in flags else "lookm_plus"
    with (
        running(
            folder, "--kv-cells", str(2 * CELLS), "--kv-ratio", "0.3", "-c", "8192", *flags
        ) as server,
        Llava.embedded(kv_cells=CELLS, kv_ratio=0.3, method=method, n_threads=1) as llm,
    ):
        for prompt in long[:3]:
            assert content(server.chat(prompt, max_tokens=64)) == _ask(llm, prompt, max_tokens=64)


def test_memory_in_bytes(folder: Path, long: list[DemoPrompt]) -> None:
    """3072 bytes a cell: 3 MiB are 1024 of them."""
    with running(folder, "--kv-memory", "3MiB", "-c", "4096", "-np", "2") as server:
        assert server.metrics()["lookm:kv_cells_allocated"] == 1024
        assert server.http.get("/props").json()["lookm"]["kv_cells"] == CELLS
        assert server.chat(long[0], max_tokens=8)["timings"]["kept_cells"] < CELLS


def test_a_slot_file_of_a_larger_slot(folder: Path, long: list[DemoPrompt]) -> None:
    of_eight = next(prompt for prompt in long if len(prompt.images) == 8)
    with running(folder, "-c", "4096", "-np", "1") as server:
        server.chat(of_eight, max_tokens=8, id_slot=0)
        assert CELLS < server.post("/slots/0?action=save", filename="large")["n_saved"] < 2 * CELLS
    with running(folder, "--kv-cells", str(2 * CELLS), "-c", "4096", "-np", "2", "-kvu") as server:
        response = server.http.post("/slots/0?action=restore", json={"filename": "large"})
        assert response.status_code == 400, response.text
        assert server.says("cells do not fit into a slot's 512 (--kv-cells)")
        assert server.uses_cells(0)


def test_a_slot_file_with_holes(folder: Path) -> None:
    """From an answer that outgrew its slot; a server without a cap reads it from its start."""
    method = ("--kv-method", "h2o", "--kv-ratio", "0.2", "-c", "4096", "-np", "1")
    prompt = [40 + i * i % 300 for i in range(700)]
    with running(folder, "--kv-cells", str(CELLS), *method) as server:
        answer = server.complete(prompt, n_predict=CELLS)
        # 140 kept cells, and when 372 of the answer had filled the slot the first 186 went
        assert server.metrics()["lookm:kv_cells_used"] == 140 + (CELLS - 1) - 186
        server.post("/slots/0?action=save", filename="holes")
    more = [*prompt, *answer["tokens"], *range(50, 90)]
    with running(folder, *method) as server:
        server.post("/slots/0?action=restore", filename="holes")
        found = server.complete(more)
        server.erase_slots()
        assert found["tokens"] == server.complete(more)["tokens"]
        assert (found["timings"]["cache_n"], found["timings"]["prompt_cells"]) == (0, len(more))


def test_shares_that_no_binary_number_is(folder: Path) -> None:
    shares = (
        "--kv-important-ratio",
        "0.1",
        "--kv-recent-ratio",
        "0.2",
        "--kv-method",
        "h2o",
        "-c",
        "1024",
        "-np",
        "1",
    )
    with running(folder, *shares) as server:
        assert server.complete(list(range(40, 340)))["timings"]["kept_cells"] == 30 + 60


def test_a_prompt_that_cannot_be_read(folder: Path, prompts: list[DemoPrompt]) -> None:
    talk = [
        {"role": "user", "content": "What is in image 2? " * 200}
    ]  # text keeps a quarter of its cells at least
    with running(folder, "--kv-cells", "256", "-c", "4096", "-np", "2", "-kvu") as server:
        response = server.http.post(
            "/v1/chat/completions", json={"messages": talk, "max_tokens": 8}
        )
        assert response.status_code == 400, response.text
        message = response.json()["error"]["message"]
        assert "cannot be read through 128; expected" in message
        few = min(prompts, key=lambda prompt: len(prompt.images))
        assert content(server.chat(few, max_tokens=16))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--kv-cells", "100"), "--kv-cells: 0 cells fit; expected 256 or more for 1 slots"),
        (
            ("--kv-cells", "-1"),
            "--kv-cells: -1 and --kv-memory: 0 bytes; expected one of them, 1 or more",
        ),
        (("--kv-cells", "512", "--kv-memory", "1GiB"), "expected one of them"),
        (("--kv-memory", "much"), '--kv-memory: "much", expected bytes such as 512MiB'),
        (("--kv-memory", "10KiB"), "--kv-memory: 10240 bytes, expected"),
        (
            ("--kv-cells", "512", "--kv-method", "roco"),
            "method roco needs the attention of all queries",
        ),
        (("--kv-cells", "512", "--kv-method", "origin"), "method origin evicts nothing"),
        (
            ("--kv-cells", "512", "--model-draft", str(embedded.MODEL)),
            "a draft model keeps every token of a prompt",
        ),
        (
            ("--kv-cells", "2048", "--spec-type", "ngram-simple"),
            "drafts do not fit into a slot's batches",
        ),
    ],
)
def test_refused(flags: tuple[str, ...], expected: str) -> None:
    code, error = refused("-np", "1", *flags)
    assert code == 2
    assert expected in error.splitlines()[-1]
