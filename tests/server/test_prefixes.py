"""Prompts that begin as an earlier one did go on from its full cells, whatever became of the slot.

The oracle is the same request with ``cache_prompt`` off, which is read from its start: same answer,
same probabilities to the last bit, same cells.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from lookm_cpp.embedded import DemoPrompt

from server.conftest import RATIO
from server.servers import Server, asked, content, messages, refused, running, same


def test_another_question_reads_the_question_alone(server: Server, short: list[DemoPrompt]) -> None:
    server.erase_slots()
    first = asked(server, short[0], id_slot=0)
    before = server.metrics()
    questions = ["What is in image 1?", "Describe image 2.", "What is at the top left of image 3?"]
    for i, question in enumerate(questions):
        alone = asked(server, short[0], question, cache_prompt=False, id_slot=3)
        again = asked(server, short[0], question, id_slot=i % 3)
        assert alone["timings"]["cache_n"] == 0
        assert again["timings"]["cache_n"] > 0.9 * again["timings"]["prompt_cells"]
        assert same(alone, again), question
    after = server.metrics()
    assert after["lookm:prefixes_restored_total"] - before["lookm:prefixes_restored_total"] == 3
    restored = after["lookm:cells_restored_total"] - before["lookm:cells_restored_total"]
    assert restored > 3 * 0.9 * first["timings"]["prompt_cells"]
    assert after["lookm:prefix_bytes"] > 0


def test_pictures_that_differ_from_the_third_on(server: Server, short: list[DemoPrompt]) -> None:
    server.erase_slots()
    asked(server, short[2], id_slot=0)
    images = (*short[2].images[:2], *short[2].images[:1:-1])
    other = replace(short[2], images=images)
    again = asked(server, other, id_slot=0)
    assert 2 * 64 <= again["timings"]["cache_n"] < 0.6 * again["timings"]["prompt_cells"]
    assert same(asked(server, other, cache_prompt=False, id_slot=1), again)


def test_an_edited_last_turn(server: Server, short: list[DemoPrompt]) -> None:
    """It goes on from what the first turn has left, as the next turn does."""
    server.erase_slots()
    alone = server.chat(short[3], id_slot=0)
    turns = [*messages(short[3]), alone["choices"][0]["message"]]
    bodies = [
        {"messages": [*turns, {"role": "user", "content": text}], "temperature": 0, "max_tokens": 8}
        for text in ("Are you sure?", "What is in image 2?")
    ]
    server.post("/v1/chat/completions", **bodies[0], id_slot=0)
    edited = server.post("/v1/chat/completions", **bodies[1], id_slot=0)
    whole = server.post("/v1/chat/completions", **bodies[1], id_slot=1, cache_prompt=False)
    assert edited["timings"]["cache_n"] > 0.7 * edited["timings"]["prompt_cells"]
    assert content(edited) == content(whole)


@pytest.mark.parametrize(
    ("flags", "reused"),
    [
        (("--cache-ram", "0"), False),
        (("--kv-strict-reuse",), True),
        (("--kv-method", "snapkv"), True),
        (("--kv-method", "h2o"), True),
        (("--kv-method", "roco"), True),
        (("--kv-method", "text_prior_pivot_merge", "-b", "64", "-ub", "32"), True),
        (("--kv-method", "streaming_llm"), True),
        (("--kv-method", "random", "--kv-prefix-type", "f32"), True),
        (("-np", "2"), True),
        (("--cache-ram", "-1", "-b", "64", "-ub", "32", "-ctk", "q8_0"), True),
    ],
)
def test_flags(folder: Path, short: list[DemoPrompt], flags: tuple[str, ...], reused: bool) -> None:
    """Every kind of method: sums of all queries, their squares, a window that reaches into a
    picture, and none at all."""
    with running(folder, "--kv-ratio", str(RATIO), "-c", "4096", *flags) as server:
        asked(server, short[0], id_slot=0)
        again = asked(server, short[0], "What is in image 1?", id_slot=0)
        assert (again["timings"]["cache_n"] > 0) == reused
        alone = asked(server, short[0], "What is in image 1?", id_slot=0, cache_prompt=False)
        assert same(alone, again)


def test_sums_are_those_of_a_whole_prefix(folder: Path, short: list[DemoPrompt]) -> None:
    """Fewer pictures cannot go on from the sums of more; more can go on from fewer."""
    fewer = replace(
        short[0],
        images=short[0].images[:2],
        content="Image 1:<image> Image 2:<image> What is in image 2?",
    )
    flags = ("--kv-ratio", str(RATIO), "-c", "4096", "--kv-method", "text_prior_h2o")
    with running(folder, *flags) as server:
        asked(server, short[0], id_slot=0)
        less = asked(server, fewer, id_slot=0)
        assert less["timings"]["cache_n"] == 0
        more = asked(server, short[0], "What is in image 1?", id_slot=1)
        again = asked(server, fewer, id_slot=1)
        assert again["timings"]["cache_n"] > 0
        assert same(less, again)
        server.post("/slots/1?action=save", filename="sums.bin")
        alone = asked(server, short[0], "What is in image 1?", cache_prompt=False, id_slot=2)
        assert same(alone, more)
    with running(folder, *flags) as server:
        server.post("/slots/0?action=restore", filename="sums.bin")
        restored = asked(server, fewer, id_slot=2)
        assert restored["timings"]["cache_n"] > 0
        assert same(less, restored)


def test_a_type_of_their_own(folder: Path, short: list[DemoPrompt]) -> None:
    """f32 holds every f16, so that nothing changes; q8_0 takes half of the bytes."""
    kept = {}
    for name in ("", "f32", "q8_0"):
        flags = ("--kv-prefix-type", name) if name else ()
        with running(folder, "--kv-ratio", str(RATIO), "-c", "4096", *flags) as server:
            asked(server, short[0], id_slot=0)
            again = asked(server, short[0], "What is in image 1?", id_slot=0)
            alone = asked(server, short[0], "What is in image 1?", id_slot=0, cache_prompt=False)
            assert again["timings"]["cache_n"] > 0
            assert same(alone, again) == (name != "q8_0")
            assert content(alone) == content(again)
            kept[name] = server.metrics()["lookm:prefix_bytes"]
    assert kept["f32"] / kept[""] == pytest.approx(2, rel=0.05)
    assert kept["q8_0"] / kept[""] == pytest.approx(17 / 32, rel=0.05)


def test_they_take_five_eighths_of_the_host_memory(folder: Path, short: list[DemoPrompt]) -> None:
    """Of 4 MiB; one eighth is for compressed prompts, and a quarter llama-server's own."""
    with running(folder, "--kv-ratio", str(RATIO), "-c", "4096", "--cache-ram", "4") as server:
        sizes = []
        turned = [
            replace(prompt, images=(*prompt.images[i:], *prompt.images[:i]))
            for i in range(2)
            for prompt in short
        ][:6]
        for prompt in turned:
            asked(server, prompt, id_slot=0)
            sizes.append(server.metrics()["lookm:prefix_bytes"])
        assert 2 * sizes[0] < 5 << 19 < 5 * sizes[0], "so that some must go"
        assert (5 << 19) - 1.1 * sizes[0] < max(sizes) <= 5 << 19
        again = asked(server, turned[5], "What is in image 1?")
        assert again["timings"]["cache_n"] > 0.9 * again["timings"]["prompt_cells"]
        gone = asked(server, turned[0], "What is in image 1?")
        # another prompt may begin with the same picture
        assert gone["timings"]["cache_n"] < 0.5 * gone["timings"]["prompt_cells"]


@pytest.mark.parametrize("flags", [("--kv-prefix-type", "q3_k"), ("--image-cache", "-1")])
def test_flags_with_bad_values(flags: tuple[str, ...]) -> None:
    status, said = refused("-m", "embedded", "--kv-ratio", "0.2", *flags)
    assert status == 2
    assert flags[0] in said
    assert "expected" in said


@pytest.mark.parametrize(("cache", "n_decoded"), [("256MiB", 4), ("0", 12)])
def test_an_image_that_comes_again_is_not_decoded(
    folder: Path, short: list[DemoPrompt], cache: str, n_decoded: int
) -> None:
    """Answers are the same as without; the encoder gets the same pixels."""
    with running(folder, "--kv-ratio", str(RATIO), "-c", "4096", "--image-cache", cache) as server:
        n_images = len(short[0].images)
        assert n_images == 4
        answers = [
            asked(server, short[0], cache_prompt=False),
            asked(server, short[0]),
            asked(server, replace(short[0], images=short[0].images[::-1]), cache_prompt=False),
        ]
        assert same(answers[0], answers[1])
        metrics = server.metrics()
        assert metrics["lookm:images_decoded_total"] == n_decoded
        assert metrics["lookm:images_known_total"] == 12 - n_decoded
    with running(folder, "--kv-ratio", str(RATIO), "-c", "4096", "--image-cache", "0") as server:
        fresh = asked(server, replace(short[0], images=short[0].images[::-1]))
        assert same(fresh, answers[2])


def test_slot_files(folder: Path, short: list[DemoPrompt]) -> None:
    """Another server goes on from the full prompt of a slot file, unless that was changed."""
    flags = ("--kv-ratio", str(RATIO), "-c", "4096")
    question = "What is in image 1?"
    with running(folder, *flags) as server:
        asked(server, short[0], id_slot=0)
        server.post("/slots/0?action=save", filename="asked.bin")
        alone = asked(server, short[0], question, cache_prompt=False, id_slot=1)
    beside = folder / "asked.bin.prefix"
    whole = beside.read_bytes()
    for data in (whole, whole[:-30], whole[:5000] + b"x" + whole[5001:], None):
        if data is None:
            beside.unlink()
        else:
            beside.write_bytes(data)
        with running(folder, *flags) as server:
            assert server.http.post(
                "/slots/0?action=restore", json={"filename": "asked.bin"}
            ).is_success
            again = asked(server, short[0], question, id_slot=2)
            assert (again["timings"]["cache_n"] > 0) == (data == whole)
            assert same(alone, again)
    beside.write_bytes(whole)
    with running(folder, *flags, "--kv-prefix-type", "q8_0") as server:
        server.post("/slots/0?action=restore", filename="asked.bin")
        assert asked(server, short[0], question, id_slot=2)["timings"]["cache_n"] == 0


WORDS = " ".join(f"The code of {name} is {i}." for i, name in enumerate(["Anna", "Ivan"] * 30))


@pytest.mark.parametrize(
    ("flags", "step"),
    [
        (("--kv-method", "snapkv_question", "-b", "128", "-ub", "64"), None),
        (("--kv-method", "snapkv", "-b", "128", "-ub", "64"), 64),
        (("--kv-method", "snapkv", "-b", "100", "-ub", "64"), 100),
        (("--kv-method", "streaming_llm", "-ub", "64", "-ctk", "q8_0"), 64),
        (("--kv-method", "h2o", "-ub", "64"), None),
    ],
)
def test_text_after_the_last_image(
    folder: Path,
    server: Server,
    short: list[DemoPrompt],
    flags: tuple[str, ...],
    step: int | None,
) -> None:
    """It is reused in whole batches, unless it is the question, which chooses the cells. Sums are
    those of the last image alone.
    """
    asked(server, short[0], "Which is it?", id_slot=0)
    new = asked(server, short[0], f"What is {flags[1:]}?", id_slot=0)
    images = new["timings"]["cache_n"]
    with running(folder, "--kv-ratio", str(RATIO), "-c", "4096", *flags) as server:
        asked(server, short[0], f"{WORDS} What is in image 2?", id_slot=0)
        again = asked(server, short[0], f"{WORDS} What is in image 1?", id_slot=1)
        n_text = again["timings"]["cache_n"] - images
        if step is None:
            assert n_text == 0
        else:
            assert n_text >= 2 * step
            assert n_text % step == 0
        alone = asked(server, short[0], f"{WORDS} What is in image 1?", cache_prompt=False)
        assert same(alone, again)
        # one that departs in the middle of the text
        departs = f"{WORDS[:600]} What is in image 1?"
        less = asked(server, short[0], departs, id_slot=1)["timings"]["cache_n"]
        assert images <= less < again["timings"]["cache_n"] or step is None
        assert same(
            asked(server, short[0], departs, id_slot=2),
            asked(server, short[0], departs, cache_prompt=False),
        )


@pytest.mark.parametrize("method", ["snapkv_question", "random"])
def test_texts_without_images(folder: Path, method: str) -> None:
    flags = ("--kv-ratio", str(RATIO), "-c", "4096", "-b", "128", "-ub", "64")
    with running(folder, *flags, "--kv-method", method) as server:
        found = []
        for name, options in {"Anna": {"id_slot": 0}, "Ivan": {"id_slot": 1}}.items():
            text = f"{WORDS} What is the code of {name}?"
            ask = {"messages": [{"role": "user", "content": text}], "temperature": 0}
            found.append(
                server.post("/v1/chat/completions", **ask, logprobs=True, max_tokens=8, **options)
            )
            if name == "Anna":
                server.post("/slots/0?action=save", filename="text.bin")
        n = found[1]["timings"]["cache_n"]
        assert n >= 128
        assert n % 64 == 0
        alone = server.post(
            "/v1/chat/completions", **ask, logprobs=True, max_tokens=8, cache_prompt=False
        )
        assert same(alone, found[1])
    with running(folder, *flags, "--kv-method", method) as server:
        server.post("/slots/0?action=restore", filename="text.bin")
        again = server.post("/v1/chat/completions", **ask, logprobs=True, max_tokens=8, id_slot=2)
        assert again["timings"]["cache_n"] == n
        assert same(alone, again)
