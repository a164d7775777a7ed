"""Draws decode speed by bytes and cost by prompt length, for light and for dark pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookm_cpp.bench.result_rows import Row, find
from lookm_cpp.plotting import Theme, draw_themed, legend, shade

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COST_RATIO = 0.2
MARKERS = "osD^vPX*"  # one for each length, so that a black and white print can be read
CACHES = {
    "f16": ("-", "full"),
    "q8_0": ("--", "none"),
    "q4_0": (":", "bottom"),
    "f16:q4_0": ("-.", "right"),
}


def draw_all(run: Mapping[str, Any], rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write ``decode-light.svg``, ``decode-dark.svg``, ``cost-light.svg`` and ``cost-dark.svg``.

    Raises:
        ImportError: matplotlib is not installed.
    """
    return [
        *draw_themed(partial(_decode, run, rows), folder, "decode"),
        *draw_themed(partial(_cost, run, rows), folder, "cost"),
    ]


def _panels(
    run: Mapping[str, Any], rows: Sequence[Row]
) -> tuple[Figure, list[tuple[Axes, str, list[Row]]]]:
    """One panel for each measured model."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    names = {row.model for row in rows}
    models = [model for model in run["models"] if model["name"] in names]
    n_columns = min(2, len(models))
    n_lines = -(-len(models) // n_columns)
    figure = Figure(figsize=(5.2 * n_columns, 3.7 * n_lines + 0.5), layout="constrained")
    plots = figure.subplots(n_lines, n_columns, squeeze=False).flat
    panels = []
    for axes, model in zip(plots, models, strict=False):
        axes.set_title(model["label"], fontsize=10)
        axes.grid(alpha=0.6)
        panels.append((axes, model["name"], [row for row in rows if row.model == model["name"]]))
    for axes in list(plots)[len(models) :]:
        axes.set_visible(False)
    return figure, panels


def _decode(run: Mapping[str, Any], rows: Sequence[Row], theme: Theme) -> Figure:
    """Speed relative to the full f16 cache by the fraction of its bytes; bars are quartiles."""
    figure, panels = _panels(run, rows)
    lengths = sorted({row.cells for row in rows})

    def shade_of(cells: int) -> Any:
        return shade(theme, lengths.index(cells) / max(1, len(lengths) - 1))

    for axes, name, here in panels:
        for cells, marker in zip(lengths, MARKERS, strict=False):
            full = find(here, name, cells, "f16", 1.0)
            for cache, (style, fill) in CACHES.items():
                line = sorted(
                    (r for r in here if (r.cells, r.cache) == (cells, cache)),
                    key=lambda row: row.kv_bytes,
                )
                if not line or full is None:
                    continue
                times = [row.times_full for row in line]
                bars = [[t.median - t.low for t in times], [t.high - t.median for t in times]]
                axes.errorbar(
                    [100 * row.kv_bytes / full.kv_bytes for row in line],
                    [t.median for t in times],
                    bars,
                    fmt=style,
                    color=shade_of(cells),
                    marker=marker,
                    markersize=5,
                    fillstyle=fill,
                    markerfacecoloralt=theme["paper"],
                    elinewidth=0.7,
                )
        axes.axhline(1, color=theme["ink"], linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks([5, 10, 20, 35, 50, 100], ["5", "10", "20", "35", "50", "100"])
        axes.minorticks_off()
        axes.set_xlabel("% of the full f16 cache's bytes")
        axes.set_ylabel("decode, times as fast")
    named: dict[str, dict[str, Any]] = {
        "the full f16 cache": {"color": theme["ink"], "linewidth": 0.8}
    }
    named |= {
        f"{n} cells": {"color": shade_of(n), "marker": mark}
        for n, mark in zip(lengths, MARKERS, strict=False)
    }
    for cache, (style, fill) in CACHES.items():
        if any(row.cache == cache for row in rows):
            named[cache] = {
                "color": theme["ink"],
                "linestyle": style,
                "marker": "o",
                "fillstyle": fill,
            }
    legend(figure, named, theme)
    return figure


def _cost(run: Mapping[str, Any], rows: Sequence[Row], theme: Theme) -> Figure:
    """Seconds of prefill, scoring, compression and 100 tokens by length, with about 20 % kept."""
    figure, panels = _panels(run, rows)
    parts: tuple[tuple[str, Callable[[Row], float], str, float], ...] = (
        ("prefill", lambda row: row.prefill, "o", 0.0),
        ("scoring", lambda row: row.score, "s", 0.33),
        ("compression", lambda row: row.compress, "D", 0.67),
        ("100 tokens of answer", lambda row: 100 * row.per_token, "^", 1.0),
    )
    for axes, _, here in panels:
        compressed = [
            row for row in here if row.times_native is not None and row.cache == "f16"
        ] or here
        ratio = min({row.kv_ratio for row in compressed}, key=lambda r: abs(r - COST_RATIO))
        line = sorted(
            (row for row in compressed if row.kv_ratio == ratio), key=lambda row: row.cells
        )
        for _, seconds, marker, at in parts:
            shown = [(row.cells, seconds(row)) for row in line if seconds(row) > 0]
            if shown:
                x, y = zip(*shown, strict=True)
                axes.plot(x, y, color=shade(theme, at), marker=marker)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        lengths = sorted({row.cells for row in line})
        axes.set_xticks(lengths, [str(n) for n in lengths])
        axes.set_xlabel("prompt, cells")
        axes.set_ylabel(f"seconds, {100 * ratio:g} % of the cells kept")
    named = {label: {"color": shade(theme, at), "marker": marker} for label, _, marker, at in parts}
    legend(figure, named, theme)
    return figure
