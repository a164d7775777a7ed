"""Scores of attention nodes as llama.cpp makes them.

With unusual masks, softcaps, sinks, every type of K, and sums of squares: what only real models
have. ``test_scores`` tests the public function.
"""

from __future__ import annotations

import platform
from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from reference import attention_numpy as ref

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

Floats = npt.NDArray[np.float32]
Mask = Literal["causal", "window", "image block", "holes", "bias", "nothing seen"]

FORMS = pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
N_BEYOND = 5
"""Cells of the accumulators that lie beyond n_kv and stay as they were."""


class Node(NamedTuple):
    """An attention node with ``n_tokens`` queries over ``n_past + n_tokens`` cells.

    ``n_unused`` more cells are allocated after those.
    """

    n_head_kv: int
    n_group: int
    n_tokens: int
    n_past: int
    n_unused: int
    head_dim: int
    type_k: str
    mask_type: str
    mask_kind: Mask
    softcap: float
    sinks: bool
    seed: int

    @property
    def n_kv(self) -> int:
        return self.n_past + self.n_tokens + self.n_unused

    @property
    def scale(self) -> float:
        return float(1 / np.sqrt(self.head_dim))

    def q(self) -> Floats:
        shape = (self.n_head_kv * self.n_group, self.n_tokens, self.head_dim)
        return np.random.default_rng(self.seed).standard_normal(shape).astype(np.float32)

    def k(self) -> Floats:
        shape = (self.n_head_kv, self.n_kv, self.head_dim)
        return np.random.default_rng(self.seed + 1).standard_normal(shape).astype(np.float32)

    def mask(self) -> Floats:
        rng = np.random.default_rng(self.seed + 2)
        query = self.n_past + np.arange(self.n_tokens)[:, None]
        cell = np.arange(self.n_kv)[None, :]
        seen = cell <= query
        if self.mask_kind == "window":  # sliding: the last 7 cells
            seen = seen & (cell > query - 7)
        elif self.mask_kind == "image block":  # non-causal among the middle queries
            image = (np.arange(self.n_kv) >= self.n_past + self.n_tokens // 3) & (
                np.arange(self.n_kv) < self.n_past + 2 * self.n_tokens // 3 + 1
            )
            seen = seen | (image[query] & image[cell])
        elif self.mask_kind in ("holes", "nothing seen"):
            seen = seen & (rng.random((self.n_tokens, self.n_kv)) < 0.5)
            seen[np.arange(self.n_tokens), query[:, 0]] = True
        if self.mask_kind == "nothing seen":
            seen[rng.random(self.n_tokens) < 0.3] = False
        mask = np.where(seen & (cell < self.n_past + self.n_tokens), 0, -np.inf)
        if self.mask_kind == "bias":
            mask = mask - np.round(rng.random(mask.shape) * 16) / 8  # exact in f16
        return mask.astype(np.float32)

    def sink_logits(self) -> Floats | None:
        rng = np.random.default_rng(self.seed + 3)
        return (
            rng.normal(1, 2, self.n_head_kv * self.n_group).astype(np.float32)
            if self.sinks
            else None
        )

    def rounding(self, *, on_device: bool) -> float:
        """Relative error of a probability: head_dim f32 roundings in a logit, plus the softmax.

        ggml multiplies an f16 K on ARM in f16 where it can; several short sums have the error of
        about one of its roundings.
        """
        q_length, k_length = (
            np.linalg.norm(x.astype(np.float64), axis=-1).max() for x in (self.q(), self.k())
        )
        in_f16 = on_device and self.type_k == "f16" and platform.machine() in ("aarch64", "arm64")
        r = 2.0**-11 if in_f16 else self.head_dim * 2.0**-24
        return float(np.expm1(2 * r * self.scale * q_length * k_length)) + 4e-6

    def found(
        self, k: Floats, *, on_device: bool, squares: bool = True
    ) -> tuple[Floats, Floats, Floats]:
        """(sums ``[1 or 2, n_head_kv, n_kv]``, K rounded to its type, q as ggml rounds it)."""
        sums, held, rounded, _ = _oracle.attention_sums(
            self.q(),
            k,
            type=self.type_k,
            mask=self.mask(),
            mask_type=self.mask_type,
            scale=self.scale,
            softcap=self.softcap,
            sinks=self.sink_logits(),
            on_device=on_device,
            squares=squares,
        )
        np.testing.assert_array_equal(
            sums[:, :, self.n_kv :], np.zeros((len(sums), self.n_head_kv, N_BEYOND))
        )
        return sums[:, :, : self.n_kv], held, rounded

    def expected(self, q: Floats, k: Floats) -> npt.NDArray[np.float64]:
        p = ref.probabilities(q, k, self.mask(), self.scale, self.softcap, self.sink_logits())
        return np.stack(ref.sums(p, self.n_head_kv))


NODES = st.builds(
    Node,
    n_head_kv=st.integers(1, 4),
    n_group=st.sampled_from([1, 2, 3, 7, 8]),
    n_tokens=st.integers(1, 70),
    n_past=st.one_of(st.just(0), st.integers(1, 90)),
    n_unused=st.sampled_from([0, 1, 16, 37]),
    head_dim=st.sampled_from([32, 64, 96, 128, 256]),
    type_k=st.sampled_from(["f32", "f16", "bf16", "q8_0", "q4_0"]),
    mask_type=st.sampled_from(["f16", "f32"]),
    mask_kind=st.sampled_from(["causal", "window", "image block", "holes", "bias", "nothing seen"]),
    softcap=st.sampled_from([0.0, 0.0, 0.8, 30.0]),
    sinks=st.booleans(),
    seed=st.integers(0, 2**16),
)
PLAIN = Node(2, 2, 40, 30, 16, 64, "f16", "f16", "causal", 0.0, False, 1)
EVERYTHING = PLAIN._replace(softcap=0.8, sinks=True, mask_kind="holes")


@FORMS
@settings(max_examples=80)
@example(PLAIN)
@example(EVERYTHING)
@example(PLAIN._replace(n_tokens=700, n_past=333, n_group=1))  # several tiles on a device
@given(NODES)
def test_sums_equal_the_reference(on_device: bool, node: Node) -> None:
    assume(
        not on_device or node.sinks or node.mask_kind != "nothing seen"
    )  # NaN, as score_graph.h says
    found, k, rounded = node.found(node.k(), on_device=on_device)
    assert np.isfinite(found).all()
    # ggml's kernels multiply either q or q rounded for K's type; the CPU loops never round q
    candidates = [node.expected(q, k) for q in ((node.q(), rounded) if on_device else (node.q(),))]
    error = [float(np.max(np.abs(found - e) / (e + 1e-30))) for e in candidates]
    assert min(error) < 2 * node.rounding(on_device=on_device)  # 2: of a square


@FORMS
@pytest.mark.parametrize(
    "change", [{"softcap": 0.8}, {"sinks": True}, {"mask_kind": "window"}, {"mask_kind": "bias"}]
)
def test_every_part_matters(on_device: bool, change: dict[str, Any]) -> None:
    """Without one part, the sums differ by far more than the tolerance of the test above."""
    plain, _, _ = PLAIN.found(PLAIN.k(), on_device=on_device)
    changed, _, _ = PLAIN._replace(**change).found(PLAIN.k(), on_device=on_device)
    assert np.abs(changed - plain).sum() / plain.sum() > 0.05


@settings(max_examples=30)
@given(NODES, st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_cell_that_nobody_sees_may_hold_anything(node: Node, rubbish: float) -> None:
    """Only on the CPU: in the graph one non-finite key makes all sums NaN, as in llama.cpp."""
    node = node._replace(
        n_unused=19, type_k={"q8_0": "f16", "q4_0": "bf16"}.get(node.type_k, node.type_k)
    )
    k = node.k()
    clean, _, _ = node.found(k, on_device=False)
    k[:, node.n_past + node.n_tokens :] = rubbish
    found, _, _ = node.found(k, on_device=False)
    np.testing.assert_array_equal(found, clean)


@FORMS
def test_sums_are_the_same_without_squares(on_device: bool) -> None:
    """Asking for squares does not change the sums."""
    both, _, _ = EVERYTHING.found(EVERYTHING.k(), on_device=on_device)
    alone, _, _ = EVERYTHING.found(EVERYTHING.k(), on_device=on_device, squares=False)
    assert len(alone) == 1
    np.testing.assert_array_equal(alone[0], both[0])


@FORMS
@settings(max_examples=40)
@example(PLAIN, 0.0)
@example(PLAIN._replace(n_tokens=300, n_past=500), 0.5)
@given(NODES, st.floats(0, 0.99))
def test_sums_of_probabilities_that_exist(on_device: bool, node: Node, skipped: float) -> None:
    """Without flash attention, only columns have to be added up, from some row on."""
    p = ref.probabilities(
        node.q(), node.k(), node.mask(), node.scale, node.softcap, node.sink_logits()
    )
    p = p.astype(np.float32)
    first = int(skipped * node.n_tokens)
    for squares in (False, True):
        found, _ = _oracle.probability_sums(
            p, node.n_head_kv, first_row=first, on_device=on_device, squares=squares
        )
        expected = np.stack(ref.sums(p[:, first:], node.n_head_kv))[: len(found)]
        # f32 sums of up to 300 x 8 rows
        np.testing.assert_allclose(found[:, :, : node.n_kv], expected, rtol=1e-5, atol=1e-30)
        assert not found[:, :, node.n_kv :].any()
