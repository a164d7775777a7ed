"""Bytes that one token moves through memory: weights, and the cache at its depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lookm_cpp.benching.random_model import gguf_package


def weight_bytes(path: Path) -> int | None:
    """Weights that one token reads, by the file's list of tensors; ``None`` where the package
    ``gguf`` is missing.

    Of embeddings a token reads a row, unless they are the output matrix too; of experts those that
    are chosen.
    """
    try:
        package = gguf_package()
    except RuntimeError:
        return None
    reader = package.GGUFReader(path)
    sizes = {tensor.name: int(tensor.n_bytes) for tensor in reader.tensors}
    if "output.weight" in sizes:
        sizes.pop("token_embd.weight", None)
    used, there = (_number(reader, key) for key in ("expert_used_count", "expert_count"))
    experts = used / there if used and there else 1.0
    return round(sum(size * (experts if "_exps." in name else 1.0) for name, size in sizes.items()))


def _number(reader: Any, key: str) -> int:
    architecture = reader.get_field("general.architecture").contents()
    field = reader.get_field(f"{architecture}.{key}")
    return int(field.contents()) if field else 0
