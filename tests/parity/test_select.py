"""Which cells stay: the C++ choice equals the reference and follows general rules."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lookm_cpp import arrays
from reference import lookm_numpy as ref

from parity.cases import Keywords, Prompt, prompts, raises_about

METHODS = list(ref.METHODS)
EACH_METHOD = pytest.mark.parametrize("method", METHODS)
ROWS = {name: row for name, row in ref.METHODS.items() if row is not None}
BY_SUM = [name for name, row in ROWS.items() if row.by == "sum" and row.n_pool == 1]


def select(prompt: Prompt, layer: int = 0) -> npt.NDArray[np.int32]:
    return arrays.select(
        prompt.scores(),
        prompt.is_text(),
        squares=prompt.squares(),
        layer=layer,
        **prompt.keywords(),
    )


@EACH_METHOD
@settings(max_examples=50)
@given(prompt=prompts(), layer=st.integers(0, 40))
def test_select_equals_the_reference(method: str, prompt: Prompt, layer: int) -> None:
    prompt = prompt.by(method)
    kept = select(prompt, layer)
    assert kept.dtype == np.int32
    expected = ref.select(
        prompt.scores(), prompt.is_text(), prompt.options, prompt.squares(), layer
    )
    np.testing.assert_array_equal(kept, expected)


@EACH_METHOD
@settings(max_examples=30)
@given(prompt=prompts())
def test_first_query_equals_the_reference(method: str, prompt: Prompt) -> None:
    prompt = prompt.by(method)
    found = arrays.first_query(prompt.is_text(), **prompt.keywords())
    assert found == ref.first_query(prompt.is_text(), prompt.options)
    assert 0 <= found < prompt.n


@EACH_METHOD
@settings(max_examples=30)
@given(prompt=prompts())
def test_kept_cells_obey_the_laws(method: str, prompt: Prompt) -> None:
    prompt = prompt.by(method)
    n, is_text, o = prompt.n, prompt.is_text(), prompt.options
    kept = select(prompt)
    n_important = math.floor(o.important_ratio * n)
    n_recent = math.floor(o.recent_ratio * n)

    assert (np.diff(kept, axis=1) > 0).all(), "ascending, none twice"
    assert ((kept >= 0) & (kept < n)).all()
    if method == "streaming_llm":
        assert kept.shape[1] == max(n_important + n_recent, 1)
        assert (kept[:, -1] == n - 1).all()
        return
    row = ref.method_of(o)
    if row and row.by == "window" and 0 < n_important + n_recent < n:
        n_both = n_important + n_recent
        n_recent = min(ref.window(is_text, row), n_both)
        n_important = n_both - n_recent
    assert (kept[:, kept.shape[1] - n_recent :] == np.arange(n - n_recent, n)).all(), (
        "the recent window stays"
    )
    if row and row.keeps_question and n_important + n_recent < n:
        n_both, n_question = n_important + n_recent, int(np.argmin(np.append(is_text[::-1], False)))
        n_recent = max(n_recent, min(n_both // 2, n_question))
        n_important = n_both - n_recent
        assert (kept[:, len(kept[0]) - n_recent :] == np.arange(n - n_recent, n)).all(), (
            "the question stays"
        )
    before = np.arange(n - n_recent)
    text_before, images_before = before[is_text[before]], before[~is_text[before]]
    n_visual = min(math.floor((row.visual_quota if row else 0) * n_important), len(images_before))
    if method == "origin":
        assert kept.shape[1] == n
        return
    if not (row and row.prior and row.text_overflow == "keep"):
        assert kept.shape[1] == max(n_important + n_recent, 1), "the budget is exact"
    else:
        assert (
            kept.shape[1] == max(max(n_important, len(text_before) + n_visual) + n_recent, 1)
            or kept.shape[1] == n
        )
        assert all(np.isin(text_before, row).all() for row in kept), "no text is evicted"
    assert all(np.isin(images_before, row).sum() >= n_visual for row in kept), (
        "image cells have their quota"
    )


@pytest.mark.parametrize(
    "method", [name for name, row in ROWS.items() if row.by != "draw" and not row.spread]
)
@settings(max_examples=20)
@given(prompt=prompts())
def test_heads_choose_alone(method: str, prompt: Prompt) -> None:
    """Permuting heads permutes the result; a single head chooses as it does among others."""
    prompt = prompt.by(method)
    scores, is_text, squares = prompt.scores(), prompt.is_text(), prompt.squares()
    order = np.random.default_rng(prompt.seed).permutation(prompt.n_head_kv)
    kept = select(prompt)
    keywords = prompt.keywords()
    np.testing.assert_array_equal(
        arrays.select(scores[order], is_text, squares=squares[order], **keywords), kept[order]
    )
    np.testing.assert_array_equal(
        arrays.select(scores[:1], is_text, squares=squares[:1], **keywords), kept[:1]
    )


@EACH_METHOD
@settings(max_examples=20)
@given(prompt=prompts())
def test_only_the_order_of_scores_counts(method: str, prompt: Prompt) -> None:
    """Neither halving all scores (exact in f32) nor scores of the recent window change a choice."""
    prompt = prompt.by(method)
    kept = select(prompt)
    n_recent = ref.budget(prompt.is_text(), prompt.options).n_recent
    other, squares = prompt.scores() / 2, prompt.squares() / 4
    other[:, prompt.n - n_recent :] = np.nan
    np.testing.assert_array_equal(
        arrays.select(other, prompt.is_text(), squares=squares, **prompt.keywords()), kept
    )


@pytest.mark.parametrize("method", [name for name in METHODS if name.startswith("text_prior")])
def test_nothing_left_to_evict(method: str) -> None:
    scores = np.ones((2, 50), dtype=np.float32)
    kept = arrays.select(scores, np.ones(50, dtype=np.bool_), method=method)
    assert kept.tolist() == [list(range(50))] * 2


@EACH_METHOD
def test_a_full_budget_keeps_all(method: str) -> None:
    ones = np.ones((1, 7), dtype=np.float32)
    kept = arrays.select(
        ones, np.arange(7) < 3, squares=ones, method=method, important_ratio=1.0, recent_ratio=0.0
    )
    assert kept.tolist() == [list(range(7))]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "origin"])
def test_a_cache_is_never_emptied(method: str) -> None:
    """A tenth of three cells rounds to none, but the last one stays."""
    scores = np.array([[3, 2, 1]])
    kept = arrays.select(scores, np.zeros(3, dtype=np.bool_), squares=scores, method=method)
    assert kept.tolist() == [[2]]


@pytest.mark.parametrize("method", BY_SUM)
def test_ties_go_to_the_lower_cell(method: str) -> None:
    kept = arrays.select(
        np.ones((1, 40), dtype=np.float32),
        np.zeros(40, dtype=np.bool_),
        method=method,
        recent_ratio=0.1,
    )
    assert kept.tolist() == [[0, 1, 2, 3, 36, 37, 38, 39]]


def test_negative_scores_stand_in_their_order() -> None:
    scores = np.array([[-0.0, -2.0, 0.0, -np.inf, -1.0, 1e-40, -1e-40, np.inf]], dtype=np.float32)
    order = [7, 5, 0, 2, 6, 4, 1, 3]  # -0 equals 0
    for n in range(1, 9):
        kept = arrays.select(
            scores,
            np.zeros(8, dtype=np.bool_),
            method="h2o",
            important_ratio=n / 8,
            recent_ratio=0.0,
        )
        assert kept.tolist() == [sorted(order[:n])]


@pytest.mark.parametrize("fidelity", ["paper", "upstream"])
@pytest.mark.parametrize("method", ["h2o", "pivot_merge", "text_prior_pivot_merge"])
def test_nan_is_the_lowest_score(method: str, fidelity: str) -> None:
    scores = np.zeros((1, 12), dtype=np.float32)
    scores[0, 2:8] = np.nan
    kept = arrays.select(
        scores,
        np.zeros(12, dtype=np.bool_),
        method=method,
        important_ratio=0.5,
        recent_ratio=0.0,
        fidelity=fidelity,
    )
    # pivot_merge keeps four sinks upstream, regardless of their scores
    sinks = method == "pivot_merge" and fidelity == "upstream"
    assert kept.tolist() == [[0, 1, 2, 3, 8, 9] if sinks else [0, 1, 8, 9, 10, 11]]


GOOD = Keywords(method="h2o", important_ratio=0.1, recent_ratio=0.1, text_overflow="keep")
SCORES = np.ones((2, 11), dtype=np.float32)
IS_TEXT = np.ones(11, dtype=np.bool_)


@pytest.mark.parametrize("argument", ["important_ratio", "recent_ratio"])
@pytest.mark.parametrize(
    ("value", "shown"), [(math.nan, "nan"), (-0.25, "-0.25"), (1.25, "1.25"), (math.inf, "inf")]
)
def test_ratios_outside_zero_to_one_are_refused(argument: str, value: float, shown: str) -> None:
    with raises_about(argument, shown):
        arrays.select(SCORES, IS_TEXT, **{**GOOD, argument: value})  # type: ignore[arg-type]


def test_ratios_that_sum_past_one() -> None:
    with raises_about("important_ratio", "recent_ratio", "0.75", "0.5"):
        arrays.select(SCORES, IS_TEXT, method="h2o", important_ratio=0.75, recent_ratio=0.5)


def test_ratios_that_keep_nothing() -> None:
    with raises_about("important_ratio", "recent_ratio", "0"):
        arrays.select(SCORES, IS_TEXT, method="h2o", important_ratio=0, recent_ratio=0)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with raises_about("method", "best_merge", "text_prior_pivot_merge"):
        arrays.select(SCORES, IS_TEXT, method="best_merge")
    with raises_about("text_overflow", "spill", "keep", "evict"):
        arrays.select(SCORES, IS_TEXT, text_overflow="spill")
    with raises_about("fidelity", "code", "paper", "upstream"):
        arrays.select(SCORES, IS_TEXT, fidelity="code")
    with raises_about("scorer", "last", "cumulative", "window", "none"):
        arrays.select(SCORES, IS_TEXT, scorer="last")


def test_text_is_a_floor_upstream() -> None:
    with raises_about("text_overflow", "evict", "fidelity", "upstream", "keep"):
        arrays.select(SCORES, IS_TEXT, fidelity="upstream", text_overflow="evict")


@pytest.mark.parametrize(
    ("method", "scorer"),
    [("roco", "none"), ("random", "cumulative"), ("random", "window"), ("streaming_llm", "window")],
)
def test_scorers_that_a_method_cannot_have(method: str, scorer: str) -> None:
    with raises_about("scorer", scorer, method, "expected"):
        arrays.select(SCORES, IS_TEXT, squares=SCORES, method=method, scorer=scorer)


@pytest.mark.parametrize("window", [0, -3])
def test_a_window_below_one_is_refused(window: int) -> None:
    with raises_about("window", str(window), "1"):
        arrays.select(SCORES, IS_TEXT, window=window)


@pytest.mark.parametrize(("quota", "shown"), [(-0.1, "-0.1"), (1.5, "1.5"), (math.nan, "nan")])
def test_a_visual_quota_outside_zero_to_one_is_refused(quota: float, shown: str) -> None:
    with raises_about("visual_quota", shown, "[0, 1]"):
        arrays.select(SCORES, IS_TEXT, visual_quota=quota)


def test_deviations_need_squares() -> None:
    with raises_about("squares", "None", "roco"):
        arrays.select(SCORES, IS_TEXT, method="roco")
    with raises_about("squares", "10", "11"):
        arrays.select(SCORES, IS_TEXT, method="roco", squares=SCORES[:, :10])


def test_a_layer_below_zero_is_refused() -> None:
    with raises_about("layer", "-1"):
        arrays.select(SCORES, IS_TEXT, layer=-1)


def test_arrays_of_other_shapes_are_refused() -> None:
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
    assert arrays.select([[3, 1, 2]], [0, 0, 1], method="h2o", important_ratio=0.7).tolist() == [
        [0, 2]
    ]
