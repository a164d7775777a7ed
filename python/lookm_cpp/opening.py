"""How a model is opened, in the form that the core takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookm_cpp import _core
from lookm_cpp.files import existing_file
from lookm_cpp.options import ModelOptions
from lookm_cpp.sizes import byte_count, cell_count
from lookm_cpp.state_header import CHANGES
from lookm_cpp.statefile import fingerprint
from lookm_cpp.templates import template_text
from lookm_cpp.words import flash_attention, shares

if TYPE_CHECKING:
    from typing_extensions import Unpack

_MAY_BE_NONE = ("n_threads", "kept_type_k", "kept_type_v", "prefix_type", "rpc_servers")
_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "chat_template": template_text,
    "flash_attn": flash_attention,
    "lora_path": lambda value: str(existing_file(value, "lora_path")) if value else "",
    "tensor_split": lambda value: shares("tensor_split", value),
    "kv_cells": lambda value: cell_count("kv_cells", value),
    "kv_memory": lambda value: byte_count("kv_memory", value),
    "prefix_memory": lambda value: byte_count("prefix_memory", value or None),
    "image_cache": lambda value: byte_count("image_cache", value or None),
}
"""Options that users give in another form than the core takes."""
_INSTEAD = {
    "chat_format": "chat_template, with a name of lookm_cpp.chat_templates()",
    "chat_handler": "mmproj, with the projector's file",
    "clip_model_path": "mmproj, with the projector's file",
    "draft_model": "lookm-server with -md: no drafts are made here",
    "embedding": "lookm-server, which has embeddings",
    "logits_all": "nothing: logprobs need no such option",
    "lora_base": "lora_path alone",
    "n_threads_batch": "n_threads",
    "numa": "numactl, as llama.cpp's setting holds for a whole process",
    "offload_kqv": "n_gpu_layers, as a layer's cache is where the layer is",
    "tokenizer": "the model's own",
    "vocab_only": "lookm_cpp.model_info",
}
"""What users of llama-cpp-python know by another name."""


def model_options(
    model: Path,
    projector: Path | None,
    *,
    for_trials: bool = False,
    **given: Unpack[ModelOptions],
) -> _core.ModelOptions:
    """The core's options; what is not given, or ``None`` where that is allowed, has its default.

    ``for_trials``: prompts will be compressed again and again, by any method.

    Raises:
        ValueError: A value has the wrong type, or is not a size.
        TypeError: There is no option of that name.
    """
    for name in given:
        if name not in ModelOptions.__annotations__:
            instead = f", expected {_INSTEAD[name]}" if name in _INSTEAD else ""
            raise TypeError(f"{name} is not an option of a model{instead}")
    fields = {
        name: _CONVERTED[name](value) if name in _CONVERTED else value
        for name, value in given.items()
        if value is not None or name not in _MAY_BE_NONE
    }
    if for_trials:
        fields |= {"swa_full": True}
    return _core.ModelOptions(model_path=str(model), mmproj_path=str(projector or ""), **fields)


def changes_of_weights(options: _core.ModelOptions) -> dict[str, str]:
    """What makes another model of the same files, by option; a part only where it is given."""
    values = {
        "rope_freq_base": options.rope_freq_base and f"{options.rope_freq_base:g}",
        "rope_freq_scale": options.rope_freq_scale and f"{options.rope_freq_scale:g}",
        "lora_path": options.lora_path and fingerprint([Path(options.lora_path)]),
        "lora_scale": options.lora_path and f"{options.lora_scale:g}",
    }
    return {name: str(values[name]) for name in CHANGES if values[name]}
