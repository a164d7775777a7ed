"""The style of plots by matplotlib, light and dark; the same figures give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Theme = Mapping[str, Any]

THEMES: Mapping[str, Theme] = {
    "light": {"paper": "white", "ink": "#1f2328", "grid": "#d0d7de", "map": (0.08, 0.72)},
    "dark": {"paper": "#0d1117", "ink": "#e6edf3", "grid": "#30363d", "map": (0.3, 0.98)},
}
NO_PLOTS = "no plots, which need `pip install matplotlib`"


def draw_themed(draw: Callable[[Theme], Figure], folder: Path, name: str) -> list[Path]:
    """Write ``NAME-light.svg`` and ``NAME-dark.svg``; ``draw`` makes the figure for a theme.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl  # noqa: PLC0415

    written = []
    for theme_name, theme in THEMES.items():
        style: Any = {"svg.hashsalt": "lookm", "grid.color": theme["grid"]}
        style |= dict.fromkeys(
            ("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme["paper"]
        )
        style |= dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), theme["ink"])
        style |= dict.fromkeys(("xtick.color", "ytick.color"), theme["ink"])
        with mpl.rc_context(style):
            path = folder / f"{name}-{theme_name}.svg"
            draw(theme).savefig(path, metadata={"Date": None})
            written.append(path)
    return written


def shade(theme: Theme, at: float) -> Any:
    """A colour of the theme's scale, with ``at`` from 0 to 1."""
    import matplotlib as mpl  # noqa: PLC0415

    low, high = theme["map"]
    return mpl.colormaps["viridis"](low + at * (high - low))


def legend(
    figure: Figure,
    looks: Mapping[str, Mapping[str, Any]],
    theme: Theme,
    n_columns: int | None = None,
) -> None:
    """Draw a legend below the panels, with a line or marker for each name."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    lines = [
        Line2D([], [], markerfacecoloralt=theme["paper"], markersize=5, label=k, **look)
        for k, look in looks.items()
    ]
    columns = n_columns or len(lines)
    figure.legend(
        handles=lines, loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
