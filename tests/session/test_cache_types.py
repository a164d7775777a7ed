"""Types of K and V, each of its own, on random models."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from reference import lookm_numpy as reference

from session.kinds import (
    IS_TEXT,
    KINDS,
    N_PROMPT,
    Kind,
    check_eviction,
    context,
    decode,
    nmse,
    prefill,
)

PLAIN = [
    ("f32", "f32"),
    ("f16", "f16"),
    ("bf16", "bf16"),
    ("q8_0", "f16"),
    ("q4_0", "f16"),
    ("f16", "f32"),
]
QUANTIZED_V = [
    ("f16", "q8_0"),
    ("q8_0", "q8_0"),
    ("q4_0", "q4_0"),
    ("q8_0", "q4_0"),
    ("f32", "q8_0"),
]


@pytest.mark.parametrize("flash_attn", [True, False])
@pytest.mark.parametrize(("type_k", "type_v"), PLAIN)
def test_eviction_per_head_equals_masked_attention(
    type_k: str, type_v: str, flash_attn: bool
) -> None:
    kind = KINDS["gqa-64"]
    check_eviction(kind, kind.make(), flash_attn=flash_attn, type_k=type_k, type_v=type_v)


@pytest.mark.parametrize("head_dim", [64, 96])
@pytest.mark.parametrize(("type_k", "type_v"), QUANTIZED_V)
def test_eviction_with_quantized_values(type_k: str, type_v: str, head_dim: int) -> None:
    """They need flash attention, which knows no mask for each head.

    One layer and one KV head need none: llama.cpp takes out the cells that were evicted. A head
    size of 64 is stored after a Hadamard rotation, one of 96 is not.
    """
    kind = Kind({"n_layer": 1, "n_head": 4, "n_head_kv": 1, "head_dim": head_dim}, [0])
    model = kind.make()
    packed, removed, full = (context(kind, model, type_k=type_k, type_v=type_v) for _ in range(3))
    packed.arm()
    for one in (packed, removed, full):
        prefill(one)
    kept = packed.compress(0, method="h2o", important_ratio=0.2, recent_ratio=0.1)["kept"][0][0]
    for position in set(range(N_PROMPT)) - set(kept.tolist()):
        removed.remove(0, position, position + 1)
    answers, expected = decode(packed), decode(removed)
    assert nmse(answers, expected) < 1e-5  # the order of flash attention's sums
    assert nmse(decode(full), expected) > 1e-4, (
        "what was taken out must matter, or this test could not fail"
    )


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize(("type_k", "type_v"), PLAIN + QUANTIZED_V)
def test_rows_move_unchanged(type_k: str, type_v: str, on_device: bool) -> None:
    kind = KINDS["gqa-64"]
    c = context(kind, kind.make(), type_k=type_k, type_v=type_v)
    c.arm()
    prefill(c)
    before = [[c.rows(0, il, values) for values in (False, True)] for il in kind.layers]
    kept = c.compress(0, method="h2o", on_device=on_device)["kept"]
    for il in kind.layers:
        for values in (False, True):
            expected = np.take_along_axis(before[il][values], kept[il][:, :, None], axis=1)
            np.testing.assert_array_equal(c.rows(0, il, values), expected)


def step(kind: str, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The most that a value of these rows changes when it is stored.

    Half a step of q8_0 and the rounding of its f16 scale; a whole step of q4_0, whose range has one
    more step on one side.
    """
    blocks = np.abs(rows).reshape(*rows.shape[:2], -1, 32).max(axis=3)
    relative = {
        "f32": 2**-23,
        "f16": 2**-11,
        "bf16": 2**-8,
        "q8_0": 0.5 / 127 + 2**-11,
        "q4_0": 1 / 8 + 2**-11,
    }[kind]
    return np.repeat(blocks * relative, 32, axis=2)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize(("type_k", "type_v"), PLAIN + QUANTIZED_V)
def test_merged_rows_equal_the_reference(type_k: str, type_v: str, on_device: bool) -> None:
    kind = KINDS["gqa-64"]
    c = context(kind, kind.make(), type_k=type_k, type_v=type_v)
    c.arm()
    prefill(c)
    before = [(c.rows(0, il, False), c.rows(0, il, True), c.scores(0, il)) for il in kind.layers]
    result = c.compress(
        0,
        on_device=on_device,
        method="text_prior_pivot_merge",
        important_ratio=0.15,
        recent_ratio=0.1,
    )
    options = reference.Options(
        method="text_prior_pivot_merge", important_ratio=0.15, recent_ratio=0.1
    )
    for il, (k, v, scores) in enumerate(before):
        expected_k, expected_v, kept, _ = reference.compress(k, v, scores, IS_TEXT, options)
        np.testing.assert_array_equal(result["kept"][il], kept)
        for rows, expected, name in (
            (c.rows(0, il, False), expected_k, type_k),
            (c.rows(0, il, True), expected_v, type_v),
        ):
            # 1e-6: sums of up to ~100 rows in f32
            assert np.all(np.abs(rows - expected) <= step(name, expected) + 1e-6)
