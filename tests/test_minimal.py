"""If only one test file is run, then this is the one.

Everything here is worked by hand: one prompt of 12 cells for the choice of cells, one of 4 cells
for the arithmetic of merging, and the traps that a port of LOOK-M falls into.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from lookm_cpp import arrays

# Twelve cells, the last two recent (0.17 * 12 = 2.04 -> 2). Text before them: 0, 5, 9.
#
#            0    1    2    3    4    5    6    7    8    9   10  11
#            T    I    I    I    I    T    I    I    I    T    I   T
#           .1   .9   .2   .8   .3   .4   .7   .5   .6  .05   9   9
IS_TEXT = np.array([True, False, False, False, False, True, False, False, False, True, False, True])
SCORES = np.array([[0.1, 0.9, 0.2, 0.8, 0.3, 0.4, 0.7, 0.5, 0.6, 0.05, 9, 9]], dtype=np.float32)

PAPERS = "text_prior_pivot_merge"
BY_SCORE = [1, 3, 6, 7, 8, 10, 11]
TEXT_THEN_SCORE = [0, 1, 3, 5, 9, 10, 11]
# sums of five neighbours, zeros outside: 1.2 2.0 2.3 2.6 2.4 2.7 2.5 2.25 1.85 1.15; with means
# over those that exist,
# 1.2/3 2.0/4 ... 1.85/4 1.15/3, cell 1 would stay in place of 2
POOLED = [2, 3, 4, 5, 6, 10, 11]
LAST_SEVEN = [5, 6, 7, 8, 9, 10, 11]  # a window of 64 queries is all that the budget keeps
SINKS_THEN_LAST = [0, 1, 2, 3, 9, 10, 11]
# all text; of two images, one by the golden ratio's multiples (.618 .236 .854 .472 .708 .326 .944
# for cells 1 2 3 4 6 7 8), the other by the pooled score
ALL_TEXT = [0, 3, 5, 8, 9, 10, 11]
# images get 4 / 4.45 of the attention, of which text leaves three cells: 8 by the multiples, 3 and
# 6 by the pooled score; of the text, 9 has 4.45 before it and 5 has 2.7
SHARED = [3, 5, 6, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("method", "kept"),
    [
        ("origin", list(range(12))),
        ("h2o", BY_SCORE),
        ("snapkv", LAST_SEVEN),
        ("avg_merge", BY_SCORE),
        ("weighted_merge", BY_SCORE),
        ("pivot_merge", BY_SCORE),
        ("text_prior_h2o", TEXT_THEN_SCORE),
        ("text_prior_avg_merge", TEXT_THEN_SCORE),
        ("text_prior_weighted_merge", TEXT_THEN_SCORE),
        ("text_prior_pivot_merge", TEXT_THEN_SCORE),
        ("streaming_llm", SINKS_THEN_LAST),
        ("lookm_plus", SHARED),
    ],
)
@pytest.mark.parametrize("text_overflow", ["keep", "evict"])
def test_each_method_on_twelve_cells(method: str, kept: list[int], text_overflow: str) -> None:
    """Five important cells (0.42 * 12 = 5.04), two recent ones; three text cells fit the budget."""
    found = arrays.select(
        SCORES,
        IS_TEXT,
        method=method,
        important_ratio=0.42,
        recent_ratio=0.17,
        text_overflow=text_overflow,
    )
    if (method, text_overflow) == ("lookm_plus", "keep"):
        kept = ALL_TEXT
    assert found.tolist() == [kept]


@pytest.mark.parametrize(
    ("window", "kept"), [(2, POOLED), (7, LAST_SEVEN), (1, [3, 5, 6, 8, 9, 10, 11])]
)
def test_snapkv_keeps_its_window(window: int, kept: list[int]) -> None:
    """Of seven cells those of the window stay, others by the pooled score, for any ratios.

    Next to a window of one, cells 8, 9 and 10 have 10.85, 10.15 and 9.65 from the 9 of cell 10.
    """
    for important, recent in ((0.42, 0.17), (0.17, 0.42)):
        found = arrays.select(
            SCORES,
            IS_TEXT,
            method="snapkv",
            window=window,
            important_ratio=important,
            recent_ratio=recent,
        )
        assert found.tolist() == [kept]


def test_the_question_is_the_window() -> None:
    """Text cell 11 alone stands behind the last image."""
    of_one = arrays.select(
        SCORES, IS_TEXT, method="snapkv", window=1, important_ratio=0.42, recent_ratio=0.17
    )
    of_question = arrays.select(
        SCORES, IS_TEXT, method="snapkv_question", important_ratio=0.42, recent_ratio=0.17
    )
    assert of_question.tolist() == of_one.tolist()


def test_images_lie_evenly_before_the_question() -> None:
    """A prompt that ends with an image: only multiples of the golden ratio count.

    They are .618 .236 .854 .472 for cells 1 to 4. One of the three important cells is text.
    """
    is_text = np.array([True, False, False, False, False, False])
    scores = np.array([[0, 0, 9, 0, 9, 9]], dtype=np.float32)
    options: Any = {"method": "lookm_plus", "important_ratio": 0.5, "recent_ratio": 0.17}
    assert arrays.select(scores, is_text, **options).tolist() == [[0, 1, 3, 5]]
    is_text[-1] = True  # a question: by the score; half of one image cell rounds to none
    assert arrays.select(scores, is_text, **options).tolist() == [[0, 2, 3, 5]]


@pytest.mark.parametrize(
    ("ratio", "seen", "overflow", "kept"),
    [
        # share .3 / 1.2: two of eight important cells; text has the others, the last by its trail
        (0.7, 0.3, "evict", [3, 4, 5, 6, 7, 8, 10, 11, 12, 13]),
        (0.4, 0.3, "evict", [3, 4, 5, 10, 12, 13]),  # one of four
        (0.4, 2.7, "evict", [8, 9, 10, 11, 12, 13]),  # share .75, of which text leaves .6: two
        (0.4, 0.0, "evict", [3, 4, 5, 10, 12, 13]),  # a quarter all the same
        (0.4, 0.3, "keep", [*range(11), 12, 13]),  # all text, and the image cell of the quota
    ],
)
def test_lookm_plus_keeps_what_follows_and_shares(
    ratio: float, seen: float, overflow: str, kept: list[int]
) -> None:
    """Text, two image cells, a question of two; attention to cell 5, and ``seen`` to cell 10.

    Cells 3 to 7 have the sum 0.9 over five neighbours, and cells 8 and 9 over themselves and the 8
    before, or ``seen`` over five neighbours. The sink, cell 0, does not count for the share.
    """
    is_text = np.ones(14, dtype=np.bool_)
    is_text[10:12] = False
    scores = np.zeros((1, 14), dtype=np.float32)
    scores[0, [5, 10]] = 0.9, seen
    options: Any = {"method": "lookm_plus", "important_ratio": ratio, "recent_ratio": 0.1}
    found = arrays.select(scores, is_text, text_overflow=overflow, **options)
    assert found.tolist() == [kept]
    scores[0, 0] = 100.0  # it and what is near it come first among text
    sunk = arrays.select(scores, is_text, text_overflow=overflow, **options)
    n_image = sum(not is_text[c] for c in kept)
    assert sum(not is_text[c] for c in sunk[0]) == n_image


@pytest.mark.parametrize("fidelity", ["paper", "upstream"])
def test_roco_protects_deviations_and_ranks_by_the_mean(fidelity: str) -> None:
    """Twenty cells with a sum of 1; only cell 3 was attended to unevenly.

    The mean over their 20 - j observers grows with j. Of ten kept cells, one is kept for its
    deviation. Upstream's mean is over all queries, like h2o's sum.
    """
    sums = np.ones((1, 20), dtype=np.float32)
    observers = 20 - np.arange(20)
    squares = (1 / observers)[None].astype(np.float32)  # all observers alike: no deviation
    squares[0, 3] = 0.9  # sqrt(0.9 / 17 - 1 / 17^2) = 0.22
    is_text = np.zeros(20, dtype=np.bool_)
    found = arrays.select(
        sums,
        is_text,
        squares=squares,
        method="roco",
        important_ratio=0.4,
        recent_ratio=0.1,
        fidelity=fidelity,
    )
    as_h2o = arrays.select(sums, is_text, method="h2o", important_ratio=0.4, recent_ratio=0.1)
    assert found.tolist() == ([[3, *range(11, 20)]] if fidelity == "paper" else as_h2o.tolist())
    assert as_h2o.tolist() == [[*range(8), 18, 19]]


def test_random_draws_evenly_and_by_seed_layer_and_head() -> None:
    """Of ninety cells ten stay by chance: each of them in one layer and head of nine."""
    scores, is_text = np.zeros((4, 100)), np.zeros(100, dtype=np.bool_)

    def draw(layer: int, seed: int = 0) -> npt.NDArray[np.int32]:
        return arrays.select(scores, is_text, method="random", layer=layer, seed=seed)

    kept = np.concatenate([draw(layer) for layer in range(500)])
    assert (kept[:, 10:] == np.arange(90, 100)).all(), "the recent half"
    times = np.bincount(kept[:, :10].ravel(), minlength=90)
    # 2000 draws of chance 1/9: 222 times, with a standard deviation of 14
    assert np.abs(times - 2000 / 9).max() < 5 * 14
    assert len({tuple(row) for row in kept}) == 2000
    np.testing.assert_array_equal(draw(3), draw(3))
    assert (draw(3) != draw(3, seed=1)).any()


@pytest.mark.parametrize(
    ("text_overflow", "kept"),
    [
        ("keep", [0, 1, 3, 5, 6, 9, 10, 11]),  # all text, and three images in addition
        ("evict", [0, 1, 3, 5, 6, 10, 11]),  # three images, then two of text: .4 and .1
    ],
)
def test_a_visual_quota_reserves_important_cells_for_images(
    text_overflow: str, kept: list[int]
) -> None:
    """Of five important cells floor(0.6 * 5) = 3 are image cells."""
    found = arrays.select(
        SCORES,
        IS_TEXT,
        method="text_prior_h2o",
        important_ratio=0.42,
        recent_ratio=0.17,
        visual_quota=0.6,
        text_overflow=text_overflow,
    )
    assert found.tolist() == [kept]


def test_without_a_scorer_later_cells_stay() -> None:
    keywords: Any = {"important_ratio": 0.42, "recent_ratio": 0.17, "scorer": "none"}
    assert arrays.select(SCORES, IS_TEXT, method="h2o", **keywords).tolist() == [
        [5, 6, 7, 8, 9, 10, 11]
    ]
    assert arrays.select(SCORES, IS_TEXT, method="text_prior_h2o", **keywords).tolist() == [
        [0, 5, 7, 8, 9, 10, 11]
    ]


def test_where_the_window_begins() -> None:
    text_last = np.array([True] * 10 + [False] * 80 + [True] * 10)
    image_last, no_image = text_last[:90], np.ones(90, dtype=np.bool_)
    assert arrays.first_query(text_last, method="h2o") == 0, "all queries count"
    assert arrays.first_query(text_last) == 90, "the text after the last image"
    assert arrays.first_query(image_last, scorer="window") == 90 - 32
    assert arrays.first_query(no_image, scorer="window") == 90 - 32
    assert arrays.first_query(text_last, scorer="window", window=25) == 75
    assert arrays.first_query(text_last, scorer="window", window=1000) == 0
    assert arrays.first_query(text_last, method="h2o", window=25) == 0, (
        "a window without a window scorer"
    )
    assert arrays.first_query(text_last, method="snapkv") == 100 - 64, "SnapKV's own"
    assert arrays.first_query(no_image, method="snapkv", window=7) == 83
    assert arrays.first_query(text_last, method="snapkv_question") == 90
    assert arrays.first_query(text_last, method="lookm_plus") == 90


def test_default_shares_are_the_papers() -> None:
    """Ten cells: one important, one recent, of each the share 0.1; text prior."""
    scores = np.arange(10, dtype=np.float32)[None]
    assert arrays.select(scores, np.arange(10) == 2, method=PAPERS).tolist() == [[2, 9]]


@pytest.mark.parametrize(
    ("text_overflow", "kept"), [("keep", [0, 5, 9, 10, 11]), ("evict", [0, 5, 10, 11])]
)
def test_more_text_than_budget(text_overflow: str, kept: list[int]) -> None:
    """Two important cells, three text cells: all stay, or the two with higher scores (.4, .1)."""
    found = arrays.select(
        SCORES,
        IS_TEXT,
        method=PAPERS,
        important_ratio=0.17,
        recent_ratio=0.17,
        text_overflow=text_overflow,
    )
    assert found.tolist() == [kept]


def test_text_overflow_on_a_real_prompt() -> None:
    """n = 1376: 137 important, 137 recent, 663 text cells before the window: 663 + 137 stay."""
    n, n_recent = 1376, 137
    is_text = np.zeros(n, dtype=np.bool_)
    is_text[:663] = True
    is_text[n - n_recent :] = True
    scores = np.ones((1, n), dtype=np.float32)
    assert arrays.select(scores, is_text, method=PAPERS)[0].tolist() == [
        *range(663),
        *range(n - n_recent, n),
    ]
    assert arrays.select(scores, is_text, method=PAPERS, text_overflow="evict")[0].tolist() == [
        *range(137),
        *range(n - n_recent, n),
    ]


def test_image_scores_are_ranked_exactly() -> None:
    """An image score less 65516, upstream's prior, is exact to 2^-8; these are 2^-12 apart."""
    n = 100
    scores = (np.arange(n)[::-1] * 2.0**-12).astype(np.float32)[None]
    is_text = np.arange(n) >= 90
    assert np.float32(scores[0, 0] - 65516) == np.float32(scores[0, 9] - 65516)
    kept = arrays.select(scores, is_text, method=PAPERS, important_ratio=0.1, recent_ratio=0.1)
    assert kept.tolist() == [[*range(10), *range(90, 100)]]


@pytest.mark.parametrize(("method", "kept"), [("h2o", [1, 3]), ("text_prior_h2o", [0, 2])])
def test_a_recent_ratio_of_zero_keeps_no_recent_cells(method: str, kept: list[int]) -> None:
    """``recent_ratio=0`` makes an empty window, not one of all cells."""
    scores = np.array([[1, 8, 2, 9]], dtype=np.float32)
    is_text = np.array([True, False, True, False])
    found = arrays.select(scores, is_text, method=method, important_ratio=0.5, recent_ratio=0)
    assert found.tolist() == [kept]


# Four cells, one head: kept are cell 0 (text, and a sink) and cell 3 (recent). Both evicted keys
# point along the first:
#
#            0        1        2        3
#     K    (1, 0)   (2, 0)   (3, 1)   (0, 1)        cosine of 1 and 0:  1
#     V     10       20       30       99           cosine of 2 and 0:  3 / sqrt(10) = 0.948683
K = np.array([[[1, 0], [2, 0], [3, 1], [0, 1]]])
V = np.array([[[10], [20], [30], [99]]])


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("prefix", ["", "text_prior_"])
@pytest.mark.parametrize(
    ("merge", "k_0", "v_0"),
    [
        # average: (1 + 2 + 3, 0 + 0 + 1) / 3                        (10 + 20 + 30) / 3
        ("avg_merge", (2, 0.333333), 20),
        # weighted: (1 + 1 * 2 + 0.948683 * 3, 0.948683) / 3         (10 + 20 + 28.460499) / 3
        ("weighted_merge", (1.948683, 0.316228), 19.486833),
        # pivot: ((1, 0) + (1.5, 0) + (2, 0.5)) / 3                  (10 + 15 + 20) / 3
        ("pivot_merge", (1.5, 0.166667), 15),
    ],
)
def test_merged_rows_equal_values_computed_by_hand(
    merge: str,
    k_0: tuple[float, float],
    v_0: float,
    prefix: str,
    dtype: npt.DTypeLike,
    on_device: bool,
) -> None:
    k, v, kept, merged_into = arrays.compress(
        K.astype(dtype),
        V.astype(dtype),
        np.array([[4, 3, 2, 1]], dtype=np.float32),
        np.array([True, False, False, True]),
        method=prefix + merge,
        important_ratio=0.25,
        recent_ratio=0.25,
        on_device=on_device,
    )
    assert kept.tolist() == [[0, 3]]
    assert merged_into.tolist() == [[-1, 0, 0, -1]]
    assert k.dtype == v.dtype == dtype
    # 1e-6: the numbers above have six decimals; 2^-10: one step of f16 at the size of the row
    tolerance = 1e-6 if dtype == np.float32 else 2.0**-10
    np.testing.assert_allclose(k, np.array([[k_0, (0, 1)]]), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(v, np.array([[[v_0], [99]]]), rtol=tolerance)


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
def test_keys_that_stay_as_they_are(on_device: bool) -> None:
    k, v, _, into = arrays.compress(
        K.astype(np.float32),
        V.astype(np.float32),
        np.array([[4, 3, 2, 1]], dtype=np.float32),
        np.array([True, False, False, True]),
        important_ratio=0.25,
        recent_ratio=0.25,
        method=PAPERS,
        merge_keys=False,
        on_device=on_device,
    )
    assert k.tolist() == [[[1, 0], [0, 1]]]
    assert v.tolist() == [[[15], [99]]]
    assert into.tolist() == [[-1, 0, 0, -1]]


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
@pytest.mark.parametrize(
    ("is_text", "k_out", "v_out", "merged_into"),
    [
        # cell 0 is the only image kept, cell 3 the only text: cell 2 goes into the text, far from
        # it as it is
        #   ((1.5, 0) + (1, 0)) / 2, ((0, 1.5) + (1.5, 0.5)) / 2
        #   (15 + 10) / 2, (148.5 + 15) / 2
        ([False, False, True, True], [[1.25, 0], [0.75, 1]], [12.5, 81.75], [-1, 0, 3, -1]),
        # no image kept: the images are dropped
        ([True, False, False, True], [[1, 0], [0, 1]], [10, 99], [-1, -1, -1, -1]),
    ],
)
def test_merging_within_a_modality(
    is_text: list[bool], k_out: Any, v_out: list[float], merged_into: list[int], on_device: bool
) -> None:
    k, v, kept, into = arrays.compress(
        K.astype(np.float32),
        V.astype(np.float32),
        np.array([[4, 3, 2, 1]], dtype=np.float32),
        np.array(is_text),
        method="pivot_merge",
        important_ratio=0.25,
        recent_ratio=0.25,
        merge_within_modality=True,
        on_device=on_device,
    )
    assert kept.tolist() == [[0, 3]]
    assert into.tolist() == [merged_into]
    np.testing.assert_allclose(k[0], k_out, rtol=1e-6)
    np.testing.assert_allclose(v[0, :, 0], v_out, rtol=1e-6)


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
@pytest.mark.parametrize(
    ("method", "kept"), [("h2o", [0, 3]), ("text_prior_h2o", [0, 3]), ("origin", [0, 1, 2, 3])]
)
def test_without_merging_rows_are_copied(method: str, kept: list[int], on_device: bool) -> None:
    k, v, found, merged_into = arrays.compress(
        K.astype(np.float32),
        V.astype(np.float32),
        np.array([[4, 3, 2, 1]], dtype=np.float32),
        np.array([True, False, False, True]),
        method=method,
        important_ratio=0.25,
        recent_ratio=0.25,
        on_device=on_device,
    )
    assert found.tolist() == [kept]
    assert k.tolist() == K[:, kept].tolist()
    assert v.tolist() == V[:, kept].tolist()
    assert merged_into.tolist() == [[-1, -1, -1, -1]]


def test_scores_of_even_attention() -> None:
    """Queries of zeros attend evenly: query i gives 1 / (i + 1) to each of cells 0 to i."""
    q = np.zeros((1, 4, 8), dtype=np.float32)
    k = np.ones((1, 4, 8), dtype=np.float32)
    expected = [[1 + 1 / 2 + 1 / 3 + 1 / 4, 1 / 2 + 1 / 3 + 1 / 4, 1 / 3 + 1 / 4, 1 / 4]]
    # 1e-6: four f32 terms of size one
    np.testing.assert_allclose(arrays.scores(q, k), expected, rtol=1e-6)


def test_the_ratio_that_holds_four_fifths_of_the_attention() -> None:
    """By hand, for lookm_plus, with 0.9 of a ratio important and 0.1 recent.

    The total is 22.55. From 0.371 on, 0.9 * 0.371 * 12 = 4.0068 gives 4 important cells and no
    recent one; the question (cell 11) becomes recent, which leaves 3. Images get 13 / 13.45 of the
    attention, of which text leaves one cell: 8, whose pooled score is best (10.85). One is text, 9
    (10.15), and one is the best of the others, 10 (9.65). So 8, 9, 10 and 11 stay: 0.6 + 0.05 + 9
    + 9. Below 0.371, two are left: image 8, and 9 as the best of the others.
    """
    layers = SCORES[np.newaxis]
    for options, expected, total in (
        ({"quality": 0.8}, 0.371, 18.65),
        ({"quality": 0.8, "ratio_ceiling": 0.37}, 0.37, 9.65),
        ({"quality": 0.44, "ratio_floor": 0.4}, 0.4, 18.65),
    ):
        ratio, held = arrays.choose_ratio(layers, IS_TEXT, **options)  # type: ignore[arg-type]
        assert ratio == expected
        assert held == pytest.approx(total / 22.55)
    assert arrays.choose_ratio(layers[..., :-1], IS_TEXT[:-1]) == (0.5, None), "no question yet"
