"""Model files that llama.cpp and OpenVINO GenAI can both read, made from one that only we can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lookm_cpp.bench.model_shapes import SHAPES
from lookm_cpp.bench.random_model import gguf_package, random_q4_0


def recode(model: Path, to: Path) -> None:
    """Write a copy whose tensors of Q5_0 are Q8_0, as OpenVINO cannot read Q5_0."""
    gguf = gguf_package()
    old, new = gguf.GGMLQuantizationType.Q5_0, gguf.GGMLQuantizationType.Q8_0
    reader = gguf.GGUFReader(model)
    writer = _writer(reader, to, {})
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        if kind == old:
            data, kind = gguf.quantize(gguf.dequantize(data, old), new), new
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    _finish(writer)


def widen(model: Path, to: Path, n_layer: int) -> None:
    """Write a model with a 7B model's layers, with random weights, and a Qwen2's own tokenizer.

    OpenVINO reads few kinds of tokenizers, not those of other random models here.

    Raises:
        ValueError: The model is not a Qwen2.
    """
    gguf = gguf_package()
    reader = gguf.GGUFReader(model)
    arch = reader.fields["general.architecture"].contents()
    if arch != "qwen2":
        raise ValueError(f"{model} is of architecture {arch}, expected qwen2")
    n_vocab = len(reader.fields["tokenizer.ggml.tokens"].data)
    shape = replace(SHAPES["7b"], n_layer=n_layer, n_vocab=n_vocab)
    sizes = {
        "block_count": n_layer,
        "embedding_length": shape.n_embd,
        "feed_forward_length": shape.n_ff,
        "attention.head_count": shape.n_head,
        "attention.head_count_kv": shape.n_head_kv,
    }
    writer = _writer(reader, to, {f"{arch}.{name}": size for name, size in sizes.items()})
    rng = np.random.default_rng(0)
    for name, (n_rows, n_cols) in shape.matrices().items():
        data, kind = random_q4_0(rng, n_rows, n_cols), gguf.GGMLQuantizationType.Q4_0
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)
        if name.endswith(("attn_q", "attn_k", "attn_v")):
            writer.add_tensor(f"{name}.bias", np.zeros(n_rows, np.float32))
    for name in shape.norms():
        writer.add_tensor(f"{name}.weight", np.ones(shape.n_embd, np.float32))
    _finish(writer)


def _writer(reader: Any, to: Path, changed: dict[str, int]) -> Any:
    """A writer with the metadata of another file, apart from what is changed."""
    gguf = gguf_package()
    writer = gguf.GGUFWriter(to, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        of = field.types[-1] if is_array else None
        value = changed.get(field.name, field.contents())
        writer.add_key_value(field.name, value, field.types[0], sub_type=of)
    return writer


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
