"""KL divergence and top-1 agreement: by hand, from their sums, and on a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lookm_cpp.evaluation.fidelity import Fidelity, agreements, fidelity, kl_divergences

ROUNDING = 1e-6
"""Each of two f32 log-probabilities of at most 10 nats is off by at most 5e-7."""


def logs(*rows: list[float]) -> npt.NDArray[np.float32]:
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows, np.float32))


def test_values_worked_out_by_hand() -> None:
    full = logs([0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.2, 0.5, 0.3])
    other = logs([0.25, 0.5, 0.25], [0.5, 0.5, 0.0], [0.2, 0.5, 0.3])
    # 0.5 log 2 + 0.25 log 0.5 + 0; then 1 log 2, as what cannot come does not count; then 0
    by_hand = [0.25 * math.log(2), math.log(2), 0.0]
    np.testing.assert_allclose(kl_divergences(full, other), by_hand, atol=ROUNDING)
    assert agreements(full, other).tolist() == [False, True, True]
    found = fidelity([(full, other)])
    assert found is not None
    assert found.n_tokens == 3
    assert found.kl_divergence == pytest.approx(1.25 * math.log(2) / 3, abs=ROUNDING)
    assert found.top1_agreement == pytest.approx(2 / 3)


def test_it_is_not_symmetric() -> None:
    """The full cache's probabilities are the weights."""
    sure, even = logs([0.9, 0.1]), logs([0.5, 0.5])
    assert kl_divergences(sure, even)[0] == pytest.approx(
        0.9 * math.log(1.8) + 0.1 * math.log(0.2), abs=ROUNDING
    )
    assert kl_divergences(even, sure)[0] == pytest.approx(
        -0.5 * math.log(4 * 0.9 * 0.1), abs=ROUNDING
    )


def test_what_the_compressed_cache_holds_for_impossible_is_infinitely_far() -> None:
    assert kl_divergences(logs([0.5, 0.5]), logs([1.0, 0.0]))[0] == math.inf


def test_chunks_are_one_answer() -> None:
    """Rows count alike, whatever chunk they come in; without any there is nothing to say."""
    full = logs([0.5, 0.5], [0.9, 0.1], [0.2, 0.8])
    other = logs([0.4, 0.6], [0.5, 0.5], [0.7, 0.3])
    whole = fidelity([(full, other)])
    assert whole is not None
    parts = fidelity([(full[:1], other[:1]), (full[1:], other[1:])])
    assert parts == whole
    assert fidelity([]) is None
    assert fidelity([(full[:0], other[:0])]) is None
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        fidelity([(full, other[:2])])


def reference(p_logits: npt.NDArray[Any], q_logits: npt.NDArray[Any]) -> tuple[float, float]:
    """Both measures from their sums, token by token, in Python's floats."""
    total, same = 0.0, 0
    for p_row, q_row in zip(p_logits.tolist(), q_logits.tolist(), strict=True):
        p, q = ([math.exp(x - max(row)) for x in row] for row in (p_row, q_row))
        p, q = ([x / math.fsum(row) for x in row] for row in (p, q))
        total += math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
        same += p.index(max(p)) == q.index(max(q))
    return total / len(p_logits), same / len(p_logits)


def log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    wide = logits.astype(np.float64)
    return (wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)).astype(np.float32)


@given(st.data())
def test_against_the_sums(data: st.DataObject) -> None:
    """Logits are whole numbers, so that rounding makes no ties and breaks none."""
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(2, 30)))
    p, q = (data.draw(arrays(np.int8, shape, elements=st.integers(-8, 8))) for _ in range(2))
    found = fidelity([(log_softmax(p), log_softmax(q))])
    divergence, agreement = reference(p, q)
    assert found is not None
    assert found.kl_divergence == pytest.approx(divergence, abs=20 * ROUNDING)  # up to 20 nats
    assert found.top1_agreement == agreement
    assert fidelity([(log_softmax(p), log_softmax(p))]) == Fidelity(shape[0], 0.0, 1.0)
