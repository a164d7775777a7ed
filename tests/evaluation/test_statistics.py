"""Means, intervals and records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lookm_cpp.evaluation.records import Records
from lookm_cpp.evaluation.statistics import Interval, Scores, mean_of, scores_of


def test_interval_against_a_bootstrap_by_hand() -> None:
    """Contexts drawn one by one in a loop give the same interval, to the noise of so many draws."""
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2, (30, 3)).astype(float)
    values[rng.random((30, 3)) < 0.2] = np.nan
    other = np.where(np.isnan(values), np.nan, rng.integers(0, 2, (30, 3)))
    found = Scores(values).minus(Scores(other))
    means = []
    for _ in range(4000):
        drawn = rng.integers(0, 30, 30)
        means.append(
            100 * np.mean([np.nanmean((values - other)[drawn, task]) for task in range(3)])
        )
    low, high = np.percentile(means, (2.5, 97.5))
    assert found.mean == pytest.approx(100 * np.mean(np.nanmean(values, 0) - np.nanmean(other, 0)))
    assert found.low == pytest.approx(low, abs=1.5)
    assert found.high == pytest.approx(high, abs=1.5)
    assert found.low < found.mean < found.high


def test_pairing_takes_out_what_both_have_in_common() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random((40, 1)) < 0.5
    scores = Scores(np.where(hard, 0.0, 1.0))
    assert scores.minus(scores).high == 0
    worse = Scores(np.where(hard, 0.0, 0.9))
    change = worse.minus(scores)
    assert change.sign == -1
    assert change.high - change.low < 5, "unpaired it would be 20 points wide"


def test_a_task_counts_as_much_as_another() -> None:
    scores = scores_of(
        [(0, "a", 1.0), (1, "a", 1.0), (2, "a", 1.0), (0, "b", 0.0)], [0, 1, 2], ["a", "b"]
    )
    assert scores.by_task() == [100, 0]
    assert scores.mean() == 50


def test_records_go_on(tmp_path: Path) -> None:
    path = tmp_path / "new" / "records.jsonl"
    run = {"suite": "tiny", "seed": 0}
    with Records(path, run) as records:
        records.add([{"x": 1}, {"x": "é\u2028\u0085"}])  # line ends to Python, not to JSONL
    with path.open("ab") as file:
        file.write(b'{"x": 3, "cut')
    with Records(path, run) as records:
        assert records.all == [{"x": 1}, {"x": "é\u2028\u0085"}]
        records.add([{"x": 4}])
    lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    assert lines == [{"run": run}, {"x": 1}, {"x": "é\u2028\u0085"}, {"x": 4}]


def test_records_of_another_run(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with Records(path, {"seed": 0}):
        pass
    with pytest.raises(ValueError, match="belongs to another run"):
        Records(path, {"seed": 1})
    with pytest.raises(ValueError, match="is a directory, expected a file of records"):
        Records(tmp_path, {"seed": 0})
    path.write_text("not JSON\n")
    with pytest.raises(ValueError, match="not a file of records"):
        Records(path, {"seed": 0})
    assert path.read_text() == "not JSON\n"


def test_the_interval_of_a_mean_against_prompts_drawn_in_a_loop() -> None:
    rng = np.random.default_rng(2)
    values = rng.exponential(0.3, 25)
    found = mean_of(values)
    means = [np.mean(values[rng.integers(0, 25, 25)]) for _ in range(4000)]
    low, high = np.percentile(means, (2.5, 97.5))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)
    assert mean_of(np.array([0.5])) == Interval(0.5, 0.5, 0.5)
