"""Draws ``how_it_works.svg``: LOOK-M on a prompt of 32 cells.

    python docs/picture.py [--png PREVIEW.png]

The cells are computed by the code that compresses a session's cache. Needs the package and
``matplotlib``. The same versions draw the same bytes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from lookm_cpp import arrays
from lookm_cpp.compression import PAPER_METHOD
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

TEXT, IMAGE_1, IMAGE_2 = "#0072B2", "#E69F00", "#009E73"
"""Of Okabe and Ito's palette, which colour-blind readers can tell apart."""
INK, SOFT, BAR = "#222222", "#666666", "#8a8a8a"
SEGMENTS = (
    ("text", 3, TEXT),
    ("image 1", 11, IMAGE_1),
    ("text", 2, TEXT),
    ("image 2", 11, IMAGE_2),
)
QUESTION = ("question", 5, TEXT)
LIKED = {0: 0.4, 5: 0.5, 10: 0.45, 19: 0.75, 24: 0.8}
"""The cells that get most attention: the first, as in real prompts, and two of each image."""
SIDE = 0.86
"""Of a cell; cells lie one apart."""


@dataclass(frozen=True)
class Example:
    """One head's prompt and what became of it: ``[n_kv]`` each, and ``kept`` ascending."""

    scores: npt.NDArray[np.float32]
    is_text: npt.NDArray[np.bool_]
    kept: npt.NDArray[np.int32]
    merged_into: npt.NDArray[np.int32]
    n_recent: int


def example(seed: int = 0) -> Example:
    """Each image shows two things of a few cells, whose keys resemble each other.

    All queries like the same cells. The first number of a key says how much it is liked: it is too
    small to matter for similarity, but large in queries.
    """
    segments = (*SEGMENTS, QUESTION)
    rng = np.random.default_rng(seed)
    rows = []
    for name, size, _ in segments:
        things = 2 if name.startswith("image") else size
        centres = rng.standard_normal((things, 16)) + rng.standard_normal(16)
        rows.append(
            centres[np.arange(size) * things // size] + 0.45 * rng.standard_normal((size, 16))
        )
    k = np.concatenate(rows)[np.newaxis].astype(np.float32)
    n_kv = k.shape[1]
    k[..., 0] = rng.uniform(0.0, 0.2, n_kv)
    k[0, list(LIKED), 0] = list(LIKED.values())
    q = 0.12 * rng.standard_normal(k.shape)
    q[..., 0] = 4.0
    scores = arrays.scores(q, k, scale=1.0)
    is_text = np.concatenate([np.full(size, colour == TEXT) for _, size, colour in segments])
    n_recent = QUESTION[1]
    ratios = {"important_ratio": 9.5 / n_kv, "recent_ratio": (n_recent + 0.5) / n_kv}
    _, _, kept, merged_into = arrays.compress(k, k, scores, is_text, method=PAPER_METHOD, **ratios)
    return Example(scores[0], is_text, kept[0], merged_into[0], n_recent)


def colours() -> list[str]:
    """Of every cell."""
    return [colour for _, size, colour in (*SEGMENTS, QUESTION) for _ in range(size)]


def cell(ax: Axes, x: float, y: float, **style: Any) -> None:
    """The lower left corner of its slot is at ``x, y``."""
    margin = (1 - SIDE) / 2
    ax.add_patch(Rectangle((x + margin, y), SIDE, SIDE, **style))


def title(ax: Axes, x: float, y: float, number: int, text: str) -> None:
    """A step's line."""
    ax.text(x + 0.07, y, str(number), weight="bold", size=11, va="baseline")
    ax.text(x + 1.1, y, text, size=10.5, va="baseline")


def draw_prompt(ax: Axes, y: float, found: Example) -> None:
    """Cells, their scores as bars on top, their kinds below."""
    bars = 2.4 * found.scores / found.scores.max()
    for x, colour in enumerate(colours()):
        cell(ax, x, y, facecolor=colour)
        ax.add_patch(Rectangle((x + 0.2, y + 1.08), 0.6, float(bars[x]), facecolor=BAR))
    start = 0
    for name, size, _ in (*SEGMENTS, QUESTION):
        ax.text(start + size / 2, y - 0.22, name, size=9.5, ha="center", va="top")
        start += size


def draw_merge(ax: Axes, y: float, found: Example) -> None:
    """Kept cells are full, others hollow, with an arrow to the kept cell that takes them in."""
    kept = set(found.kept.tolist())
    for x, colour in enumerate(colours()):
        if x in kept:
            cell(ax, x, y, facecolor=colour)
        else:
            cell(
                ax,
                x,
                y,
                facecolor="white",
                edgecolor=colour,
                linewidth=1.0,
                linestyle=(0, (2, 1.5)),
            )
    for x, pivot in enumerate(found.merged_into.tolist()):
        if pivot >= 0:
            bend = 0.5 if pivot < x else -0.5
            ax.add_patch(
                FancyArrowPatch(
                    (x + 0.5, y + SIDE + 0.06),
                    (pivot + 0.5, y + SIDE + 0.06),
                    connectionstyle=f"arc3,rad={bend}",
                    arrowstyle="-|>,head_length=3.2,head_width=1.5",
                    linewidth=0.8,
                    color=INK,
                    shrinkA=0,
                    shrinkB=0,
                )
            )
    n_kv = len(found.scores)
    ax.plot([n_kv - found.n_recent + 0.07, n_kv - 0.07], [y + 1.12] * 2, color=INK, linewidth=1.2)
    ax.text(n_kv - found.n_recent / 2, y + 1.3, "recent window", size=9.5, ha="center", va="bottom")


def draw_cache(ax: Axes, y: float, found: Example, above: float) -> None:
    """Kept cells side by side, each with the number of cells it took in."""
    colour = colours()
    for x, old in enumerate(found.kept.tolist()):
        ax.plot(
            [old + 0.5, x + 0.5], [above - 0.1, y + SIDE + 0.1], color=colour[old], linewidth=0.8
        )
        cell(ax, x, y, facecolor=colour[old])
        taken = int((found.merged_into == old).sum())
        if taken:
            ax.text(
                x + 0.5, y + SIDE / 2, f"+{taken}", size=9, weight="bold", ha="center", va="center"
            )


def draw(found: Example) -> Figure:
    """The whole picture."""
    n_kv, n_keep = len(found.scores), len(found.kept)
    figure = Figure(figsize=(9, 4.2), facecolor="white")
    ax = figure.add_axes((0.015, 0.0, 0.97, 1.0))
    ax.set(xlim=(0, n_kv), ylim=(0, n_kv * 4.2 / (9 * 0.97)), aspect="equal")
    ax.axis("off")
    step_2 = (
        "Keep all text, the best image cells and the recent window. "
        "Merge the rest into the most similar kept cell."
    )
    title(
        ax,
        0,
        14.3,
        1,
        "Read the prompt with the full cache. Bars: the attention that each cell received.",
    )
    draw_prompt(ax, 10.3, found)
    title(ax, 0, 7.8, 2, step_2)
    draw_merge(ax, 4.9, found)
    draw_cache(ax, 0.6, found, 4.9)
    title(ax, n_keep + 1, 1.15, 3, f"Answer with {n_keep} cells instead of {n_kv}.")
    ax.text(
        n_keep + 2.1, 0.35, "+n: cells merged into this one", size=9.5, color=SOFT, va="baseline"
    )
    return figure


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw how_it_works.svg beside this file.")
    parser.add_argument("--png", type=Path, help="a preview, twice as fine as a page shows it")
    args = parser.parse_args()
    mpl.rcParams.update(
        {"svg.hashsalt": "lookm_cpp", "font.family": "DejaVu Sans", "text.color": INK}
    )
    figure = draw(example())
    figure.savefig(
        Path(__file__).with_name("how_it_works.svg"), metadata={"Date": None, "Creator": None}
    )
    if args.png:
        figure.savefig(args.png, dpi=200)


if __name__ == "__main__":
    main()
