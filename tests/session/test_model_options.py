"""Options of the model itself: adapters, rotary embedding, how the file is loaded, devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from lookm_cpp import Llava
from server.test_features import N_EMBD, write_adapter

from session.tiny_models import write_llama

TEXT = "The keys to the cabinet are on the table, and the door is open. " * 3


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("options") / "plain.gguf", N_EMBD)


def _open(model: Path, **options: Any) -> Llava:
    return Llava(model, mmproj=False, n_threads=1, **options)


def _log_probs(llm: Llava, **options: Any) -> list[float]:
    made = llm.create_completion(TEXT, max_tokens=12, logprobs=0, temperature=0, **options)
    found = made["choices"][0]["logprobs"]
    assert found is not None
    return [float(value) for value in found["token_logprobs"]]


@pytest.mark.parametrize("options", [{}, {"kv_ratio": 0.3, "method": "h2o"}])
def test_an_adapter_is_as_good_as_its_weights(
    plain: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    adapter, merged = tmp_path / "adapter.gguf", tmp_path / "merged.gguf"
    write_llama(merged, N_EMBD, added=write_adapter(adapter))
    with _open(merged, **options) as llm:
        expected = _log_probs(llm)
    with _open(plain, **options) as llm:
        without = _log_probs(llm)
    with _open(plain, lora_path=adapter, **options) as llm:
        assert _log_probs(llm) == pytest.approx(expected, abs=2e-3)  # products in another order
        assert _log_probs(llm) != pytest.approx(without, abs=0.05)
    with _open(plain, lora_path=str(adapter), lora_scale=0.0, **options) as llm:
        assert _log_probs(llm) == without


@pytest.mark.parametrize("options", [{}, {"kv_ratio": 0.3, "method": "h2o"}])
def test_a_rotary_embedding_is_that_of_the_file(
    plain: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    other = write_llama(tmp_path / "other.gguf", N_EMBD, rope_freq_base=5e5)
    with _open(plain, rope_freq_base=5e5, **options) as llm, _open(other, **options) as there:
        found = _log_probs(llm)
        assert found == _log_probs(there)
    with _open(plain, **options) as llm, _open(plain, rope_freq_scale=1.0, **options) as same:
        assert _log_probs(llm) == _log_probs(same) != found
    with _open(plain, rope_freq_scale=0.5, **options) as llm:
        assert _log_probs(llm) != found


@pytest.mark.parametrize(
    "options",
    [
        {"use_mmap": False},
        {"use_mlock": True},
        {"use_mmap": False, "use_mlock": True},
        {"split_mode": "none"},
        {"split_mode": "row", "main_gpu": 0},
    ],
)
def test_how_it_is_loaded_changes_no_answer(plain: Path, options: dict[str, Any]) -> None:
    with _open(plain) as llm, _open(plain, **options) as other:
        assert _log_probs(other) == _log_probs(llm)


def test_what_was_saved_with_other_weights_is_refused(plain: Path, tmp_path: Path) -> None:
    adapter, state, prefix = (tmp_path / name for name in ("a.gguf", "talk.state", "read.prefix"))
    write_adapter(adapter)
    with _open(plain, lora_path=adapter) as llm:
        chat = llm.chat()
        chat.ask("Hello", max_tokens=2)
        chat.save(state)
        llm.read("It says:<context>", context=[TEXT]).save(prefix)
        assert llm.load_state(state).n_turns == 1
    other: dict[str, Any]
    for other, said in (
        ({}, "lora_path"),
        ({"lora_path": adapter, "lora_scale": 0.5}, "lora_scale '1', expected '0.5'"),
        ({"lora_path": adapter, "rope_freq_base": 5e5}, "rope_freq_base None, expected '500000'"),
    ):
        with _open(plain, **other) as llm:
            loads: tuple[tuple[Callable[[Path], object], Path], ...] = (
                (llm.load_state, state),
                (llm.load_prefix, prefix),
            )
            for load, file in loads:
                with pytest.raises(ValueError, match=said):
                    load(file)


def test_wrong_values(plain: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    write_adapter(wrong, n_v=N_EMBD + 32)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(wrong.read_bytes()[:2000])
    options: dict[str, Any]
    for options, said in (
        ({"split_mode": "rows"}, 'split_mode: "rows" is unknown; expected layer, row or none'),
        ({"main_gpu": 1}, r"main_gpu: 1 is outside \[0, 0\]"),
        ({"rope_freq_base": -1.0}, r"rope_freq_base: -1.* is outside \[0, 1e12\]"),
        ({"rope_freq_scale": float("nan")}, "rope_freq_scale: nan is outside"),
        ({"lora_path": plain}, "lora_path: cannot use .*plain.gguf"),
        ({"lora_path": wrong}, "lora_path: cannot use .*wrong.gguf"),
        ({"lora_path": cut}, "lora_path: cannot use .*cut.gguf"),
        ({"lora_path": __file__}, "lora_path: .* is not a GGUF file"),
        ({"lora_path": wrong, "lora_scale": float("inf")}, "lora_scale: inf"),
    ):
        with pytest.raises(ValueError, match=said):
            _open(plain, **options)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.gguf"):
        _open(plain, lora_path=tmp_path / "nowhere.gguf")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones((4, N_EMBD), np.int32), np.ones((N_EMBD, 4), np.int32)),
        (np.ones((4, N_EMBD), np.int8), np.ones((N_EMBD, 4), np.int8)),
        (np.ones((4, N_EMBD), np.float64), np.ones((N_EMBD, 4), np.float64)),
        (np.ones((2, 4, N_EMBD), np.float32), np.ones((2, N_EMBD, 4), np.float32)),
    ],
)
def test_adapters_on_which_llama_cpp_aborts(
    plain: Path, tmp_path: Path, a: np.ndarray, b: np.ndarray
) -> None:
    file = tmp_path / "adapter.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", a)
    writer.add_tensor("blk.0.attn_q.weight.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"lora_a of type .*; expected matrices"):
        _open(plain, lora_path=file)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("chat_format", "chat_template"),
        ("chat_handler", "mmproj"),
        ("logits_all", "logprobs"),
        ("draft_model", "lookm-server"),
        ("numa", "numactl"),
    ],
)
def test_names_of_llama_cpp_python_that_are_not_ours(plain: Path, name: str, said: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is not an option of a model, expected .*{said}"):
        _open(plain, **{name: None})
