"""Whether a model and a length of prompt fit into memory and context, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from lookm_cpp.benching.job import FULL_CACHE, Job
from lookm_cpp.benching.machine import MIB, available_memory
from lookm_cpp.benching.subject import Subject
from lookm_cpp.info import devices
from lookm_cpp.planning import plan
from lookm_cpp.sizes import format_bytes

N_UBATCH = 512
_SLACK = 256 * MIB
"""llama.cpp's buffers for a ubatch and its tables, of a small vocabulary; Python; what scoring
takes for a moment.
"""


def why_not(subject: Subject, job: Job, memory: int | None) -> str | None:
    """Why a job cannot run, in words, or ``None`` where it can; ``memory`` is what there is."""
    n_cells = job.cells + job.decoded_tokens
    if n_cells > subject.n_ctx:
        return f"prompt and answer take {n_cells} cells, its context has {subject.n_ctx}"
    needed = bytes_needed(subject, job)
    if memory is not None and needed > memory:
        return f"it would take {format_bytes(needed)}, {format_bytes(memory)} are free"
    return None


def bytes_needed(subject: Subject, job: Job) -> int:
    """Three caches on one model: the full one with a copy of it, the compressed one, and one of its
    depth.
    """
    n_cells = job.cells + job.decoded_tokens
    full = n_cells * subject.kv_bytes_per_cell[FULL_CACHE]
    largest = max(
        (case for case in job.cases), key=lambda case: subject.kv_bytes_per_cell.get(case.cache, 0)
    )
    ours = n_cells * subject.kv_bytes_per_cell.get(largest.cache, 0)
    without_flash = 4 * N_UBATCH * subject.n_head * n_cells if _without_flash(job) else 0
    beside = 2 * full + ours // 2
    return (
        beside + _SLACK + max(_planned(subject, job), subject.size_bytes + 2 * ours + without_flash)
    )


def _without_flash(job: Job) -> bool:
    return "off" in (job.flash_attn, *job.scored_flash_attn.values())


def _planned(subject: Subject, job: Job) -> int:
    """llama.cpp's and mtmd's own sizes for the prompt's images."""
    if subject.mmproj is None:
        return 0
    one = _plan(subject, job, 1)["cells_per_image"]
    return _plan(subject, job, max(1, job.cells // one))["peak_bytes"]


def _plan(subject: Subject, job: Job, images: int) -> dict[str, int]:
    found = plan(
        subject.model,
        mmproj=subject.mmproj,
        images=images,
        image_size=job.image_size,
        max_tokens=job.decoded_tokens,
        n_gpu_layers=job.n_gpu_layers,
        flash_attn="auto" if job.flash_attn == "auto" else job.flash_attn == "on",
    )
    return {
        "cells_per_image": found["cells_per_image"],
        "peak_bytes": found["peak_bytes"] + found["scratch_bytes"],
    }


def free_memory(n_gpu_layers: int) -> int | None:
    """Of the accelerators where layers go there, else of this machine; ``None`` where nobody says."""
    accelerators: Sequence[int] = (
        [d["memory_free"] for d in devices() if d["type"] == "GPU"] if n_gpu_layers else []
    )
    return sum(accelerators) or available_memory()
