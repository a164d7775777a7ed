"""The bytes of weights that one token reads from memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lookm_cpp.bench.random_model import gguf_package


def weight_bytes(path: Path) -> int | None:
    """Bytes of weights that one token reads, from the file's list of tensors.

    A token reads one row of the embeddings, unless they are the output matrix as well, and only the
    chosen experts. ``None`` if the package ``gguf`` is not installed.
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
