"""Images and the short texts between them, read in full batches, for every projector.

That the answers are right is what test_zoo.py and test_pruning.py compare with an oracle, which
decodes each piece of a prompt by itself.
"""

from __future__ import annotations

from itertools import accumulate, groupby
from typing import Any

import numpy as np
import pytest
from core_session import Session

from zoo.test_zoo import QUESTION, Case, case

__all__ = ["case"]

JOINED = {
    *("llama", "mistral3", "qwen2", "qwen2vl", "qwen3", "qwen3vl", "glm4", "paddleocr", "phi3"),
}
"""Decoders that compute the same for a row of their token embedding as for its token."""


def read_up_to(case: Case, text: str, **options: Any) -> list[int]:
    """Cells that have been read after each batch of a prompt about the two images."""
    session = Session(str(case.files.model), str(case.files.mmproj), n_threads=1, **options)
    done: list[int] = []

    def progress(phase: str, n: int, total: int) -> None:
        if phase == "prefill" and n > 0 and n not in done:
            done.append(n)

    text = text.replace("<image>", session.media_marker)
    session.prefill(text, [np.asarray(i) for i in case.images], progress=progress)
    return done


def pieces(case: Case) -> list[int]:
    """Cells of each run of text and each tile of an image."""
    tiles = iter(case.prompt.n_image)
    out = []
    for is_text, cells in groupby(case.prompt.is_text):
        left = len(list(cells))
        while left > 0:
            out.append(left if is_text else next(tiles))
            left -= out[-1]
    return out


def test_what_comes_before_the_question_is_one_batch(case: Case) -> None:
    each = pieces(case)
    assert sum(each) == case.prompt.n_tokens
    ends = list(accumulate(each))
    found = read_up_to(case, QUESTION)
    if case.pair.decoder in JOINED:
        assert found == ends[-2:]
        assert read_up_to(case, QUESTION, n_ubatch=64, n_batch=64)[:-1] == [
            *range(64, ends[-2], 64),
            ends[-2],
        ]
    else:
        assert found == ends


def test_a_long_text_is_read_by_itself(case: Case) -> None:
    if case.pair.decoder not in JOINED:
        pytest.skip("reads each piece by itself")
    long = "a" * 200
    found = read_up_to(case, f"{long}<image>{long}<image> Which?")
    text, image, more_text, more_image, question = np.diff([0, *found])
    assert min(text, more_text) >= len(long)
    assert image + more_image >= sum(case.prompt.n_image)
    assert question >= len(" Which?")
