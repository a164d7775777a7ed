"""The server's answers are those of the library, however they are asked for."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import Compression, Llava
from lookm_cpp.embedded import DemoPrompt

from server.conftest import RATIO
from server.servers import Json, Server, content, messages, running


def test_same_answers_and_cells_as_llava(
    server: Server, llm: Llava, prompts: list[DemoPrompt]
) -> None:
    before = server.metrics()
    asked = prompts[::5]
    n_before = n_after = 0
    for prompt in asked:
        expected = llm.ask(prompt.content, prompt.images, kv_ratio=RATIO)
        answer = server.chat(prompt, cache_prompt=False)  # else one that came before is repeated
        assert content(answer) == expected.strip()
        timings = answer["timings"]
        assert (timings["prompt_cells"], timings["kept_cells"]) == (
            llm.stats.prompt_cells,
            llm.stats.kept_cells,
        )
        n_before += llm.stats.prompt_cells
        n_after += llm.stats.kept_cells
    assert n_after < n_before / 4
    after = server.metrics()
    grown = {name: after[name] - before[name] for name in after if name.startswith("lookm:")}
    assert grown["lookm:prompts_compressed_total"] == len(asked)
    assert grown["lookm:cells_before_total"] == n_before
    assert grown["lookm:cells_after_total"] == n_after
    assert grown["lookm:compress_seconds_total"] > 0
    compressed = [line for line in server.lines(" compress:") if " -> " in line]
    assert len(compressed) == after["lookm:prompts_compressed_total"]


@pytest.mark.parametrize("kv_ratio", [0.5, 1])
def test_a_request_chooses_its_ratio(
    server: Server, llm: Llava, short: list[DemoPrompt], kv_ratio: float
) -> None:
    answer = server.chat(short[0], kv_ratio=kv_ratio)
    assert content(answer) == llm.ask(short[0].content, short[0].images, kv_ratio=kv_ratio).strip()
    assert answer["timings"]["kept_cells"] == llm.stats.kept_cells
    assert (
        content(server.chat(short[0]))
        == llm.ask(short[0].content, short[0].images, kv_ratio=RATIO).strip()
    )


@pytest.mark.parametrize("kv_ratio", [0, -1, 1.5, "half", True, [0.2]])
def test_a_wrong_ratio_is_the_clients_mistake(
    server: Server, short: list[DemoPrompt], kv_ratio: object
) -> None:
    response = server.http.post(
        "/v1/chat/completions", json={"messages": messages(short[0]), "kv_ratio": kv_ratio}
    )
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    shown = json.dumps(kv_ratio)
    assert message == f'kv_ratio: {shown} is out of range; expected a number in (0, 1] or "auto"'


WORDS = "the code of Anna is 4821. " * 20


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": WORDS}], "max_tokens": 2},
        ),
        ("/v1/completions", {"prompt": f"1{WORDS}", "max_tokens": 2}),
        ("/completion", {"prompt": f"2{WORDS}", "n_predict": 2}),
        ("/v1/responses", {"input": f"3{WORDS}", "max_output_tokens": 2}),
        ("/v1/messages", {"messages": [{"role": "user", "content": f"4{WORDS}"}], "max_tokens": 2}),
    ],
)
def test_every_endpoint_takes_a_ratio(sums: Server, path: str, body: Json) -> None:
    sums.erase_slots()
    cells = "lookm:cells_before_total", "lookm:cells_after_total"
    before = sums.metrics()
    sums.post(path, **body, kv_ratio=0.6)
    after = sums.metrics()
    n_prompt, n_kept = (int(after[name] - before[name]) for name in cells)
    assert n_prompt > 200
    assert n_kept == 2 * int(0.3 * n_prompt)
    assert sums.http.post(path, json=body | {"kv_ratio": 7}).status_code == 400


def test_a_stream_says_the_same(server: Server, short: list[DemoPrompt]) -> None:
    whole = server.chat(short[1])
    body = {"messages": messages(short[1]), "temperature": 0, "stream": True}
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        events = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    text = "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert text.strip() == content(whole)
    timings = [chunk["timings"] for chunk in chunks if "timings" in chunk]
    assert [t["kept_cells"] for t in timings] == [whole["timings"]["kept_cells"]]


def test_children_copy_the_compressed_prompt(server: Server, short: list[DemoPrompt]) -> None:
    alone = server.chat(short[2])
    compressed = server.metrics()["lookm:prompts_compressed_total"]
    twice = server.chat(short[2], n=3, cache_prompt=False)
    assert [choice["message"]["content"].strip() for choice in twice["choices"]] == [
        content(alone)
    ] * 3
    assert twice["timings"]["kept_cells"] == alone["timings"]["kept_cells"]
    assert server.metrics()["lookm:prompts_compressed_total"] == compressed + 1


def test_an_answer_by_json_schema(server: Server, llm: Llava, short: list[DemoPrompt]) -> None:
    """It is the library's, whose sampler is another."""
    schema = {
        "type": "object",
        "properties": {"image": {"type": "integer", "minimum": 1, "maximum": 16}},
        "required": ["image"],
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "where", "schema": schema}}
    answer = server.chat(short[3], response_format=wanted, max_tokens=40)
    assert 1 <= json.loads(content(answer))["image"] <= 16
    assert answer["timings"]["kept_cells"] < answer["timings"]["prompt_cells"]
    own = llm.ask(
        short[3].content,
        short[3].images,
        response_format=wanted,
        temperature=0,
        max_tokens=40,
        kv_ratio=RATIO,
    )
    assert own == content(answer)


def test_text_prompts_keep_their_cells_under_a_text_prior(server: Server) -> None:
    answer = server.post(
        "/v1/chat/completions", messages=[{"role": "user", "content": "Hello " * 60}], max_tokens=4
    )
    assert answer["timings"]["kept_cells"] == answer["timings"]["prompt_cells"] > 60


def test_on_request(folder: Path, llm: Llava, short: list[DemoPrompt]) -> None:
    """Who asks for less gets what ``Llava`` has at that share, and nobody else does."""
    with running(folder, "--kv-on-request", "--kv-ratio-max", "0.5", "-c", "4096") as server:
        for kv_ratio in (None, 0.3, None, 0.5):
            options = {} if kv_ratio is None else {"kv_ratio": kv_ratio}
            answer = server.chat(short[0], **options)
            expected = llm.ask(short[0].content, short[0].images, kv_ratio=kv_ratio or 1).strip()
            assert content(answer) == expected
            assert answer["timings"]["kept_cells"] == llm.stats.kept_cells
        assert server.metrics()["lookm:prompts_compressed_total"] == 2
        assert server.http.get("/props").json()["lookm"]["kv_on_request"]


FIELDS: list[tuple[str, dict[str, object]]] = [
    ("text_prior_h2o", {"visual_quota": 0.5}),
    ("snapkv", {"scorer": "cumulative"}),
    ("snapkv", {"window": 8}),
    ("avg_merge", {"fidelity": "upstream"}),
    ("pivot_merge", {"merge": "average"}),
    ("pivot_merge", {"merge_keys": False}),
    ("pivot_merge", {"merge_within_modality": True}),
]


@pytest.mark.parametrize(("method", "fields"), FIELDS)
def test_fields_of_a_compression(
    folder: Path, llm: Llava, short: list[DemoPrompt], method: str, fields: dict[str, Any]
) -> None:
    """The flag does what the library's option does, and that is not what happens without it."""
    flags = [
        word
        for name, value in fields.items()
        for word in (f"--kv-{name.replace('_', '-')}", str(value).lower())
    ]
    how: Any = {"kv_ratio": 0.2, "method": method, "max_tokens": 24}
    expected = [llm.ask(prompt.content, prompt.images, **how, **fields) for prompt in short]
    assert expected != [llm.ask(prompt.content, prompt.images, **how) for prompt in short]
    with running(
        folder, "--kv-ratio", "0.2", "--kv-method", method, "-c", "4096", *flags
    ) as server:
        assert [content(server.chat(prompt, max_tokens=24)) for prompt in short] == expected


def test_settings_are_shown(server: Server) -> None:
    expected = {
        "kv_ratio": RATIO,
        "kv_ratio_max": 1.0,
        "kv_method": "lookm_plus",
        "kv_important_ratio": pytest.approx(0.9 * RATIO),
        "kv_recent_ratio": pytest.approx(0.1 * RATIO),
        "kv_ratio_floor": Compression().ratio_floor,
        "kv_ratio_ceiling": Compression().ratio_ceiling,
        "kv_quality": Compression().quality,
        "kv_text_overflow": "evict",
        "kv_fidelity": "paper",
        "kv_scorer": None,
        "kv_window": None,
        "kv_merge": None,
        "kv_merge_keys": True,
        "kv_merge_within_modality": False,
        "kv_visual_quota": None,
        "kv_seed": 0,
        "kv_on_request": False,
        "kv_min_cells": 0,
        "kv_strict_reuse": False,
        "kv_cells": 0,
        "kv_prefix_type": "",
        "image_cache": 256 << 20,
        "image_max_pixels": 8192 * 8192,
        "image_ratio": 1.0,
        "image_ratio_max": 1.0,
        "image_cells": None,
        "pruner": "divprune",
    }
    assert server.http.get("/props").json()["lookm"] == expected
    server.complete(list(range(40, 60)), kv_ratio=0.25, id_slot=1)
    slots = server.http.get("/slots").json()
    assert all(slot["lookm"] == expected for slot in slots)
    assert (slots[1]["params"]["kv_ratio"], slots[1]["params"]["n_discard"]) == (0.25, 0)


def test_many_images_in_one_request(server: Server, llm: Llava, prompts: list[DemoPrompt]) -> None:
    longest = max(prompts, key=lambda prompt: len(prompt.images))
    assert (
        content(server.chat(longest))
        == llm.ask(longest.content, longest.images, kv_ratio=RATIO).strip()
    )


@pytest.mark.parametrize("method", ["snapkv", "streaming_llm", "roco"])
def test_other_methods_beside_a_running_answer(
    folder: Path, llm: Llava, short: list[DemoPrompt], method: str
) -> None:
    """The other slot's tokens share the batches, and count for nothing."""
    expected = llm.ask(short[1].content, short[1].images, kv_ratio=RATIO, method=method).strip()
    n_kept = llm.stats.kept_cells
    flags = (
        "--kv-ratio",
        str(RATIO),
        "--kv-method",
        method,
        "-c",
        "2048",
        "-np",
        "2",
        "--kv-unified",
        "-b",
        "64",
    )
    with (
        running(folder, *flags, "-ub", "32") as server,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        alone = server.chat(short[1], id_slot=0)
        assert alone["timings"]["kept_cells"] == n_kept
        other = pool.submit(server.complete, list(range(40, 60)), n_predict=400, id_slot=1)
        beside = server.chat(short[1], id_slot=0)
        assert other.result()["timings"]["predicted_n"] == 400
        assert content(alone) == content(beside) == expected
