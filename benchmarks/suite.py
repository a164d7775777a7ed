"""The order of the work: every prompt once for each ratio, and what has to run side by side next to
each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measure import compressed_prefill, context, load, paired_decode, plain_prefill
from benchmarks.results import Results

FLASH_RATIO = 0.2

Advance = Callable[
    [str, int], None
]  # what is done now, and how many cells were read since the last call


@dataclass(frozen=True)
class Settings:
    """How much to measure."""

    cells: tuple[int, ...] = (1024, 2048, 4096)
    ratios: tuple[float, ...] = (1.0, 0.5, 0.2, 0.05)
    layers: int = 8
    flash_attn: bool = False
    flash_layers: int = 2
    n_blocks: int = 16
    block_tokens: int = 4
    n_threads: int = 2

    def replace(self, **changes: Any) -> Settings:
        """These settings but for the changes."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """For the results."""
        return asdict(self)

    @property
    def n_room(self) -> int:
        """Cells that decoding adds to a context."""
        return (self.n_blocks + 1) * self.block_tokens

    @property
    def cells_to_read(self) -> float:
        """Cells of all prompts, weighted by layers: what the run's time goes with."""
        depth = 1 + sum(1 + (ratio if ratio < 1 else 0) for ratio in self.ratios)
        return sum(self.cells) * (self.layers * depth + self.flash_layers * 4)


def decode_suite(model: Any, settings: Settings, results: Results, advance: Advance) -> None:
    """As ``flash_attn="auto"`` has it here: each length at each ratio, then decode beside native
    depth.

    At ratio 1.0 nothing was compressed: the pair holds a context whose tap was armed and removed
    against one that never had any. It is also the measurement's own check, as its ratio is 1 but
    for noise. Both contexts have room for
    the prompt: rows of the transposed V lie as far apart as a context is large, which alone costs
    some percent.
    """

    def new_context(n_cells: int) -> Any:
        n_ctx = n_cells + settings.n_room
        return context(model, n_ctx, flash_attn=settings.flash_attn, n_threads=settings.n_threads)

    def read_plain(ctx: Any, n_cells: int) -> None:
        advance(f"{n_cells} cells: plain prefill", 0)
        results.prefills.append(plain_prefill(ctx, n_cells, flash_attn=settings.flash_attn))
        advance("", n_cells * settings.layers)

    for n_cells in settings.cells:
        full = new_context(n_cells)
        read_plain(full, n_cells)
        ours = new_context(n_cells)
        for ratio in settings.ratios:
            advance(f"{n_cells} cells: prefill and compression to {ratio:g}", 0)
            prefill, compression = compressed_prefill(
                ours, n_cells, ratio, flash_attn=settings.flash_attn
            )
            advance("", n_cells * settings.layers)
            results.prefills.append(prefill)
            if compression.n_keep < n_cells:
                results.compressions.append(compression)
                native = new_context(n_cells)
                read_plain(native, compression.n_keep)
            else:
                native, full = full, None
            advance(f"{n_cells} cells at {ratio:g}: decode beside native depth", 0)
            pairs = paired_decode(
                ours, native, compression, settings.n_blocks, settings.block_tokens
            )
            results.decodes.append(pairs)


def flash_suite(model: Any, settings: Settings, results: Results, advance: Advance) -> None:
    """Flash attention on and off: four prefills in a row, plain and scored.

    One context reads both prompts. All that llama.cpp touches is resident after the plain one, so
    what the process's peak grows by in the scored one is scoring and compression.
    """
    for n_cells in settings.cells:
        for flash in (True, False):
            ctx = context(model, n_cells, flash_attn=flash, n_threads=settings.n_threads)
            advance(
                f"{n_cells} cells: plain prefill, flash attention {'on' if flash else 'off'}", 0
            )
            plain = plain_prefill(ctx, n_cells, flash_attn=flash)
            advance(
                f"{n_cells} cells: scored prefill, flash attention {'on' if flash else 'off'}",
                n_cells * ctx.n_layer,
            )
            scored, compression = compressed_prefill(ctx, n_cells, FLASH_RATIO, flash_attn=flash)
            advance("", n_cells * ctx.n_layer)
            if plain.process_peak and scored.process_peak:
                compression.process_growth = scored.process_peak - plain.process_peak
            results.prefills += [plain, scored]
            results.compressions.append(compression)


def run(settings: Settings, folder: Path, results: Results, advance: Advance) -> None:
    """Measure everything into ``results``."""
    advance(f"writing a model of {settings.layers} layers", 0)
    decode_suite(load(folder, settings.layers), settings, results, advance)
    advance(f"writing a model of {settings.flash_layers} layers", 0)
    flash_suite(load(folder, settings.flash_layers), settings, results, advance)
