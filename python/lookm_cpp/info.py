"""What a model file holds, as far as KV compression cares."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lookm_cpp import _core
from lookm_cpp.files import existing_file

if TYPE_CHECKING:
    from lookm_cpp._core import ModelInfo


def model_info(model_path: str | os.PathLike[str], *, type_k: str = "f16", type_v: str = "f16") -> ModelInfo:
    """Describe a GGUF language model: shape, KV bytes a token, and whether its cache can be compressed.

    Args:
        model_path: The GGUF file.
        type_k: Type of the K cache that the bytes are counted for.
        type_v: Type of the V cache that the bytes are counted for.

    Returns:
        A dict; ``supported`` tells whether compression is possible and ``reason`` why not.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a GGUF file, or damaged.

    >>> from lookm_cpp.embedded import MODEL
    >>> info = model_info(MODEL)
    >>> info["architecture"], info["n_layer"], info["n_head_kv"], info["supported"]
    ('llama', 6, 2, True)
    """
    return _core.model_info(str(existing_file(model_path, "model_path")), type_k, type_v)
