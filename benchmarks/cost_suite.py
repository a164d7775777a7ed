"""Measures every prompt length at every ratio; what is compared runs directly one after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.context_timing import (
    compressed_prefill,
    context,
    load,
    paired_decode,
    plain_prefill,
)
from benchmarks.cost_record import Results

FLASH_RATIO = 0.2

Advance = Callable[[str, int], None]
"""Takes the current step, and the number of cells read since the last call."""


@dataclass(frozen=True)
class Settings:
    """How much to measure."""

    cells: tuple[int, ...] = (1024, 2048, 4096)
    ratios: tuple[float, ...] = (1.0, 0.5, 0.2, 0.05)
    layers: int = 8
    flash_attn: bool = True
    flash_layers: int = 2
    n_blocks: int = 16
    block_tokens: int = 4
    n_threads: int = 2

    def replace(self, **changes: Any) -> Settings:
        """These settings with some changes."""
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
        """Cells of all prompts, weighted by layers; the time of the run is about proportional."""
        depth = 1 + sum(1 + (ratio if ratio < 1 else 0) for ratio in self.ratios)
        return sum(self.cells) * (self.layers * depth + self.flash_layers * 4)


def decode_suite(model: Any, settings: Settings, results: Results, advance: Advance) -> None:
    """Measure each length at each ratio, then decode.

    At ratio 1.0 nothing is compressed: the pair compares a context that score_tap was attached to
    with one that never had it. This also checks the measurement, as the ratio must be 1 apart from
    noise. Both contexts have space for the whole prompt.
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
    """Measure plain and scored prefills with flash attention on and off.

    One context reads both prompts. After the plain one, all memory that llama.cpp uses is resident.
    So the growth of the peak during the scored one is due to scoring and compression.
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
