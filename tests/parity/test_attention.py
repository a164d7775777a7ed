"""Attention on the CPU (``cpu_attention.cpp``) equals softmax(q k) v in float64.

Of prompts and of few queries, with every type of K and V, unusual masks, softcaps, sinks and ALiBi.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from reference import attention_numpy as ref

from parity.test_attention_sums import Floats, Node

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

TYPES = ["f32", "f16", "bf16", "q8_0", "q4_0", "q5_1"]


class Case(NamedTuple):
    """An attention node with values."""

    node: Node
    type_v: str
    d_v: int
    max_bias: float
    n_threads: int
    work_bytes: int

    def v(self) -> Floats:
        shape = (self.node.n_head_kv, self.node.n_kv, self.d_v)
        return np.random.default_rng(self.node.seed + 4).standard_normal(shape).astype(np.float32)

    def found(
        self, queries: slice = slice(None), n_threads: int | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """(output ``[n_tokens, n_head, d_v]``, K and V as rounded to their types)."""
        node = self.node
        out: tuple[Floats, Floats, Floats] = _oracle.attention_output(
            node.q()[:, queries],
            node.k(),
            self.v(),
            type_k=node.type_k,
            type_v=self.type_v,
            mask=node.mask()[queries],
            scale=node.scale,
            softcap=node.softcap,
            max_bias=self.max_bias,
            sinks=node.sink_logits(),
            n_threads=n_threads or self.n_threads,
            work_bytes=self.work_bytes,
        )
        return out

    def expected(self, k: Floats, v: Floats) -> npt.NDArray[np.float64]:
        node = self.node
        q, mask, sinks = node.q(), node.mask(), node.sink_logits()
        out = np.zeros((node.n_tokens, len(q), self.d_v))
        for h in range(len(q)):
            slope = 2.0 ** (-self.max_bias * (h + 1) / len(q)) if self.max_bias else 1.0
            one = slice(h // node.n_group, h // node.n_group + 1)
            sink = None if sinks is None else sinks[h : h + 1]
            p = ref.probabilities(
                q[h : h + 1], k[one], slope * mask, node.scale, node.softcap, sink
            )
            out[:, h] = p[0] @ v[one][0].astype(np.float64)
        return out


NODES = st.builds(
    Node,
    n_head_kv=st.sampled_from([1, 2, 4]),
    n_group=st.sampled_from([1, 2, 4]),
    n_tokens=st.one_of(st.integers(1, 20), st.integers(1, 200)),
    n_past=st.one_of(st.just(0), st.integers(1, 200), st.integers(500, 1500)),
    n_unused=st.sampled_from([0, 1, 16, 37, 100]),
    head_dim=st.sampled_from([32, 64, 96, 128, 256]),
    type_k=st.sampled_from(TYPES),
    mask_type=st.just("f16"),
    mask_kind=st.sampled_from(["causal", "window", "image block", "holes", "bias", "nothing seen"]),
    softcap=st.sampled_from([0.0, 0.0, 0.8, 30.0]),
    sinks=st.booleans(),
    seed=st.integers(0, 2**16),
)
CASES = st.builds(
    Case,
    node=NODES,
    type_v=st.sampled_from(TYPES),
    d_v=st.sampled_from([32, 64, 128]),
    max_bias=st.sampled_from([0.0, 0.0, 8.0]),
    n_threads=st.sampled_from([1, 2, 3]),
    work_bytes=st.sampled_from([0, 300_000, 10_000_000]),
)
LONG = Node(2, 7, 130, 700, 26, 64, "f16", "f16", "causal", 0.0, sinks=False, seed=1)


@given(case=CASES)
@example(case=Case(LONG, "f16", 64, 0.0, 2, 0))
@example(case=Case(LONG, "f16", 64, 0.0, 2, 10_000_000))
@example(case=Case(LONG._replace(n_tokens=1, n_past=1100), "f16", 64, 0.0, 3, 0))
@settings(deadline=None, max_examples=300)
def test_equals_softmax(case: Case) -> None:
    out, k, v = case.found()
    expected = case.expected(k, v)
    accuracy = case.node.rounding(on_device=False) * float(np.abs(v).max())
    np.testing.assert_allclose(out, expected, rtol=0, atol=accuracy)


@given(case=CASES, first=st.integers(0, 60), n=st.integers(1, 200))
@settings(deadline=None, max_examples=100)
def test_a_query_does_not_depend_on_others_or_on_threads(case: Case, first: int, n: int) -> None:
    """Neither of 64 queries and more, nor of fewer, which are computed otherwise."""
    node = case.node
    first = min(first, node.n_tokens - 1)
    n = min(n, node.n_tokens - first)
    assume((node.n_tokens < 64) == (n < 64))
    # More threads than heads share the cells of a single query.
    n_threads = node.n_head_kv if 1 in (n, node.n_tokens) else 4
    case = case._replace(n_threads=1)
    out = case.found()[0]
    np.testing.assert_array_equal(case.found(n_threads=n_threads)[0], out)
    some = slice(first, first + n)
    np.testing.assert_array_equal(case.found(queries=some)[0], out[some])


@pytest.mark.parametrize("n_sequences", [2, 15, 40])
def test_answers_beside_each_other_are_as_alone(n_sequences: int) -> None:
    """One token each of several sequences, whose cells alternate in one cache."""
    n_kv = 640
    rng = np.random.default_rng(n_sequences)
    q = rng.standard_normal((14, n_sequences, 64)).astype(np.float32)
    k, v = rng.standard_normal((2, 2, n_kv, 64)).astype(np.float32)
    own = np.arange(n_kv)[None, :] % n_sequences == np.arange(n_sequences)[:, None]
    mask = np.where(own, 0, -np.inf).astype(np.float32)

    def output(which: slice) -> Floats:
        out: Floats = _oracle.attention_output(
            q[:, which], k, v, type_k="f16", type_v="f16", mask=mask[which], scale=0.125,
            n_threads=2, work_bytes=10_000_000,
        )[0]  # fmt: skip
        return out

    together = output(slice(None))
    for i in range(n_sequences):
        np.testing.assert_array_equal(output(slice(i, i + 1))[0], together[i])


def test_hidden_cells_between_those_that_are_seen_change_no_bit() -> None:
    """So what is read behind other cells of a cache equals what is read at its beginning."""
    rng = np.random.default_rng(7)
    q = 3 * rng.standard_normal((14, 5, 64)).astype(np.float32)
    k, v = rng.standard_normal((2, 2, 300, 64)).astype(np.float32)

    def output(cells: npt.NDArray[np.int64]) -> Floats:
        """With the cells seen at these places of a cache."""
        wide_k, wide_v = np.full((2, 2, 500, 64), 9, np.float32)
        wide_k[:, cells], wide_v[:, cells] = k, v
        mask = np.full((5, 500), -np.inf, np.float32)
        mask[:, cells] = 0
        out: Floats = _oracle.attention_output(
            q, wide_k, wide_v, type_k="f16", type_v="f16", mask=mask, scale=0.125, n_threads=2
        )[0]
        return out

    anywhere = np.sort(rng.permutation(500)[:300])
    np.testing.assert_array_equal(output(anywhere), output(np.arange(300)))


def test_a_size_that_vectors_do_not_divide_is_ggmls() -> None:
    """It rounds queries to the type of the keys' products."""
    node = LONG._replace(head_dim=40, n_group=1)
    case = Case(node, "f16", 40, 0.0, 2, 0)
    out, k, v = case.found()
    np.testing.assert_allclose(out, case.expected(k, v), rtol=0, atol=1e-3)
