"""What a slot still holds of another request never changes an answer, unless a prompt goes on from
it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lookm_cpp.embedded import DEMO, DemoPrompt

from server.conftest import RATIO
from server.servers import Json, Server, content, data_uri, messages, running


def _tokens(n: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(40, 400, n)]


A = _tokens(300, seed=1)


def _ask(server: Server, tokens: list[int], **options: object) -> tuple[list[int], Json]:
    """Answer and timings, in slot 0."""
    answer = server.complete(tokens, **({"id_slot": 0} | options))
    return answer["tokens"], answer["timings"]


@pytest.fixture
def fresh(sums: Server) -> Server:
    """No slot holds anything."""
    sums.erase_slots()
    return sums


def test_shorter_and_diverging_prompts_start_anew(fresh: Server) -> None:
    """And the same prompt again is what it was, from memory."""
    others = {"same": A, "shorter": A[:200], "diverging": A[:150] + _tokens(150, seed=2)}
    alone = {}
    for name, tokens in others.items():
        fresh.erase_slots()
        alone[name], timings = _ask(fresh, tokens, cache_prompt=False)
        assert timings["kept_cells"] == 2 * int(0.15 * len(tokens))
    fresh.erase_slots()
    _ask(fresh, A)
    for name, tokens in others.items():
        answer, timings = _ask(fresh, tokens)
        assert answer == alone[name], name
        assert timings["cache_n"] == (len(A) - 1 if name == "same" else 0), name
        if name != "shorter":  # which A goes on from
            assert _ask(fresh, A)[0] == alone["same"]
        fresh.erase_slots()
        _ask(fresh, A)


def test_an_extension_goes_on_from_the_kept_cells(fresh: Server) -> None:
    first, timings = _ask(fresh, A)
    kept = timings["kept_cells"]
    longer = A + first + _tokens(30, seed=3)
    _, timings = _ask(fresh, longer)
    assert (
        timings["cache_n"] == len(A) + len(first) - 1
    )  # the answer's last token was never decoded
    # of the new cells (the answer's and the thirty) a share is kept, of the old ones every one
    n_new = len(longer) - len(A)
    assert timings["kept_cells"] == kept + 2 * int(0.15 * n_new)
    assert timings["prompt_cells"] == len(longer)
    # going back behind that is a new start
    _, timings = _ask(fresh, [*A, *first])
    assert timings["cache_n"] == 0


def test_two_turns_are_repeatable(fresh: Server) -> None:
    answers = []
    for _ in range(2):
        fresh.erase_slots()
        first, _ = _ask(fresh, A)
        answers.append(_ask(fresh, A + first + _tokens(30, seed=3))[0])
    assert answers[0] == answers[1]


def test_another_ratio_is_another_cache(fresh: Server) -> None:
    longer = A + _tokens(40, seed=4)
    alone, _ = _ask(fresh, longer, kv_ratio=1)
    fresh.erase_slots()
    _ask(fresh, A)
    answer, timings = _ask(fresh, longer, kv_ratio=1)
    assert (answer, timings["cache_n"]) == (alone, 0)
    assert timings["kept_cells"] == len(longer)
    # the other way round: cells of an uncompressed prompt have no scores
    fresh.erase_slots()
    alone, _ = _ask(fresh, longer, cache_prompt=False)
    fresh.erase_slots()
    _ask(fresh, A, kv_ratio=1)
    answer, timings = _ask(fresh, longer)
    assert (answer, timings["cache_n"]) == (alone, 0)
    # and uncompressed prompts go on from each other as ever
    fresh.erase_slots()
    _ask(fresh, A, kv_ratio=1)
    assert _ask(fresh, longer, kv_ratio=1)[1]["cache_n"] == len(A)


def _give_up(server: Server, tokens: list[int], **options: object) -> None:
    """Leave when a part of the prompt that is not in the cache has been read."""
    body = {
        "prompt": tokens,
        "n_predict": 400,
        "stream": True,
        "return_progress": True,
        "id_slot": 0,
        **options,
    }
    with server.http.stream("POST", "/completion", json=body) as stream:
        for line in stream.iter_lines():
            progress = (
                json.loads(line[6:])["prompt_progress"] if line.startswith("data: ") else None
            )
            if progress and progress["processed"] > progress["cache"]:
                assert progress["processed"] < len(tokens)
                return


def test_half_a_turn_goes_nowhere(fresh: Server) -> None:
    """Given up half-read, it has no scores to go on from: neither by way of the prompt cache nor of
    a slot file. And
    what is brought back into that slot is as good as ever."""
    first, _ = _ask(fresh, A)
    fresh.post("/slots/0?action=save", filename="good.bin")
    longer = A + first + _tokens(900, seed=5)
    expected, timings = _ask(fresh, longer)
    assert timings["cache_n"] == len(A) + len(first) - 1
    fresh.erase_slots()
    alone, _ = _ask(fresh, longer, cache_prompt=False)
    fresh.erase_slots()
    _ask(fresh, A)
    _give_up(fresh, longer)
    assert fresh.uses_cells(0)
    for seed in range(10, 14):  # somebody else, in that slot
        _ask(fresh, _tokens(30, seed))
    answer, timings = _ask(fresh, longer)
    if timings["cache_n"] == 0:
        assert answer == alone
    else:  # from the prompt cache, as it was before the turn
        assert (answer, timings["cache_n"]) == (expected, len(A) + len(first) - 1)
    fresh.erase_slots()
    _ask(fresh, A)
    _give_up(fresh, longer)
    assert fresh.uses_cells(0)
    fresh.post("/slots/0?action=restore", filename="good.bin")
    answer, timings = _ask(fresh, longer)
    assert (answer, timings["cache_n"]) == (expected, len(A) + len(first) - 1)


def test_a_ratio_that_keeps_as_many_cells_is_no_other(fresh: Server) -> None:
    first, timings = _ask(fresh, A)
    longer = A + first + _tokens(30, seed=3)
    expected, _ = _ask(fresh, longer)
    fresh.erase_slots()
    assert _ask(fresh, A, kv_ratio=0.3002)[1]["kept_cells"] == timings["kept_cells"]
    fresh.erase_slots()
    _ask(fresh, A)
    answer, timings = _ask(fresh, longer)
    assert (answer, timings["cache_n"]) == (expected, len(A) + len(first) - 1)


@pytest.mark.parametrize("kv_ratio", [0.9, 0.45, 0.3, 0.15])
@pytest.mark.parametrize("n", [120, 200])
def test_a_requests_ratio_keeps_what_llava_keeps(fresh: Server, kv_ratio: float, n: int) -> None:
    """To the last bit of its two halves: 0.45 of 200 is 90, whatever the server's own share is."""
    kept = _ask(fresh, _tokens(n, seed=7), kv_ratio=kv_ratio)[1]["kept_cells"]
    assert kept == 2 * int(kv_ratio * 0.5 * n)


def test_saved_slots_come_back(fresh: Server) -> None:
    first, timings = _ask(fresh, A)
    fresh.post("/slots/0?action=save", filename="a.bin")
    longer = A + first + _tokens(30, seed=5)
    expected, _ = _ask(fresh, longer)
    fresh.erase_slots()
    assert (
        fresh.post("/slots/1?action=restore", filename="a.bin")["n_restored"]
        == len(A) + len(first) - 1
    )
    assert fresh.uses_cells(timings["kept_cells"] + len(first) - 1)
    answer, timings = _ask(fresh, longer, id_slot=1)
    assert (answer, timings["cache_n"]) == (expected, len(A) + len(first) - 1)


def test_saved_slots_with_images(server: Server, short: list[DemoPrompt]) -> None:
    server.erase_slots()
    alone = server.chat(short[0], id_slot=2)
    reply = alone["choices"][0]["message"]
    turns = [*messages(short[0]), reply, {"role": "user", "content": "Are you sure?"}]
    server.post("/slots/2?action=save", filename="images.bin")
    body = {"messages": turns, "temperature": 0, "max_tokens": 8, "id_slot": 2}
    expected = server.post("/v1/chat/completions", **body)
    assert expected["timings"]["cache_n"] >= alone["timings"]["prompt_cells"]
    server.erase_slots()
    server.post("/slots/2?action=restore", filename="images.bin")
    again = server.post("/v1/chat/completions", **body)
    assert content(again) == content(expected)
    assert again["timings"]["cache_n"] == expected["timings"]["cache_n"]


def test_the_prompt_cache_brings_a_conversation_back(fresh: Server) -> None:
    first, _ = _ask(fresh, A)
    longer = A + first + _tokens(30, seed=6)
    expected, _ = _ask(fresh, longer)
    fresh.erase_slots()
    _ask(fresh, A)
    for seed in range(10, 14):  # each of them saves slot 0 to memory and takes it
        _ask(fresh, _tokens(250, seed))
    answer, timings = _ask(fresh, longer)
    assert answer == expected
    assert timings["cache_n"] == len(A) + len(first) - 1


def test_the_prompt_cache_holds_images(folder: Path, short: list[DemoPrompt]) -> None:
    """On a server of its own: llama-server takes the first of equally long prompts, whatever their
    ratios.
    """
    with running(folder, "--kv-ratio", str(RATIO), "-c", "4096", "--slots") as server:
        alone = server.chat(short[0], id_slot=1)
        turns = [
            *messages(short[0]),
            alone["choices"][0]["message"],
            {"role": "user", "content": "Are you sure?"},
        ]
        body = {"messages": turns, "temperature": 0, "max_tokens": 8, "id_slot": 1}
        expected = server.post("/v1/chat/completions", **body)
        server.erase_slots()
        server.chat(short[0], id_slot=1)
        for i in range(
            1, 4
        ):  # each of them saves the slot to memory and takes it, as it begins with another picture
            images = short[0].images[i:] + short[0].images[:i]
            server.chat(replace(short[0], images=images), id_slot=1)
        again = server.post("/v1/chat/completions", **body)
        assert content(again) == content(expected)
        assert (
            again["timings"]["cache_n"]
            == expected["timings"]["cache_n"]
            >= alone["timings"]["prompt_cells"]
        )
        assert (
            again["timings"]["kept_cells"]
            == expected["timings"]["kept_cells"]
            < again["timings"]["prompt_cells"]
        )


def test_strict_reuse(folder: Path) -> None:
    flags = (
        "--kv-ratio",
        "0.3",
        "--kv-method",
        "h2o",
        "-c",
        "1024",
        "--kv-strict-reuse",
        "--kv-min-cells",
        "100",
    )
    with running(folder, *flags, "--slots") as server:
        first, _ = _ask(server, A)
        longer = A + first + _tokens(30, seed=7)
        assert _ask(server, longer)[1]["cache_n"] == 0
        # a prompt that is left alone is reused
        _, timings = _ask(server, A[:99])
        assert timings["kept_cells"] == 99
        assert _ask(server, A[:99])[1]["cache_n"] == 98


@pytest.mark.parametrize(
    "flags",
    [
        ("--kv-ratio", "0.3", "-c", "4096"),
        ("--kv-ratio", "0.3", "-c", "4096", "--kv-method", "snapkv"),
        ("--kv-ratio", "0.3", "--kv-cells", "1024"),
        ("--kv-ratio", "1", "-c", "4096"),
        ("--image-ratio", "0.5", "--pruner", "grid", "-c", "4096"),
    ],
)
def test_images_side_by_side(flags: tuple[str, ...], folder: Path) -> None:
    """Prompts that depart between two images; llama-server's own tokens cannot end there."""
    uris = [data_uri(DEMO / f"pic{i:02}.png") for i in (1, 2, 3)]

    def ask(server: Server, *parts: int | str, **options: object) -> Json:
        made = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": uris[part]}}
            for part in parts
        ]
        body = {"messages": [{"role": "user", "content": made}], "temperature": 0, "max_tokens": 8}
        return server.post("/v1/chat/completions", **body, **options)

    question = " What is in image 1?"
    prompts: list[tuple[int | str, ...]] = [
        (0, 1, " and", 2, question),
        (0, 0, " and", 2, question),
        (0, " and", 2, question),
        (0, 1, " and", 1, question),
    ]
    with running(folder, *flags, "-np", "1") as server:
        ask(server, *prompts[0])
        for prompt in prompts[1:]:
            found = ask(server, *prompt)
            assert content(found) == content(ask(server, *prompt, cache_prompt=False))
            assert found["timings"]["cache_n"] > 0 or "--kv-cells" in flags
            ask(server, *prompts[0])
