"""Where LOOK-M's published code differs from its paper, by the numbers of docs/methods.md.

Prompts and rows are those of ``test_minimal``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from lookm_cpp import arrays
from test_minimal import IS_TEXT, SCORES, K, V


@pytest.mark.parametrize("method", ["avg_merge", "weighted_merge", "pivot_merge"])
def test_upstream_forces_four_sinks_where_it_merges_without_prior(method: str) -> None:
    """Spec D4. Nowhere else: with the prior, and without merging, upstream has none."""
    found = arrays.select(
        SCORES, IS_TEXT, method=method, important_ratio=0.42, recent_ratio=0.17, fidelity="upstream"
    )
    assert found.tolist() == [[0, 1, 2, 3, 6, 10, 11]]
    for other, kept in (
        ("text_prior_" + method, [0, 1, 3, 5, 9, 10, 11]),
        ("h2o", [1, 3, 6, 7, 8, 10, 11]),
    ):
        found = arrays.select(
            SCORES,
            IS_TEXT,
            method=other,
            important_ratio=0.42,
            recent_ratio=0.17,
            fidelity="upstream",
        )
        assert found.tolist() == [kept]


# What upstream merges: rows whose similarity, in the mean over heads, reaches the mean 0.974342; of
# the two the first.
ORDERS = {"as above": [0, 1, 2, 3], "swapped": [0, 2, 1, 3]}


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("prefix", ["", "text_prior_"])
@pytest.mark.parametrize(
    ("merge", "order", "k_0", "v_0", "merged_into"),
    [
        # the filter: only the row of cosine 1
        ("weighted_merge", "as above", (1.5, 0), 15, [-1, 0, -1, -1]),
        ("weighted_merge", "swapped", (1.5, 0), 15, [-1, -1, 0, -1]),
        # the misalignment (B3 of docs/methods.md): one row passes, and the first evicted row takes
        # its place
        ("avg_merge", "as above", (1.5, 0), 15, [-1, 0, -1, -1]),
        ("avg_merge", "swapped", (2, 0.5), 20, [-1, 0, -1, -1]),
        # neither: pivot merging takes all
        ("pivot_merge", "as above", (1.5, 0.166667), 15, [-1, 0, 0, -1]),
        ("pivot_merge", "swapped", (1.5, 0.166667), 15, [-1, 0, 0, -1]),
    ],
)
def test_golden_rows_of_upstream(
    merge: str,
    order: str,
    k_0: tuple[float, float],
    v_0: float,
    merged_into: list[int],
    prefix: str,
    dtype: npt.DTypeLike,
    on_device: bool,
) -> None:
    k, v, kept, into = arrays.compress(
        K[:, ORDERS[order]].astype(dtype),
        V[:, ORDERS[order]].astype(dtype),
        np.array([[4, 3, 2, 1]], dtype=np.float32),
        np.array([True, False, False, True]),
        method=prefix + merge,
        important_ratio=0.25,
        recent_ratio=0.25,
        fidelity="upstream",
        on_device=on_device,
    )
    assert kept.tolist() == [[0, 3]]
    assert into.tolist() == [merged_into]
    tolerance = 1e-6 if dtype == np.float32 else 2.0**-10  # as above
    np.testing.assert_allclose(k, np.array([[k_0, (0, 1)]]), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(v, np.array([[[v_0], [99]]]), rtol=tolerance)


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
def test_the_filter_is_one_for_all_heads(on_device: bool) -> None:
    """Spec B8: ranks are filtered by the mean over heads.

    It is (1 + 0) / 2 and (0.948683 + 0.948683) / 2, so the second rank passes, although the first
    head alone would say otherwise.
    """
    keys = np.zeros((2, 4, 3), dtype=np.float32)
    keys[0, :, :2] = K[0]
    keys[1, :, :2] = K[0]
    keys[1, 1] = (0, 0, 1)
    _, v, _, into = arrays.compress(
        keys,
        np.repeat(V, 2, axis=0).astype(np.float32),
        np.array([[4, 3, 2, 1]] * 2, dtype=np.float32),
        np.array([True, False, False, True]),
        method="text_prior_weighted_merge",
        important_ratio=0.25,
        recent_ratio=0.25,
        fidelity="upstream",
        on_device=on_device,
    )
    assert into.tolist() == [[-1, -1, 0, -1]] * 2
    np.testing.assert_allclose(v[:, 0, 0], (10 + 0.948683 * 30) / 2, rtol=1e-6)
