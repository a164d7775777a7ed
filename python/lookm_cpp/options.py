"""Keyword arguments, typed once for all functions that pass them on."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, cast

from lookm_cpp.brief import brief
from lookm_cpp.compression import Compression, CompressionOverrides
from lookm_cpp.sizes import long_whole, number

Progress: TypeAlias = Callable[[str, int, int], None]
"""``progress(phase, done, total)``, as in ``Llava.create_chat_completion``."""

RANDOM_SEED = 0xFFFFFFFF
"""The seed that means a new one for each answer."""


class Sampling(TypedDict):
    """How the tokens of an answer are chosen, as in ``Llava.create_chat_completion``."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int


SAMPLING: Sampling = {
    "temperature": 0.2,
    "top_p": 0.95,
    "top_k": 40,
    "min_p": 0.05,
    "repeat_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "seed": RANDOM_SEED,
}
"""The defaults of ``create_chat_completion``."""


def sampling_of(**given: float | None) -> Sampling:
    """Sampling options by name, with ``None`` for the default; the core checks their ranges.

    Raises:
        ValueError: A value is not a number.
        TypeError: There is no option of that name.
    """
    for name in given:
        if name not in SAMPLING:
            raise TypeError(f"{name} is not an option of an answer")
    checks: dict[str, Callable[[str, Any], float]] = {
        "seed": lambda _, seed: seed_of(seed),
        "top_k": long_whole,
    }
    found = {
        name: checks.get(name, number)(name, value)
        for name, value in given.items()
        if value is not None
    }
    return cast("Sampling", {**SAMPLING, **found})


def method_seed(sampling: Sampling) -> int:
    """The seed of the method ``random``: the answer's, or 0 if that is a new one each time."""
    return 0 if sampling["seed"] == RANDOM_SEED else sampling["seed"]


def greedy_unless(temperature: float | None) -> float:
    """The temperature, with 0 for ``None``."""
    return 0.0 if temperature is None else temperature


def seed_of(seed: int) -> int:
    """The seed as llama.cpp takes it.

    Raises:
        ValueError: It is not a whole number, or has more than 32 bits.

    >>> seed_of(-1) == RANDOM_SEED
    True
    """
    try:
        seed = operator.index(seed)
    except TypeError:
        raise ValueError(
            f"seed: {brief(seed)} is not a whole number; expected 0 to {RANDOM_SEED}, or -1"
        ) from None
    if not -1 <= seed <= RANDOM_SEED:
        raise ValueError(
            f"seed: {seed} is out of range; "
            f"expected 0 to {RANDOM_SEED}, or -1 for a new one each time"
        )
    return RANDOM_SEED if seed == -1 else seed


class ModelOptions(TypedDict, total=False):
    """How a model is opened, as in ``Llava``."""

    chat_template: str | os.PathLike[str] | None
    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_threads: int | None
    n_gpu_layers: int
    flash_attn: bool | Literal["auto"]
    type_k: str
    type_v: str
    kept_type_k: str | None
    kept_type_v: str | None
    rpc_servers: str | None
    tensor_split: Sequence[float] | None
    compute_bytes: int
    shrink: bool
    kv_cells: int | None
    kv_memory: int | str | None
    prefix_memory: int | str
    prefix_type: str | None
    image_cache: int | str
    verbose: bool


class LlavaOptions(CompressionOverrides, ModelOptions, total=False):
    """Keyword arguments of ``Llava``, without the files."""

    compression: Compression | None
    seed: int
    max_pixels: int
    check_files: bool


class AnswerOptions(TypedDict, total=False):
    """How an answer is chosen and where it ends, as in ``create_chat_completion``."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repeat_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    progress: Progress | None


class ChatOptions(CompressionOverrides, AnswerOptions, total=False):
    """Keyword arguments of ``create_chat_completion`` and ``ask``."""

    compression: Compression | None
    reuse: bool
