"""What stands in the plots of an evaluation: coordinates that can be worked out by hand."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lookm_cpp.evaluation import plots
from lookm_cpp.evaluation.arms import known_methods, make_arms
from lookm_cpp.plotting import THEMES
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Capture = pytest.CaptureFixture[str]


def _row(
    place: str, name: str, cache: str, budget: float | None, share: float, score: float
) -> dict[str, Any]:
    change = score - 90
    return {
        "place": place,
        "name": name,
        "cache": cache,
        "budget": budget,
        "contexts": 42,
        "bytes_share": share,
        "score": score,
        "against_full": {"mean": change, "low": change - 4, "high": change + 2},
    }


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    rows = []
    for place in ("after", "before"):
        rows += [
            _row(place, "full cache", "f16", None, 1.0, 90.0),
            _row(place, "text cells only", "f16", None, 0.1, 30),
        ]
        rows += [_row(place, "full cache", "q8_0", None, 0.53, 88.0)]
        rows += [
            _row(place, "lookm_plus", cache, b, b, 100 * b)
            for cache in ("f16", "q8_0")
            for b in (0.2, 0.5)
        ]
    rows.append(_row("after", "random", "f16", 0.2, 0.2, 25.0))
    return rows


def _figure(points: list[plots.Point], unit: str) -> Figure:
    return plots._scores(points, unit, THEMES["light"])


def _lines(axes: Axes) -> list[list[list[float]]]:
    return [np.asarray(line.get_xydata()).tolist() for line in axes.get_lines()]


def test_a_suite_has_a_panel_for_each_cache_type_and_place(rows: list[dict[str, Any]]) -> None:
    points = plots.suite_points(rows)
    # each interval is that of the change, around the full cache's 90
    assert {(p.low, p.high) for p in points if p.name == "random"} == {(21.0, 27.0)}
    figure = _figure(points, plots.SHARE)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [
        "f16, after the whole prompt",
        "q8_0, after the whole prompt",
        "f16, before the question",
        "q8_0, before the question",
    ]
    for axes in panels:
        assert [[20.0, 20.0], [50.0, 50.0]] in _lines(axes), (
            "shares in percent, in the order of the budgets"
        )
        assert _lines(axes).count([[0.0, 90.0], [1.0, 90.0]]) == 1, (
            "the full f16 cache lies across every panel"
        )
    assert [[53.0, 88.0]] in _lines(panels[1])
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["text cells only", "lookm_plus", "random", plots.FULL_LABEL]


def test_milebench_has_one_panel_of_mean_scores() -> None:
    def row(
        method: str, cache: str, ratio: float | None, mib: float, *scores: float
    ) -> dict[str, Any]:
        datasets = dict(zip("ab", scores, strict=True))
        return {
            "method": method,
            "cache": cache,
            "ratio": ratio,
            "kv_bytes": mib * 2**20,
            "datasets": datasets,
        }

    rows = [row("full cache", "f16", None, 8, 60, 70)]
    rows += [
        row("h2o", "f16", 0.5, 4, 50, 60),
        row("h2o", "f16", 0.2, 1.6, 20, 60),
        row("h2o", "q8_0", 0.5, 2, 50, 50),
    ]
    figure = _figure(plots.milebench_points(rows), plots.MIB)
    (axes,) = figure.axes
    assert axes.get_title() == "MileBench, mean of 2 data sets"
    assert _lines(axes)[:2] == [[[1.6, 40.0], [4.0, 55.0]], [[2.0, 50.0]]]
    assert [line.get_linestyle() for line in axes.get_lines()[:2]] == ["-", "--"], (
        "types of cache in one panel"
    )
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["h2o", "f16", "q8_0", plots.FULL_LABEL]


def test_every_arm_has_a_look() -> None:
    names = {arm.name for arm in make_arms(known_methods(), [0.2], ["f16"])} - {"full cache"}
    looks = {name: plots._look(name, THEMES["dark"]) for name in names}
    assert len(
        {(look["color"], look["marker"], look["linestyle"]) for look in looks.values()}
    ) == len(names)
    assert len({marker for _, marker in plots.LOOKS.values()}) == len(plots.LOOKS)


def test_plots_are_light_and_dark_and_the_same_bytes_again(
    rows: list[dict[str, Any]], tmp_path: Path, capfd: Capture
) -> None:
    points = plots.suite_points(rows)
    plots.draw_beside(None, points, plots.SHARE)
    assert capfd.readouterr() == ("", "")
    texts = []
    for _ in range(2):
        plots.draw_beside(tmp_path / "run.jsonl", points, plots.SHARE)
        texts.append(
            [
                (tmp_path / f"run-{theme}.svg").read_text(encoding="utf-8")
                for theme in ("light", "dark")
            ]
        )
    assert texts[0] == texts[1], "the same figures, the same bytes"
    assert ["#0d1117" in text for text in texts[0]] == [False, True]
    assert capfd.readouterr().err.count(f"Drawn in {tmp_path}: run-light.svg, run-dark.svg.") == 2


def test_without_matplotlib_nothing_is_drawn_and_the_package_is_named(
    rows: list[dict[str, Any]], tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    plots.draw_beside(tmp_path / "run.jsonl", plots.suite_points(rows), plots.SHARE)
    assert "pip install matplotlib" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())
