"""The same prompt again is neither read nor compressed again.

The oracle is the same request with ``cache_prompt`` off, which is read from its start: same answer,
same probabilities to the last bit, same cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lookm_cpp.embedded import DemoPrompt
from session.tiny_models import write_llama

from server import servers
from server.conftest import RATIO
from server.servers import Json, Server, asked, content, messages, running, same
from server.test_features import H2O, N_EMBD, TOKENS, write_adapter


def is_repeated(answer: Json) -> bool:
    """Whether only the last token was decoded."""
    timings = answer["timings"]
    return (timings["prompt_n"], timings["cache_n"]) == (1, timings["prompt_cells"] - 1)


def test_in_any_slot(server: Server, short: list[DemoPrompt]) -> None:
    """Beside what other prompts have left, and after its own slot has served them."""
    server.erase_slots()
    alone = asked(server, short[1], cache_prompt=False, id_slot=0)
    asked(server, short[1], "What is in image 2?", id_slot=2)
    first = asked(server, short[1], id_slot=0)
    before = server.metrics()
    for slot in (0, 1, 2, 0):
        again = asked(server, short[1], id_slot=slot)
        assert is_repeated(again)
        assert same(alone, again)
        asked(server, short[2], id_slot=slot, cache_prompt=False)
    after = server.metrics()
    assert same(alone, first)
    assert after["lookm:prompts_repeated_total"] - before["lookm:prompts_repeated_total"] == 4
    assert after["lookm:compressed_prompt_bytes"] > 0


def test_a_turn_follows_it(server: Server, short: list[DemoPrompt]) -> None:
    """What it leaves is what the prompt left the first time."""
    server.erase_slots()
    body = {"messages": messages(short[3]), "temperature": 0, "max_tokens": 8}
    turns = []
    for _ in range(2):
        answer = server.post("/v1/chat/completions", **body, id_slot=0)
        said = answer["choices"][0]["message"]
        follow = {"role": "user", "content": "What is in image 2?"}
        turn = server.post(
            "/v1/chat/completions",
            **(body | {"messages": [*messages(short[3]), said, follow]}),
            logprobs=True,
            id_slot=0,
        )
        turns.append(turn)
    assert is_repeated(answer)
    assert turns[1]["timings"]["cache_n"] == turns[0]["timings"]["cache_n"] > 0
    assert same(*turns)


def test_several_answers(server: Server, short: list[DemoPrompt]) -> None:
    server.erase_slots()
    hot = {"temperature": 50.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 5}
    body = {"messages": messages(short[0]), "max_tokens": 6, "n": 3, **hot}
    found = [server.post("/v1/chat/completions", **body) for _ in range(2)]
    texts = [[choice["message"]["content"] for choice in answer["choices"]] for answer in found]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


def test_another_ratio_is_another_prompt(server: Server, short: list[DemoPrompt]) -> None:
    server.erase_slots()
    asked(server, short[0], id_slot=0)
    other = asked(server, short[0], id_slot=0, kv_ratio=0.1)
    assert not is_repeated(other)
    assert same(other, asked(server, short[0], id_slot=1, kv_ratio=0.1, cache_prompt=False))
    assert is_repeated(asked(server, short[0], id_slot=0))
    assert is_repeated(asked(server, short[0], id_slot=0, kv_ratio=0.1))


@pytest.mark.parametrize(
    ("flags", "repeated"),
    [
        (("--cache-ram", "0"), False),
        (("--kv-strict-reuse",), True),
        (("--kv-method", "roco"), True),
        (("--kv-method", "text_prior_pivot_merge", "-b", "64", "-ub", "32"), True),
        (("-np", "2"), True),
        (("-np", "2", "-fa", "on", "-ctk", "q8_0", "-ctv", "q4_0"), True),
        (("--image-ratio", "0.5"), True),
    ],
)
def test_flags(
    folder: Path, short: list[DemoPrompt], flags: tuple[str, ...], repeated: bool
) -> None:
    with running(folder, "--kv-ratio", str(RATIO), "-c", "4096", *flags) as server:
        asked(server, short[0], id_slot=0)
        again = asked(server, short[0], id_slot=0)
        assert is_repeated(again) == repeated
        assert same(asked(server, short[0], id_slot=0, cache_prompt=False), again)


def test_samplers_on_the_device_have_no_logits(folder: Path, short: list[DemoPrompt]) -> None:
    """Then the question is read again."""
    options = {"messages": messages(short[0]), "temperature": 0, "max_tokens": 8}
    flags = ("--kv-ratio", str(RATIO), "-c", "4096", "--backend-sampling")
    with running(folder, *flags) as server:
        found = [server.post("/v1/chat/completions", **options) for _ in range(3)]
        assert not any(is_repeated(answer) for answer in found)
        assert len({content(answer) for answer in found}) == 1


def test_a_limit(folder: Path, short: list[DemoPrompt]) -> None:
    """An eighth of 2 MiB, which holds two of these prompts and not three."""
    with running(folder, "--kv-ratio", str(RATIO), "-c", "4096", "--cache-ram", "2") as server:
        sizes = []
        for prompt in short:
            asked(server, prompt, id_slot=0)
            sizes.append(server.metrics()["lookm:compressed_prompt_bytes"])
        assert 0 < sizes[0] < 1 << 18
        assert max(sizes) <= 1 << 18 < len(short) * sizes[0]
        assert not is_repeated(asked(server, short[0], id_slot=0))


def test_adapters(folder: Path, tmp_path: Path) -> None:
    """What was read with one adapter serves no request without it."""
    model, adapter = tmp_path / "plain.gguf", tmp_path / "adapter.gguf"
    write_llama(model, N_EMBD)
    write_adapter(adapter)
    off = {"lora": [{"id": 0, "scale": 0.0}]}
    with running(folder, "-m", str(model), "--lora", str(adapter), *H2O) as server:
        found = {}
        for name, options in {"on": {}, "off": off}.items():
            found[name] = server.complete(TOKENS, cache_prompt=False, **options)
        assert found["on"]["tokens"] != found["off"]["tokens"]
        for name, options in {"on": {}, "off": off, "on again": {}, "off again": off}.items():
            answer = server.complete(TOKENS, **options)
            assert answer["tokens"] == found[name.split()[0]]["tokens"]
            assert is_repeated(answer) == ("again" in name)


def test_prefixes_of_adapters(folder: Path, tmp_path: Path, short: list[DemoPrompt]) -> None:
    adapter = tmp_path / "adapter.gguf"
    write_adapter(adapter, n_v=128)
    question = "What is in image 1?"
    off = {"lora": [{"id": 0, "scale": 0.0}]}
    flags = ("--kv-ratio", str(RATIO), "-c", "4096", "--lora", str(adapter))
    with running(folder, *flags) as server:
        asked(server, short[0], id_slot=0)
        alone = {}
        for name, options in {"on": {}, "off": off}.items():
            alone[name] = asked(server, short[0], question, cache_prompt=False, **options)
        assert not same(alone["on"], alone["off"])
        without = asked(server, short[0], question, id_slot=1, **off)
        assert without["timings"]["cache_n"] == 0
        assert same(without, alone["off"])
        on = asked(server, short[0], question, id_slot=1)
        assert on["timings"]["cache_n"] > 0
        assert same(on, alone["on"])


@pytest.mark.parametrize("join", ["on", "off"])
def test_images_beside_an_answer_with_an_adapter(
    join: str,
    folder: Path,
    tmp_path: Path,
    short: list[DemoPrompt],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are read without it, and so is what is kept of them."""
    monkeypatch.setitem(servers.QUIET_ENVIRONMENT, "LOOKM_JOIN", join)
    adapter = tmp_path / "adapter.gguf"
    write_adapter(adapter, n_v=128)
    off: dict[str, Any] = {"lora": [{"id": 0, "scale": 0.0}], "id_slot": 0}
    # a third begins as they do, and would be read in other batches
    asked_for = [short[0], short[2]]
    flags = ("--kv-ratio", str(RATIO), "-c", "4096", "-np", "2", "--lora", str(adapter))
    with running(folder, *flags) as server:
        alone = [asked(server, prompt, cache_prompt=False, **off) for prompt in asked_for]
        body = {"prompt": "Image", "id_slot": 1, "n_predict": 2000, "ignore_eos": True}
        with server.http.stream("POST", "/completion", json=body | {"stream": True}) as other:
            lines = other.iter_lines()
            next(lines)
            beside = [asked(server, prompt, **off) for prompt in asked_for]
            assert next(lines) is not None
        for found, expected in zip(beside, alone, strict=True):
            assert same(found, expected)
        for prompt, expected in zip(asked_for, alone, strict=True):
            again = asked(server, prompt, **off)
            assert again["timings"]["cache_n"] > 0
            assert same(again, expected)
