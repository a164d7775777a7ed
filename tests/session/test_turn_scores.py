"""What turns are scored for: a budget or a cap, and nothing else; and what that takes is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from core_session import Session
from lookm_cpp import Llava
from lookm_cpp.embedded import DEMO

from session.tiny_models import write_llama

PICTURES = [DEMO / f"pic{1 + i % 12:02}.png" for i in range(16)]
NUMBERED = " ".join(f"Image {i + 1}:<image>" for i in range(16)) + " What is in image 15?"


@pytest.mark.parametrize(
    ("options", "scored"),
    [
        ({}, False),
        ({"kv_ratio": 0.3}, True),
        ({"important_ratio": 0.1, "recent_ratio": 0.1}, True),
        ({"kv_cells": 400}, True),
        ({"method": "origin"}, False),
        ({"kv_ratio": 0.3, "method": "random"}, False),
    ],
)
def test_turns_are_scored_only_if_they_may_give_up_cells(
    options: dict[str, Any], scored: bool
) -> None:
    with Llava.embedded(**options) as llm:
        chat = llm.chat()
        for _ in range(2):
            chat.ask(NUMBERED, PICTURES, max_tokens=4)
            assert (chat.stats.score_seconds > 0) == scored
            assert chat.stats.prefill_seconds > chat.stats.score_seconds
            if scored:
                assert chat.stats.compress_bytes_peak > 0


@pytest.mark.parametrize("kv_ratio", [1.0, 0.1])
def test_a_prompt_that_is_squeezed(kv_ratio: float) -> None:
    """Without a compression at the end, too."""
    with Llava.embedded(kv_cells=400, kv_ratio=kv_ratio) as llm:
        llm.ask(NUMBERED, PICTURES, max_tokens=4)
        assert llm.stats.squeezed_cells > 0
        assert 0 < llm.stats.score_seconds < llm.stats.prefill_seconds
        assert llm.stats.compress_bytes_peak > 0


def test_what_was_never_scored_is_read_on_under_a_cap(tmp_path: Path) -> None:
    """A state without scores: its cells go first, and the conversation goes on."""
    with Llava.embedded() as free:
        chat = free.chat()
        chat.ask(NUMBERED, PICTURES, max_tokens=4)
        chat.save(tmp_path / "talk.state")
        flash_attn = free._cache["flash_attn"] == "on"
    with Llava.embedded(kv_cells=1300, flash_attn=flash_attn or "auto") as capped:
        chat = capped.load_state(tmp_path / "talk.state")
        for _ in range(2):
            assert chat.ask(
                "Image 1:<image> Image 2:<image> What is in image 2?", PICTURES[:2], max_tokens=12
            )
        assert chat.stats.squeezed_cells > 0


def test_a_trial_of_what_was_not_observed(tmp_path: Path) -> None:
    """Scores of the prompt before are not its own."""
    session = Session(
        str(write_llama(tmp_path / "model.gguf", n_ctx=2048)), "", n_threads=1, shrink=False
    )
    session.read("A text. " * 25, [], kv_ratio=0.5, method="h2o", n_answer=8)
    session.trial(kv_ratio=0.5, method="h2o")
    session.read("More text. " * 25, [], kv_ratio=1.0, method="h2o", n_answer=8)
    with pytest.raises(ValueError, match="takes attention that was not observed"):
        session.trial(kv_ratio=0.5, method="h2o")
