"""Means over tasks with confidence intervals, by a paired bootstrap over contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

N_RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """A difference of two means in points of 100, and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 if the interval excludes zero, otherwise 0."""
        return (self.low > 0) - (self.high < 0)


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def mean_of(values: npt.NDArray[np.float64], seed: int = 0) -> Interval:
    """The mean of one value for each prompt; the bootstrap draws prompts."""
    drawn = _resampled(values[:, None], seed) / 100
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


class Scores:
    """Scores in [0, 1] of the same prompts, ``[n_contexts, n_tasks]``; NaN for questions not asked.

    Questions about one context are not independent, so the bootstrap draws contexts.
    """

    def __init__(self, values: npt.NDArray[np.float64]) -> None:
        self.values = values

    def by_task(self) -> list[float]:
        """Mean of each task in points of 100."""
        return [float(mean) for mean in 100 * np.nanmean(self.values, axis=0)]

    def mean(self) -> float:
        """Mean of the tasks' means."""
        return float(np.mean(self.by_task()))

    def minus(self, other: Scores, seed: int = 0) -> Difference:
        """This mean minus another one's, on the same prompts."""
        drawn = _resampled(self.values - other.values, seed)
        low, high = np.percentile(drawn, (2.5, 97.5))
        return Difference(self.mean() - other.mean(), float(low), float(high))


def _resampled(differences: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """The mean of tasks' means ``[N_RESAMPLES]`` if contexts are drawn with replacement."""
    n = len(differences)
    asked = ~np.isnan(differences)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES).astype(np.float64)
    totals = weights @ np.where(asked, differences, 0.0)
    counts = weights @ asked
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * np.nanmean(totals / counts, axis=1))


def scores_of(
    found: Sequence[tuple[int, str, float]], contexts: Sequence[int], tasks: Sequence[str]
) -> Scores:
    """Scores from (context, task, score) triples; missing ones are NaN.

    >>> scores_of([(7, "a", 1.0), (8, "a", 0.0), (8, "b", 1.0)], [7, 8], ["a", "b"]).by_task()
    [50.0, 100.0]
    """
    values = np.full((len(contexts), len(tasks)), np.nan)
    rows, columns = ({name: i for i, name in enumerate(names)} for names in (contexts, tasks))
    for context, task, score in found:
        values[rows[context], columns[task]] = score
    return Scores(values)
