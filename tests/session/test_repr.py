"""What the public objects say of themselves when Python prints them."""

from __future__ import annotations

import dataclasses

from lookm_cpp import Compression, Llava
from lookm_cpp.embedded import DEMO

FILE = "tiny-llava-q8_0.gguf"
LOOKM_PLUS = "Compression(kv_ratio=0.5, method='lookm_plus')"


def test_a_compression_names_its_ratio_its_method_and_what_is_not_the_default() -> None:
    assert repr(Compression()) == "Compression(kv_ratio=1.0, method='lookm_plus')"
    assert repr(Compression(important_ratio=0.1, method="h2o", merge_keys=False)) == (
        "Compression(kv_ratio=1.0, method='h2o', important_ratio=0.1, merge_keys=False)"
    )
    assert eval(repr(Compression(0.3, "snapkv", window=8))) == Compression(0.3, "snapkv", window=8)


def test_a_compression_shows_each_field() -> None:
    others = {
        "kv_ratio": 0.5,
        "method": "h2o",
        "important_ratio": 0.1,
        "recent_ratio": 0.2,
        "text_overflow": "evict",
        "fidelity": "upstream",
        "scorer": "window",
        "window": 9,
        "merge": "average",
        "merge_keys": False,
        "merge_within_modality": True,
        "visual_quota": 0.3,
        "ratio_floor": 0.1,
        "ratio_ceiling": 0.9,
        "quality": 0.8,
        "image_ratio": 0.7,
        "image_cells": 12,
        "pruner": "grid",
    }
    assert [field.name for field in dataclasses.fields(Compression)] == list(others)
    for name, value in others.items():
        assert f"{name}={value!r}" in repr(Compression(**{name: value}))  # type: ignore[arg-type]


def test_a_model_names_its_file_its_context_and_its_compression() -> None:
    with Llava.embedded(kv_ratio=0.5, n_ctx=512) as llm:
        assert repr(llm) == f"Llava('{FILE}', n_ctx=512, compression={LOOKM_PLUS})"
    assert repr(llm) == f"<closed Llava('{FILE}')>"
    with Llava.embedded(kv_ratio=0.5, n_ctx=512, kv_cells=256) as llm:
        assert repr(llm) == f"Llava('{FILE}', n_ctx=512, kv_cells=256, compression={LOOKM_PLUS})"


def test_a_conversation_names_its_model_and_counts_its_turns() -> None:
    with Llava.embedded(kv_ratio=0.5) as llm:
        chat = llm.chat()
        assert repr(chat) == f"<Chat with '{FILE}': n_turns=0, compression={LOOKM_PLUS}>"
        chat.ask("Image 1:<image> What is in image 1?", DEMO / "pic08.png", max_tokens=1)
    assert repr(chat) == f"<Chat with '{FILE}': n_turns=1, compression={LOOKM_PLUS}>", "closed too"


def test_an_explanation_counts_cells_and_holds_no_arrays() -> None:
    question = "Image 1:<image> What is in image 1?"
    with Llava.embedded() as llm:
        found = llm.explain(question, DEMO / "pic08.png", methods=["h2o", "random"], kv_ratio=0.5)
        n = llm.stats.prompt_cells
    kept = 2 * (n // 4)  # a quarter for their scores, a quarter because they are recent
    assert repr(found) == (
        f"<Explanation of '{question}' by {found.model}: 1 image, {n} cells; "
        f"h2o keeps {kept}, random keeps {kept}>"
    )
