"""Models of random weights: the file, the bytes a token reads, and ``auto`` for all layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from lookm_cpp import model_info
from lookm_cpp.bench import random_model
from lookm_cpp.bench.bytes_per_token import weight_bytes
from lookm_cpp.bench.model_shapes import SHAPES
from lookm_cpp.bench.random_model import model_file, random_q4_0
from lookm_cpp.embedded import MODEL

from bench.conftest import TINY


def test_weights_of_known_models_by_hand() -> None:
    per_layer = (4 * 4096 * 4096 + 3 * 4096 * 11008) * 18 // 32
    assert SHAPES["7b"].weight_bytes() == 32 * per_layer + 32000 * 4096 * 18 // 32
    assert SHAPES["7b"].slice(8).weight_bytes() * 4 == SHAPES["7b"].weight_bytes()
    kv = 2 * 2048 * 256
    assert SHAPES["3b"].slice(1).n_vocab == pytest.approx(151936 / 36, rel=0.01)
    rest = SHAPES["3b"].slice(1).n_vocab * 2048
    assert (
        SHAPES["3b"].slice(1).weight_bytes()
        == (kv + 2 * 2048**2 + 3 * 2048 * 11008 + rest) * 18 // 32
    )
    assert SHAPES["0.5b"].n_embd // SHAPES["0.5b"].n_head == 64


def test_file_is_the_shape(tiny: Path) -> None:
    info = model_info(tiny)
    assert (info["n_layer"], info["n_head"], info["n_head_kv"], info["n_ctx_train"]) == (
        2,
        4,
        2,
        1 << 21,
    )
    assert info["supported"]
    assert info["kv_bytes_per_token"] == 2 * 2 * 2 * 64  # layers, K and V, f16, two heads of 32
    assert model_info(tiny, type_k="q8_0", type_v="q8_0")["kv_bytes_per_token"] == 2 * 2 * 2 * 34
    norms = 5 * 128 * 4
    assert weight_bytes(tiny) == TINY.weight_bytes() + norms
    assert (
        info["size_bytes"] == TINY.weight_bytes() + norms + 512 * 128 * 18 // 32
    )  # and the embeddings


def test_tied_embeddings_are_read_as_the_output(tmp_path: Path) -> None:
    def write(name: str, *tensors: str) -> Path:
        writer = gguf.GGUFWriter(tmp_path / name, "llama")
        writer.add_uint32("llama.expert_count", 8)
        writer.add_uint32("llama.expert_used_count", 2)
        for tensor in tensors:
            writer.add_tensor(tensor, np.zeros((4, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / name

    one = 4 * 32 * 4
    assert weight_bytes(write("tied.gguf", "token_embd.weight", "blk.0.ffn_up.weight")) == 2 * one
    assert weight_bytes(write("own.gguf", "token_embd.weight", "output.weight")) == one
    assert (
        weight_bytes(write("experts.gguf", "output.weight", "blk.0.ffn_up_exps.weight"))
        == one + one // 4
    )
    assert (weight_bytes(MODEL) or 0) <= MODEL.stat().st_size


def test_weights_have_the_variance_that_keeps_sizes() -> None:
    blocks = random_q4_0(np.random.default_rng(3), 64, 4096)
    weights = gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q4_0)
    assert np.std(weights) * np.sqrt(4096) == pytest.approx(1, abs=0.02)
    assert abs(np.mean(weights)) * np.sqrt(4096) < 0.02


def test_a_file_is_written_once_and_never_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = model_file(tmp_path, TINY)
    bytes_before, time_before = first.read_bytes(), first.stat().st_mtime_ns
    assert model_file(tmp_path, TINY).stat().st_mtime_ns == time_before
    assert model_file(tmp_path / "other", TINY).read_bytes() == bytes_before
    assert model_file(tmp_path, replace(TINY, n_layer=1)) != first

    def full_disk(rng: np.random.Generator, n_rows: int, n_cols: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(random_model, "random_q4_0", full_disk)
    with pytest.raises(OSError, match="no space left"):
        model_file(tmp_path / "full", TINY)
    assert not list((tmp_path / "full").glob("*.gguf"))
