"""Work stopped from within raises the user's exception, and the next prompt is clean."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DEMO

PICTURES = [DEMO / f"pic{1 + i % 12:02}.png" for i in range(16)]
NUMBERED = " ".join(f"Image {i + 1}:<image>" for i in range(16)) + " What is in image 15?"
LATE = 0.11
"""Seconds after which the core asks again, in the midst of a graph."""


class StopHereError(Exception):
    """The user has had enough."""


@pytest.mark.parametrize(
    "options", [{"kv_cells": 400}, {"kv_ratio": 0.2, "shrink": False, "flash_attn": True}]
)
def test_stopped_within_a_graph(options: dict[str, Any]) -> None:
    """Slow reports let the core ask within graphs: of the model, of its scores, of a squeeze."""
    with Llava.embedded(**options) as llm:
        for last in range(3, 60, 4):
            calls = stopped = 0

            def progress(phase: str, done: int, total: int, last: int = last) -> None:
                nonlocal calls, stopped
                calls += 1
                if calls == last:
                    stopped = 1
                    raise StopHereError
                time.sleep(LATE if calls == last - 1 else 0)

            with contextlib.suppress(StopHereError):
                llm.ask(NUMBERED, PICTURES, progress=progress, max_tokens=2)
                assert not stopped
            for _ in range(2):
                assert llm.ask("<image> What is this?", PICTURES[0], max_tokens=3, kv_ratio=1.0)
        assert calls < last, "the last ones came to their ends"
