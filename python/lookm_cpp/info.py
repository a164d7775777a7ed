"""What a model file contains and what devices this machine has, with regard to KV compression."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lookm_cpp import _core
from lookm_cpp.file_check import CHECK_FILES, check_model_files
from lookm_cpp.files import existing_file
from lookm_cpp.words import flag, word, word_or_none

if TYPE_CHECKING:
    from lookm_cpp.info_types import DeviceInfo, ModelInfo


def model_info(
    model_path: str | os.PathLike[str],
    *,
    type_k: str = "f16",
    type_v: str = "f16",
    check_files: bool = CHECK_FILES,
) -> ModelInfo:
    """Describe a GGUF language model, and whether its cache can be compressed.

    Args:
        model_path: The GGUF file.
        type_k: Type of the K cache, for the bytes per token.
        type_v: Type of the V cache, for the bytes per token.
        check_files: As for ``Llava``.

    Returns:
        A dict. ``supported`` says whether compression is possible, and ``reason`` why not.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged or not a GGUF.

    >>> from lookm_cpp.embedded import MODEL
    >>> info = model_info(MODEL)
    >>> info["architecture"], info["n_layer"], info["n_head_kv"], info["supported"]
    ('llama', 6, 2, True)
    """
    model = existing_file(model_path, "model_path")
    if flag("check_files", check_files):
        check_model_files(model, None)
    return _core.model_info(str(model), word("type_k", type_k), word("type_v", type_v))


def devices(
    *, rpc_servers: str | None = None, type_k: str = "f16", type_v: str = "f16"
) -> list[DeviceInfo]:
    """List the devices that can hold a KV cache, and whether they can compress it.

    Args:
        rpc_servers: RPC servers to include, as ``"host:port,host:port"``.
        type_k: Type of the K cache.
        type_v: Type of the V cache.

    Returns:
        A list of dicts, the CPU first. ``on_device`` is true if the device accepts every node of
        the graphs that score and merge. Otherwise ``note`` names the operation that it lacks, and
        such steps run on the CPU with copies of the cache's rows.

    Raises:
        ValueError: A type is unknown, or a server's address is invalid, or it cannot be reached or
            is busy.

    >>> [(device["type"], device["on_device"]) for device in devices()][0]
    ('CPU', True)
    """
    return _core.devices(
        word_or_none("rpc_servers", rpc_servers), word("type_k", type_k), word("type_v", type_v)
    )
