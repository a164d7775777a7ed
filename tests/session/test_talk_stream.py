"""Answers of a conversation piece by piece."""

from __future__ import annotations

from typing import Any

import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DEMO

TURNS: list[tuple[str, Any]] = [
    (
        "Image 1:<image> Image 2:<image> What is in image 2?",
        [DEMO / "pic03.png", DEMO / "pic08.png"],
    ),
    ("Image 3:<image> What is in image 3?", DEMO / "pic01.png"),
]


def test_pieces_are_the_answer() -> None:
    with Llava.embedded(kv_ratio=0.5) as llm:
        whole: list[str] = []
        pieces: list[str] = []
        for chat, found in ((llm.chat(), whole), (llm.chat(), pieces)):
            for question, images in TURNS:
                if found is whole:
                    found.append(chat.ask(question, images))
                else:
                    answer = list(chat.stream(question, images))
                    assert len(answer) > 3
                    found.append("".join(answer).strip())
                assert chat.finish_reason == "stop"
            assert chat.n_turns == 2
            assert chat.stats.decode_tokens > 3
        assert pieces == whole
        assert chat.ask(*TURNS[1], max_tokens=2)
        assert chat.finish_reason == "length"


def test_a_dropped_stream_is_where_the_next_turn_goes_on() -> None:
    with Llava.embedded(kv_ratio=0.5) as llm:
        chat = llm.chat()
        stream = chat.stream(*TURNS[0])
        next(stream)
        n_cells = chat.stats.prompt_cells
        assert chat.finish_reason is None
        assert chat.ask(*TURNS[1])
        assert n_cells + 64 < chat.stats.prompt_cells
        with pytest.raises(RuntimeError, match="this answer was ended by a newer question"):
            next(stream)
        stream = chat.stream("And now?")
        llm.ask("Hello", max_tokens=2)
        with pytest.raises(RuntimeError, match="ended by a newer prompt"):
            next(stream)


def test_options_are_named() -> None:
    with (
        Llava.embedded() as llm,
        pytest.raises(TypeError, match="kv_ratio is not an option of an answer"),
    ):
        llm.chat().ask("Hello", kv_ratio=0.5)  # type: ignore[call-arg]
