"""Times one prompt, one compression, and one pair of decodes on bare llama.cpp contexts."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

from lookm_cpp.bench.alternation import alternate
from lookm_cpp.bench.process_memory import PeakMemory
from lookm_cpp.bench.random_model import model_file
from lookm_cpp.compression import PAPER_METHOD

from benchmarks.cost_record import Compression, Decode, Prefill
from benchmarks.models import llava_shape

# The pipeline and a bare llama.cpp context behind one API; built with LOOKM_BUILD_TESTING=ON.
ORACLE: Any = import_module("lookm_cpp._oracle")

IMAGE_CELLS = 576  # one image of LLaVA-1.5
N_UBATCH = 512
TEXT_TOKEN = 5
TEXT_SHARE = 0.05
PLUS = "lookm_plus"


def n_question(n_cells: int) -> int:
    """Number of text cells after the last image."""
    return int(TEXT_SHARE / 2 * n_cells)


def prompt(n_cells: int) -> list[int]:
    """Images of 576 cells, each after a few words, and a question at the end.

    The last image is cut to fit. Text is 5 % of the cells: half of it stands between the images,
    half of it is the question. So even at ratio 0.05, the text between the images fits into the
    important half of the budget and the question into the recent half, and the ratio is met. A
    number below 0 is an image cell whose embedding is drawn from that seed.
    """
    n_half = n_question(n_cells)
    n_image = n_cells - 2 * n_half
    n_runs = -(-n_image // IMAGE_CELLS)
    tokens: list[int] = []
    for i in range(n_runs):
        first, last = i * IMAGE_CELLS, min((i + 1) * IMAGE_CELLS, n_image)
        words = n_half * (i + 1) // n_runs - n_half * i // n_runs
        tokens += [TEXT_TOKEN] * words + [-1 - cell for cell in range(first, last)]
    return tokens + [TEXT_TOKEN] * n_half


def load(folder: Path, n_layer: int) -> Any:
    """Load the random model with this number of layers; write it if it is missing."""
    model = ORACLE.Model.load(str(model_file(folder, llava_shape(n_layer))))
    ORACLE.Context(model).prefill(prompt(N_UBATCH), scored=False)  # pages the weights in
    return model


def context(model: Any, n_ctx: int, *, flash_attn: bool, n_threads: int) -> Any:
    """A llama.cpp context of ``n_ctx`` cells."""
    return ORACLE.Context(
        model, n_ctx=n_ctx, n_ubatch=N_UBATCH, flash_attn=flash_attn, n_threads=n_threads
    )


def plain_prefill(ctx: Any, n_cells: int, *, flash_attn: bool) -> Prefill:
    """Read a prompt with llama.cpp alone."""
    tokens = prompt(n_cells)
    with PeakMemory() as memory:
        start = time.perf_counter()
        ctx.prefill(tokens, scored=False)
        seconds = time.perf_counter() - start
    return Prefill(ctx.n_layer, flash_attn, n_cells, False, seconds, 0.0, memory.peak)


def compressed_prefill(
    ctx: Any, n_cells: int, kv_ratio: float, *, flash_attn: bool, method: str = PAPER_METHOD
) -> tuple[Prefill, Compression]:
    """Read a prompt, score it, and compress it.

    It is scored by all its queries, with ``lookm_plus`` by the question's.
    """
    tokens = prompt(n_cells)
    first_query = n_cells - n_question(n_cells) if method == PLUS else 0
    important = kv_ratio * (0.9 if method == PLUS else 0.5)
    if kv_ratio == 1.0:
        method = "origin"
    with PeakMemory() as memory:
        start = time.perf_counter()
        ctx.prefill(tokens, scored=True, first_query=first_query)
        wall = time.perf_counter() - start
        done = ctx.compress(
            method=method, important_ratio=important, recent_ratio=kv_ratio - important
        )
    if ctx.n_used != done["n_keep"]:
        raise AssertionError(f"{ctx.n_used} cells in use after compression to {done['n_keep']}")
    return (
        Prefill(ctx.n_layer, flash_attn, n_cells, True, wall, done["score_seconds"], memory.peak),
        Compression(
            layers=ctx.n_layer,
            flash_attn=flash_attn,
            n_cells=n_cells,
            n_text=done["n_text"],
            kv_ratio=kv_ratio,
            n_keep=done["n_keep"],
            seconds=done["seconds"],
            kv_bytes=ctx.bytes_per_cell * n_cells,
            peak_bytes=done["peak_bytes"],
        ),
    )


def paired_decode(
    ours: Any, native: Any, compression: Compression, n_blocks: int, n_tokens: int
) -> Decode:
    """Decode blocks of ``n_tokens`` on two equally filled contexts, in alternation."""
    if ours.n_used != native.n_used:
        raise AssertionError(f"depths differ: {ours.n_used} and {native.n_used} cells")
    depth = ours.n_used + n_tokens * (n_blocks + 1) // 2
    result = Decode(
        layers=ours.n_layer,
        n_cells=compression.n_cells,
        kv_ratio=compression.kv_ratio,
        n_keep=compression.n_keep,
        bytes_per_token=llava_shape(ours.n_layer).weight_bytes() + ours.bytes_per_cell * depth,
    )
    step_ours, step_native = (lambda ctx=ctx: ctx.decode(TEXT_TOKEN) for ctx in (ours, native))
    result.ours, result.native = alternate([step_ours, step_native], n_blocks, n_tokens)
    return result
