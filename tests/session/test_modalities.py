"""How many cells of text, images and contexts were kept, and a word where one of them starves."""

from __future__ import annotations

import numpy as np
import pytest
from lookm_cpp import Llava, methods
from lookm_cpp.embedded import DemoPrompt

CODES = "The code of Anna is 4821. The code of Ivan is 8801. " * 4


@pytest.mark.parametrize("method", [name for name in methods() if name != "origin"])
def test_counts_are_means_over_layers_and_heads(
    llm: Llava, prompts: list[DemoPrompt], method: str
) -> None:
    """Against the cells that ``explain`` lists one by one."""
    prompt = prompts[0]
    found = llm.explain(
        prompt.content, prompt.images, methods=[method], kv_ratio=0.2, context=CODES
    )
    (one,) = found.methods
    share = one.share_kept()
    is_image = found.piece >= 0
    counts = one.stats.kept_text_cells, one.stats.kept_image_cells, one.stats.kept_context_cells
    expected = [
        share[found.is_text].sum(),
        share[is_image].sum(),
        share[~found.is_text & ~is_image].sum(),
    ]
    assert counts == pytest.approx(np.array(expected), abs=1.01), (
        "rounded, and text is what is left"
    )
    assert sum(counts) == one.stats.kept_cells < one.stats.prompt_cells


def test_a_whole_cache_keeps_all(llm: Llava, prompts: list[DemoPrompt]) -> None:
    llm.ask(prompts[0].content, prompts[0].images, context=CODES, kv_ratio=1)
    stats = llm.stats
    assert (stats.kept_text_cells, stats.kept_image_cells) == (stats.text_cells, stats.image_cells)
    assert stats.kept_context_cells == stats.context_cells > 0


def test_text_that_comes_first_starves_images(llm: Llava, prompts: list[DemoPrompt]) -> None:
    """All text is a tenth of the prompt, so a twentieth of the cells has no space for images."""
    prompt = max(prompts, key=lambda one: len(one.images))
    llm.ask(prompt.content, prompt.images, kv_ratio=0.05, method="text_prior_h2o", recent_ratio=0.0)
    stats = llm.stats
    even = stats.kept_cells * stats.image_cells / stats.prompt_cells
    assert stats.kept_image_cells < 0.1 * even
    assert stats.note.startswith(
        f"images: {stats.kept_image_cells} of {stats.image_cells} cells kept, "
    )
    assert f"the {even:.0f} of an even share" in stats.note
    llm.ask(prompt.content, prompt.images, kv_ratio=0.05)
    assert llm.stats.note == "", "lookm_plus shares the budget"


def test_images_alone_starve_text(llm: Llava, prompts: list[DemoPrompt]) -> None:
    """With a quota of all that is kept, and no recent cells."""
    prompt = prompts[0]
    llm.ask(
        prompt.content, prompt.images, kv_ratio=0.1, method="text_prior_h2o", recent_ratio=0.0,
        visual_quota=1.0, text_overflow="evict",
    )  # fmt: skip
    assert llm.stats.kept_text_cells == 0
    assert llm.stats.note.startswith(f"text: 0 of {llm.stats.text_cells} cells kept, ")


def test_conversations_count_too(llm: Llava, prompts: list[DemoPrompt]) -> None:
    chat = llm.chat(kv_ratio=0.3)
    chat.ask(prompts[0].content, prompts[0].images)
    stats = chat.stats
    assert stats.kept_text_cells + stats.kept_image_cells == stats.kept_cells
    assert 0 < stats.kept_image_cells < stats.image_cells
