"""Other memories than a plain cache, in tiny random models: M-RoPE, sliding windows, a hybrid."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from core_session import Session
from PIL import Image
from zoo.pairs import PAIRS, Files, write_pair

from server.servers import Json, Server, running

RATIO = 0.3
METHOD = "text_prior_pivot_merge"
TEXT = "A<image>B and <image> are two images; which of them is it?"
N_PREDICT = 4


def _pictures(name: str) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for width, height in PAIRS[name].images
    ]


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _opening(files: Files) -> tuple[str, ...]:
    return ("-m", str(files.model), "--mmproj", str(files.mmproj))


def _ask(server: Server, pictures: list[np.ndarray], text: str = TEXT, **options: object) -> Json:
    marker = server.http.get("/props").json()["media_marker"]
    prompt = {
        "prompt_string": text.replace("<image>", marker),
        "multimodal_data": [_png(p) for p in pictures],
    }
    greedy = {"n_predict": N_PREDICT, "temperature": 0, "return_tokens": True, "ignore_eos": True}
    return server.post("/completion", prompt=prompt, **(greedy | options))


@pytest.mark.parametrize("name", ["qwen2-vl", "gemma-3", "qwen3.5"])
def test_same_as_the_session(name: str, folder: Path, tmp_path: Path) -> None:
    files = write_pair(name, tmp_path)
    pictures = _pictures(name)
    session = Session(str(files.model), str(files.mmproj), n_threads=1)
    session.prefill(
        TEXT.replace("<image>", session.media_marker), pictures, kv_ratio=RATIO, method=METHOD
    )
    session.start(temperature=0.0)
    first = session.next()
    flags = (*_opening(files), "--kv-ratio", str(RATIO), "-c", "4096")
    with running(folder, *flags, "--kv-method", METHOD, "-np", "2", "--kv-unified") as server:
        alone = _ask(server, pictures, id_slot=0)
        timings = alone["timings"]
        stats = session.stats
        assert (timings["prompt_cells"], timings["kept_cells"]) == (
            stats["prompt_cells"],
            stats["kept_cells"],
        )
        assert stats["kept_cells"] < stats["prompt_cells"]
        assert first is not None
        assert alone["content"].encode().startswith(first) or not first.isascii()
        # a question that is shorter, one that is longer, and the same again, in this slot and in
        # the other
        other = _ask(server, pictures[:1], text="<image>B", id_slot=0)
        _ask(server, pictures, text=TEXT + " Or is it neither?", id_slot=0, cache_prompt=True)
        assert _ask(server, pictures, id_slot=0)["tokens"] == alone["tokens"]
        assert _ask(server, pictures[:1], text="<image>B", id_slot=1)["tokens"] == other["tokens"]
        assert _ask(server, pictures, id_slot=1)["tokens"] == alone["tokens"]
        n_off = 0 if name == "qwen2-vl" else 1
        assert len(server.lines(" lookm: --ctx-checkpoints is off: ")) == n_off


@pytest.mark.parametrize("method", ["lookm_plus", METHOD, "roco"])
@pytest.mark.parametrize("name", ["qwen2-vl", "gemma-3", "qwen3.5"])
@pytest.mark.parametrize("times", [1, 6])
def test_another_question(name: str, method: str, times: int, folder: Path, tmp_path: Path) -> None:
    """It goes on from the end of the last picture, in prompts shorter and longer than a window."""
    files = write_pair(name, tmp_path)
    pictures = _pictures(name) * times
    head = "".join(f"{i}<image>" for i in range(len(pictures)))
    questions = [" Which of them is it?", " Is it the first, the last, or neither?", " Why?"]
    flags = (*_opening(files), "--kv-ratio", str(RATIO), "-c", "4096", "-np", "2", "-kvu")
    with running(folder, *flags, "--kv-method", method) as server:
        alone = [
            _ask(server, pictures, text=head + question, id_slot=0, cache_prompt=False, n_probs=5)
            for question in questions
        ]
        for i, question in enumerate([*questions, *questions]):
            again = _ask(server, pictures, text=head + question, id_slot=i % 2, n_probs=5)
            expected = alone[i % len(questions)]
            n_text = len(question) + 1
            if i > 0:
                assert again["timings"]["cache_n"] >= again["timings"]["prompt_cells"] - n_text
            for field in ("prompt_cells", "kept_cells", "attention_held"):
                assert again["timings"][field] == pytest.approx(
                    expected["timings"][field], rel=1e-5
                )
            assert again["tokens"] == expected["tokens"]
            # tokens that are no text have none
            probabilities = [a.get("completion_probabilities", []) for a in (again, expected)]
            for one, other in zip(*probabilities, strict=True):
                assert one["logprob"] == pytest.approx(other["logprob"], abs=2e-4)


def test_a_prompt_that_ends_with_an_image(folder: Path, tmp_path: Path) -> None:
    files = write_pair("llava-1.5", tmp_path)
    pictures = _pictures("llava-1.5")[:1]
    flags = (*_opening(files), "--kv-ratio", str(RATIO), "-c", "512")
    with running(folder, *flags) as server:
        marker = server.http.get("/props").json()["media_marker"]
        prompt = {"prompt_string": f"A{marker}", "multimodal_data": [_png(pictures[0])]}
        response = server.http.post("/completion", json={"prompt": prompt, "n_predict": 2})
        assert response.status_code == 400
        assert "ends with an image" in response.json()["error"]["message"]
        assert _ask(server, pictures, text="A<image>B")["tokens"]


@pytest.mark.parametrize("name", ["qwen2-vl", "qwen3.5"])
def test_a_cap(name: str, folder: Path, tmp_path: Path) -> None:
    """Positions of M-RoPE, and layers without a cache, while cells go between two batches."""
    files = write_pair(name, tmp_path)
    pictures = _pictures(name) * 6
    text = "".join(f"{i}<image>" for i in range(len(pictures))) + " Which of them is it?"
    session = Session(str(files.model), str(files.mmproj), n_threads=1, kv_cells=128)
    session.prefill(
        text.replace("<image>", session.media_marker),
        pictures,
        kv_ratio=1.0,
        method=METHOD,
        n_answer=16,
    )
    session.start(temperature=0.0)
    first = session.next()
    stats = session.stats
    assert stats["prompt_cells"] > 128 > stats["kept_cells"]
    flags = (*_opening(files), "--kv-cells", "256", "-np", "2", "-kvu")
    with running(folder, *flags, "-c", "4096") as server:
        answers = [_ask(server, pictures, text=text, id_slot=slot) for slot in (0, 1, 0)]
        assert {answer["timings"]["kept_cells"] for answer in answers} == {stats["kept_cells"]}
        assert answers[0]["tokens"] == answers[1]["tokens"] == answers[2]["tokens"]
        assert first is not None
        assert answers[0]["content"].encode().startswith(first) or not first.isascii()


def test_an_image_that_no_batch_holds(folder: Path, tmp_path: Path) -> None:
    """Its cells see each other and come at once: llama.cpp aborts where a batch is smaller."""
    files = write_pair("gemma-3", tmp_path)
    pictures = _pictures("gemma-3")
    flags = (*_opening(files), "--kv-ratio", str(RATIO), "-c", "4096")
    with running(folder, *flags, "-b", "8", "-ub", "8") as server:
        marker = server.http.get("/props").json()["media_marker"]
        prompt = {"prompt_string": f"A{marker}B", "multimodal_data": [_png(pictures[0])]}
        response = server.http.post("/completion", json={"prompt": prompt, "n_predict": 2})
        assert response.status_code == 400, response.text
        assert (
            "must fit into one batch of 8; expected --ubatch-size"
            in response.json()["error"]["message"]
        )
        assert server.post("/completion", prompt="A", n_predict=2)["tokens_predicted"] == 2
