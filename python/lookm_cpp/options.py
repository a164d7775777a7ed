"""Keyword arguments, typed once for all functions that pass them on."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, cast

from lookm_cpp import _core
from lookm_cpp.brief import brief
from lookm_cpp.compression import Compression, CompressionOverrides
from lookm_cpp.response_format import ResponseFormat, schema_text
from lookm_cpp.sizes import index, long_whole, number, whole
from lookm_cpp.tools import Tool, ToolChoice

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
    typical_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    mirostat_mode: int
    mirostat_tau: float
    mirostat_eta: float
    logit_bias: dict[int, float]
    grammar: str
    json_schema: str
    seed: int


def _decimal(value: float) -> float:
    """A number that the core holds in 32 bits, as it was written."""
    return round(value, 6)


_USUAL = _core.Sampling()
SAMPLING: Sampling = {
    "temperature": _decimal(_USUAL.temperature),
    "top_p": _decimal(_USUAL.top_p),
    "top_k": _USUAL.top_k,
    "min_p": _decimal(_USUAL.min_p),
    "typical_p": _decimal(_USUAL.typical_p),
    "repeat_penalty": _decimal(_USUAL.repeat_penalty),
    "frequency_penalty": _decimal(_USUAL.frequency_penalty),
    "presence_penalty": _decimal(_USUAL.presence_penalty),
    "mirostat_mode": _USUAL.mirostat_mode,
    "mirostat_tau": _decimal(_USUAL.mirostat_tau),
    "mirostat_eta": _decimal(_USUAL.mirostat_eta),
    "logit_bias": _USUAL.logit_bias,
    "grammar": _USUAL.grammar,
    "json_schema": _USUAL.json_schema,
    "seed": _USUAL.seed,
}
"""The defaults of ``create_chat_completion``, whose ``response_format`` is ``json_schema`` here."""


def sampling_of(**given: Any) -> Sampling:
    """Sampling options by name, with ``None`` for the default; the core checks their ranges.

    Raises:
        ValueError: A value has the wrong type.
        TypeError: There is no option of that name.
    """
    schema = schema_text(given.pop("response_format", None))
    for name in given:
        if name not in SAMPLING or name == "json_schema":
            raise TypeError(f"{name} is not an option of an answer")
    checks: dict[str, Callable[[str, Any], Any]] = {
        "seed": lambda _, seed: seed_of(seed),
        "top_k": long_whole,
        "mirostat_mode": whole,
        "logit_bias": _biases,
        "grammar": _text,
    }
    found = {
        name: checks.get(name, number)(name, value)
        for name, value in given.items()
        if value is not None
    }
    return cast("Sampling", {**SAMPLING, **found, "json_schema": schema})


def _biases(name: str, biases: Mapping[int | str, float]) -> dict[int, float]:
    """By token; OpenAI's clients give tokens as strings."""
    if not isinstance(biases, Mapping):
        raise ValueError(f"{name} is {brief(biases)}, expected a dict of tokens and numbers")
    found = {}
    for token, bias in biases.items():
        try:
            at = int(token) if isinstance(token, str) else index(name, token)
        except ValueError:
            raise ValueError(f"{name} has {brief(token)}, expected tokens") from None
        found[whole(name, at)] = number(name, bias)
    return found


def _text(name: str, text: str) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{name} is {brief(text)}, expected a string")
    return text


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
    split_mode: Literal["layer", "row", "none"]
    main_gpu: int
    use_mmap: bool
    use_mlock: bool
    rope_freq_base: float
    rope_freq_scale: float
    lora_path: str | os.PathLike[str] | None
    lora_scale: float
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
    typical_p: float | None
    repeat_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    mirostat_mode: int | None
    mirostat_tau: float | None
    mirostat_eta: float | None
    logit_bias: Mapping[int, float] | Mapping[str, float] | None
    grammar: str | None
    response_format: ResponseFormat | None
    seed: int | None
    stop: str | Sequence[str] | None
    progress: Progress | None


class TextOptions(CompressionOverrides, AnswerOptions, total=False):
    """Keyword arguments of ``create_completion`` that concern the prompt and each answer."""

    compression: Compression | None
    reuse: bool


class TextCompletionOptions(TextOptions, total=False):
    """Keyword arguments of ``create_completion``."""

    echo: bool | None
    logprobs: int | None
    n: int | None
    stream_options: Mapping[str, Any] | None
    user: str | None


class ChatOptions(TextOptions, total=False):
    """Keyword arguments of ``create_chat_completion`` and ``ask``."""

    chat_template_kwargs: Mapping[str, Any] | None


class CompletionOptions(ChatOptions, total=False):
    """Keyword arguments of ``create_chat_completion``."""

    tools: Sequence[Tool] | None
    tool_choice: ToolChoice | None
    parallel_tool_calls: bool | None
    n: int | None
    logprobs: bool | None
    top_logprobs: int | None
    stream_options: Mapping[str, Any] | None
    user: str | None
