"""``compute_bytes`` limits memory for scoring and compression at any prompt length."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from lookm_cpp import Llava

_oracle: Any = import_module("lookm_cpp._oracle")

MIB = 1 << 20
N_HEAD, N_HEAD_KV, N_LAYER = 8, 2, 2
N_CTX = 8192 + 256
SCORE_BYTES = 4 * N_CTX * N_HEAD_KV * N_LAYER
"""The accumulators: a float for each cell, KV head and layer."""


@pytest.fixture(scope="module")
def model() -> Any:
    return _oracle.Model.random(n_layer=N_LAYER, n_head=N_HEAD, n_head_kv=N_HEAD_KV)


def prompt(n: int) -> list[int]:
    return [5] * (n // 40) + [-1 - i for i in range(n - 2 * (n // 40))] + [6] * (n // 40)


@pytest.mark.parametrize(
    ("flash_attn", "on_device", "bound"),
    [
        (True, False, 64),
        (False, False, 64),
        (False, True, 64),
        (False, True, 8),
        (True, False, 4),
        (True, False, 1),
    ],
)
def test_the_peak_is_bounded(model: Any, flash_attn: bool, on_device: bool, bound: int) -> None:
    context = _oracle.Context(
        model, n_ctx=N_CTX, n_ubatch=512, flash_attn=flash_attn, compute_bytes=bound * MIB
    )
    for n in (512, 2048, 8192):
        context.prefill(prompt(n))
        result = context.compress(method="text_prior_pivot_merge", on_device=on_device)
        assert result["n_keep"] == int(0.1 * n) * 2
        assert SCORE_BYTES <= result["peak_bytes"] <= SCORE_BYTES + bound * MIB


@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("n_group", [1, 8])
def test_a_device_goes_row_by_row(n_group: int, squares: bool) -> None:
    """8192 cells, 16 MiB of probabilities for each head: in 1 MiB, with the sums of the whole."""
    rng = np.random.default_rng(5)
    q = rng.standard_normal((2 * n_group, 64, 32)).astype(np.float32)
    k = rng.standard_normal((2, 8192, 32)).astype(np.float32)
    node = {
        "type": "f32",
        "mask": np.zeros((64, 8192), np.float32),
        "mask_type": "f32",
        "scale": 0.2,
        "softcap": 0.0,
    }
    sums = []
    for bound in (1 * MIB, 256 * MIB):
        found, _, _, peak = _oracle.attention_sums(
            q, k, **node, sinks=None, on_device=True, squares=squares, compute_bytes=bound
        )
        assert peak <= bound
        sums.append(found)
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-5)


def test_a_tight_bound_changes_no_score(model: Any) -> None:
    """The CPU then runs the devices' graph, which rounds q to f16: 2^-11, most of it cancels."""
    scores = []
    for bound in (1 * MIB, 64 * MIB):
        context = _oracle.Context(model, n_ctx=8192, n_ubatch=512, compute_bytes=bound)
        context.prefill(prompt(8192))
        scores.append(context.scores(0))
    difference = np.abs(scores[0] - scores[1]).sum() / scores[1].sum()
    assert 0 < difference < 1e-4


@pytest.mark.parametrize("wrong", [-1, 0, 1, MIB - 1, (1 << 40) + 1])
def test_nonsense_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"compute_bytes: {wrong}, expected 1048576 "):
        Llava.embedded(compute_bytes=wrong)
