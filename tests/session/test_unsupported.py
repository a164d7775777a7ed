"""Models that cannot be compressed are refused before any work, and answer at kv_ratio 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from core_session import Session
from lookm_cpp import Llava, methods, model_info
from lookm_cpp.cli import main
from lookm_cpp.embedded import DEMO, MMPROJ

from session.tiny_models import write_bert, write_llama, write_mamba, write_mpt, write_t5

OWL = DEMO / "pic08.png"
PLAIN = {**os.environ, "TERM": "dumb", "GGML_NO_BACKTRACE": "1"}
EVICTING = [name for name in methods() if name != "origin"]
METHOD = "text_prior_pivot_merge"
N_HELLO = 9
"""Tokens of "Hello" where every byte is one: begin of text, the three bytes of the space before,
five letters.
"""

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def mamba(tmp_path: Path) -> Path:
    return write_mamba(tmp_path / "mamba.gguf")


def _text_only(model: Path) -> Session:
    return Session(str(model), "", n_ctx=256, n_threads=1)


def _answer(session: Session, n_tokens: int) -> list[bytes | None]:
    session.start(temperature=0.0)
    return [session.next() for _ in range(n_tokens)]


def test_info_names_the_memory_type_and_the_reason(mamba: Path) -> None:
    info = model_info(mamba)
    assert (info["architecture"], info["memory_type"], info["supported"]) == (
        "mamba",
        "memory_recurrent",
        False,
    )
    assert info["reason"].startswith(
        "memory type memory_recurrent cannot be compressed; expected a plain KV cache"
    )


def test_the_command_prints_them(
    mamba: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["info", str(mamba)]) == 0
    out, err = capfd.readouterr()
    words = " ".join(out.split())
    assert err == ""
    assert "memory type memory_recurrent" in words
    assert "not supported: memory type memory_recurrent cannot be compressed" in words
    assert main(["info", str(mamba), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == model_info(mamba)


@pytest.mark.parametrize("method", EVICTING)
def test_compression_is_refused_before_any_work(mamba: Path, method: str) -> None:
    session = _text_only(mamba)
    expected = (
        r"kv_ratio: 0\.2.*memory type memory_recurrent .*kv_ratio 1 runs this model uncompressed"
    )
    with pytest.raises(ValueError, match=expected):
        session.check(kv_ratio=0.2, method=method)
    with pytest.raises(ValueError, match=expected):
        session.prefill("Hello", [], kv_ratio=0.2, method=method)
    assert session.stats["prompt_cells"] == 0


@pytest.mark.parametrize(("kv_ratio", "method"), [(1.0, METHOD), (0.2, "origin")])
def test_the_full_memory_answers(mamba: Path, kv_ratio: float, method: str) -> None:
    session = _text_only(mamba)
    session.check(kv_ratio=kv_ratio, method=method)
    answers = []
    for _ in range(2):  # the second prompt starts from an empty state
        session.prefill("Hello", [], kv_ratio=kv_ratio, method=method)
        answers.append(_answer(session, 4))
        with pytest.raises(ValueError, match="memory_recurrent"):
            session.prefill("Hello", [], kv_ratio=0.2, method=METHOD)
    assert answers[0] == answers[1]
    assert all(answers[0])
    assert session.stats["decode_tokens"] == 3
    assert session.stats["kept_cells"] == session.stats["prompt_cells"] == N_HELLO


def test_images_in_a_recurrent_model(mamba: Path) -> None:
    with pytest.raises(ValueError, match="memory_recurrent"):
        Llava(mamba, mmproj=MMPROJ, kv_ratio=0.2)
    with Llava(mamba, mmproj=MMPROJ, n_threads=1) as llm:
        with pytest.raises(ValueError, match="memory_recurrent"):
            llm.ask("<image>", [OWL], kv_ratio=0.2)
        llm.ask("<image>", [OWL], max_tokens=3)
        assert llm.stats.image_cells == 64
        assert llm.stats.kept_cells == llm.stats.prompt_cells
        assert llm.stats.decode_tokens == 2


def test_attention_biased_by_position(tmp_path: Path) -> None:
    model = write_mpt(tmp_path / "mpt.gguf")
    assert (
        model_info(model)["reason"]
        == "ALiBi biases attention by cell position, which compression changes"
    )
    assert model_info(model)["kv_bytes_per_token"] == 2 * 256 * 2, (
        "K and V of one layer, 256 numbers of f16"
    )
    session = _text_only(model)
    with pytest.raises(ValueError, match=r"kv_ratio: 0\.2.*ALiBi"):
        session.check(kv_ratio=0.2, method=METHOD)
    session.prefill("Hello", [], kv_ratio=1.0, method=METHOD)
    assert all(_answer(session, 4))


def _run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """In a process of its own: an abort inside llama.cpp would end the tests."""
    command = [sys.executable, "-m", "lookm_cpp", *map(str, arguments)]
    return subprocess.run(
        command, env=PLAIN, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("kv_ratio", [1.0, 0.2])
@pytest.mark.parametrize("write", [write_t5, write_bert])
def test_a_model_with_an_encoder_is_refused(
    tmp_path: Path, write: Callable[[Path], Path], kv_ratio: float
) -> None:
    model = write(tmp_path / "model.gguf")
    child = _run("ask", "-m", model, "--mmproj", MMPROJ, "-i", OWL, "Hello", "--kv-ratio", kv_ratio)
    assert child.returncode == 2, child.stderr
    assert child.stderr.startswith("lookm: model_path")
    assert child.stderr.count("\n") == 1
    assert "encoder" in child.stderr
    assert model_info(model)["supported"] is False


@pytest.mark.parametrize("flash_attn", ["on", "off"])
@pytest.mark.parametrize("option", ["type_k", "type_v"])
def test_blocks_that_do_not_divide_a_head(tmp_path: Path, option: str, flash_attn: str) -> None:
    """llama.cpp refuses such a type with flash attention and aborts without."""
    if (option, flash_attn) == ("type_v", "off"):
        pytest.skip("any quantized V needs flash attention")
    model = write_llama(tmp_path / "head80.gguf", n_embd=320)
    types: dict[str, Any] = {option: "q8_0"}
    with pytest.raises(
        ValueError, match=rf'{option}: "q8_0" stores blocks of 32 numbers.* 80; expected f32, f16'
    ):
        Session(str(model), "", n_ctx=256, flash_attn=flash_attn, **types)
    with pytest.raises(ValueError, match=option):
        model_info(model, **types)


def test_a_context_that_no_memory_holds(tmp_path: Path) -> None:
    """2^31 - 1 cells of one KiB each."""
    model = write_llama(tmp_path / "long.gguf", n_ctx=2**31 - 1)
    with pytest.raises(
        ValueError, match=r"n_ctx: a KV cache of 2147483392 cells takes 2097151 MiB, more than all"
    ):
        Session(str(model), "", n_ctx=0, shrink=False)
    assert Session(str(model), "", n_ctx=0).n_ctx == 2147483392  # no cell of it is allocated
    Session(str(model), "", n_ctx=256).check(kv_ratio=0.2, method=METHOD)


def test_mmproj_wider_than_the_model(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "narrow.gguf", n_embd=64)
    with pytest.raises(
        ValueError, match=rf"mmproj: cannot use .*{MMPROJ.name}.*narrow\.gguf.*(?s:.*)64.*256"
    ):
        Llava(model, mmproj=MMPROJ)
    _text_only(model).check(kv_ratio=0.2, method=METHOD)


def test_mmproj_of_the_same_width_fits(tmp_path: Path) -> None:
    with Llava(
        write_llama(tmp_path / "wide.gguf"), mmproj=MMPROJ, n_threads=1, kv_ratio=0.2
    ) as llm:
        llm.ask("<image><image> Which?", [OWL, OWL], max_tokens=3)
        assert llm.stats.kept_cells < llm.stats.prompt_cells
