"""What cannot be right in a file's header is named; nothing is in a file that can be used."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz.gguf_mutations import GgufFile
from gguf import GGUFValueType
from lookm_cpp import _core
from lookm_cpp.embedded import MMPROJ, MODEL
from zoo.pairs import PAIRS, REFUSED, write_pair

SECOND = Path(__file__).parents[2] / "training" / "second"
VISION = "clip.vision."
TOKENS = "tokenizer.ggml.tokens"


def _doubts(path: Path) -> list[str]:
    return _core.file_doubts([str(path)])


@pytest.mark.parametrize("name", PAIRS | REFUSED)
def test_silent_on_each_kind_of_pair(name: str, tmp_path: Path) -> None:
    for path in write_pair(name, tmp_path):
        assert _doubts(path) == []


@pytest.mark.parametrize(
    "path", [MODEL, MMPROJ, *sorted(SECOND.glob("*.gguf"))], ids=lambda path: path.name
)
def test_silent_on_trained_models(path: Path) -> None:
    assert _doubts(path) == []


Change = Callable[[GgufFile], GgufFile]
CHANGES: dict[str, tuple[Path, Change]] = {
    "llama.block_count is 7, expected 6": (MODEL, lambda f: f.with_value("llama.block_count", 7)),
    "llama.block_count is 0, expected 1 to 512": (
        MODEL,
        lambda f: f.with_value("llama.block_count", 0),
    ),
    "llama.embedding_length is 255, expected 256": (
        MODEL,
        lambda f: f.with_value("llama.embedding_length", 255),
    ),
    "llama.attention.head_count is 0, expected 1": (
        MODEL,
        lambda f: f.with_value("llama.attention.head_count", 0),
    ),
    "llama.attention.head_count is 3, expected a divisor of": (
        MODEL,
        lambda f: f.without("llama.attention.key_length").with_value(
            "llama.attention.head_count", 3
        ),
    ),
    "llama.feed_forward_length is 0, expected": (
        MODEL,
        lambda f: f.with_value("llama.feed_forward_length", 0),
    ),
    "llama.context_length is 0, expected": (
        MODEL,
        lambda f: f.with_value("llama.context_length", 0),
    ),
    "llama.context_length is of type f32, expected u32": (
        MODEL,
        lambda f: f.with_value("llama.context_length", 4096.0, GGUFValueType.FLOAT32),
    ),
    'tokenizer.ggml.model is "gpt3", expected': (
        MODEL,
        lambda f: f.with_value("tokenizer.ggml.model", "gpt3"),
    ),
    "blk.2.attn_q.weight is missing, expected as in all other blocks, and no blk.2.attn_z.weight": (
        MODEL,
        lambda f: f.with_tensor("blk.2.attn_q.weight", name="blk.2.attn_z.weight"),
    ),
    'clip.projector_type is "mlp3", expected': (
        MMPROJ,
        lambda f: f.with_value("clip.projector_type", "mlp3"),
    ),
    VISION + "block_count is 9, expected 3": (
        MMPROJ,
        lambda f: f.with_value(VISION + "block_count", 9),
    ),
    VISION + "patch_size is 0, expected": (
        MMPROJ,
        lambda f: f.with_value(VISION + "patch_size", 0),
    ),
    VISION + "image_size is 2147483648, expected": (
        MMPROJ,
        lambda f: f.with_value(VISION + "image_size", 1 << 31),
    ),
    VISION + "feed_forward_length is 0, expected": (
        MMPROJ,
        lambda f: f.with_value(VISION + "feed_forward_length", 0),
    ),
    "v.blk.1.ffn_up.weight is missing, expected as in all other blocks": (
        MMPROJ,
        lambda f: f.with_tensor("v.blk.1.ffn_up.weight", name="lost"),
    ),
}


@pytest.mark.parametrize("doubt", CHANGES)
def test_what_cannot_be_right(doubt: str, tmp_path: Path) -> None:
    source, change = CHANGES[doubt]
    path = tmp_path / "model.gguf"
    path.write_bytes(change(GgufFile.read(source)).pack())
    (found,) = _doubts(path)
    assert found.startswith(doubt)


def test_a_large_vocabulary_takes_no_time(tmp_path: Path) -> None:
    """Tokens that begin alike, the last but one twice."""
    file, path = GgufFile.read(MODEL), tmp_path / "model.gguf"
    texts = [b"a" * 40 + str(i).encode() for i in range(256_000)]
    texts[-1] = texts[-2]
    file.field(TOKENS).items = [len(text).to_bytes(8, "little") + text for text in texts]
    path.write_bytes(file.pack())
    start = time.process_time()
    (found,) = _doubts(path)
    assert time.process_time() - start < 2
    assert found.endswith("at both 255998 and 255999, expected each token once")


def test_any_number_of_tensors(tmp_path: Path) -> None:
    file, path = GgufFile.read(MMPROJ), tmp_path / "mmproj.gguf"
    bias = file.tensor("mm.0.bias")
    file.tensors += [
        type(bias)(f"mm.x{i}.bias".encode(), bias.shape, bias.type, 0) for i in range(1000)
    ]
    path.write_bytes(file.pack())
    assert len(_doubts(path)) <= 4


def test_what_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    assert _doubts(path) == []
    for content in (b"", b"GGUF", MODEL.read_bytes()[:1000]):
        path.write_bytes(content)
        assert all(isinstance(doubt, str) for doubt in _doubts(path))
