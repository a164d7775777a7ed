"""Caches that compression would break: an error names the kind, and nothing aborts."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from session.kinds import KINDS

_oracle: Any = import_module("lookm_cpp._oracle")

EXPERTS = {
    "expert_count": 4,
    "expert_used_count": 2,
    "expert_feed_forward_length": 64,
    "expert_shared_count": 1,
    "expert_weights_scale": 1.0,
    "expert_weights_norm": True,
    "expert_gating_func": 2,
}
INDEXER = {
    "attention.indexer.head_count": 2,
    "attention.indexer.key_length": 64,
    "attention.indexer.top_k": 16,
}
LATENT = {
    **dict(KINDS["k-96-v-64"].model["metadata"]),
    "attention.key_length_mla": 96,
    "attention.value_length_mla": 64,
}
BLOCKS = {
    "attention.indexer.block_size": 16,
    "attention.indexer.local_blocks": 1,
    "leading_dense_block_count": 1,
}
SHORTCONV = {"attention.head_count_kv": [0, 2], "shortconv.l_cache": 3}

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "latent attention": ("deepseek2", LATENT, r"multi-head latent attention \(MLA\)"),
    "sparse": (
        "deepseek32",
        {**LATENT, **EXPERTS, **INDEXER},
        "memory type kv_cache_dsa cannot be compressed",
    ),
    "sparse blocks": (
        "minimax-m3",
        {**EXPERTS, **INDEXER, **BLOCKS},
        "memory type kv_cache_msa cannot",
    ),
    "hybrid with windows": (
        "lfm2",
        {**SHORTCONV, "attention.sliding_window": 64},
        "memory type memory_hybrid_iswa",
    ),
    "windows alone": (
        "gemma3",
        {"attention.sliding_window": 64, "attention.sliding_window_pattern": 1000},
        "no layer of this model attends to all earlier tokens",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_cannot_be_compressed_are_refused_with_the_reason(name: str) -> None:
    arch, metadata, reason = REFUSED[name]
    n_head_kv = (
        2 if arch == "minimax-m3" else 1
    )  # as many as indexer heads; of latent attention one
    model = _oracle.Model.random(
        arch=arch, n_layer=2, n_head_kv=n_head_kv, metadata=list(metadata.items())
    )
    with pytest.raises(
        ValueError, match=rf"kv_ratio: .*{reason}.*kv_ratio 1 runs this model uncompressed"
    ):
        _oracle.Sequences(model)


def test_split_mode_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match="split mode tensor spreads a layer's cache over devices"):
        _oracle.Sequences(_oracle.Model.random(n_layer=2, split_tensors=True))
