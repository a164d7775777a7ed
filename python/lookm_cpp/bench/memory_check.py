"""Checks whether a prompt fits into memory and into the model's context, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lookm_cpp.bench.models import BenchModel
from lookm_cpp.bench.process_memory import MIB, available_memory
from lookm_cpp.bench.workload import FULL_CACHE, Workload
from lookm_cpp.info import devices
from lookm_cpp.planning import plan
from lookm_cpp.sizes import format_bytes

if TYPE_CHECKING:
    from lookm_cpp.options import ModelOptions

_SLACK = 256 * MIB
"""llama.cpp's buffers for a ubatch with a small vocabulary, Python, and memory for scoring."""


def why_not(bench_model: BenchModel, workload: Workload, memory: int | None) -> str | None:
    """Why a workload cannot run in ``memory`` bytes (``None``: unknown), or ``None`` if it can."""
    n_cells = workload.cells + workload.decoded_tokens
    if n_cells > bench_model.n_ctx:
        return f"prompt and answer take {n_cells} cells, its context has {bench_model.n_ctx}"
    needed = bytes_needed(bench_model, workload)
    if memory is not None and needed > memory:
        return f"it would take {format_bytes(needed)}, {format_bytes(memory)} are free"
    return None


def bytes_needed(bench_model: BenchModel, workload: Workload) -> int:
    """Bytes of the model with three caches.

    They are the full one and a copy of it, the compressed one, and one as long as that.
    """
    n_cells = workload.cells + workload.decoded_tokens
    full = n_cells * bench_model.kv_bytes_per_cell[FULL_CACHE]
    largest = max(
        (case for case in workload.cases),
        key=lambda case: bench_model.kv_bytes_per_cell.get(case.cache, 0),
    )
    ours = n_cells * bench_model.kv_bytes_per_cell.get(largest.cache, 0)
    probabilities = 4 * workload.opened["n_ubatch"] * bench_model.n_head * n_cells
    without_flash = probabilities if workload.opened["flash_attn"] is False else 0
    beside = 2 * full + ours // 2
    return (
        beside
        + _SLACK
        + max(_planned(bench_model, workload), bench_model.size_bytes + 2 * ours + without_flash)
    )


def _planned(bench_model: BenchModel, workload: Workload) -> int:
    """Bytes for a prompt with images, from llama.cpp's and mtmd's own sizes."""
    if bench_model.mmproj is None:
        return 0
    one = _plan(bench_model, workload, 1)["cells_per_image"]
    return _plan(bench_model, workload, max(1, workload.cells // one))["peak_bytes"]


def _plan(bench_model: BenchModel, workload: Workload, images: int) -> dict[str, int]:
    given: ModelOptions = workload.opened  # type: ignore[assignment]
    found = plan(
        bench_model.model,
        mmproj=bench_model.mmproj,
        images=images,
        image_size=workload.image_size,
        max_tokens=workload.decoded_tokens,
        check_files=False,  # they were checked when the model was described
        **given,
    )
    return {
        "cells_per_image": found["cells_per_image"],
        "peak_bytes": found["peak_bytes"] + found["scratch_bytes"],
    }


def free_memory(opened: Mapping[str, Any]) -> int | None:
    """Free bytes of the devices that layers go to: accelerators, RPC servers, or this machine.

    ``None`` if the system does not say.
    """
    if opened["n_gpu_layers"] == 0:
        return available_memory()
    found = devices(rpc_servers=opened.get("rpc_servers"))
    return sum(d["memory_free"] for d in found if d["type"] in ("GPU", "RPC")) or available_memory()
