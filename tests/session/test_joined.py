"""Images read in full batches, against the same ones read one by one, turn by turn."""

from __future__ import annotations

from typing import Any

import pytest
from lookm_cpp import Llava, Stats
from lookm_cpp.embedded import DEMO

PICTURES = [str(DEMO / f"pic{i:02}.png") for i in range(1, 13)]
COUNTED = (
    *("prompt_cells", "text_cells", "image_cells", "encoded_cells", "squeezed_cells"),
    *("kept_cells", "kept_text_cells", "kept_image_cells"),
)


def turns(kv_cells: int | None, how: dict[str, Any]) -> list[tuple[str, Stats]]:
    """Three turns about four new pictures each."""
    out: list[tuple[str, Stats]] = []
    with Llava.embedded(n_threads=1, kv_cells=kv_cells, **how) as llm:
        chat = llm.chat()
        for turn in range(3):
            numbers = range(4 * turn + 1, 4 * turn + 5)
            text = " ".join(f"Image {i}:<image>" for i in numbers)
            question = f"{text} What is in image {numbers[1]}?"
            answer = chat.ask(question, [PICTURES[i - 1] for i in numbers])
            out.append((answer, chat.stats))
    return out


@pytest.mark.parametrize("kv_cells", [None, 500, 300])
@pytest.mark.parametrize("how", [{"kv_ratio": 0.3}, {"image_ratio": 0.5}])
def test_turns(kv_cells: int | None, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where cells are squeezed while the next pictures are read."""
    found = turns(kv_cells, how)
    monkeypatch.setenv("LOOKM_JOIN", "off")
    expected = turns(kv_cells, how)
    for (answer, stats), (right, counted) in zip(found, expected, strict=True):
        assert answer == right
        for name in COUNTED:
            assert getattr(stats, name) == getattr(counted, name), name
    assert (found[-1][1].squeezed_cells > 0) == (kv_cells is not None or "kv_ratio" in how)


def test_a_window_that_begins_in_a_picture() -> None:
    """A cap that nothing must be squeezed for changes no score: earlier queries do not count."""
    question = "Image 1:<image> Image 2:<image> What is in image 2?"
    held = []
    for kv_cells in (None, 160):
        with Llava.embedded(n_threads=1, method="snapkv", kv_ratio=0.15, kv_cells=kv_cells) as llm:
            llm.ask(question, PICTURES[:2], reuse=False)
            held.append(llm.stats.attention_held)
            assert llm.stats.squeezed_cells == 0
            assert 145 == llm.stats.prompt_cells < 160
    assert held[1] == pytest.approx(held[0], rel=1e-2)
