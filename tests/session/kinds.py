"""Random models of every kind of cache that is supported, and one prompt for all of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

Floats = npt.NDArray[np.float32]

BEFORE = [1, 7, 3, 9]
BETWEEN = [11, 12, 13, 14, 15, 16]
AFTER = [(5 * i) % 128 for i in range(28)]
WIDTH, HEIGHT = 12, 10
N_PROMPT = len(BEFORE + BETWEEN + AFTER) + 2 * WIDTH * HEIGHT
IS_TEXT = np.repeat(
    [True, False, True, False, True], [len(BEFORE), 120, len(BETWEEN), 120, len(AFTER)]
)
ANSWER = [(37 * i + 5) % 128 for i in range(32)]


class Kind(NamedTuple):
    """A model and the layers whose cache is compressed."""

    model: dict[str, Any]
    layers: list[int]
    causal_images: bool = True
    partial: bool = False
    """Some layers keep windows or recurrent states."""
    sinks: bool = False
    flash_noise: float = 1e-5
    """NMSE that flash attention's own rounding may make: it sums V in f16, where the oracle does
    not.
    """

    def make(self) -> Any:
        return _oracle.Model.random(**self.model)


def _llama(**options: Any) -> Kind:
    return Kind({"n_layer": 2, **options}, [0, 1])


def _arch(
    arch: str, layers: list[int], metadata: dict[str, Any], n_layer: int = 2, **options: Any
) -> Kind:
    of_kind = {name: options.pop(name) for name in Kind._fields if name in options}
    model = {"arch": arch, "n_layer": n_layer, "metadata": list(metadata.items()), **options}
    return Kind(model, layers, **of_kind)


MROPE = {"rope.dimension_sections": [8, 12, 12, 0]}
WINDOWS = {"attention.sliding_window": 64, "attention.sliding_window_pattern": 2}
EXPERTS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 64}

KINDS: dict[str, Kind] = {
    "mha": _llama(n_head=3, n_head_kv=3),
    "gqa-64": _llama(n_head=4, n_head_kv=2, head_dim=64),
    "mqa-80": _llama(n_head=4, n_head_kv=1, head_dim=80),
    "gqa-96": _llama(n_head=4, n_head_kv=2, head_dim=96),
    "gqa-128": _llama(n_head=4, n_head_kv=2, head_dim=128),
    "gqa-256": _llama(n_head=2, n_head_kv=1, head_dim=256),
    "k-96-v-64": _arch(
        "deepseek2",  # without its latent attention
        [0, 1],
        {
            "attention.key_length": 96,
            "attention.q_lora_rank": 64,
            "attention.kv_lora_rank": 64,
            "rope.dimension_count": 32,
            "leading_dense_block_count": 2,
            "expert_feed_forward_length": 64,
            "expert_shared_count": 1,
        },
        n_head_kv=4,
    ),
    "heads-by-layer": _arch(
        "deci",
        [0, 1, 2],
        {
            "attention.head_count": [4, 4, 4],
            "attention.head_count_kv": [1, 4, 2],
            "feed_forward_length": [256, 256, 256],
        },
        n_layer=3,
    ),
    "qwen2vl": _arch("qwen2vl", [0, 1], MROPE),
    "qwen3vl": _arch("qwen3vl", [0, 1], {**MROPE, "n_deepstack_layers": 1}),
    "gemma3": _arch("gemma3", [1, 3], WINDOWS, n_layer=4, causal_images=False, partial=True),
    "gemma2": _arch(
        "gemma2",
        [1, 3],
        {**WINDOWS, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 30.0},
        n_layer=4,
        partial=True,
    ),
    "gpt-oss": _arch(
        "gpt-oss", [1, 3], {**WINDOWS, **EXPERTS}, n_layer=4, partial=True, sinks=True
    ),
    "lfm2": _arch(
        "lfm2",
        [1, 3],
        {"attention.head_count_kv": [0, 2, 0, 2], "shortconv.l_cache": 3},
        n_layer=4,
        partial=True,
    ),
    "falcon-h1": _arch(
        "falcon-h1",
        [0, 1],
        {
            "ssm.conv_kernel": 4,
            "ssm.inner_size": 256,
            "ssm.state_size": 16,
            "ssm.time_step_rank": 4,
            "ssm.group_count": 1,
        },
        partial=True,
        # its scan amplifies: the full cache with and without flash attention differs by 6e-5
        flash_noise=5e-4,
    ),
}


def context(kind: Kind, model: Any, **options: Any) -> Any:
    return _oracle.Sequences(model, causal_images=kind.causal_images, **options)


def prefill(context: Any, seq: int = 0) -> Floats:
    """Read text, image, text, image, text in five batches; return the last token's logits."""
    context.text(seq, BEFORE)
    context.image(seq, 1, WIDTH, HEIGHT)
    context.text(seq, BETWEEN)
    context.image(seq, 2, HEIGHT, WIDTH)
    logits: Floats = context.text(seq, AFTER)
    return logits


def decode(context: Any, seq: int = 0) -> Floats:
    return np.stack([context.text(seq, [token]) for token in ANSWER])


def nmse(a: Floats, b: Floats) -> float:
    return float(np.sum((a - b) ** 2) / np.sum(b**2))


def check_eviction(kind: Kind, model: Any, flash_attn: bool, **types: str) -> None:
    """32 tokens after eviction are those of attention over the full cache with a mask."""
    packed = context(kind, model, flash_attn=flash_attn, **types)
    packed.arm()
    prefill(packed)
    last, partial = packed.pos_max(0), packed.partial_state(0)
    result = packed.compress(0, method="h2o", important_ratio=0.2, recent_ratio=0.1)
    n_keep = result["n_keep"]
    assert n_keep == int(0.2 * N_PROMPT) + int(0.1 * N_PROMPT)
    assert packed.n_used == n_keep
    assert packed.pos_max(0) == last, "the next token still comes after the whole prompt"
    if kind.partial:
        assert len(partial) > 1000
        assert packed.partial_state(0) == partial, "windows and recurrent states are not touched"

    masked, unmasked = (context(kind, model, flash_attn=False, **types) for _ in range(2))
    for one in (masked, unmasked):
        prefill(one)
    masked.mask(0, result["kept"])
    answers, expected = decode(packed), decode(masked)
    assert nmse(answers, expected) < (kind.flash_noise if flash_attn else 1e-6)
    assert nmse(decode(unmasked), expected) > 1e-4, (
        "the mask must matter, or this test could not fail"
    )
    assert masked.last_n_kv == 512
