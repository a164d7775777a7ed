"""``kv_ratio`` "auto" in the server: what the library chooses, however it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt

from server.servers import Json, Server, content, messages, refused, running

QUALITY = 0.9


@pytest.fixture(scope="module")
def auto(folder: Path) -> Iterator[Server]:
    flags = ("--kv-ratio", "auto", "--kv-quality", str(QUALITY), "-c", "4096", "--metrics")
    with running(folder, *flags) as started:
        yield started


def chosen_by(llm: Llava, prompt: DemoPrompt, **how: Any) -> tuple[str, Json]:
    """The library's answer, and what ``timings`` must say."""
    answer = llm.ask(prompt.content, prompt.images, kv_ratio="auto", **how).strip()
    stats = llm.stats
    return answer, {
        "prompt_cells": stats.prompt_cells,
        "kept_cells": stats.kept_cells,
        "chosen_ratio": stats.chosen_ratio,
        "attention_held": pytest.approx(stats.attention_held, abs=1e-6),
    }


def said(answer: Json) -> Json:
    names = ("prompt_cells", "kept_cells", "chosen_ratio", "attention_held")
    return {name: answer["timings"][name] for name in names if name in answer["timings"]}


def test_every_prompt_has_the_librarys_ratio(
    auto: Server, llm: Llava, prompts: list[DemoPrompt]
) -> None:
    before = auto.metrics()
    held = []
    ratios = set()
    for prompt in prompts[::6]:
        expected, timings = chosen_by(llm, prompt, quality=QUALITY)
        answer = auto.chat(prompt)
        assert (content(answer), said(answer)) == (expected, timings)
        held.append(answer["timings"]["attention_held"])
        ratios.add(answer["timings"]["chosen_ratio"])
    assert len(ratios) > 1
    after = auto.metrics()
    count, total = "lookm:attention_held_count", "lookm:attention_held_sum"
    assert after[count] - before[count] == len(held)
    assert after[total] - before[total] == pytest.approx(sum(held))
    assert f", attention held {held[-1]:.3f}" in auto.lines(" compress:")[-1]


def test_a_request_asks_for_it(server: Server, llm: Llava, short: list[DemoPrompt]) -> None:
    """From a server with a fixed ratio; its own requests say what they hold, and no choice."""
    fixed = said(server.chat(short[0]))
    assert "chosen_ratio" not in fixed
    assert 0 < fixed["attention_held"] < 1
    expected, timings = chosen_by(llm, short[0])
    answer = server.chat(short[0], kv_ratio="auto")
    assert (content(answer), said(answer)) == (expected, timings)
    assert said(server.chat(short[0])) == fixed


def test_a_request_replaces_it(auto: Server, llm: Llava, short: list[DemoPrompt]) -> None:
    answer = auto.chat(short[1], kv_ratio=0.2)
    expected = llm.ask(short[1].content, short[1].images, kv_ratio=0.2).strip()
    assert content(answer) == expected
    assert said(answer)["kept_cells"] == llm.stats.kept_cells
    assert "chosen_ratio" not in said(answer)
    whole = auto.chat(short[1], kv_ratio=1)
    assert said(whole) == {
        "prompt_cells": llm.stats.prompt_cells,
        "kept_cells": llm.stats.prompt_cells,
    }


def test_the_next_turn_goes_on_and_another_ratio_does_not(
    auto: Server, short: list[DemoPrompt]
) -> None:
    first = auto.chat(short[2], id_slot=0)
    turns = [
        *messages(short[2]),
        {"role": "assistant", "content": content(first)},
        {"role": "user", "content": "And what else is in it? " * 8},
    ]
    n_first = first["timings"]["prompt_cells"]

    def ask(**options: Any) -> int:
        body = {"messages": turns, "temperature": 0, "max_tokens": 4, "id_slot": 0}
        return int(auto.post("/v1/chat/completions", **body, **options)["timings"]["cache_n"])

    assert ask() >= n_first
    auto.chat(short[2], id_slot=0)
    assert 0 < ask(kv_ratio=0.3) < n_first  # the full cells up to the last image
    auto.chat(short[2], id_slot=0)
    assert ask(kv_ratio="auto") >= n_first


def test_settings_are_shown(auto: Server) -> None:
    shown = auto.http.get("/props").json()["lookm"]
    assert shown["kv_ratio"] == "auto"
    assert (shown["kv_quality"], shown["kv_ratio_floor"], shown["kv_ratio_ceiling"]) == (
        QUALITY,
        0.05,
        0.5,
    )
    assert shown["kv_important_ratio"] is shown["kv_recent_ratio"] is None
    for kv_ratio in (None, "auto", 0.25):
        answer = auto.complete(
            list(range(40, 90)), **({} if kv_ratio is None else {"kv_ratio": kv_ratio})
        )
        assert answer["generation_settings"]["kv_ratio"] == (kv_ratio or "auto")
        assert answer["generation_settings"]["n_discard"] == 0


def test_the_servers_maximum_is_the_ceiling(
    folder: Path, llm: Llava, short: list[DemoPrompt]
) -> None:
    flags = ("--kv-ratio", "0.1", "--kv-ratio-max", "0.12", "--kv-quality", "1", "-c", "1024")
    with running(folder, *flags) as server:
        answer = server.chat(short[0], kv_ratio="auto")
        expected, timings = chosen_by(llm, short[0], quality=1.0, ratio_ceiling=0.12)
        assert timings["chosen_ratio"] == 0.12
        assert (content(answer), said(answer)) == (expected, timings)


def test_through_a_cap(folder: Path, llm: Llava, prompts: list[DemoPrompt]) -> None:
    prompt = next(one for one in prompts if len(one.images) == 16)
    flags = ("--kv-ratio", "auto", "--kv-quality", "0.9", "--kv-cells", "512", "-np", "1")
    with running(folder, *flags, "-c", "2048") as server:
        timings = server.chat(prompt)["timings"]
    assert timings["kept_cells"] == pytest.approx(
        timings["chosen_ratio"] * timings["prompt_cells"], abs=2
    )
    assert timings["attention_held"] >= 0.9 or timings["chosen_ratio"] == 0.5


def test_only_on_request(folder: Path, llm: Llava, short: list[DemoPrompt]) -> None:
    with running(folder, "--kv-on-request", "-c", "1024") as server:
        assert "attention_held" not in server.chat(short[0])["timings"]
        expected, timings = chosen_by(llm, short[0])
        answer = server.chat(short[0], kv_ratio="auto")
        assert (content(answer), said(answer)) == (expected, timings)


def test_a_method_without_scores(folder: Path, short: list[DemoPrompt]) -> None:
    status, text = refused("--kv-ratio", "auto", "--kv-method", "random")
    assert status == 2
    assert text.startswith('lookm-server: --kv-ratio: "auto" does not go with method random')
    with running(folder, "--kv-ratio", "0.5", "--kv-method", "random", "-c", "1024") as server:
        body = {"messages": messages(short[0]), "kv_ratio": "auto"}
        response = server.http.post("/v1/chat/completions", json=body)
        assert response.status_code == 400
        message = response.json()["error"]["message"]
        assert message.startswith('kv_ratio: "auto" does not go with method random')
        assert "attention_held" not in server.chat(short[0])["timings"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--kv-ratio", "auto", "--kv-quality", "0"), "--kv-quality: 0 is outside (0, 1]"),
        (("--kv-ratio-floor", "0.6"), "--kv-ratio-floor: 0.6 is more than ratio_ceiling 0.5"),
        (("--kv-ratio-ceiling", "2"), "--kv-ratio-ceiling: 2 is outside (0, 1]"),
        (
            ("--kv-ratio", "auto", "--kv-important-ratio", "0.1"),
            '--kv-important-ratio: 0.1 does not go with kv_ratio "auto"',
        ),
        (
            ("--kv-ratio", "auto", "--kv-ratio-max", "0.3"),
            "--kv-ratio-max: 0.3 is out of range; expected 0.5 (--kv-ratio-ceiling) to 1",
        ),
        (("--kv-ratio", "auto", "--kv-on-request"), "--kv-on-request: it is given together"),
    ],
)
def test_wrong_flags(flags: tuple[str, ...], why: str) -> None:
    status, text = refused(*flags)
    assert status == 2
    assert text.splitlines()[-1].startswith(f"lookm-server: {why}")
