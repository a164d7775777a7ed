"""The shipped model on its shipped prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt
from lookm_cpp.options import ChatOptions, LlavaOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

FULL_RIGHT = 23
COMPRESSED_RIGHT = {"text_prior_pivot_merge": 10, "text_prior_h2o": 13, "lookm_plus": 19}
"""Right at kv_ratio 0.2: one less than measured, since a CPU's rounding may tip an answer."""
IMAGE_CELLS = 64


def _wrong(llm: Llava, prompts: list[DemoPrompt], **options: Unpack[ChatOptions]) -> list[str]:
    """Question and answer of every prompt that is not answered word for word."""
    answers = [llm.ask(prompt.content, prompt.images, **options) for prompt in prompts]
    return [
        f"{len(prompt.images)} images, {prompt.question} -> {answer}"
        for prompt, answer in zip(prompts, answers, strict=True)
        if answer != prompt.answer
    ]


@pytest.fixture(scope="module")
def placed(backend: LlavaOptions) -> Iterator[Llava]:
    """The embedded model on one kind of device."""
    with Llava.embedded(**backend) as opened:
        yield opened


def test_full_cache_gives_the_right_answers(placed: Llava, prompts: list[DemoPrompt]) -> None:
    wrong = _wrong(placed, prompts, kv_ratio=1.0)
    assert len(prompts) == 24
    assert len(prompts) - len(wrong) >= FULL_RIGHT, wrong
    # The one known mistake: two of the eight pictures hold an umbrella, and describing them all
    # confuses the two.
    assert all("Describe all images." in line and line.startswith("8 images") for line in wrong), (
        wrong
    )


@pytest.mark.parametrize("method", COMPRESSED_RIGHT)
def test_a_fifth_of_the_cache_keeps_the_stated_accuracy(
    placed: Llava, prompts: list[DemoPrompt], method: str
) -> None:
    wrong = _wrong(placed, prompts, kv_ratio=0.2, method=method)
    assert len(prompts) - len(wrong) >= COMPRESSED_RIGHT[method], wrong


def test_stats_of_a_full_cache(llm: Llava, longest: DemoPrompt) -> None:
    llm.ask(longest.content, longest.images)
    stats = llm.stats
    assert stats.image_cells == IMAGE_CELLS * len(longest.images)
    assert stats.prompt_cells == stats.text_cells + stats.image_cells == stats.kept_cells
    assert stats.kv_ratio == 1.0
    assert stats.note
    assert stats.kv_bytes_used_after == stats.kv_bytes_used_before > 0
    assert stats.compress_seconds == 0
    assert stats.encode_images == len(longest.images)


@pytest.mark.parametrize("kv_ratio", [0.5, 0.2])
def test_stats_of_a_compressed_cache(longest: DemoPrompt, kv_ratio: float) -> None:
    with Llava.embedded() as llm:
        llm.ask(longest.content, longest.images, kv_ratio=kv_ratio)
        stats = llm.stats
    assert stats.note == ""
    assert stats.method == "lookm_plus"
    assert stats.kept_text_cells + stats.kept_image_cells == stats.kept_cells
    assert stats.kept_cells < stats.prompt_cells
    assert stats.kept_cells == pytest.approx(kv_ratio * stats.prompt_cells, abs=2)
    assert stats.kv_ratio == pytest.approx(stats.kept_cells / stats.prompt_cells)
    assert (
        stats.kv_bytes_used_after * stats.prompt_cells
        == stats.kv_bytes_used_before * stats.kept_cells
    )
    assert 0 < stats.kv_bytes_allocated_after <= stats.kv_bytes_allocated_before
    assert stats.compress_bytes_peak > 0
    assert (
        min(
            stats.encode_seconds,
            stats.prefill_seconds,
            stats.compress_seconds,
            stats.decode_seconds,
        )
        > 0
    )
    assert stats.decode_tokens > 0
    assert stats.decode_tokens_per_second == stats.decode_tokens / stats.decode_seconds


def test_first_token_is_that_of_the_full_cache(llm: Llava, prompts: list[DemoPrompt]) -> None:
    for prompt in prompts[::6]:
        full, small = (
            llm.ask(prompt.content, prompt.images, kv_ratio=kv_ratio, max_tokens=1)
            for kv_ratio in (1.0, 0.05)
        )
        assert full == small


def test_all_text_stays_even_past_the_budget(llm: Llava, longest: DemoPrompt) -> None:
    options: ChatOptions = {"important_ratio": 0.01, "recent_ratio": 0.05, "text_overflow": "keep"}
    llm.ask(longest.content, longest.images, **options)
    kept = llm.stats
    options["text_overflow"] = "evict"
    llm.ask(longest.content, longest.images, **options)
    exact = llm.stats
    assert exact.kept_cells == int(0.01 * exact.prompt_cells) + int(0.05 * exact.prompt_cells)
    assert kept.kept_cells > kept.text_cells
    assert kept.kept_cells > exact.kept_cells


def test_origin_keeps_everything(llm: Llava, describe: DemoPrompt) -> None:
    full = llm.ask(describe.content, describe.images)
    assert llm.ask(describe.content, describe.images, method="origin", kv_ratio=0.2) == full
    assert llm.stats.kept_cells == llm.stats.prompt_cells
    assert llm.stats.note


def test_prompts_do_not_disturb_each_other(llm: Llava, prompts: list[DemoPrompt]) -> None:
    first, second = prompts[0], prompts[-1]
    before = llm.ask(first.content, first.images, kv_ratio=0.2)
    llm.ask(second.content, second.images, kv_ratio=0.05)
    assert llm.ask(first.content, first.images, kv_ratio=0.2) == before
