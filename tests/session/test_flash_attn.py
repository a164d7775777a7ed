"""``flash_attn="auto"`` on a CPU: off if scoring or a quantized K gains, at little memory."""

from __future__ import annotations

from typing import Any

import pytest
from core_session import Session
from lookm_cpp import Llava, embedded
from lookm_cpp.compression import METHOD, PAPER_METHOD

# The embedded model holds 6 layers x 2 KV heads x 64 x (K and V) x 2 bytes = 3072 bytes a cell;
# probabilities take
# 4 bytes x 4 heads x n_ubatch: at 48 a quarter of that. The paper's methods score by every query.
FITS = {"kv_ratio": 0.2, "n_ubatch": 48, "method": PAPER_METHOD}

pytestmark = pytest.mark.skipif(
    Session(
        str(embedded.MODEL), str(embedded.MMPROJ), n_batch=48, n_ubatch=48, scored=True
    ).flash_attn
    != "off",
    reason="this build finds an accelerator",
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (FITS, "off"),
        (FITS | {"n_ubatch": 512, "n_batch": 48}, "off"),
        (FITS | {"n_ubatch": 49}, "auto"),
        (FITS | {"kv_ratio": 1.0}, "auto"),
        (FITS | {"method": "origin"}, "auto"),
        (FITS | {"method": METHOD}, "auto"),  # a window alone, whose few queries cost little
        (FITS | {"type_v": "q8_0"}, "auto"),
        (FITS | {"type_k": "q8_0", "kv_ratio": 1.0, "n_ubatch": 36}, "off"),  # 2352 bytes a cell
        (FITS | {"type_k": "q8_0", "kv_ratio": 1.0, "n_ubatch": 37}, "auto"),
        (FITS | {"type_k": "q8_0", "type_v": "q8_0", "n_ubatch": 8}, "auto"),
        (FITS | {"type_k": "f32", "type_v": "f32", "n_ubatch": 96}, "off"),
        (FITS | {"flash_attn": True}, "on"),
        (FITS | {"flash_attn": False, "kv_ratio": 1.0}, "off"),
    ],
)
def test_auto_is_off_for_scored_prompts_whose_probabilities_fit(
    options: dict[str, Any], expected: str
) -> None:
    with Llava.embedded(**options) as llm:
        assert llm._session.flash_attn == expected


def test_answers_are_the_same() -> None:
    pictures = [embedded.DEMO / "pic03.png", embedded.DEMO / "pic08.png"]
    question = "Image 1:<image> Image 2:<image> What is in image 2?"
    answers = []
    for n_ubatch in (48, 512):
        with Llava.embedded(kv_ratio=0.3, n_ubatch=n_ubatch, method=PAPER_METHOD) as llm:
            answers.append((llm._session.flash_attn, llm.ask(question, pictures)))
    assert answers == [("off", "Image 2 shows an owl."), ("auto", "Image 2 shows an owl.")]
