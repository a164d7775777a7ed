"""``lookm plan`` under a cap, against real runs of the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import Llava, plan
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL

from session.tiny_models import write_mamba

PICTURE = DEMO / "pic01.png"


CAPS: list[dict[str, Any]] = [{"kv_cells": n} for n in (100, 200, 300, 400, 1000)] + [
    {"kv_memory": "1MiB"}
]


@pytest.mark.parametrize(
    "options", [{}, {"kv_ratio": 0.2}, {"kv_ratio": 0.2, "method": "lookm_plus"}]
)
@pytest.mark.parametrize("limits", CAPS, ids=str)
def test_capped_to_the_cell(limits: dict[str, Any], options: dict[str, Any]) -> None:
    """What is kept, and what is allocated while the prompt is read and for its answer."""
    question = " What is in image 3?"
    with Llava.embedded(**limits, **options) as llm:
        llm.ask("<image>" * 20 + question, [PICTURE] * 20, max_tokens=512)
        stats = llm.stats
    found = plan(
        MODEL, mmproj=MMPROJ, images=20, image_size=(96, 96), question=question, **limits, **options
    )
    assert found["kept_cells"] == stats.kept_cells
    assert found["reading"]["kv"] == stats.kv_bytes_allocated_before
    assert found["answering"]["kv"] == stats.kv_bytes_allocated_after
    assert found["scratch_bytes"] > 0
    assert found["fits"]


def test_a_cap_that_a_run_refuses() -> None:
    """In the run's own words; of the images that fit, only those that the cap can read count."""
    for limits, message in (
        ({"kv_cells": 40}, "cannot be read through 40; expected 67 or more"),
        (
            {"kv_cells": 400, "method": "roco", "kv_ratio": 0.5},
            "method roco needs the attention of all queries",
        ),
    ):
        options: Any = limits
        with pytest.raises(ValueError, match=message):
            plan(MODEL, mmproj=MMPROJ, images=20, **options)
        with (
            Llava.embedded(**options) as llm,
            pytest.raises(ValueError, match=r"read through|method roco"),
        ):
            llm.ask("<image>" * 20 + " What is in image 3?", [PICTURE] * 20)
    assert 0 < plan(MODEL, mmproj=MMPROJ, images=2, kv_cells=40)["most_images"] < 20


@pytest.mark.parametrize(
    "limits",
    [
        {"kv_cells": 512, "kv_memory": "1GiB"},
        {"kv_memory": "3KiB"},
        {"kv_cells": 0},
        {"kv_memory": "64MiB", "kept_type_v": "f32"},
    ],
    ids=str,
)
def test_caps_that_no_run_can_have(limits: dict[str, Any]) -> None:
    """A plan and a run say the same."""
    with pytest.raises(ValueError, match=r"kv_|kept_type_v") as refused:
        Llava.embedded(**limits)
    with pytest.raises(ValueError, match=r"kv_|kept_type_v") as planned:
        plan(MODEL, mmproj=MMPROJ, images=2, **limits)
    assert str(planned.value) == str(refused.value)


def test_a_cap_for_a_model_that_cannot_be_compressed(tmp_path: Path) -> None:
    mamba = write_mamba(tmp_path / "mamba.gguf")
    message = "kv_cells: 300 asks for compression, but memory type"
    with pytest.raises(ValueError, match=message):
        Llava(mamba, mmproj=MMPROJ, kv_cells=300)
    with pytest.raises(ValueError, match=message):
        plan(mamba, mmproj=MMPROJ, images=1, kv_cells=300)
