"""Which cells stay: the C++ choice equals the reference, cell by cell, and obeys the laws of every method."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from lookm_cpp import arrays
from reference import lookm_numpy as ref

from parity.cases import Keywords, Prompt, prompts, raises_about

METHODS = list(ref.METHODS)
EACH_METHOD = pytest.mark.parametrize("method", METHODS)


@EACH_METHOD
@settings(max_examples=50)
@given(prompt=prompts())
def test_select_equals_the_reference(method: str, prompt: Prompt) -> None:
    prompt = prompt.by(method)
    kept = arrays.select(prompt.scores(), prompt.is_text(), **prompt.keywords())
    assert kept.dtype == np.int32
    np.testing.assert_array_equal(kept, ref.select(prompt.scores(), prompt.is_text(), prompt.options))


@EACH_METHOD
@settings(max_examples=30)
@given(prompt=prompts())
def test_kept_cells_obey_the_laws(method: str, prompt: Prompt) -> None:
    prompt = prompt.by(method)
    n, is_text = prompt.n, prompt.is_text()
    kept = arrays.select(prompt.scores(), is_text, **prompt.keywords())
    n_important = math.floor(prompt.options.important_ratio * n)
    n_recent = math.floor(prompt.options.recent_ratio * n)

    assert (np.diff(kept, axis=1) > 0).all(), "ascending, none twice"
    assert ((kept >= 0) & (kept < n)).all()
    assert (kept[:, kept.shape[1] - n_recent :] == np.arange(n - n_recent, n)).all(), "the recent window stays"
    if method == "origin":
        assert kept.shape[1] == n
    elif not (method.startswith("text_prior") and prompt.options.text_overflow == "keep"):
        assert kept.shape[1] == max(n_important + n_recent, 1), "the budget is exact"
    else:
        text_before = np.flatnonzero(is_text[: n - n_recent])
        assert kept.shape[1] == max(max(n_important, len(text_before)) + n_recent, 1)
        assert all(np.isin(text_before, row).all() for row in kept), "no text is evicted"


@EACH_METHOD
@settings(max_examples=20)
@given(prompt=prompts())
def test_heads_choose_alone(method: str, prompt: Prompt) -> None:
    """Permuting heads permutes the result; a head alone chooses as it does among others."""
    prompt = prompt.by(method)
    scores, is_text = prompt.scores(), prompt.is_text()
    order = np.random.default_rng(prompt.seed).permutation(prompt.n_head_kv)
    kept = arrays.select(scores, is_text, **prompt.keywords())
    np.testing.assert_array_equal(arrays.select(scores[order], is_text, **prompt.keywords()), kept[order])
    np.testing.assert_array_equal(arrays.select(scores[:1], is_text, **prompt.keywords()), kept[:1])


@EACH_METHOD
@settings(max_examples=20)
@given(prompt=prompts())
def test_only_the_order_of_scores_counts(method: str, prompt: Prompt) -> None:
    """Halving is exact in f32, so it changes no rank; nor does a method look at scores inside the recent window."""
    prompt = prompt.by(method)
    scores, is_text = prompt.scores(), prompt.is_text()
    kept = arrays.select(scores, is_text, **prompt.keywords())
    n_recent = math.floor(prompt.options.recent_ratio * prompt.n)
    other = scores / 2
    other[:, prompt.n - n_recent :] = np.nan
    np.testing.assert_array_equal(arrays.select(other, is_text, **prompt.keywords()), kept)


@pytest.mark.parametrize("method", [name for name in METHODS if name.startswith("text_prior")])
def test_nothing_left_to_evict(method: str) -> None:
    scores = np.ones((2, 50), dtype=np.float32)
    kept = arrays.select(scores, np.ones(50, dtype=np.bool_), method=method)
    assert kept.tolist() == [list(range(50))] * 2


@EACH_METHOD
def test_a_full_budget_keeps_all(method: str) -> None:
    kept = arrays.select(
        np.ones((1, 7), dtype=np.float32), np.arange(7) < 3, method=method, important_ratio=1.0, recent_ratio=0.0
    )
    assert kept.tolist() == [list(range(7))]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "origin"])
def test_a_cache_is_never_emptied(method: str) -> None:
    """A tenth of three cells is none; the last one stays."""
    assert arrays.select(np.array([[3, 2, 1]]), np.zeros(3, dtype=np.bool_), method=method).tolist() == [[2]]


@EACH_METHOD
def test_ties_go_to_the_lower_cell(method: str) -> None:
    kept = arrays.select(
        np.ones((1, 40), dtype=np.float32), np.zeros(40, dtype=np.bool_), method=method, recent_ratio=0.1
    )
    assert kept.tolist() == [list(range(40)) if method == "origin" else [0, 1, 2, 3, 36, 37, 38, 39]]


@pytest.mark.parametrize("method", ["h2o", "pivot_merge", "text_prior_pivot_merge"])
def test_nan_is_the_lowest_score(method: str) -> None:
    scores = np.zeros((1, 12), dtype=np.float32)
    scores[0, 2:8] = np.nan
    kept = arrays.select(scores, np.zeros(12, dtype=np.bool_), method=method, important_ratio=0.5, recent_ratio=0.0)
    # pivot_merge: cells 0..3 are sinks whatever their score
    assert kept.tolist() == [[0, 1, 2, 3, 8, 9] if method == "pivot_merge" else [0, 1, 8, 9, 10, 11]]


GOOD = Keywords(method="h2o", important_ratio=0.1, recent_ratio=0.1, text_overflow="keep")
SCORES = np.ones((2, 11), dtype=np.float32)
IS_TEXT = np.ones(11, dtype=np.bool_)


@pytest.mark.parametrize("argument", ["important_ratio", "recent_ratio"])
@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (-0.25, "-0.25"), (1.25, "1.25"), (math.inf, "inf")])
def test_bad_ratio(argument: str, value: float, shown: str) -> None:
    with raises_about(argument, shown):
        arrays.select(SCORES, IS_TEXT, **{**GOOD, argument: value})  # type: ignore[arg-type]


def test_ratios_that_sum_past_one() -> None:
    with raises_about("important_ratio", "recent_ratio", "0.75", "0.5"):
        arrays.select(SCORES, IS_TEXT, method="h2o", important_ratio=0.75, recent_ratio=0.5)


def test_ratios_that_keep_nothing() -> None:
    with raises_about("important_ratio", "recent_ratio", "0"):
        arrays.select(SCORES, IS_TEXT, method="h2o", important_ratio=0, recent_ratio=0)


def test_unknown_names() -> None:
    with raises_about("method", "best_merge", "text_prior_pivot_merge"):
        arrays.select(SCORES, IS_TEXT, method="best_merge")
    with raises_about("text_overflow", "spill", "keep", "evict"):
        arrays.select(SCORES, IS_TEXT, text_overflow="spill")


def test_wrong_shapes() -> None:
    with raises_about("scores"):
        arrays.select(SCORES[0], IS_TEXT)
    with raises_about("is_text"):
        arrays.select(SCORES, IS_TEXT[None])
    with raises_about("is_text", "10", "11"):
        arrays.select(SCORES, IS_TEXT[:10])
    with raises_about("scores"):
        arrays.select(SCORES[:, :0], IS_TEXT[:0])
    with raises_about("scores"):
        arrays.select(SCORES[:0], IS_TEXT)


def test_lists_are_taken_too() -> None:
    assert arrays.select([[3, 1, 2]], [0, 0, 1], method="h2o", important_ratio=0.7).tolist() == [[0, 2]]
