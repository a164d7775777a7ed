"""Prefixes: what a prompt goes on from, and that its answer is that of the prompt alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DEMO
from PIL import Image

PICTURES = [str(DEMO / f"pic{i:02}.png") for i in range(1, 9)]
TEXT = " ".join(f"Image {i}:<image>" for i in range(1, 9))
QUESTIONS = ["What is in image 2?", "Which corner of image 4 shows the panda?", "Describe image 7."]
NOTES = "The code of Anna is 4821. The code of Ivan is 8801. " * 5
EVERY_METHOD = ["lookm_plus", "h2o", "roco", "text_prior_pivot_merge", "snapkv"]


def alone(llm: Llava, question: str, **options: Any) -> str:
    return llm.ask(f"{TEXT} {question}", PICTURES, reuse=False, **options)


@pytest.mark.parametrize(
    "options", [{}, {"flash_attn": False}, {"type_k": "q8_0"}, {"n_batch": 64}]
)
def test_answers_are_those_of_the_whole_prompt(options: Any) -> None:
    with Llava.embedded(kv_ratio=0.2, **options) as llm:
        prefix = llm.read(TEXT, PICTURES, system=None)
        for question in QUESTIONS:
            right = alone(llm, question)
            held = llm.stats.attention_held
            assert prefix.ask(question) == right
            assert llm.stats.reused_cells == prefix.cells > 500
            assert llm.stats.attention_held == held
            assert "".join(prefix.stream(question)).strip() == right


@pytest.mark.parametrize("method", EVERY_METHOD)
@pytest.mark.parametrize("context", [None, NOTES])
def test_every_method(method: str, context: str | None) -> None:
    """Also one whose sums are those of all queries, and one whose window reaches into a picture."""
    options: Any = {"method": method, "context": context, "kv_ratio": 0.3}
    with Llava.embedded() as llm:
        llm.ask(f"{TEXT} {QUESTIONS[1]}", PICTURES, **options)
        assert llm.stats.reused_cells == 0
        reused = llm.ask(f"{TEXT} {QUESTIONS[0]}", PICTURES, **options)
        stats = llm.stats
        assert 0 < stats.reused_cells < stats.prompt_cells
        assert reused == alone(llm, QUESTIONS[0], **options)
        for name in ("prompt_cells", "kept_cells", "kept_text_cells", "attention_held"):
            assert getattr(stats, name) == getattr(llm.stats, name), name


def test_sums_of_all_queries_are_read_for() -> None:
    """What was kept without them does not serve a method that needs them."""
    with Llava.embedded(kv_ratio=0.3) as llm:
        prefix = llm.read(TEXT, PICTURES)
        first = prefix.ask(QUESTIONS[0], method="h2o")
        assert llm.stats.reused_cells == 0
        assert prefix.ask(QUESTIONS[0], method="h2o") == first
        assert llm.stats.reused_cells == prefix.cells
        # sums without squares
        prefix.ask(QUESTIONS[0], method="roco")
        assert llm.stats.reused_cells == 0


def test_sums_of_some_queries_are_not_those_of_all() -> None:
    """A window that begins exactly where a prefix ended."""
    with Llava.embedded(kv_ratio=0.3) as llm:
        cells = llm.read(TEXT, PICTURES).cells
        more = f"{TEXT} Image 9:<image> {QUESTIONS[0]}"
        llm.ask(more, [*PICTURES, PICTURES[0]], reuse=False)
        window = llm.stats.prompt_cells - cells
        llm.ask(more, [*PICTURES, PICTURES[0]], method="snapkv", window=window)
        assert llm.stats.reused_cells == cells
        by_sums = llm.ask(more, [*PICTURES, PICTURES[0]], method="h2o")
        assert llm.stats.reused_cells == 0
        assert by_sums == llm.ask(more, [*PICTURES, PICTURES[0]], method="h2o", reuse=False)


def test_a_chat_goes_on_where_it_began() -> None:
    """Another turn, and one with a new picture, are read from the last common picture on."""
    with Llava.embedded(kv_ratio=0.3) as llm:
        content = [
            {"type": "text", "text": "Image 1:"},
            {"type": "image_url", "image_url": PICTURES[2]},
            {"type": "text", "text": " What is in image 1?"},
        ]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        llm.create_chat_completion(messages, temperature=0.0)
        read = llm.stats.prompt_cells
        messages += [
            {"role": "assistant", "content": "Image 1 shows an umbrella."},
            {"role": "user", "content": "Again?"},
        ]
        answers = [
            llm.create_chat_completion(messages, temperature=0.0, reuse=reuse)["choices"]
            for reuse in (True, False)
        ]
        assert answers[0] == answers[1]
        prefix = llm.read("Image 1:<image>", PICTURES[2])
        assert prefix.cells < read
        more = prefix.create_chat_completion(
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": " Image 2:"},
                        {"type": "image_url", "image_url": PICTURES[7]},
                        {"type": "text", "text": " What is in image 2?"},
                    ],
                }
            ],
            temperature=0.0,
        )
        assert llm.stats.reused_cells == prefix.cells
        pair = llm.ask(
            "Image 1:<image> Image 2:<image> What is in image 2?",
            [PICTURES[2], PICTURES[7]],
            reuse=False,
        )
        assert more["choices"][0]["message"]["content"].strip() == pair


def test_a_prompt_that_departs_earlier() -> None:
    """Pictures that are the same up to the fourth are reused, if the method allows it."""
    others = [*PICTURES[:4], *PICTURES[:3:-1]]
    with Llava.embedded(kv_ratio=0.3) as llm:
        prefix = llm.read(TEXT, PICTURES)
        reused = llm.ask(f"{TEXT} {QUESTIONS[0]}", others)
        assert 4 * 64 < llm.stats.reused_cells < prefix.cells
        assert reused == llm.ask(f"{TEXT} {QUESTIONS[0]}", others, reuse=False)


def test_pixels_decide_and_not_names(tmp_path: Path) -> None:
    changed = tmp_path / "a.png"
    Image.open(PICTURES[2]).save(changed)
    with Llava.embedded() as llm:
        prefix = llm.read("Image 1:<image>", str(changed))
        assert prefix.ask("What is in image 1?") == "Image 1 shows an umbrella."
        Image.open(PICTURES[7]).save(changed)
        assert prefix.ask("What is in image 1?") == "Image 1 shows an owl."
        assert llm.stats.reused_cells < prefix.cells
        pixels = np.asarray(Image.open(PICTURES[7]).convert("RGB"))
        llm.ask("Image 1:<image> What is it?", pixels)
        assert llm.stats.reused_cells == prefix.cells


def test_the_least_recently_used_goes_first() -> None:
    with Llava.embedded() as llm:
        one = llm.read("Image 1:<image>", PICTURES[0])
        size = llm._session.prefix_bytes
    with Llava.embedded(prefix_memory=2 * size + size // 2) as llm:
        prefixes = [llm.read("Image 1:<image>", picture) for picture in PICTURES[:3]]
        assert llm._session.prefix_count == 2
        reused = []
        for prefix in (prefixes[2], prefixes[1], prefixes[0], prefixes[1], prefixes[2]):
            prefix.ask("What is in image 1?")
            reused.append(llm.stats.reused_cells == one.cells)
        assert reused == [True, True, False, True, False]
        assert llm._session.prefix_bytes <= 2 * size + size // 2


def test_nothing_is_kept_without_memory() -> None:
    with Llava.embedded(prefix_memory=0, image_cache=0) as llm:
        for _ in range(2):
            llm.ask(f"{TEXT} {QUESTIONS[0]}", PICTURES)
            assert llm.stats.reused_cells == llm.stats.reused_image_cells == 0
        with pytest.raises(ValueError, match="prefix_memory: 0 bytes, expected at least"):
            llm.read(TEXT, PICTURES)
    with pytest.raises(ValueError, match="prefix_memory is -1"):
        Llava.embedded(prefix_memory=-1)


def test_a_prefix_needs_what_can_be_recognized() -> None:
    with Llava.embedded() as llm:
        with pytest.raises(ValueError, match="no image and no context"):
            llm.read("Hello")
        prefix = llm.read("Who?", context=NOTES)
        assert prefix.ask("Is it Anna?") == llm.ask("Who? Is it Anna?", context=NOTES, reuse=False)
        assert prefix.ask("") == llm.ask("Who? ", context=NOTES, reuse=False)
        with pytest.raises(ValueError, match="question is 3"):
            prefix.ask(3)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="messages is empty"):
            prefix.create_chat_completion([])
        for more in ({"images": [PICTURES[0]]}, {"content": None}):
            with pytest.raises(ValueError, match="expected role and content alone"):
                prefix.create_chat_completion([{"role": "user", "content": "Who?", **more}])
        with pytest.raises(ValueError, match="messages"):
            prefix.create_chat_completion(["Who?"])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="reuse is 1"):
            llm.ask("Who?", reuse=1)  # type: ignore[arg-type]


def test_an_image_is_encoded_once() -> None:
    """Wherever it stands; the answer does not change."""
    with Llava.embedded(prefix_memory=0) as llm:
        for text, known in (("A:<image> B:<image> What?", 0), ("B:<image> A:<image> What?", 128)):
            pair = PICTURES[:2] if known == 0 else PICTURES[1::-1]
            found = llm.ask(text, pair)
            assert llm.stats.reused_image_cells == known
            assert (llm.stats.encode_seconds == 0) == (known > 0)
            with Llava.embedded(prefix_memory=0, image_cache=0) as other:
                assert other.ask(text, pair) == found


def test_under_a_cap_nothing_is_kept() -> None:
    """A prompt that is squeezed while it is read was never there as a whole."""
    with Llava.embedded(kv_cells=300) as llm:
        for _ in range(2):
            llm.ask(f"{TEXT} {QUESTIONS[0]}", PICTURES, max_tokens=16)
            assert llm.stats.squeezed_cells > 0
            assert llm.stats.reused_cells == 0


def test_reading_shows_its_progress_and_can_be_stopped() -> None:
    seen: list[tuple[str, int, int]] = []
    with Llava.embedded() as llm:
        prefix = llm.read(
            TEXT, PICTURES, progress=lambda phase, done, total: seen.append((phase, done, total))
        )
        assert seen[-1] == ("prefill", prefix.cells, prefix.cells)
        assert [done for phase, done, _ in seen if phase == "encode"] == [*range(1, 9)]

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            llm.read("Image 1:<image>", PICTURES[5], progress=stop)
        assert prefix.ask(QUESTIONS[0]) == alone(llm, QUESTIONS[0])
        with pytest.raises(TypeError, match="temperature is not an option of a prefix"):
            llm.read(TEXT, PICTURES, temperature=1)  # type: ignore[call-arg]
