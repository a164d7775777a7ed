"""Prompts have the cells that were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from core_session import Session
from lookm_cpp import _core
from lookm_cpp.bench.filler_prompt import TEXT_SHARE, Filler, Prompt
from lookm_cpp.embedded import MMPROJ, MODEL


def _stats(session: Session, prompt: Prompt) -> _core.Stats:
    session.prefill(
        prompt.text, prompt.images, contexts=prompt.contexts, kv_ratio=1.0, method="origin"
    )
    return session.stats


@pytest.mark.parametrize("n_cells", [128, 257, 1000])
def test_a_prompt_of_text_has_the_requested_cells(tiny: Path, n_cells: int) -> None:
    session = Session(str(tiny), "", n_threads=1)
    filler = Filler(session, None)
    stats = _stats(session, filler.prompt(n_cells))
    assert stats["prompt_cells"] == n_cells
    assert stats["text_cells"] == pytest.approx(TEXT_SHARE * n_cells, abs=6), (
        "the question and what begins a prompt"
    )
    assert stats["context_cells"] == n_cells - stats["text_cells"]
    stats = _stats(session, filler.text(n_cells))
    assert (stats["prompt_cells"], stats["text_cells"]) == (n_cells, n_cells)
    session.close()


@pytest.mark.parametrize("n_cells", [128, 500, 1000])
def test_a_prompt_of_images_has_the_requested_cells(n_cells: int) -> None:
    session = Session(str(MODEL), str(MMPROJ), n_threads=1)
    stats = _stats(session, Filler(session, np.zeros((64, 64, 3), np.uint8)).prompt(n_cells))
    assert stats["prompt_cells"] == n_cells
    assert stats["encode_images"] == (n_cells - stats["text_cells"]) // 64 > 0
    assert stats["image_cells"] == 64 * stats["encode_images"]
    assert stats["context_cells"] < 64
    session.close()


def test_answers_go_on_when_the_end_token_is_ignored() -> None:
    session = Session(str(MODEL), str(MMPROJ), n_threads=1)
    prompt = Filler(session, None).prompt(64)
    lengths = []
    for ignore_eos in (False, True):
        _stats(session, prompt)
        session.start(temperature=0.0, ignore_eos=ignore_eos)
        pieces = (
            [session.next() for _ in range(100)]
            if ignore_eos
            else list(iter(session.next, None))[:100]
        )
        assert None not in pieces
        lengths.append(len(pieces))
    assert lengths[0] < 100 == lengths[1], "the embedded model ends its answers"
    session.close()
