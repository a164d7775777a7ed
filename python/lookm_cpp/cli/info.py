"""``lookm info``: a model file, or the devices of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lookm_cpp import embedded
from lookm_cpp.cli.console import print_json, side_by_side
from lookm_cpp.cli.flags import OPENING, Json, with_flags
from lookm_cpp.info import devices, model_info
from lookm_cpp.sizes import format_bytes


@with_flags(
    opened=[
        flag
        for flag in OPENING
        if flag.option in ("type_k", "type_v", "rpc_servers", "check_files")
    ]
)
def info(
    model: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A GGUF file, or 'embedded'.")
    ] = None,
    *,
    show_devices: Annotated[
        bool,
        typer.Option(
            "--devices", help="Describe the devices instead, and say where compression runs."
        ),
    ] = False,
    as_json: Json = False,
    opened: dict[str, Any],
) -> None:
    """Describe a model file, or the devices of this machine.

    Says what a token takes in the KV cache, and whether the cache can be compressed.
    """
    rpc, check_files = opened.pop("rpc_servers"), opened.pop("check_files")
    if show_devices == (model is not None) or (rpc is not None and not show_devices):
        raise ValueError("info: expected either a model, or --devices with or without --rpc")
    if model is None:
        _show_devices(rpc, **opened, as_json=as_json)
        return
    path = embedded.MODEL if model == embedded.NAME else model
    found = model_info(path, **opened, check_files=check_files)
    if as_json:
        print_json(found)
        return
    rows = (
        ("name", found["name"]),
        ("architecture", found["architecture"]),
        ("parameters", f"{found['n_params']:,}"),
        ("file size", format_bytes(found["size_bytes"])),
        ("training context", f"{found['n_ctx_train']} tokens"),
        ("layers", str(found["n_layer"])),
        ("heads", f"{found['n_head']} query, {found['n_head_kv']} KV"),
        ("memory type", found["memory_type"]),
        (
            "KV cache",
            f"{found['kv_bytes_per_token']} bytes a token ({opened['type_k']}, {opened['type_v']})",
        ),
        ("compression", "supported" if found["supported"] else f"not supported: {found['reason']}"),
    )
    Console(highlight=False).print(side_by_side((Path(model).name,), rows))


def _show_devices(rpc: str | None, type_k: str, type_v: str, *, as_json: bool) -> None:
    found = devices(rpc_servers=rpc, type_k=type_k, type_v=type_v)
    if as_json:
        print_json(found)
        return
    rows = (
        ("device", *(device["description"] for device in found)),
        ("type", *(device["type"] for device in found)),
        ("memory", *(format_bytes(device["memory_total"]) for device in found)),
        (
            "compression",
            *("on the device" if device["on_device"] else "on the CPU" for device in found),
        ),
        ("", *(device["note"] for device in found)),
    )
    Console(highlight=False).print(side_by_side((device["name"] for device in found), rows))
