"""Keyword arguments, typed once for every function that passes them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, TypedDict

Progress: TypeAlias = Callable[[str, int, int], None]
"""``progress(phase, done, total)``; phases ``encode`` (images), ``prefill`` (cells), ``compress`` (layers)."""

RANDOM_SEED = 0xFFFFFFFF
"""The seed that stands for a new one in every answer."""


class LlavaOptions(TypedDict, total=False):
    """Keyword arguments of ``Llava`` but for its files."""

    kv_ratio: float
    method: str
    important_ratio: float | None
    recent_ratio: float | None
    text_overflow: str
    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_threads: int | None
    n_gpu_layers: int
    flash_attn: bool | Literal["auto"]
    type_k: str
    type_v: str
    seed: int
    verbose: bool


class ChatOptions(TypedDict, total=False):
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
    kv_ratio: float | None
    method: str | None
    important_ratio: float | None
    recent_ratio: float | None
    text_overflow: str | None
    progress: Progress | None
