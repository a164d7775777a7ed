"""The ratio that ``kv_ratio="auto"`` takes: it holds what the reference says, and none below it
does.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import lookm_cpp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lookm_cpp import arrays
from reference import lookm_numpy as ref

from parity.cases import Prompt, prompts, raises_about

SCORED = [name for name, row in ref.METHODS.items() if row and row.scorer != "none"]
NO_SCORES = [name for name, row in ref.METHODS.items() if row and row.scorer == "none"]
EACH_METHOD = pytest.mark.parametrize("method", SCORED)


class Wanted(NamedTuple):
    """A prompt, read by some layers, and what its ratio must be."""

    prompt: Prompt
    n_layer: int
    floor: float
    ceiling: float
    quality: float

    def by(self, method: str) -> Wanted:
        scorer = self.prompt.options.scorer
        options = self.prompt.options._replace(
            method=method, scorer=None if scorer == "none" else scorer
        )
        return self._replace(prompt=self.prompt._replace(options=options))

    def layers(self) -> list[Prompt]:
        return [self.prompt._replace(seed=self.prompt.seed + 10 * i) for i in range(self.n_layer)]

    def scores(self) -> npt.NDArray[np.float32]:
        return np.stack([layer.scores() for layer in self.layers()])

    def squares(self) -> npt.NDArray[np.float32]:
        return np.stack([layer.squares() for layer in self.layers()])

    def is_text(self) -> npt.NDArray[np.bool_]:
        return self.prompt.is_text()

    def choose(self) -> tuple[float, float | None]:
        options: dict[str, Any] = {**self.prompt.keywords()}
        del options["important_ratio"], options["recent_ratio"]
        return arrays.choose_ratio(
            self.scores(),
            self.is_text(),
            squares=self.squares(),
            ratio_floor=self.floor,
            ratio_ceiling=self.ceiling,
            quality=self.quality,
            **options,
        )

    def held(self, ratio: float) -> float:
        """By the reference, for a fixed ratio; 1 keeps all, without rounding."""
        if ratio == 1.0:
            return 1.0
        share = lookm_cpp.methods()[self.prompt.options.method]["recent_share"]
        fixed = self.prompt.options._replace(
            important_ratio=ratio * (1 - share), recent_ratio=ratio * share
        )
        return ref.held(self.scores(), self.is_text(), fixed, self.squares())

    def candidates(self) -> list[float]:
        """The limits, and what lies between them in steps of a thousandth."""
        steps = range(1, 1000)
        between = [s / 1000 for s in steps if self.floor < s / 1000 < self.ceiling]
        return sorted({self.floor, *between, self.ceiling})

    def knows_question(self) -> bool:
        row = ref.method_of(self.prompt.options)
        return not (row and row.scorer == "window" and not self.is_text()[-1])


def wanted(limits: list[tuple[float, float]], max_n: int = 120) -> st.SearchStrategy[Wanted]:
    finite = prompts(max_n).map(
        lambda p: p._replace(draw="continuous" if p.draw == "special" else p.draw)
    )
    return st.builds(
        lambda prompt, n_layer, limit, quality: Wanted(
            prompt, n_layer, limit[0], limit[1], quality
        ),
        prompt=finite,
        n_layer=st.integers(1, 3),
        limit=st.sampled_from(limits),
        quality=st.one_of(st.floats(0.1, 1.0), st.just(0.98), st.just(1.0)),
    )


@EACH_METHOD
@settings(max_examples=25)
@given(case=wanted([(0.05, 0.5), (0.01, 1.0), (0.3, 0.3), (0.0512, 0.0518)]))
def test_the_share_held_is_the_references(method: str, case: Wanted) -> None:
    case = case.by(method)
    ratio, held = case.choose()
    assert case.floor <= ratio <= case.ceiling
    assert ratio in (case.floor, case.ceiling, round(ratio, 3))
    if not case.knows_question():
        assert (ratio, held) == (case.ceiling, None)
        return
    assert held == pytest.approx(case.held(ratio), abs=1e-9)
    assert held is not None
    assert held >= case.quality or ratio == case.ceiling


@EACH_METHOD
@settings(max_examples=12)
@given(case=wanted([(0.2, 0.214), (0.4, 0.4121), (0.0512, 0.06)]))
def test_no_smaller_ratio_holds_enough(method: str, case: Wanted) -> None:
    """Against every candidate. Where more cells hold less, the step below is what counts."""
    case = case.by(method)
    ratio, _ = case.choose()
    candidates = case.candidates()
    shares = [case.held(one) for one in candidates]
    at = candidates.index(ratio)
    if not case.knows_question():
        return
    near = min(abs(share - case.quality) for share in shares) < 1e-9  # sums may round either way
    if at > 0 and not near:
        assert shares[at - 1] < case.quality
    if shares == sorted(shares) and not near:
        enough = [
            one for one, share in zip(candidates, shares, strict=True) if share >= case.quality
        ]
        assert ratio == (enough[0] if enough else case.ceiling)


@EACH_METHOD
@settings(max_examples=15)
@given(case=wanted([(0.05, 0.5)]), other=st.floats(0.1, 1.0))
def test_a_higher_quality_holds_more(method: str, case: Wanted, other: float) -> None:
    case = case.by(method)
    low, high = (
        case._replace(quality=quality).choose() for quality in sorted((case.quality, other))
    )
    if low[1] is not None and high[1] is not None and high[0] < case.ceiling:
        assert high[1] >= max(case.quality, other) > 0
        assert low[1] >= min(case.quality, other) > 0
    if low[0] == case.ceiling and low[1] is not None and low[1] < min(case.quality, other):
        assert high == low


def test_attention_that_is_not_a_number_is_not_enough() -> None:
    scores = np.ones((2, 1, 100), np.float32)
    scores[1, 0, 3] = np.nan
    assert arrays.choose_ratio(scores, [True] * 100, method="h2o") == (0.5, None)


def test_heads_without_attention_have_nothing_to_lose() -> None:
    scores = np.zeros((2, 1, 100), np.float32)
    assert arrays.choose_ratio(scores, [True] * 100, method="h2o") == (0.05, 1.0)
    scores[0] = 1.0  # the mean of 1 and of what a tenth of the cells hold
    ratio, held = arrays.choose_ratio(scores, [True] * 100, method="h2o", quality=0.55)
    assert math.isclose(ratio, 0.1)
    assert held == pytest.approx(0.55)


@pytest.mark.parametrize("method", NO_SCORES)
def test_a_method_without_scores(method: str) -> None:
    with raises_about("kv_ratio", '"auto"', method, "expected a number in (0, 1]"):
        arrays.choose_ratio(np.ones((1, 1, 9)), [True] * 9, method=method)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"method": "origin"}, ("method", "origin", "evicts")),
        ({"scorer": "none"}, ("kv_ratio", '"auto"', 'scorer "none"')),
        ({"quality": 0.0}, ("quality", "0 is outside (0, 1]")),
        ({"quality": 1.01}, ("quality", "1.01 is outside (0, 1]")),
        ({"quality": math.nan}, ("quality", "nan")),
        ({"quality": "high"}, ("quality", "'high'", "a number")),
        ({"ratio_floor": 0.0}, ("ratio_floor", "0 is outside (0, 1]")),
        ({"ratio_ceiling": 1.5}, ("ratio_ceiling", "1.5 is outside (0, 1]")),
        ({"ratio_floor": 0.6}, ("ratio_floor", "0.6", "ratio_ceiling 0.5")),
        ({"method": "roco"}, ("squares", "None", "roco")),
    ],
)
def test_wrong_values(options: dict[str, Any], named: tuple[str, ...]) -> None:
    with raises_about(*named):
        arrays.choose_ratio(np.ones((1, 1, 9)), [True] * 9, **options)


def test_wrong_shapes() -> None:
    with raises_about("scores", "[2, 9]", "[n_layer, n_head_kv, n_kv]"):
        arrays.choose_ratio(np.ones((2, 9)), [True] * 9)
    with raises_about("is_text", "[8]", "[9]"):
        arrays.choose_ratio(np.ones((1, 1, 9)), [True] * 8)
    with raises_about("squares", "[1, 1, 8]", "[1, 1, 9]"):
        arrays.choose_ratio(
            np.ones((1, 1, 9)), [True] * 9, method="roco", squares=np.ones((1, 1, 8))
        )
