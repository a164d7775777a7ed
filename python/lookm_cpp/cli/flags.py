"""The flags that several commands take. Each has its names, help and default here and nowhere else.

The first name is this project's, the others are llama.cpp's.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Annotated, Any, Literal

import typer

from lookm_cpp import _core, embedded
from lookm_cpp.cli.hub_flag import hub_parameters, with_hub_files
from lookm_cpp.compression import Compression
from lookm_cpp.file_check import CHECK_FILES
from lookm_cpp.files import read_text
from lookm_cpp.images import MAX_PIXELS
from lookm_cpp.options import RANDOM_SEED, SAMPLING
from lookm_cpp.parsing import numbers, ratio_or_auto
from lookm_cpp.response_format import ResponseFormat

_MODEL = _core.ModelOptions()
_HOW = Compression()

Model = Annotated[
    str,
    typer.Option("--model", "-m", metavar="FILE", help="A GGUF file, or 'embedded'."),
]
Mmproj = Annotated[
    str | None,
    typer.Option(
        "--mmproj",
        "-mm",
        metavar="FILE",
        help="The projector.  [default: the one mmproj*.gguf in the model's folder]",
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system",
        "--system-prompt",
        "-sys",
        metavar="TEXT",
        help="A system message before the question.",
    ),
]
TextOnly = Annotated[
    bool, typer.Option("--text-only", help="Use no projector; there are no images.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]

METAVARS = {int: "N", float: "X", str: "TEXT"}


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        option: The keyword argument of the library that it sets.
        kind: Its type.
        names: As it is written; ``--a/--no-a`` for a switch.
        help: What it does.
        default: The value without it.
        otherwise: What holds without it, where ``default`` is ``None``.
        metavar: What the help calls its value.
        section: Heading of the help that it stands under.
        read: Makes the library's value of it.
    """

    option: str
    kind: type
    names: tuple[str, ...]
    help: str
    default: Any = None
    otherwise: str = ""
    metavar: str = ""
    section: str = ""
    read: Callable[[Any], Any] | None = None

    def value_name(self) -> str:
        """What the help calls the value, after a space; nothing for a switch."""
        name = self.metavar or METAVARS.get(self.kind)
        return f" {name}" if name else ""

    def parameter(self) -> inspect.Parameter:
        """As typer reads it from a command's signature."""
        otherwise = f"  [default: {self.otherwise}]" if self.otherwise else ""
        option = typer.Option(
            *self.names,
            help=self.help + otherwise,
            metavar=self.value_name().strip() or None,
            rich_help_panel=self.section or None,
            show_default=not self.otherwise,
        )
        of_type: Any = self.kind if self.default is not None else self.kind | None
        return inspect.Parameter(
            self.option,
            inspect.Parameter.KEYWORD_ONLY,
            default=self.default,
            annotation=Annotated[of_type, option],
        )


def _switch(word: str) -> bool | Literal["auto"]:
    if word not in ("auto", "on", "off"):
        raise ValueError(f"--flash-attn is {word!r}, expected auto, on or off")
    return "auto" if word == "auto" else word == "on"


def _shares(words: str | None) -> list[float] | None:
    return None if words is None else numbers(words, "--tensor-split")


def _schema(file: str | None) -> ResponseFormat | None:
    if file is None:
        return None
    try:
        schema = json.loads(read_text(file, "--json-schema-file"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"--json-schema-file {file!r}: {error}, expected a JSON schema") from None
    return {"type": "json_schema", "json_schema": {"schema": schema}}


def _grammar(file: str | None) -> str | None:
    return None if file is None else read_text(file, "--grammar-file")


def flags_under(section: str, *flags: Flag) -> tuple[Flag, ...]:
    """The flags, under this heading of the help."""
    return tuple(replace(flag, section=section) for flag in flags)


COMPRESSION = flags_under(
    "Compression",
    Flag(
        "kv_ratio",
        str,
        ("--kv-ratio",),
        "Fraction of the prompt's cells to keep; 1 keeps all, auto as few as hold --quality.",
        f"{_HOW.kv_ratio:g}",
        metavar="X|auto",
        read=ratio_or_auto,
    ),
    Flag(
        "method",
        str,
        ("--method",),
        "Which cells to keep and how to merge the others; origin keeps all.",
        _HOW.method,
        metavar="NAME",
    ),
    Flag(
        "important_ratio",
        float,
        ("--important-ratio",),
        "Fraction of the cells to keep for their attention score.",
        otherwise="0.9 of --kv-ratio with lookm_plus, else half of it",
    ),
    Flag(
        "recent_ratio",
        float,
        ("--recent-ratio",),
        "Fraction of the cells to keep because they are the last.",
        otherwise="the rest of --kv-ratio",
    ),
    Flag(
        "ratio_floor",
        float,
        ("--ratio-floor",),
        "Smallest ratio that --kv-ratio auto takes.",
        _HOW.ratio_floor,
    ),
    Flag(
        "ratio_ceiling",
        float,
        ("--ratio-ceiling",),
        "Largest ratio that --kv-ratio auto takes.",
        _HOW.ratio_ceiling,
    ),
    Flag(
        "quality",
        float,
        ("--quality",),
        "Share of the attention to the prompt that --kv-ratio auto keeps.",
        _HOW.quality,
    ),
    Flag(
        "text_overflow",
        str,
        ("--text-overflow",),
        "When text alone exceeds the ratio: keep all of it, or evict text as well.",
        otherwise="evict with lookm_plus, else keep",
        metavar="keep|evict",
    ),
    Flag(
        "fidelity",
        str,
        ("--fidelity",),
        "Where LOOK-M's paper and its published code differ, follow the paper or the code.",
        _HOW.fidelity,
        metavar="paper|upstream",
    ),
    Flag(
        "scorer",
        str,
        ("--scorer",),
        "Whose attention counts: all queries, the last ones (see --window), or none.",
        otherwise="the method's",
        metavar="cumulative|window|none",
    ),
    Flag(
        "window",
        int,
        ("--window",),
        "Number of last queries that --scorer window uses.",
        otherwise="64 with snapkv, else the text after the last image",
    ),
    Flag(
        "merge",
        str,
        ("--merge",),
        "How evicted cells are merged into kept ones: none, average, pivot or weighted.",
        otherwise="as the method says",
    ),
    Flag(
        "merge_keys",
        bool,
        ("--merge-keys/--no-merge-keys",),
        "Merge the keys of evicted cells as well as their values.",
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
        float,
        ("--visual-quota",),
        "Minimum fraction of the important cells that is reserved for images.",
        otherwise="0.25 with lookm_plus, else 0",
    ),
    Flag(
        "image_ratio",
        float,
        ("--image-ratio",),
        "Share of each image's cells that the language model reads at all.",
        _HOW.image_ratio,
    ),
    Flag(
        "image_cells",
        int,
        ("--image-cells",),
        "Number of cells of each image that it reads.",
        otherwise="as --image-ratio says",
    ),
    Flag(
        "pruner",
        str,
        ("--pruner",),
        "Which cells of an image are read.",
        _HOW.pruner,
        metavar="divprune|cdpruner|grid|random|none",
    ),
)
KV_RATIO = COMPRESSION[0]
AUTO = ("ratio_floor", "ratio_ceiling", "quality")
"""Options of ``--kv-ratio auto``, for commands that take fixed ratios alone."""

OPENING = flags_under(
    "Model and memory",
    Flag(
        "chat_template",
        str,
        ("--chat-template", "--chat-template-file"),
        "A name that llama.cpp knows, a file, or Jinja text.",
        otherwise="the model's",
    ),
    Flag(
        "n_ctx",
        int,
        ("--n-ctx", "--ctx-size", "-c"),
        "Maximum number of tokens of prompt and answer together; "
        "0: what the model was trained for.",
        _MODEL.n_ctx,
    ),
    Flag(
        "n_batch",
        int,
        ("--n-batch", "--batch-size", "-b"),
        "Tokens that are given to llama.cpp at once.",
        _MODEL.n_batch,
    ),
    Flag(
        "n_ubatch",
        int,
        ("--n-ubatch", "--ubatch-size", "-ub"),
        "Tokens that are computed at once; fewer need less memory.",
        _MODEL.n_ubatch,
    ),
    Flag(
        "n_threads",
        int,
        ("--threads", "-t"),
        "CPU threads.",
        otherwise="one for each core, 1 for 'embedded'",
    ),
    Flag(
        "n_gpu_layers",
        int,
        ("--gpu-layers", "--n-gpu-layers", "-ngl"),
        "Layers on the accelerator; -1: all.",
        _MODEL.n_gpu_layers,
    ),
    Flag(
        "flash_attn",
        str,
        ("--flash-attn", "-fa"),
        "Flash attention.",
        _MODEL.flash_attn,
        metavar="auto|on|off",
        read=_switch,
    ),
    Flag(
        "type_k",
        str,
        ("--type-k", "--cache-type-k", "-ctk"),
        "Type of the cache's keys, such as f16 or q8_0.",
        _MODEL.type_k,
        metavar="TYPE",
    ),
    Flag(
        "type_v",
        str,
        ("--type-v", "--cache-type-v", "-ctv"),
        "Type of the cache's values.",
        _MODEL.type_v,
        metavar="TYPE",
    ),
    Flag(
        "kept_type_k",
        str,
        ("--kept-type-k",),
        "Type of the kept keys, once the prompt has been read.",
        otherwise="--type-k",
        metavar="TYPE",
    ),
    Flag(
        "kept_type_v",
        str,
        ("--kept-type-v",),
        "Type of the kept values, once the prompt has been read.",
        otherwise="--type-v",
        metavar="TYPE",
    ),
    Flag(
        "rpc_servers",
        str,
        ("--rpc",),
        "llama.cpp RPC servers that take layers and their cache.",
        metavar="HOST:PORT,...",
    ),
    Flag(
        "tensor_split",
        str,
        ("--tensor-split", "-ts"),
        "How to divide the layers among the devices, such as 3,1.",
        metavar="X,X,...",
        read=_shares,
    ),
    Flag(
        "split_mode",
        str,
        ("--split-mode", "-sm"),
        "Split layers among devices, the rows of their weights too, or nothing.",
        _MODEL.split_mode,
        metavar="layer|row|none",
    ),
    Flag(
        "main_gpu",
        int,
        ("--main-gpu", "-mg"),
        "The device that takes what is not split.",
        _MODEL.main_gpu,
    ),
    Flag(
        "use_mmap",
        bool,
        ("--mmap/--no-mmap",),
        "Map the model's file into memory, or read it.",
        _MODEL.use_mmap,
    ),
    Flag("use_mlock", bool, ("--mlock",), "Keep the weights in memory.", _MODEL.use_mlock),
    Flag(
        "rope_freq_base",
        float,
        ("--rope-freq-base",),
        "Base of the rotary embedding; 0: the model's own.",
        _MODEL.rope_freq_base,
    ),
    Flag(
        "rope_freq_scale",
        float,
        ("--rope-freq-scale",),
        "Factor of the rotary embedding; 0: the model's own.",
        _MODEL.rope_freq_scale,
    ),
    Flag(
        "lora_path",
        str,
        ("--lora",),
        "A LoRA adapter of the language model.",
        otherwise="none",
        metavar="FILE",
    ),
    Flag("lora_scale", float, ("--lora-scale",), "By how much it counts.", _MODEL.lora_scale),
    Flag(
        "kv_cells",
        int,
        ("--kv-cells",),
        "Maximum number of cells. A longer prompt is squeezed while it is read.",
        otherwise="no cap",
    ),
    Flag(
        "kv_memory",
        str,
        ("--kv-memory",),
        "The same cap in bytes of the KV cache, such as 512MiB.",
        otherwise="no cap",
        metavar="BYTES",
    ),
    Flag(
        "compute_bytes",
        int,
        ("--compute-bytes",),
        "Maximum memory for compression on a device, in bytes.",
        _MODEL.compute_bytes,
    ),
    Flag(
        "shrink",
        bool,
        ("--shrink/--no-shrink",),
        "Move the kept cells to a cache of the size they need, or keep one cache of --n-ctx cells.",
        _MODEL.shrink,
    ),
    Flag(
        "max_pixels",
        int,
        ("--max-pixels",),
        "Maximum pixels of an image. A larger image is refused before it is decoded.",
        MAX_PIXELS,
    ),
    Flag(
        "check_files",
        bool,
        ("--check-files/--no-check-files",),
        "Try model files that were not seen before in a child process first.",
        CHECK_FILES,
    ),
    Flag("verbose", bool, ("--verbose", "-v"), "Show llama.cpp's log.", _MODEL.verbose),
)

MAX_TOKENS, *_SAMPLING = flags_under(
    "Answer",
    Flag(
        "max_tokens",
        int,
        ("--max-tokens", "--predict", "--n-predict", "-n"),
        "Maximum number of tokens in the answer; 0: as many as fit into the context.",
        512,
    ),
    Flag(
        "temperature",
        float,
        ("--temperature", "--temp"),
        "Sampling temperature; 0: always the most likely token.",
        0.0,
    ),
    Flag(
        "top_k",
        int,
        ("--top-k",),
        "Sample among this many most likely tokens; 0: all.",
        SAMPLING["top_k"],
    ),
    Flag(
        "top_p",
        float,
        ("--top-p",),
        "Sample among the most likely tokens that have this probability together.",
        SAMPLING["top_p"],
    ),
    Flag(
        "min_p",
        float,
        ("--min-p",),
        "Minimum probability of a token, as a fraction of the most likely one's.",
        SAMPLING["min_p"],
    ),
    Flag(
        "repeat_penalty",
        float,
        ("--repeat-penalty",),
        "Penalty for tokens that have occurred; 1: none.",
        SAMPLING["repeat_penalty"],
    ),
    Flag(
        "frequency_penalty",
        float,
        ("--frequency-penalty",),
        "Penalty for each time that a token has occurred; 0: none.",
        SAMPLING["frequency_penalty"],
    ),
    Flag(
        "presence_penalty",
        float,
        ("--presence-penalty",),
        "Penalty for a token that has occurred at all; 0: none.",
        SAMPLING["presence_penalty"],
    ),
)
SEED = Flag(
    "seed",
    int,
    ("--seed", "-s"),
    "Random seed of the sampler, and of --method random.",
    RANDOM_SEED,
    otherwise="a new one for each answer",
    section="Answer",
)
ANSWER = (MAX_TOKENS, *_SAMPLING)
FORM = flags_under(
    "Answer",
    Flag(
        "response_format",
        str,
        ("--json-schema-file", "-jf"),
        "The JSON schema of the answer.",
        otherwise="any text",
        metavar="FILE",
        read=_schema,
    ),
    Flag(
        "grammar",
        str,
        ("--grammar-file",),
        "The GBNF grammar of the answer.",
        otherwise="any text",
        metavar="FILE",
        read=_grammar,
    ),
)
MAX_ANSWER = replace(MAX_TOKENS, help="Maximum number of tokens in the answer.")
"""Where it may not be 0."""


def without(flags: Sequence[Flag], *options: str) -> tuple[Flag, ...]:
    """All of these flags but those of some options."""
    assert {*options} <= {flag.option for flag in flags}
    return tuple(flag for flag in flags if flag.option not in options)


def with_flags(
    **groups: Sequence[Flag],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these flags; it gets each group as a dict of that name, values by the
    library's keywords. A command that takes a model also takes ``-hf``.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [
            parameter for parameter in signature.parameters.values() if parameter.name not in groups
        ]
        parameters = hub_parameters(own) + [
            flag.parameter() for flags in groups.values() for flag in flags
        ]

        @wraps(command)
        def run(**given: Any) -> None:
            values = {
                name: {flag.option: _value(flag, given) for flag in flags}
                for name, flags in groups.items()
            }
            command(**with_hub_files(given, {**signature.parameters}), **values)

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {
            "return": None
        }
        return run

    return give


def _value(flag: Flag, given: dict[str, Any]) -> Any:
    value = given.pop(flag.option)
    return value if flag.read is None else flag.read(value)


def projector_of(model: str, mmproj: str | None, *, text_only: bool) -> str | Literal[False] | None:
    """The projector as ``Llava`` takes it.

    Raises:
        ValueError: There is one beside ``--text-only``, or the embedded model gets another.
    """
    check_embedded(model, mmproj)
    if text_only and (model == embedded.NAME or mmproj is not None):
        raise ValueError("--text-only is given with a projector, expected one or the other")
    return False if text_only else mmproj


def check_embedded(model: str, mmproj: str | None) -> None:
    """The embedded model has its own projector.

    Raises:
        ValueError: Another is given.
    """
    if model == embedded.NAME and mmproj is not None:
        raise ValueError(
            f"--mmproj is {mmproj!r}, expected none, as the embedded model has its own"
        )
