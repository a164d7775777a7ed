"""The ``lookm`` command."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer
from rich.console import Console

from lookm_cpp import __version__, embedded, llama_cpp_version
from lookm_cpp.asking import Question, ask_once, ask_twice
from lookm_cpp.benching.command import bench
from lookm_cpp.compression import FIDELITY, METHOD, PAPER_METHOD
from lookm_cpp.console import CheckFiles, format_bytes, print_json, side_by_side
from lookm_cpp.demo import run_demo
from lookm_cpp.evaluation.commands import app as evaluation
from lookm_cpp.explaining.command import explain
from lookm_cpp.file_check import CHECK_FILES
from lookm_cpp.files import check_text, read_text
from lookm_cpp.images import MAX_PIXELS
from lookm_cpp.info import devices, model_info
from lookm_cpp.llava import Llava
from lookm_cpp.options import RANDOM_SEED, ChatOptions, LlavaOptions
from lookm_cpp.plan_command import plan_command
from lookm_cpp.serve import serve as run_server

EMBEDDED = embedded.NAME
DEMO_RATIO = 0.2
DEMO_METHODS = (METHOD, PAPER_METHOD)
BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 1

# click's UsageError, or that of the copy which newer typers carry inside; typer exports only its subclass.
UsageError = cast("type[Exception]", typer.BadParameter.__base__)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(evaluation, name="eval")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Method = Annotated[str, typer.Option("--method", help="Compression method; origin compresses nothing.")]


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"lookm_cpp {__version__} (llama.cpp {llama_cpp_version})\n")
        raise typer.Exit


@app.callback()
def lookm(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """LOOK-M: long prompts with many images in a small KV cache, on llama.cpp."""


@app.command()
def demo(
    kv_ratio: Annotated[float, typer.Option("--kv-ratio", help="Share of the cells to keep.")] = DEMO_RATIO,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", help=f"Compression method; may be given again.  [default: {' and '.join(DEMO_METHODS)}]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Let the embedded model answer all shipped questions, with the full and with compressed caches."""
    run_demo(kv_ratio, method or DEMO_METHODS, as_json=as_json)


@app.command()
def ask(
    question: Annotated[
        str, typer.Argument(help="Each <image> in it stands for the next image; else images come first.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="A GGUF file, or 'embedded'.")],
    mmproj: Annotated[
        str | None, typer.Option("--mmproj", help="The projector; else the one mmproj*.gguf beside the model.")
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat-template", help="A name that llama.cpp knows, a file or Jinja text.  [default: the model's]"
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="A system message before the question.")] = None,
    text_only: Annotated[bool, typer.Option("--text-only", help="A model without a projector: no images.")] = False,
    image: Annotated[list[str] | None, typer.Option("--image", "-i", help="An image; may be given again.")] = None,
    context_file: Annotated[
        list[str] | None,
        typer.Option(
            "--context-file", help="A UTF-8 text to come first, compressed as images are; may be given again."
        ),
    ] = None,
    kv_ratio: Annotated[
        float | None, typer.Option("--kv-ratio", help="Share of the cells to keep.  [default: 1, with --compare 0.2]")
    ] = None,
    method: Method = METHOD,
    important_ratio: Annotated[
        float | None, typer.Option("--important-ratio", help="Share kept for its score.  [default: by the method]")
    ] = None,
    recent_ratio: Annotated[
        float | None, typer.Option("--recent-ratio", help="Share kept as the last.  [default: by the method]")
    ] = None,
    text_overflow: Annotated[
        str | None,
        typer.Option("--text-overflow", help="keep: all text stays; evict: exact.  [default: the method's own]"),
    ] = None,
    fidelity: Annotated[
        str, typer.Option("--fidelity", help="paper or upstream, where LOOK-M's paper and its code differ.")
    ] = FIDELITY,
    scorer: Annotated[
        str | None, typer.Option("--scorer", help="cumulative, window or none.  [default: the method's own]")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option("--window", help="Last queries of a window.  [default: the text after the last image]"),
    ] = None,
    merge_keys: Annotated[
        bool, typer.Option("--merge-keys/--no-merge-keys", help="Merge K as V, or leave kept keys as they are.")
    ] = True,
    merge_within_modality: Annotated[
        bool, typer.Option("--merge-within-modality", help="Merge text into text and images into images only.")
    ] = False,
    visual_quota: Annotated[
        float | None,
        typer.Option("--visual-quota", help="Least share of images in the important.  [default: the method's own]"),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", help="Most tokens of the answer; 0: as many as n_ctx has room for.")
    ] = 512,
    temperature: Annotated[float, typer.Option("--temperature", help="0 is greedy.")] = 0.0,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the sampler, and of --method random.", show_default="random")
    ] = RANDOM_SEED,
    n_ctx: Annotated[int, typer.Option("--n-ctx", help="Most cells, in steps of 256; 0 for the model's own.")] = 0,
    n_batch: Annotated[int, typer.Option("--n-batch", help="Tokens handed over at once.")] = 2048,
    n_ubatch: Annotated[int, typer.Option("--n-ubatch", help="Tokens computed at once.")] = 512,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads; 0: by the core.")] = None,
    gpu_layers: Annotated[int, typer.Option("--gpu-layers", help="Layers on the accelerator; -1 for all.")] = -1,
    flash_attn: Annotated[str, typer.Option("--flash-attn", help="auto, on or off.")] = "auto",
    type_k: Annotated[str, typer.Option("--type-k", help="Type of the K cache.")] = "f16",
    type_v: Annotated[str, typer.Option("--type-v", help="Type of the V cache.")] = "f16",
    kept_type_k: Annotated[
        str | None, typer.Option("--kept-type-k", help="Type that K is kept in after reading.  [default: --type-k]")
    ] = None,
    kept_type_v: Annotated[
        str | None, typer.Option("--kept-type-v", help="Type that V is kept in after reading.  [default: --type-v]")
    ] = None,
    rpc: Annotated[
        str | None, typer.Option("--rpc", help="Servers that hold layers, too: host:port,host:port.")
    ] = None,
    tensor_split: Annotated[
        str | None, typer.Option("--tensor-split", help="Share of the layers for each device: 3,1.")
    ] = None,
    kv_cells: Annotated[
        int | None, typer.Option("--kv-cells", help="Most cells in use; longer prompts are squeezed while read.")
    ] = None,
    kv_memory: Annotated[
        str | None, typer.Option("--kv-memory", help="The same in bytes of the KV cache: 512MiB.")
    ] = None,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", help="Most pixels of an image; larger ones are refused undecoded.")
    ] = MAX_PIXELS,
    compare: Annotated[bool, typer.Option("--compare", help="Answer with the full cache, too, side by side.")] = False,
    check_files: CheckFiles = CHECK_FILES,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show llama.cpp's log.")] = False,
    as_json: Json = False,
) -> None:
    """Answer a question about images and texts."""
    ratios_given = (kv_ratio, important_ratio, recent_ratio) != (None, None, None)
    default_ratio = DEMO_RATIO if compare and not ratios_given else 1.0
    options: LlavaOptions = {
        "chat_template": chat_template,
        "kv_ratio": default_ratio if kv_ratio is None else kv_ratio,
        "method": method,
        "important_ratio": important_ratio,
        "recent_ratio": recent_ratio,
        "text_overflow": text_overflow,
        "fidelity": fidelity,
        "scorer": scorer,
        "window": window,
        "merge_keys": merge_keys,
        "merge_within_modality": merge_within_modality,
        "visual_quota": visual_quota,
        "n_ctx": n_ctx,
        "n_batch": n_batch,
        "n_ubatch": n_ubatch,
        "n_threads": threads,
        "n_gpu_layers": gpu_layers,
        "flash_attn": _switch(flash_attn),
        "type_k": type_k,
        "type_v": type_v,
        "kept_type_k": kept_type_k,
        "kept_type_v": kept_type_v,
        "rpc_servers": rpc,
        "tensor_split": None if tensor_split is None else _numbers(tensor_split),
        "seed": seed,
        "kv_cells": kv_cells,
        "kv_memory": kv_memory,
        "max_pixels": max_pixels,
        "check_files": check_files,
        "verbose": verbose,
    }
    sampling: ChatOptions = {"max_tokens": max_tokens, "temperature": temperature}
    if model == EMBEDDED and mmproj is not None:
        raise ValueError(f"--mmproj is {mmproj!r}, expected none beside the embedded model's own")
    if text_only and (model == EMBEDDED or mmproj is not None):
        raise ValueError("--text-only is given with a projector, expected one or the other")
    if compare and (kv_cells is not None or kv_memory is not None):
        raise ValueError("--compare needs the full cache, expected no --kv-cells or --kv-memory with it")
    contexts = [read_text(file, "--context-file") for file in context_file or ()]
    asked = Question(question, image or (), contexts, system)
    projector: str | Literal[False] | None = False if text_only else mmproj
    with Llava.embedded(**options) if model == EMBEDDED else Llava(model, mmproj=projector, **options) as llm:
        (ask_twice if compare else ask_once)(llm, asked, sampling, as_json=as_json)


app.command()(explain)
app.command()(bench)


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(help="A GGUF file, or 'embedded'.")] = None,
    show_devices: Annotated[
        bool, typer.Option("--devices", help="Describe the devices instead, and whether compression runs there.")
    ] = False,
    rpc: Annotated[str | None, typer.Option("--rpc", help="With --devices: servers, as host:port,host:port.")] = None,
    type_k: Annotated[str, typer.Option("--type-k", help="Type of the K cache.")] = "f16",
    type_v: Annotated[str, typer.Option("--type-v", help="Type of the V cache.")] = "f16",
    check_files: CheckFiles = CHECK_FILES,
    as_json: Json = False,
) -> None:
    """Describe a model: shape, KV bytes a token, and whether its cache can be compressed; or this machine's devices."""
    if show_devices == (model is not None) or (rpc is not None and not show_devices):
        raise ValueError("info: expected either a model, or --devices with or without --rpc")
    if model is None:
        _show_devices(rpc, type_k, type_v, as_json=as_json)
        return
    path = embedded.MODEL if model == EMBEDDED else model
    found = model_info(path, type_k=type_k, type_v=type_v, check_files=check_files)
    if as_json:
        print_json(found)
        return
    rows = (
        ("name", found["name"]),
        ("architecture", found["architecture"]),
        ("parameters", f"{found['n_params']:,}"),
        ("file size", format_bytes(found["size_bytes"])),
        ("training context", f"{found['n_ctx_train']} tokens"),
        ("layers", str(found["n_layer"])),
        ("heads", f"{found['n_head']} query, {found['n_head_kv']} KV"),
        ("memory type", found["memory_type"]),
        ("KV cache", f"{found['kv_bytes_per_token']} bytes a token ({type_k}, {type_v})"),
        ("compression", "supported" if found["supported"] else f"not supported: {found['reason']}"),
    )
    Console(highlight=False).print(side_by_side((Path(model).name,), rows))


def _show_devices(rpc: str | None, type_k: str, type_v: str, *, as_json: bool) -> None:
    found = devices(rpc_servers=rpc, type_k=type_k, type_v=type_v)
    if as_json:
        print_json(found)
        return
    rows = (
        ("device", *(device["description"] for device in found)),
        ("type", *(device["type"] for device in found)),
        ("memory", *(format_bytes(device["memory_total"]) for device in found)),
        ("compression", *("on the device" if device["on_device"] else "on the CPU" for device in found)),
        ("", *(device["note"] for device in found)),
    )
    Console(highlight=False).print(side_by_side((device["name"] for device in found), rows))


@app.command(
    add_help_option=False,  # --help is the server's own
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)
def serve(context: typer.Context) -> None:
    """Serve a model over HTTP: lookm-server with these arguments; --embedded serves the shipped model."""
    raise typer.Exit(run_server(context.args))


app.command(name="plan")(plan_command)


def _switch(word: str) -> bool | Literal["auto"]:
    if word not in ("auto", "on", "off"):
        raise ValueError(f"--flash-attn is {word!r}, expected auto, on or off")
    return "auto" if word == "auto" else word == "on"


def _numbers(words: str) -> list[float]:
    try:
        return [float(word) for word in words.split(",")]
    except ValueError:
        raise ValueError(f"--tensor-split is {words!r}, expected numbers with commas between them") from None


def main(argv: list[str] | None = None) -> int:
    """Run a command line; bad input is one line on stderr and exit code 2.

    Args:
        argv: The arguments; those of the process unless given.
    """
    arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        for argument in arguments:
            check_text(argument, "argument")
        with typer.main.get_command(app).make_context("lookm", list(arguments)) as context:
            context.command.invoke(context)
            sys.stdout.flush()
    except typer.Exit as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except UsageError as error:
        return _fail(_told(cast("typer.BadParameter", error)), BAD_INPUT)
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        return _fail(str(error) or "out of memory", BAD_INPUT)
    return 0


def _told(error: typer.BadParameter) -> str:
    # typers that check numbers by pydantic leave the value out
    found: list[dict[str, object]] = getattr(error.__cause__, "errors", list)()
    return error.format_message() + "".join(f", not {one['input']!r}" for one in found)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"lookm: {' '.join(message.split())}\n")
    return code
