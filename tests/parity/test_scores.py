"""Attention scores: both C++ forms (CPU loop, ggml graph) equal the column sums of a softmax."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lookm_cpp import arrays
from reference import lookm_numpy as ref

from parity.cases import raises_about

FORMS = pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])


class Attention(NamedTuple):
    """``n_group`` query heads for each KV head, ``n_tokens`` new cells after ``n_past`` others."""

    n_head_kv: int
    n_group: int
    n_tokens: int
    n_past: int
    head_dim: int
    dtype: Literal["float16", "float32"]
    seed: int

    def q(self) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng(self.seed)
        shape = (self.n_head_kv * self.n_group, self.n_tokens, self.head_dim)
        return rng.standard_normal(shape).astype(np.float32)

    def k(self) -> npt.NDArray[Any]:
        rng = np.random.default_rng(self.seed + 1)
        shape = (self.n_head_kv, self.n_past + self.n_tokens, self.head_dim)
        return rng.standard_normal(shape).astype(self.dtype)

    def scale(self) -> float:
        return 1 / float(np.sqrt(self.head_dim))

    def tolerance(self, on_device: bool) -> float:
        """The relative tolerance of a score.

        A relative error r in every product of q and k changes a logit by at most
        d = r scale |q| |k|, and a probability by at most a factor exp(2 d). On a device, r is 2^-11
        for f16 keys, as ggml rounds q to f16, and head_dim f32 roundings for f32 keys. On the CPU
        all products are f32, and most of the head_dim roundings cancel, so that one rounding is
        more than was ever seen. 1e-6 and 4e-6: roundings of exp, the softmax and the sums.
        """
        r = 2.0**-11 if self.dtype == "float16" else self.head_dim * 2.0**-24
        if not on_device:
            r = 2.0**-24
        q_length, k_length = (
            np.linalg.norm(x.astype(np.float64), axis=-1).max() for x in (self.q(), self.k())
        )
        return float(np.expm1(2 * r * self.scale() * q_length * k_length)) + (
            4e-6 if on_device else 1e-6
        )


def found_scores(a: Attention, on_device: bool) -> npt.NDArray[np.float32]:
    return arrays.scores(a.q(), a.k(), scale=a.scale(), n_past=a.n_past, on_device=on_device)


ATTENTIONS = st.builds(
    Attention,
    n_head_kv=st.integers(1, 4),
    n_group=st.sampled_from([1, 2, 3, 4]),
    n_tokens=st.integers(1, 96),
    n_past=st.one_of(st.just(0), st.integers(1, 150)),
    head_dim=st.sampled_from([7, 8, 64, 80, 128]),
    dtype=st.sampled_from(["float16", "float32"]),
    seed=st.integers(0, 2**16),
)


@FORMS
@settings(max_examples=40)
@example(
    Attention(n_head_kv=2, n_group=2, n_tokens=300, n_past=0, head_dim=64, dtype="float16", seed=1)
)
@example(
    Attention(n_head_kv=1, n_group=1, n_tokens=1, n_past=0, head_dim=8, dtype="float32", seed=2)
)
@given(ATTENTIONS)
def test_scores_equal_the_reference(on_device: bool, a: Attention) -> None:
    found = found_scores(a, on_device)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, ref.scores(a.q(), a.k(), a.scale(), a.n_past), rtol=a.tolerance(on_device)
    )


@FORMS
@settings(max_examples=30)
@given(ATTENTIONS)
def test_each_query_gives_one(on_device: bool, a: Attention) -> None:
    """A softmax row sums to 1, so the scores of a head sum to the number of queries."""
    found = found_scores(a, on_device)
    assert (found >= 0).all()
    # 1e-5: f32 roundings of the softmax and the column sums, which partly cancel
    np.testing.assert_allclose(found.sum(axis=1, dtype=np.float64), a.n_tokens, rtol=1e-5)


@FORMS
@settings(max_examples=30)
@given(ATTENTIONS)
def test_a_group_is_the_mean_of_its_heads(on_device: bool, a: Attention) -> None:
    """The score of a KV head is the mean over its query heads, which are consecutive."""
    together = found_scores(a, on_device)
    alone = [
        arrays.scores(
            a.q()[h : h + 1],
            a.k()[h // a.n_group][None],
            scale=a.scale(),
            n_past=a.n_past,
            on_device=on_device,
        )[0]
        for h in range(a.n_head_kv * a.n_group)
    ]
    expected = np.reshape(alone, (a.n_head_kv, a.n_group, -1)).mean(axis=1, dtype=np.float64)
    # the products may be computed in another order
    np.testing.assert_allclose(together, expected, rtol=a.tolerance(on_device))


@FORMS
@settings(max_examples=20)
@given(ATTENTIONS, st.integers(1, 95))
def test_a_prompt_in_two_parts(on_device: bool, a: Attention, n_first: int) -> None:
    """Scores add up over batches of queries, here at n_past and at n_past + n_first."""
    if n_first >= a.n_tokens:
        n_first = a.n_tokens // 2
    whole = found_scores(a, on_device)
    score = partial(arrays.scores, scale=a.scale(), on_device=on_device)
    parts = score(a.q()[:, n_first:], a.k(), n_past=a.n_past + n_first).astype(np.float64)
    if n_first > 0:
        n_seen = a.n_past + n_first
        first = score(a.q()[:, :n_first], a.k()[:, :n_seen], n_past=a.n_past)
        parts[:, :n_seen] += first
    np.testing.assert_allclose(whole, parts, rtol=a.tolerance(on_device))


@FORMS
def test_a_strong_match_takes_all(on_device: bool) -> None:
    """Later queries match only cell 2, with a logit 80 above the others: exp does not overflow."""
    k = np.zeros((1, 6, 8), dtype=np.float32)
    k[0, 2, 0] = 1
    q = np.zeros((1, 6, 8), dtype=np.float32)
    q[0, 2:, 0] = 80
    found = arrays.scores(q, k, scale=1.0, on_device=on_device)
    # cells 0 and 1 get 1 + 1/2 and 1/2 from queries 0 and 1; exp(-80) is far below f32's 2^-24
    np.testing.assert_allclose(found, [[1.5, 0.5, 4, 0, 0, 0]], rtol=1e-6, atol=1e-30)


Q = np.ones((4, 5, 8), dtype=np.float32)


def test_arrays_of_other_shapes_are_refused() -> None:
    with raises_about("q"):
        arrays.scores(Q[0], Q[:2])
    with raises_about("k"):
        arrays.scores(Q, Q[0])
    with raises_about("q", "8", "7"):
        arrays.scores(Q, np.ones((2, 5, 7), dtype=np.float32))
    with raises_about("q", "4", "3"):
        arrays.scores(Q, Q[:3])
    with raises_about("k", "0"):
        arrays.scores(Q[:, :, :0], Q[:2, :, :0], scale=1.0)
    with raises_about("k", "0"):
        arrays.scores(Q, Q[:0])


@pytest.mark.parametrize("n_past", [-1, 1])
def test_a_wrong_n_past_is_refused(n_past: int) -> None:
    with raises_about("n_past", str(n_past)):
        arrays.scores(Q, Q[:2], n_past=n_past)


@pytest.mark.parametrize(("scale", "shown"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_a_scale_that_is_not_finite_is_refused(scale: float, shown: str) -> None:
    with raises_about("scale", shown):
        arrays.scores(Q, Q[:2], scale=scale)


def test_arrays_of_other_types_are_refused() -> None:
    with raises_about("k", "float64", "float32", "float16"):
        arrays.scores(Q, Q[:2].astype(np.float64))


def test_scale_is_one_over_the_root_of_head_dim() -> None:
    q = np.random.default_rng(7).standard_normal((2, 5, 16)).astype(np.float32)
    np.testing.assert_array_equal(arrays.scores(q, q), arrays.scores(q, q, scale=0.25))
