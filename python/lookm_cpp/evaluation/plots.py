"""Figures of scores against kept bytes, a line for each method, light and dark."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lookm_cpp.compression import METHOD, PAPER_METHOD
from lookm_cpp.evaluation.arms import CACHES, FULL, RANDOM, TEXT_ONLY
from lookm_cpp.evaluation.report import LEAST_CONTEXTS
from lookm_cpp.plotting import NO_PLOTS, Theme, draw_themed, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colour and marker of each name, the same in every plot. Colours can be told apart on white and on
# black, markers in a black-and-white print. A name that is not here is a variant, and looks like
# the method that its name begins with.
LOOKS = {
    "h2o": ("#e07b39", "o"),
    "snapkv": ("#b15fc4", "s"),
    "roco": ("#a8763e", "D"),
    "avg_merge": ("#5aa9e6", "^"),
    "weighted_merge": ("#3dbdb0", "v"),
    "pivot_merge": ("#7bc47f", "P"),
    "text_prior_h2o": ("#d9a514", "*"),
    "text_prior_avg_merge": ("#2f6fd0", "<"),
    "text_prior_weighted_merge": ("#128a83", ">"),
    PAPER_METHOD: ("#2a9d5c", "X"),
    METHOD: ("#d8342b", "d"),
    RANDOM: ("ink", "p"),
    "streaming_llm": ("ink", "+"),
    TEXT_ONLY: ("ink", "x"),
}
PLACES = {
    "after": "after the whole prompt",
    "before": "before the question",
    "turns": "after every turn",
}
FULL_LABEL = "the full cache in f16; | in another type"
MIB = "KV, MiB"
SHARE = "% of the full f16 cache's bytes"
MAIN = (PAPER_METHOD, METHOD)
CONTROLS = {RANDOM: "--", "streaming_llm": ":", TEXT_ONLY: "None"}
STYLES = dict(zip(CACHES, ("-", "--", ":", "-."), strict=True))
TICKS = [digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5)]


@dataclass(frozen=True)
class Point:
    """The score of one arm.

    Attributes:
        panel: Title of the panel that it belongs to.
        name: The method, or the name of a control.
        cache: Type of its K and V cache.
        budget: Its budget. The points of a line differ in it; a point without one is not part of a
            line.
        x: Bytes kept, in the plot's unit.
        score: Score, of 100.
        low: Lower end of its interval, if it has one.
        high: Upper end.
    """

    panel: str
    name: str
    cache: str
    budget: float | None
    x: float
    score: float
    low: float | None = None
    high: float | None = None


def draw_beside(output: Path | None, points: Sequence[Point], unit: str) -> None:
    """Draw ``NAME-light.svg`` and ``NAME-dark.svg`` next to ``output``, and say so on stderr.

    Args:
        output: The run's file of records. Without one, nothing is drawn.
        points: The points, with a panel for each title in their order. The full f16 cache of a
            panel is a line across it.
        unit: Unit of ``x``, the label of the axes.
    """
    if output is None:
        return
    try:
        paths = draw_themed(partial(_scores, points, unit), output.parent, output.stem)
        drawn = f"Drawn in {output.parent}: {', '.join(path.name for path in paths)}."
    except ImportError:
        drawn = f"Drawn: {NO_PLOTS}."
    except OSError as error:
        drawn = f"Drawn: no plots, {error}."
    sys.stderr.write(f"{drawn}\n")


def suite_points(rows: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Points of rows as ``--json`` prints them, with ``x`` in % of the full f16 cache.

    There is a panel for each place and type of cache.
    """
    points = []
    for place in dict.fromkeys(row["place"] for row in rows):
        here = [row for row in rows if row["place"] == place]
        full = next(row for row in here if (row["name"], row["cache"]) == (FULL, "f16"))
        for cache in dict.fromkeys(row["cache"] for row in here):
            for row in here:
                if row["cache"] == cache or row is full:
                    known = (f"{cache}, {PLACES[place]}", row["name"], row["cache"], row["budget"])
                    ends = [full["score"] + row["against_full"][end] for end in ("low", "high")]
                    interval = ends if row["contexts"] >= LEAST_CONTEXTS else []
                    points.append(Point(*known, 100 * row["bytes_share"], row["score"], *interval))
    return points


def milebench_points(rows: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Points of rows as ``--json`` prints them: means over the data sets, with ``x`` in MiB."""
    return [
        Point(
            f"MileBench, mean of {len(row['datasets'])} data sets",
            row["method"],
            row["cache"],
            row["ratio"],
            row["kv_bytes"] / (1 << 20),
            fmean(row["datasets"].values()),
        )
        for row in rows
    ]


def _scores(points: Sequence[Point], unit: str, theme: Theme) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415

    titles = list(dict.fromkeys(point.panel for point in points))
    n_columns = min(4 if len(titles) % 4 == 0 else 3, len(titles))
    n_lines = -(-len(titles) // n_columns)
    # the legend below is wider than a single panel
    width = 4.2 * n_columns if n_columns > 1 else 5.6
    figure = Figure(figsize=(width, 3.3 * n_lines + 1.0), layout="constrained")
    plots = list(figure.subplots(n_lines, n_columns, squeeze=False, sharex=True, sharey=True).flat)
    looks = {name: _look(name, theme) for name in _names(points)}
    caches = list(dict.fromkeys(point.cache for point in points))
    mixed = len({(point.panel, point.cache) for point in points if point.name != FULL}) > len(
        titles
    )
    for axes, title in zip(plots, titles, strict=False):
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.6)
        _panel(axes, [point for point in points if point.panel == title], looks, theme, mixed=mixed)
    for axes in plots[len(titles) :]:
        axes.set_visible(False)
    for axes in plots[: len(titles)][-n_columns:]:
        axes.set_xlabel(unit)
        axes.tick_params(labelbottom=True)
    for axes in plots[::n_columns]:
        axes.set_ylabel("score")
    plots[0].set_ylim(-3, 109)
    plots[0].set_xscale("log")
    low, high = (end(point.x for point in points) for end in (min, max))
    ticks = [tick for tick in TICKS if low / 1.2 <= tick <= 1.2 * high]
    plots[0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    plots[0].minorticks_off()
    if mixed:
        looks |= {
            cache: {"color": theme["ink"], "linestyle": STYLES.get(cache, "-.")} for cache in caches
        }
    looks[FULL_LABEL] = {"color": theme["ink"], "linewidth": 0.8}
    legend(figure, looks, theme, n_columns + 1)
    return figure


def _names(points: Sequence[Point]) -> list[str]:
    """The names in their order, without the full cache."""
    return list(dict.fromkeys(point.name for point in points if point.name != FULL))


def _look(name: str, theme: Theme) -> dict[str, Any]:
    known = name if name in LOOKS else max((k for k in LOOKS if name.startswith(k)), key=len)
    colour, marker = LOOKS[known]
    return {
        "color": theme["ink"] if colour == "ink" else colour,
        "marker": marker,
        "linestyle": CONTROLS.get(name, "-" if name == known else "-."),
        "linewidth": 2.2 if name in MAIN else 1.0,
    }


def _panel(
    axes: Axes, points: Sequence[Point], looks: Mapping[str, Any], theme: Theme, *, mixed: bool
) -> None:
    for name, cache in dict.fromkeys(
        (point.name, point.cache) for point in points if point.name != FULL
    ):
        line = sorted(
            (p for p in points if (p.name, p.cache) == (name, cache)),
            key=lambda point: point.budget or 0,
        )
        look = dict(looks[name])
        if mixed and look["linestyle"] != "None":
            look["linestyle"] = STYLES.get(cache, "-.")
        axes.plot([p.x for p in line], [p.score for p in line], markersize=4, **look)
        for point in line:
            if point.low is not None and point.high is not None:
                axes.vlines(
                    point.x, point.low, point.high, color=look["color"], linewidth=0.6, alpha=0.6
                )
    for point in points:
        if point.name == FULL and point.cache == "f16":
            axes.axhline(point.score, color=theme["ink"], linewidth=0.8)
        elif point.name == FULL:
            axes.plot(point.x, point.score, "|", markersize=9, color=theme["ink"])
            axes.annotate(
                f"all in {point.cache}", (point.x, point.score + 4), ha="center", fontsize=7
            )
