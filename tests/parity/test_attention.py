"""A prompt's attention on the CPU (``cpu_attention.cpp``) equals softmax(q k) v in float64.

With every type of K and V, unusual masks, softcaps, sinks and ALiBi. Fewer than 64 queries are left
to ggml, which rounds them to the type of K.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
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
    n_tokens=st.integers(64, 200),
    n_past=st.one_of(st.just(0), st.integers(1, 200)),
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
)
LONG = Node(2, 7, 130, 700, 26, 64, "f16", "f16", "causal", 0.0, sinks=False, seed=1)


@given(case=CASES)
@example(case=Case(LONG, "f16", 64, 0.0, 2))
@settings(deadline=None, max_examples=150)
def test_equals_softmax(case: Case) -> None:
    out, k, v = case.found()
    expected = case.expected(k, v)
    accuracy = case.node.rounding() * float(np.abs(v).max())
    np.testing.assert_allclose(out, expected, rtol=0, atol=accuracy)


@given(case=CASES, first=st.integers(0, 60))
@settings(deadline=None, max_examples=60)
def test_a_query_does_not_depend_on_others_or_on_threads(case: Case, first: int) -> None:
    out = case.found()[0]
    np.testing.assert_array_equal(case.found(n_threads=4)[0], out)
    first = min(first, case.node.n_tokens - 64)
    some = slice(first, first + 64 + (case.node.n_tokens - first - 64) // 2)
    np.testing.assert_array_equal(case.found(queries=some)[0], out[some])


@pytest.mark.parametrize("n_tokens", [1, 2, 63])
@pytest.mark.parametrize("type_k", ["f16", "q8_0"])
def test_few_queries_are_ggmls(n_tokens: int, type_k: str) -> None:
    """It rounds queries to the type of the keys' products."""
    node = LONG._replace(n_tokens=n_tokens, type_k=type_k)
    case = Case(node, type_k, 64, 0.0, 2)
    out, k, v = case.found()
    np.testing.assert_allclose(out, case.expected(k, v), rtol=0, atol=0.05)


def test_a_size_that_vectors_do_not_divide_is_ggmls() -> None:
    node = LONG._replace(head_dim=40, n_group=1)
    case = Case(node, "f16", 40, 0.0, 2)
    out, k, v = case.found()
    np.testing.assert_allclose(out, case.expected(k, v), rtol=0, atol=1e-3)
