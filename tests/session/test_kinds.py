"""Every kind of cache on a random model, against llama.cpp's full cache with a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference import lookm_numpy as reference

from session.kinds import AFTER, IS_TEXT, KINDS, N_PROMPT, Kind, check_eviction, context, prefill

Opened = tuple[Kind, Any]


@pytest.fixture(scope="module", params=KINDS)
def opened(request: pytest.FixtureRequest) -> Opened:
    kind = KINDS[request.param]
    return kind, kind.make()


def test_the_tap_only_looks(opened: Opened) -> None:
    plain, tapped = context(*opened), context(*opened)
    tapped.arm()
    np.testing.assert_array_equal(prefill(tapped), prefill(plain))
    assert tapped.layers == opened[0].layers
    np.testing.assert_array_equal(tapped.is_text(0), IS_TEXT)


@pytest.mark.parametrize("flash_attn", [True, False])
def test_eviction_per_head_equals_masked_attention(opened: Opened, flash_attn: bool) -> None:
    check_eviction(*opened, flash_attn=flash_attn)


@pytest.mark.parametrize(
    ("flash_attn", "on_device"), [(True, False), (False, False), (False, True)]
)
def test_merged_rows_equal_the_reference(opened: Opened, flash_attn: bool, on_device: bool) -> None:
    c = context(*opened, flash_attn=flash_attn)
    c.arm()
    prefill(c)
    layers = range(len(c.layers))
    before = [(c.rows(0, il, False), c.rows(0, il, True), c.scores(0, il)) for il in layers]
    options = reference.Options(
        method="text_prior_pivot_merge", important_ratio=0.15, recent_ratio=0.1
    )
    result = c.compress(
        0, on_device=on_device, method=options.method, important_ratio=0.15, recent_ratio=0.1
    )
    for il, (k, v, scores) in enumerate(before):
        expected_k, expected_v, kept, _ = reference.compress(k, v, scores, IS_TEXT, options)
        np.testing.assert_array_equal(result["kept"][il], kept)
        # rows come back as f16: one step of it, 2^-11 relative, and sums of up to ~100 rows before
        for values, expected in ((False, expected_k), (True, expected_v)):
            np.testing.assert_allclose(c.rows(0, il, values), expected, rtol=2**-10, atol=2**-9)


def test_scores_with_and_without_flash_attention(opened: Opened) -> None:
    """Column sums of the same probabilities; later layers differ by earlier layers' rounding."""
    on, off = (context(*opened, flash_attn=flash_attn) for flash_attn in (True, False))
    for one in (on, off):
        one.arm()
        prefill(one)
    for il in range(len(on.layers)):
        a, b = on.scores(0, il), off.scores(0, il)
        if opened[0].sinks:
            assert np.all(a.sum(axis=1) < 0.999 * N_PROMPT), "sinks take a share of every query"
        else:
            np.testing.assert_allclose(a.sum(axis=1), N_PROMPT, rtol=1e-5)
        assert np.abs(a - b).sum() / b.sum() < 1e-2


def test_fewer_cells_to_attend_over(opened: Opened) -> None:
    c = context(*opened, flash_attn=False)
    c.arm()
    prefill(c)
    c.compress(0)
    c.mask(0, [])  # only to see how many cells attention runs over
    c.text(0, AFTER[:1])
    assert c.last_n_kv == 256
