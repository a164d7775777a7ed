"""Images that are read in part. The oracle is the library's answer to the same prompt."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import MODEL, DemoPrompt
from zoo.pairs import PAIRS, write_pair

from server.conftest import RATIO
from server.servers import Json, Server, asked, content, drafts_by, messages, refused, running, same
from server.test_memories import _ask, _opening, _pictures

HALF = 0.5


def alone(prompt: DemoPrompt, **options: object) -> tuple[str, int, int]:
    """Answer, prompt's and kept cells of a fresh prompt."""
    with Llava.embedded() as llm:
        answer = llm.ask(
            prompt.content,
            list(prompt.images),
            temperature=0,
            max_tokens=8,
            **options,  # type: ignore[arg-type]
        )
        return answer, llm.stats.prompt_cells, llm.stats.kept_cells


def told(answer: Json) -> tuple[str, int, int]:
    timings = answer["timings"]
    return content(answer), timings["prompt_cells"], timings["kept_cells"]


@pytest.mark.parametrize("pruner", ["divprune", "cdpruner", "grid"])
def test_a_request_asks_for_it(server: Server, short: list[DemoPrompt], pruner: str) -> None:
    """Each request for itself; and with the same images, each pruning has cells of its own."""
    server.erase_slots()
    before = server.metrics()
    for prompt in short[:2]:
        for fields in ({"image_ratio": HALF}, {"image_cells": 16}, {}):
            options: dict[str, Any] = fields | {"pruner": pruner}
            given = asked(server, prompt, ignore_eos=False, kv_ratio=RATIO, id_slot=0, **options)
            assert told(given) == alone(prompt, kv_ratio=RATIO, **options)
            n_left_out = len(prompt.images) * {0: 0, HALF: 32, 16: 48}[sum(fields.values())]
            assert given["timings"].get("pruned_cells", 0) == n_left_out
    after = server.metrics()
    assert after["lookm:image_cells_pruned_total"] > before["lookm:image_cells_pruned_total"]
    assert after["lookm:prune_seconds_total"] > before["lookm:prune_seconds_total"]


def test_what_is_reused(server: Server, short: list[DemoPrompt]) -> None:
    """Another question goes on from the pruned images, unless the question chooses the cells."""
    server.erase_slots()
    question = "What is in image 1?"
    asked(server, short[0], id_slot=0)
    for pruner, reuses in (("divprune", True), ("grid", True), ("cdpruner", False)):
        options: dict[str, Any] = {"image_ratio": HALF, "pruner": pruner}
        asked(server, short[0], id_slot=0, **options)
        again = asked(server, short[0], question, id_slot=1, **options)
        n_images = 4 * 32
        assert (again["timings"]["cache_n"] >= n_images) == reuses
        whole = asked(server, short[0], question, id_slot=2, cache_prompt=False, **options)
        assert whole["timings"]["cache_n"] == 0
        assert same(whole, again)
    assert asked(server, short[0], question)["timings"]["cache_n"] >= 4 * 64


def test_flags(folder: Path, short: list[DemoPrompt]) -> None:
    """Without compression, too, where the server is llama-server otherwise."""
    flags = ("-c", "4096", "--image-ratio", "0.25", "--image-ratio-max", "0.5", "--pruner", "grid")
    with running(folder, *flags) as server:
        answer = server.chat(short[0], max_tokens=8)
        expected = alone(short[0], image_ratio=0.25, pruner="grid")
        assert content(answer) == expected[0]
        assert answer["usage"]["prompt_tokens"] == expected[1]
        more = server.chat(short[0], max_tokens=8, image_ratio=0.5)
        assert more["usage"]["prompt_tokens"] == expected[1] + 4 * 16
        counted = server.post(
            "/v1/chat/completions/input_tokens", messages=messages(short[0]), image_ratio=0.5
        )
        assert counted["input_tokens"] == more["usage"]["prompt_tokens"]
        props = server.http.get("/props").json()["lookm"]
        assert (props["image_ratio"], props["pruner"], props["image_ratio_max"]) == (
            0.25,
            "grid",
            0.5,
        )
        refusals: list[tuple[Json, str]] = [
            ({"image_ratio": 0.75}, "image_ratio: 0.75 is out of range; expected a number in"),
            ({"image_ratio": "half"}, 'image_ratio: "half" is out of range'),
            ({"image_ratio": 0}, "image_ratio: 0 is out of range"),
            ({"image_cells": 8}, "image_cells: 8, but this server limits image_ratio to 0.5"),
            ({"pruner": "none"}, 'pruner: "none", but this server limits'),
            ({"pruner": "best"}, 'pruner: "best" is unknown; expected one of'),
        ]
        for refused_fields, message in refusals:
            body: Json = {"messages": [{"role": "user", "content": "Hi"}]} | refused_fields
            response = server.http.post("/v1/chat/completions", json=body)
            assert response.status_code == 400
            assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--image-ratio", "0"), "--image-ratio: 0 is outside (0, 1]"),
        (("--image-cells", "0"), "--image-cells: 0 is too small"),
        (("--pruner", "x"), '--pruner: "x" is unknown'),
        (("--image-ratio-max", "0.5"), "--image-ratio-max: 0.5 is out of range"),
        (("--image-ratio", "0.5", "--image-cells", "9"), "--image-cells: 9 does not go with"),
    ],
)
def test_bad_flags(flags: tuple[str, ...], named: str) -> None:
    status, said = refused("-m", "embedded", *flags)
    assert status == 2
    assert named in said


def test_drafts(folder: Path, short: list[DemoPrompt]) -> None:
    """A draft model's memory takes no gaps between positions."""
    flags = ("--kv-ratio", str(RATIO), "-c", "4096", *drafts_by(str(MODEL)))
    with running(folder, *flags) as server:
        body = {"messages": messages(short[0]), "max_tokens": 8}
        assert server.http.post("/v1/chat/completions", json=body).status_code == 200
        response = server.http.post("/v1/chat/completions", json=body | {"image_ratio": HALF})
        assert response.status_code == 400
        assert "image_ratio: 0.5 does not go with a draft model" in response.text
    status, said = refused("-m", "embedded", *flags, "--image-ratio", "0.5")
    assert status == 2
    assert "--image-ratio: 0.5 does not go with a draft model" in said


@pytest.mark.parametrize("name", ["llava-1.6", "qwen2-vl", "gemma-3", "qwen3.5", "smolvlm"])
def test_every_kind_of_image(name: str, folder: Path, tmp_path: Path) -> None:
    """Tiles, columns and rows, cells that see each other; the next question goes on from them."""
    files = write_pair(name, tmp_path)
    pictures = _pictures(name)
    flags = (*_opening(files), "--kv-ratio", str(RATIO), "-c", "4096", "-np", "2", "-kvu")
    with running(folder, *flags) as server:
        options: dict[str, Any] = {"image_ratio": HALF, "n_probs": 5}
        whole = _ask(server, pictures, id_slot=0, n_probs=5)
        fewer = _ask(server, pictures, id_slot=0, **options)
        assert fewer["timings"]["prompt_cells"] < 0.75 * whole["timings"]["prompt_cells"]
        with Llava(files.model, mmproj=files.mmproj, n_threads=1) as llm:
            llm.ask("A<image>B and <image>C", pictures, max_tokens=1, image_ratio=HALF)
            n_cells = llm.stats.image_cells
        n_text = whole["timings"]["prompt_cells"] - sum(map(sum, PAIRS[name].tiles))
        assert fewer["timings"]["prompt_cells"] == n_text + n_cells
        text = "A<image>B and <image> are two images. Why?"
        again = _ask(server, pictures, text=text, id_slot=1, **options)
        alone = _ask(server, pictures, text=text, id_slot=0, cache_prompt=False, **options)
        assert again["timings"]["cache_n"] > 0
        assert again["tokens"] == alone["tokens"]


def test_clients_that_leave(server: Server, short: list[DemoPrompt]) -> None:
    """Their images are gone; others that wait are answered as alone."""
    server.erase_slots()
    expected = asked(server, short[0], image_ratio=HALF, cache_prompt=False)
    turned = [replace(p, images=p.images[::-1]) for p in short]

    def leave(prompt: DemoPrompt) -> None:
        body = {"messages": messages(prompt), "image_ratio": HALF, "stream": True, "max_tokens": 50}
        try:
            with server.http.stream(
                "POST", "/v1/chat/completions", json=body, timeout=httpx.Timeout(0.02, connect=5)
            ) as response:
                response.read()
        except httpx.TimeoutException:
            return

    leaving = [threading.Thread(target=leave, args=(prompt,)) for prompt in turned * 3]
    for thread in leaving:
        thread.start()
    again = asked(server, short[0], image_ratio=HALF, cache_prompt=False)
    for thread in leaving:
        thread.join()
    # tokens of the answer may share their batches with others
    assert told(expected) == told(again)
    assert expected["timings"]["attention_held"] == again["timings"]["attention_held"]
    assert same(expected, asked(server, short[0], image_ratio=HALF))
