"""At ratio 1, answers equal those of llama.cpp's multimodal pipeline, word for word."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest
from core_session import Session
from lookm_cpp import Llava, embedded
from lookm_cpp.embedded import DemoPrompt, demo_prompts

_oracle: Any = import_module("lookm_cpp._oracle")
N_TOKENS = 200


def llama_cpp_answer(prompt: DemoPrompt) -> str:
    parts: list[dict[str, str]] = []
    for i, text in enumerate(prompt.content.split("<image>")):
        parts += [{"type": "media_marker", "text": "<__media__>"}] if i else []
        parts += [{"type": "text", "text": text}] if text else []
    session = Session(str(embedded.MODEL), str(embedded.MMPROJ), n_ctx=256, n_threads=1)
    text = session.apply_template(json.dumps([{"role": "user", "content": parts}]))
    session.close()
    files = [str(image) for image in prompt.images]
    answer: bytes = _oracle.mtmd_answer(
        str(embedded.MODEL), str(embedded.MMPROJ), text, files, N_TOKENS
    )
    return answer.decode().strip()


@pytest.mark.parametrize("i", range(len(demo_prompts())))
def test_answers_equal_llama_cpps(i: int) -> None:
    prompt = demo_prompts()[i]
    with Llava.embedded() as llm:
        assert llm.ask(prompt.content, prompt.images, max_tokens=N_TOKENS) == llama_cpp_answer(
            prompt
        )
        assert llm.stats.kept_cells == llm.stats.prompt_cells
