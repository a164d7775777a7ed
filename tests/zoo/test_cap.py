"""Every model of the zoo reads a prompt that does not fit under its cap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_session import Session

from zoo.pairs import PAIRS, write_pair

Options = dict[str, Any]
WINDOWS = ("gemma-3", "gemma-4", "gemma-4-e2b", "llama-4")
METHOD = "text_prior_pivot_merge"


@pytest.mark.parametrize("name", PAIRS)
def test_a_prompt_through_a_cap(name: str, tmp_path: Path) -> None:
    """Twice in one session: the answer does not depend on what was in the cache before."""
    pair, (model, mmproj) = PAIRS[name], write_pair(name, tmp_path)
    rng = np.random.default_rng(7)
    pixels = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in pair.images
    ]
    largest = max(n for tiles in pair.tiles for n in tiles)
    cap = 2 * sum(sum(tiles) for tiles in pair.tiles) // 3 + (largest if pair.at_once else 0)
    options: Options = {"n_threads": 1, "n_ubatch": 128, "kv_cells": cap}
    if name in WINDOWS:
        with pytest.raises(ValueError, match=r"kv_cells: .*, as many as this model's windows need"):
            Session(str(model), str(mmproj), **options)
        return
    session = Session(str(model), str(mmproj), **options)
    text = f"A:{session.media_marker} B:{session.media_marker} Which?"
    answers = []
    for _ in range(2):
        session.prefill(text, pixels, kv_ratio=1.0, method=METHOD, n_answer=8)
        stats = session.stats
        assert stats["image_cells"] == sum(sum(tiles) for tiles in pair.tiles)
        assert stats["squeezed_cells"] > 0
        assert stats["kept_cells"] == stats["prompt_cells"] - stats["squeezed_cells"] <= cap - 8
        session.start(temperature=0.0, repeat_penalty=1e6)
        answers.append([session.next() for _ in range(40)])
    assert answers[0] == answers[1]
