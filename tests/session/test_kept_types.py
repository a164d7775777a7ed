"""Cells kept in another type than the prompt is read into (``kept_type_k``, ``kept_type_v``)."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from core_session import Session
from gguf import GGMLQuantizationType, quants
from lookm_cpp import Llava, model_info, plan
from lookm_cpp.embedded import MMPROJ, MODEL, demo_prompts

from session.kinds import KINDS, context, decode, nmse, prefill
from session.tiny_models import write_llama

QUANTIZED = {"q8_0": GGMLQuantizationType.Q8_0, "q4_0": GGMLQuantizationType.Q4_0}


def hadamard(n: int) -> npt.NDArray[np.float64]:
    """Sylvester's matrix, orthonormal."""
    h: npt.NDArray[np.float64] = np.full((1, 1), n**-0.5)
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    return h


def turned(rows: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    """As llama.cpp turns what it quantizes, n values at a time; 0: not at all."""
    if n == 0:
        return rows
    return (
        (rows.reshape(-1, n).astype(np.float64) @ hadamard(n))
        .astype(np.float32)
        .reshape(rows.shape)
    )


def rotations(head_dim: int) -> tuple[int, int]:
    """K: the largest power of two from 64 that divides a head; V: 64; None if 64 does not."""
    if head_dim % 64 != 0:
        return 0, 0
    return head_dim & -head_dim, 64


@pytest.mark.parametrize("flash_attn", [True, False])
@pytest.mark.parametrize(
    "name", ["gqa-64", "gqa-96", "gqa-128", "gqa-256", "heads-by-layer", "qwen2vl", "lfm2"]
)
@pytest.mark.parametrize("kept", ["q8_0", "q4_0"])
def test_rows_are_those_that_numpy_quantizes(name: str, kept: str, flash_attn: bool) -> None:
    """Bytes from gguf's NumPy code, of rows turned by a matrix product.

    V was transposed without flash attention. The sums of a transform differ in their last bit,
    which sometimes moves a value by one step.
    """
    kind = KINDS[name]
    model = kind.make()
    read = context(kind, model, flash_attn=flash_attn)
    answering = context(kind, model, type_k=kept, type_v=kept)
    prefill(read)
    answering.take_over(read, 0)
    for i in range(len(kind.layers)):
        for values in (False, True):
            rows = read.rows(0, i, values)
            expected = turned(rows, rotations(rows.shape[-1])[values])
            expected = quants.dequantize(
                quants.quantize(expected, QUANTIZED[kept]), QUANTIZED[kept]
            )
            found = answering.rows(0, i, values)
            step = np.abs(expected).reshape(-1, 32).max(axis=1).repeat(32).reshape(found.shape)
            step *= 1 / 127 if kept == "q8_0" else 1 / 8
            np.testing.assert_array_less(np.abs(found - expected), 1.01 * step + 1e-6)
            assert np.mean(np.abs(found - expected) > 1e-6) < 1e-3


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("read_with", "answer_with"), [(True, False), (False, True), (False, False)]
)
def test_answers_from_wider_rows_are_the_same(
    name: str, read_with: bool, answer_with: bool
) -> None:
    """From f16 to f32 nothing is lost, in any memory, transposed or not.

    Windows, states and two-dimensional positions stay as they were.
    """
    kind = KINDS[name]
    model = kind.make()
    read, answering = (
        context(kind, model, flash_attn=read_with),
        context(kind, model, flash_attn=answer_with, type_k="f32", type_v="f32"),
    )
    prefill(read)
    answering.take_over(read, 0)
    assert answering.pos_max(0) == read.pos_max(0)
    for i in range(len(kind.layers)):
        for values in (False, True):
            np.testing.assert_array_equal(answering.rows(0, i, values), read.rows(0, i, values))
    noise = 4 * kind.flash_noise if read_with or answer_with else 1e-6
    assert nmse(decode(answering), decode(read)) < noise


@pytest.mark.parametrize(
    "name", ["gqa-64", "gqa-96", "gqa-128", "qwen2vl", "gemma3", "gpt-oss", "lfm2"]
)
@pytest.mark.parametrize(("kept", "noise"), [("q8_0", 1e-3), ("q4_0", 5e-2)])
def test_answers_from_quantized_rows(name: str, kept: str, noise: float) -> None:
    """At most twice as far from f16 as a cache that was quantized from the start."""
    kind = KINDS[name]
    model = kind.make()
    read, answering, native = (
        context(kind, model),
        context(kind, model, type_k=kept, type_v=kept),
        context(kind, model, type_k=kept, type_v=kept),
    )
    for one in (read, native):
        prefill(one)
    answering.take_over(read, 0)
    expected = decode(read)
    found = nmse(decode(answering), expected)
    assert found < min(noise, 2 * nmse(decode(native), expected))
    assert found > 1e-9


def test_rows_quantized_twice_stay_the_same() -> None:
    """What was quantized becomes f16 again and is quantized once more: the same rows."""
    kind = KINDS["gqa-128"]
    model = kind.make()
    first, floats, second = (
        context(kind, model, type_k=t, type_v=t) for t in ("q4_0", "f16", "q4_0")
    )
    prefill(first)
    floats.take_over(first, 0)
    second.take_over(floats, 0)
    for i in range(2):
        for values in (False, True):
            a, b = first.rows(0, i, values), second.rows(0, i, values)
            assert np.mean(a != b) < 0.01
            assert nmse(b, a) < 1e-5


KEPT: Any = {"kept_type_k": "q4_0", "kept_type_v": "q4_0"}


def _answer(session: Session, n: int, **options: Any) -> list[bytes]:
    session.prefill(
        "A long text. " * 90, [], **{"kv_ratio": 0.3, "method": "h2o", "n_answer": n, **options}
    )
    session.start(temperature=0.0)
    return list(islice(iter(session.next, None), n))


@pytest.mark.parametrize("flash_attn", ["on", "off", "auto"])
@pytest.mark.parametrize("kv_ratio", [0.3, 1.0])
def test_a_session_answers_as_from_f16(tmp_path: Path, kv_ratio: float, flash_attn: str) -> None:
    """Kept in f32, 64 tokens are the same, compressed or not; bytes are those of the types."""
    model = str(write_llama(tmp_path / "model.gguf", n_ctx=2048))
    plain = Session(model, "", n_threads=1, flash_attn=flash_attn)
    wide = Session(
        model, "", n_threads=1, flash_attn=flash_attn, kept_type_k="f32", kept_type_v="f32"
    )
    assert _answer(wide, 64, kv_ratio=kv_ratio) == _answer(plain, 64, kv_ratio=kv_ratio)
    a, b = plain.stats, wide.stats
    assert a["kept_cells"] == b["kept_cells"]
    assert b["kv_bytes_used_before"] == a["kv_bytes_used_before"]
    assert b["kv_bytes_used_after"] == 2 * a["kv_bytes_used_after"]
    assert b["kv_bytes_allocated_after"] == 2 * a["kv_bytes_allocated_after"]
    assert b["move_seconds"] > 0


def test_what_is_kept_takes_the_bytes_of_its_type(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "model.gguf", n_ctx=2048)
    session = Session(str(model), "", n_threads=1, **KEPT)
    _answer(session, 8)
    stats = session.stats
    per_cell = {
        t: model_info(model, type_k=t, type_v=t)["kv_bytes_per_token"] for t in ("f16", "q4_0")
    }
    assert stats["kv_bytes_used_before"] == stats["prompt_cells"] * per_cell["f16"]
    assert stats["kv_bytes_used_after"] == stats["kept_cells"] * per_cell["q4_0"]
    assert (
        stats["kv_bytes_allocated_after"]
        == -(-(stats["kept_cells"] + 8) // 256) * 256 * per_cell["q4_0"]
    )


@pytest.mark.parametrize("limits", [{}, {"kv_cells": 700}, {"kv_cells": 256}])
def test_an_answer_outgrows_its_cache(tmp_path: Path, limits: dict[str, int]) -> None:
    """Room for one token, 400 come, under a cap too; a second prompt is read into f16 again."""
    model = str(write_llama(tmp_path / "model.gguf", n_ctx=2048))
    both: list[Any] = [limits, {**limits, "kept_type_k": "f32"}]
    sessions = [Session(model, "", n_threads=1, **options) for options in both]
    for _ in range(2):
        answers = [_answer(session, 400, n_answer=1) for session in sessions]
        assert len(answers[0]) == 400
        assert answers[0] == answers[1]


def test_each_trial_begins_with_the_prompt_as_it_was_read(tmp_path: Path) -> None:
    """An answer changes the kept cells, and the next trial does not see that."""
    model = str(write_llama(tmp_path / "model.gguf", n_ctx=2048))
    both: list[Any] = [{}, {"kept_type_v": "f32"}]
    sessions = [Session(model, "", n_threads=1, **options) for options in both]
    answers: list[list[Any]] = [[], []]
    for session, found in zip(sessions, answers, strict=True):
        for _ in range(2):
            session.read("A text. " * 25, [], kv_ratio=0.3, method="roco", n_answer=32)
            for method, ratio in (("h2o", 0.2), ("roco", 0.4), ("origin", 1.0), ("h2o", 0.2)):
                session.trial(kv_ratio=ratio, method=method)
                for text in (" One", " Two"):
                    session.follow(text)
                    session.start(temperature=0.0)
                    found.append(list(islice(iter(session.next, None), 20)))
    assert answers[0] == answers[1]
    assert answers[0][0] == answers[0][6]
    assert answers[0][0] != answers[0][4]


@pytest.mark.parametrize("options", [{}, KEPT])
def test_a_refused_trial_changes_nothing(tmp_path: Path, options: Any) -> None:
    """The answer goes on where it was, in the cache that it was given from."""
    session = Session(
        str(write_llama(tmp_path / "model.gguf", n_ctx=2048)), "", n_threads=1, **options
    )
    session.read("A text. " * 25, [], kv_ratio=0.3, method="h2o", n_answer=32)
    answers = []
    for refused in (False, True):
        session.trial(kv_ratio=0.3, method="h2o")
        session.follow(" One")
        session.start(temperature=0.0)
        answers.append([session.next() for _ in range(8)])
        if refused:
            with pytest.raises(
                ValueError, match='method: "roco" takes attention that was not observed'
            ):
                session.trial(kv_ratio=0.3, method="roco")
        answers[-1] += [session.next() for _ in range(8)]
    assert answers[0] == answers[1]


def test_half_of_the_cells_in_q4_0_answer_almost_as_in_f16() -> None:
    """Half of the cells in q4_0 answer the shipped questions as in f16, except for two."""
    answers = []
    both: list[Any] = [{}, KEPT]
    for more in both:
        with Llava(
            MODEL, mmproj=MMPROJ, n_threads=1, kv_ratio=0.5, method="lookm_plus", **more
        ) as llm:
            answers.append([llm.ask(p.content, p.images, max_tokens=48) for p in demo_prompts()])
            taken = llm.stats.kv_bytes_used_after / llm.stats.kv_bytes_used_before
    assert sum(a != b for a, b in zip(*answers, strict=True)) <= 2
    assert taken == pytest.approx(0.5 * 4.5 / 16, rel=0.01)


@pytest.mark.parametrize("kv_ratio", [0.3, 1.0])
def test_the_plan_is_what_a_run_allocates(kv_ratio: float) -> None:
    """What is planned to be kept is what a run has allocated."""
    pictures, question = [demo_prompts()[0].images[0]] * 12, " What is in image 3?"
    with Llava.embedded(kv_ratio=kv_ratio, **KEPT) as llm:
        llm.ask("<image>" * 12 + question, pictures, max_tokens=16)
        stats = llm.stats
    asked: Any = {
        "mmproj": MMPROJ,
        "images": 12,
        "question": question,
        "max_tokens": 16,
        "kv_ratio": kv_ratio,
    }
    found, f16 = plan(MODEL, **asked, **KEPT), plan(MODEL, **asked)
    assert found["kv_bytes_kept"] == stats.kv_bytes_allocated_after
    assert found["kv_bytes_full"] == stats.kv_bytes_allocated_before
    assert found["answering"]["kv"] < 0.3 * f16["answering"]["kv"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kept_type_k": "q4"}, r'kept_type_k: "q4" is unknown; expected one of f32, f16'),
    (
        {"type_k": "q4_0", "kept_type_k": "f16", "kv_memory": "1MiB"},
        r'kept_type_k: "f16" is wider than what prompts are',
    ),
    (
        {"kept_type_v": "q8_0", "shrink": False},
        r'kept_type_v: "q8_0" asks for a second cache, but shrink is False',
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_wrong_kept_types_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Llava.embedded(**options)


def test_flash_attention_off_holds_for_reading(tmp_path: Path) -> None:
    """A quantized V is answered from with it on: llama.cpp has no other."""
    model = str(write_llama(tmp_path / "model.gguf", n_ctx=2048))
    session = Session(model, "", n_threads=1, flash_attn="off", **KEPT)
    assert len(_answer(session, 40)) == 40
    assert session.flash_attn == "off"


def test_heads_that_blocks_do_not_divide(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "model.gguf", n_embd=64)
    with pytest.raises(
        ValueError,
        match=r'kept_type_k: "q8_0" stores blocks of 32 numbers, but a head of this model',
    ):
        Session(str(model), "", kept_type_k="q8_0")


def test_conversations_with_kept_types_are_refused() -> None:
    with (
        Llava.embedded(**KEPT) as llm,
        pytest.raises(ValueError, match="kept_type_k, kept_type_v: a conversation is"),
    ):
        llm.chat().ask("What is the code?")
