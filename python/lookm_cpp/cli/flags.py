"""Flags that several commands take, each with its names, help and default in one place.

A name after the first is llama.cpp's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Literal

import typer

from lookm_cpp import _core, embedded
from lookm_cpp.compression import Compression
from lookm_cpp.file_check import CHECK_FILES
from lookm_cpp.images import MAX_PIXELS
from lookm_cpp.options import RANDOM_SEED, SAMPLING
from lookm_cpp.parsing import numbers

_MODEL = _core.ModelOptions()
_HOW = Compression()

Model = Annotated[str, typer.Option("--model", "-m", help="A GGUF file, or 'embedded'.")]
Mmproj = Annotated[
    str | None,
    typer.Option(
        "--mmproj",
        "-mm",
        help="The projector.  [default: the one mmproj*.gguf in the model's folder]",
    ),
]
System = Annotated[
    str | None, typer.Option("--system", "-sys", help="A system message before the question.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        option: The keyword argument of the library that it sets.
        kind: Its type.
        names: As it is written; ``--a/--no-a`` for a switch.
        help: One line.
        default: What holds without it.
        read: Makes the library's value of it.
    """

    option: str
    kind: Any
    names: tuple[str, ...]
    help: str
    default: Any = None
    read: Callable[[Any], Any] | None = None

    def parameter(self) -> inspect.Parameter:
        """As typer reads it from a command's signature."""
        shown: Any = {"show_default": "random"} if self.default == RANDOM_SEED else {}
        option = typer.Option(*self.names, help=self.help, **shown)
        annotation = Annotated[self.kind, option]  # type: ignore[name-defined]
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(self.option, kind, default=self.default, annotation=annotation)


def _switch(word: str) -> bool | Literal["auto"]:
    if word not in ("auto", "on", "off"):
        raise ValueError(f"--flash-attn is {word!r}, expected auto, on or off")
    return "auto" if word == "auto" else word == "on"


def _shares(words: str | None) -> list[float] | None:
    return None if words is None else numbers(words, "--tensor-split")


KV_RATIO = Flag("kv_ratio", float, ("--kv-ratio",), "Fraction of the cells to keep.", _HOW.kv_ratio)
METHOD = Flag(
    "method", str, ("--method",), "Compression method; origin compresses nothing.", _HOW.method
)

COMPRESSION: tuple[Flag, ...] = (
    KV_RATIO,
    METHOD,
    Flag(
        "important_ratio",
        float | None,
        ("--important-ratio",),
        "Fraction kept for its score.  [default: the method's]",
    ),
    Flag(
        "recent_ratio",
        float | None,
        ("--recent-ratio",),
        "Fraction kept because it comes last.  [default: the method's]",
    ),
    Flag(
        "text_overflow",
        str | None,
        ("--text-overflow",),
        "If text alone exceeds the budget: keep all of it, or evict.  [default: the method's]",
    ),
    Flag(
        "fidelity",
        str,
        ("--fidelity",),
        "paper or upstream: which holds where LOOK-M's paper and its code differ.",
        _HOW.fidelity,
    ),
    Flag(
        "scorer", str | None, ("--scorer",), "cumulative, window or none.  [default: the method's]"
    ),
    Flag(
        "window",
        int | None,
        ("--window",),
        "Queries of the window scorer.  [default: the method's, or the text after the last image]",
    ),
    Flag(
        "merge_keys",
        bool,
        ("--merge-keys/--no-merge-keys",),
        "Merge keys like values, or leave kept keys as they are.",
        _HOW.merge_keys,
    ),
    Flag(
        "merge_within_modality",
        bool,
        ("--merge-within-modality",),
        "Merge text only into text, and images only into images.",
        _HOW.merge_within_modality,
    ),
    Flag(
        "visual_quota",
        float | None,
        ("--visual-quota",),
        "Minimum fraction of the important budget reserved for image cells.  [default: the method's]",
    ),
)

OPENING: tuple[Flag, ...] = (
    Flag(
        "chat_template",
        str | None,
        ("--chat-template",),
        "A name that llama.cpp knows, a file, or Jinja text.  [default: the model's]",
    ),
    Flag(
        "n_ctx",
        int,
        ("--n-ctx", "--ctx-size", "-c"),
        "Context size in tokens; 0: the model's.",
        _MODEL.n_ctx,
    ),
    Flag(
        "n_batch", int, ("--n-batch", "--batch-size", "-b"), "Logical batch size.", _MODEL.n_batch
    ),
    Flag(
        "n_ubatch",
        int,
        ("--n-ubatch", "--ubatch-size", "-ub"),
        "Physical batch size.",
        _MODEL.n_ubatch,
    ),
    Flag(
        "n_threads",
        int | None,
        ("--threads", "-t"),
        "CPU threads.  [default: by the core; 1 for 'embedded']",
    ),
    Flag(
        "n_gpu_layers",
        int,
        ("--gpu-layers", "--n-gpu-layers", "-ngl"),
        "Layers on the accelerator; -1: all.",
        _MODEL.n_gpu_layers,
    ),
    Flag(
        "flash_attn", str, ("--flash-attn", "-fa"), "auto, on or off.", _MODEL.flash_attn, _switch
    ),
    Flag(
        "type_k", str, ("--type-k", "--cache-type-k", "-ctk"), "Type of the K cache.", _MODEL.type_k
    ),
    Flag(
        "type_v", str, ("--type-v", "--cache-type-v", "-ctv"), "Type of the V cache.", _MODEL.type_v
    ),
    Flag(
        "kept_type_k",
        str | None,
        ("--kept-type-k",),
        "Type that K is kept in once the prompt is read.  [default: --type-k]",
    ),
    Flag(
        "kept_type_v",
        str | None,
        ("--kept-type-v",),
        "Type that V is kept in once the prompt is read.  [default: --type-v]",
    ),
    Flag(
        "rpc_servers", str | None, ("--rpc",), "RPC servers that hold layers: host:port,host:port."
    ),
    Flag(
        "tensor_split",
        str | None,
        ("--tensor-split", "-ts"),
        "Fraction of the layers for each device, such as 3,1.",
        read=_shares,
    ),
    Flag(
        "kv_cells",
        int | None,
        ("--kv-cells",),
        "Maximum number of cells; longer prompts are squeezed while they are read.",
    ),
    Flag(
        "kv_memory",
        str | None,
        ("--kv-memory",),
        "The same limit in bytes of the KV cache, such as 512MiB.",
    ),
    Flag(
        "compute_bytes",
        int,
        ("--compute-bytes",),
        "Maximum memory for scoring and compression.",
        _MODEL.compute_bytes,
    ),
    Flag(
        "shrink",
        bool,
        ("--shrink/--no-shrink",),
        "Give memory back after compression, or keep one context of --n-ctx cells.",
        _MODEL.shrink,
    ),
    Flag(
        "max_pixels",
        int,
        ("--max-pixels",),
        "Maximum pixels of an image; a larger one is refused before it is decoded.",
        MAX_PIXELS,
    ),
    Flag(
        "check_files",
        bool,
        ("--check-files/--no-check-files",),
        "Open files that were not seen before in a child process first.",
        CHECK_FILES,
    ),
    Flag("verbose", bool, ("--verbose", "-v"), "Show llama.cpp's log.", _MODEL.verbose),
)


def without(flags: Sequence[Flag], *options: str) -> tuple[Flag, ...]:
    """All of these flags but those of some options."""
    assert {*options} <= {flag.option for flag in flags}
    return tuple(flag for flag in flags if flag.option not in options)


SEED = Flag(
    "seed", int, ("--seed", "-s"), "Random seed of the sampler and of --method random.", RANDOM_SEED
)

MAX_TOKENS = Flag(
    "max_tokens",
    int,
    ("--max-tokens", "--predict", "-n"),
    "Maximum number of tokens in the answer; 0: as many as fit into the context.",
    512,
)

ANSWER: tuple[Flag, ...] = (
    MAX_TOKENS,
    Flag(
        "temperature", float, ("--temperature", "--temp"), "Sampling temperature; 0: greedy.", 0.0
    ),
    Flag("top_k", int, ("--top-k",), "Sample among this many tokens.", SAMPLING["top_k"]),
    Flag("top_p", float, ("--top-p",), "Nucleus sampling.", SAMPLING["top_p"]),
    Flag(
        "min_p",
        float,
        ("--min-p",),
        "Minimum probability of a token, relative to the most likely one.",
        SAMPLING["min_p"],
    ),
    Flag("repeat_penalty", float, ("--repeat-penalty",), "1: none.", SAMPLING["repeat_penalty"]),
    Flag(
        "frequency_penalty",
        float,
        ("--frequency-penalty",),
        "0: none.",
        SAMPLING["frequency_penalty"],
    ),
    Flag(
        "presence_penalty", float, ("--presence-penalty",), "0: none.", SAMPLING["presence_penalty"]
    ),
)


def with_flags(**groups: Sequence[Flag]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these flags; it gets each group as a dict of that name, values by the
    library's keywords.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [
            parameter for parameter in signature.parameters.values() if parameter.name not in groups
        ]
        parameters = own + [flag.parameter() for flags in groups.values() for flag in flags]

        @wraps(command)
        def run(**given: Any) -> None:
            values = {
                name: {flag.option: _value(flag, given) for flag in flags}
                for name, flags in groups.items()
            }
            command(**given, **values)

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {
            "return": None
        }
        return run

    return give


def _value(flag: Flag, given: dict[str, Any]) -> Any:
    value = given.pop(flag.option)
    return value if flag.read is None else flag.read(value)


def check_embedded(model: str, mmproj: str | None) -> None:
    """The embedded model has its own projector.

    Raises:
        ValueError: Another is given.
    """
    if model == embedded.NAME and mmproj is not None:
        raise ValueError(
            f"--mmproj is {mmproj!r}, expected none, as the embedded model has its own"
        )
