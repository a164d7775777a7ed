"""Files that make llama.cpp end the process, each with one field or tensor changed.

All were found by mutation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fuzz.gguf_mutations import GgufFile
from gguf import GGUFValueType
from lookm_cpp.embedded import MMPROJ, MODEL

Change = Callable[[GgufFile], GgufFile]

VISION = "clip.vision."
EPSILON = "attention.layer_norm_epsilon"
RMS_EPSILON = "llama.attention.layer_norm_rms_epsilon"
TOKENS = "tokenizer.ggml.tokens"
Q4_0 = 2


def _value(name: str, value: Any, kind: GGUFValueType | None = None) -> Change:
    return lambda file: file.with_value(name, value, kind)


def _field(name: str, value: int) -> Change:
    return lambda file: file.with_field(name, value, GGUFValueType.UINT32)


def _tensor(name: str, /, **changes: Any) -> Change:
    return lambda file: file.with_tensor(name, **changes)


def _double_token(file: GgufFile) -> GgufFile:
    return file.with_item(TOKENS, 300, file.field(TOKENS).items[301][8:])


PROJECTORS: Mapping[str, Change] = {
    "embedding_length": _value(VISION + "embedding_length", 191),
    "no heads": _value(VISION + "attention.head_count", 0),
    "head_count": _value(VISION + "attention.head_count", 255),
    "small patches": _value(VISION + "patch_size", 7),
    "large patches": _value(VISION + "patch_size", 512),
    "image_size": _value(VISION + "image_size", 128),
    "epsilon": _value(VISION + EPSILON, -1.0),
    "epsilons": _value(VISION + EPSILON, [1e-5, 1e-5], GGUFValueType.FLOAT32),
    "gelu": lambda file: file.with_field("clip.use_gelu", 1, GGUFValueType.UINT16),
    "first product": _tensor("mm.0.weight", name="mm.9.weight"),
    "last bias": _tensor("mm.2.bias", name="mm.9.bias"),
    "quantized bias": _tensor("mm.2.bias", type=Q4_0),
    "keys": _tensor("v.blk.0.attn_k.weight", name="v.blk.0.attn_x.weight"),
    "positions": _tensor("v.position_embd.weight", name="v.other.weight"),
    "projector_type": _value("clip.projector_type", "qwen2vl_merger"),
}
MODELS: Mapping[str, Change] = {
    "a token twice": _double_token,
    "experts": _field("llama.expert_used_count", 64),
    "predicting layers": _field("llama.nextn_predict_layers", 16),
    "no tokenizer": _value("tokenizer.ggml.model", "none"),
    "another tokenizer": _value("tokenizer.ggml.model", "llama"),
    "rms epsilon": _value(RMS_EPSILON, -1.0),
    "rms epsilon, no number": _value(RMS_EPSILON, float("nan")),
}
NAMES = (*PROJECTORS, *MODELS)

BLAMED: Mapping[str, str] = {
    "embedding_length": VISION + "embedding_length is 191",
    "no heads": VISION + "attention.head_count is 0",
    "head_count": VISION + "attention.head_count is 255",
    "small patches": VISION + "patch_size is 7",
    "large patches": VISION + "patch_size is 512",
    "image_size": VISION + "image_size is 128",
    "epsilon": VISION + EPSILON + " is -1",
    "epsilons": VISION + EPSILON + " is of type arr",
    "gelu": "clip.use_gelu is of type u16",
    "first product": "mm.0.weight is missing",
    "last bias": "mm.9.bias, or mm.2.bias",
    "quantized bias": "mm.2.bias is of type q4_0",
    "keys": "v.blk.0.attn_k.weight is missing",
    "positions": "v.position_embd.weight is missing",
    "projector_type": 'with clip.projector_type "qwen2vl_merger"',
    "a token twice": TOKENS + ' is "\u0120What" at both 300 and 301',
    "experts": "llama.expert_used_count is 64",
    "predicting layers": "llama.nextn_predict_layers is 16",
    "no tokenizer": 'tokenizer.ggml.model is "none"',
    "another tokenizer": 'tokenizer.ggml.model is "llama"',
    "rms epsilon": RMS_EPSILON + " is -1",
    "rms epsilon, no number": RMS_EPSILON + " is nan",
}
"""What an error says of the field or tensor that was changed."""


def write_damaged(name: str, folder: Path) -> tuple[Path, Path]:
    """A model and a projector, one of which is the damaged one: it lies in the folder."""
    path = folder / "damaged.gguf"
    if name in MODELS:
        path.write_bytes(MODELS[name](GgufFile.read(MODEL)).pack())
        return path, MMPROJ
    path.write_bytes(PROJECTORS[name](GgufFile.read(MMPROJ)).pack())
    return MODEL, path
