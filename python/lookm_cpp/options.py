"""Keyword arguments, typed once for every function that passes them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, TypedDict

Progress: TypeAlias = Callable[[str, int, int], None]
"""``progress(phase, done, total)``; phases ``encode`` (images, or tiles of them), ``prefill`` (cells),
``compress`` (layers)."""

RANDOM_SEED = 0xFFFFFFFF
"""The seed that stands for a new one in every answer."""


class Sampling(TypedDict):
    """How the tokens of an answer are chosen; as in ``Llava.create_chat_completion``."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int


def seed_of(seed: int) -> int:
    """The seed as llama.cpp has it.

    Raises:
        ValueError: It has more than 32 bits.

    >>> seed_of(-1) == RANDOM_SEED
    True
    """
    if not -1 <= seed <= RANDOM_SEED:
        raise ValueError(f"seed: {seed} is out of range; expected 0 to {RANDOM_SEED}, or -1 for a new one every time")
    return RANDOM_SEED if seed == -1 else seed


class MethodOptions(TypedDict, total=False):
    """What may be said about a method on arrays; as in ``lookm_cpp.compression.Compression``."""

    fidelity: str
    scorer: str | None
    window: int | None
    text_overflow: str | None
    merge_keys: bool
    merge_within_modality: bool
    visual_quota: float | None
    seed: int


class CompressionOverrides(TypedDict, total=False):
    """How one prompt is compressed, where it differs from what was said before; ``None`` for no difference."""

    kv_ratio: float | None
    method: str | None
    important_ratio: float | None
    recent_ratio: float | None
    text_overflow: str | None
    fidelity: str | None
    scorer: str | None
    window: int | None
    merge_keys: bool | None
    merge_within_modality: bool | None
    visual_quota: float | None


class LlavaOptions(TypedDict, total=False):
    """Keyword arguments of ``Llava`` but for its files."""

    kv_ratio: float
    method: str
    important_ratio: float | None
    recent_ratio: float | None
    text_overflow: str | None
    fidelity: str
    scorer: str | None
    window: int | None
    merge_keys: bool
    merge_within_modality: bool
    visual_quota: float | None
    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_threads: int | None
    n_gpu_layers: int
    flash_attn: bool | Literal["auto"]
    type_k: str
    type_v: str
    rpc_servers: str | None
    tensor_split: Sequence[float] | None
    compute_bytes: int
    seed: int
    shrink: bool
    kv_cells: int | None
    kv_memory: int | str | None
    verbose: bool


class ChatOptions(CompressionOverrides, total=False):
    """Keyword arguments of ``create_chat_completion`` and ``ask``."""

    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int | None
    stop: str | Sequence[str] | None
    progress: Progress | None
