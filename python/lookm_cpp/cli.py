"""The ``lookm`` command."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from rich.console import Console

from lookm_cpp import __version__, embedded, llama_cpp_version
from lookm_cpp.asking import Question, ask_once, ask_twice, open_model
from lookm_cpp.benching.command import bench
from lookm_cpp.compression import METHOD, PAPER_METHOD
from lookm_cpp.console import format_bytes, print_json, side_by_side
from lookm_cpp.demo import run_demo
from lookm_cpp.evaluation.commands import app as evaluation
from lookm_cpp.explaining.command import explain
from lookm_cpp.files import check_text, read_text
from lookm_cpp.flags import (
    ANSWER,
    COMPRESSION,
    KV_RATIO,
    OPENING,
    SEED,
    Json,
    Mmproj,
    Model,
    System,
    check_embedded,
    with_flags,
)
from lookm_cpp.info import devices, model_info
from lookm_cpp.options import ChatOptions
from lookm_cpp.plan_command import plan_command
from lookm_cpp.serve import serve as run_server

DEMO_RATIO = 0.2
DEMO_METHODS = (METHOD, PAPER_METHOD)
BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 1

# click's UsageError, or that of the copy which newer typers carry inside; typer exports only its
# subclass.
UsageError = cast("type[Exception]", typer.BadParameter.__base__)

HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=HELP)
app.add_typer(evaluation, name="eval")


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
    kv_ratio: Annotated[float, typer.Option("--kv-ratio", help=KV_RATIO.help)] = DEMO_RATIO,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help=f"Compression method; may be repeated.  [default: {' and '.join(DEMO_METHODS)}]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Let the embedded model answer all shipped questions, with the full and with compressed
    caches.
    """
    run_demo(kv_ratio, method or DEMO_METHODS, as_json=as_json)


@app.command()
@with_flags(
    opened=(*OPENING, SEED),
    how=[flag for flag in COMPRESSION if flag is not KV_RATIO],
    answer=ANSWER,
)
def ask(
    question: Annotated[
        str,
        typer.Argument(
            help="Each <image> in it stands for the next image; otherwise images come first."
        ),
    ],
    *,
    model: Model,
    mmproj: Mmproj = None,
    system: System = None,
    text_only: Annotated[
        bool, typer.Option("--text-only", help="A model without a projector: no images.")
    ] = False,
    image: Annotated[
        list[str] | None, typer.Option("--image", "-i", help="An image; may be repeated.")
    ] = None,
    context_file: Annotated[
        list[str] | None,
        typer.Option(
            "--context-file",
            help="A UTF-8 text that comes first and may be evicted; may be repeated.",
        ),
    ] = None,
    kv_ratio: Annotated[
        float | None,
        typer.Option("--kv-ratio", help=f"{KV_RATIO.help}  [default: 1, with --compare 0.2]"),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Answer with the full cache as well, side by side.")
    ] = False,
    as_json: Json = False,
    opened: dict[str, Any],
    how: dict[str, Any],
    answer: dict[str, Any],
) -> None:
    """Answer a question about images and texts."""
    ratios_given = (kv_ratio, how["important_ratio"], how["recent_ratio"]) != (None, None, None)
    default_ratio = DEMO_RATIO if compare and not ratios_given else 1.0
    how["kv_ratio"] = default_ratio if kv_ratio is None else kv_ratio
    check_embedded(model, mmproj)
    if text_only and (model == embedded.NAME or mmproj is not None):
        raise ValueError("--text-only is given with a projector, expected one or the other")
    if compare and (opened["kv_cells"] is not None or opened["kv_memory"] is not None):
        raise ValueError(
            "--compare needs the full cache, expected no --kv-cells or --kv-memory with it"
        )
    contexts = [read_text(file, "--context-file") for file in context_file or ()]
    asked = Question(question, image or (), contexts, system)
    projector: str | Literal[False] | None = False if text_only else mmproj
    with open_model(model, projector, {**opened, **how}) as llm:
        (ask_twice if compare else ask_once)(
            llm, asked, cast("ChatOptions", answer), as_json=as_json
        )


app.command()(explain)
app.command()(bench)


@app.command()
@with_flags(
    opened=[
        flag
        for flag in OPENING
        if flag.option in ("type_k", "type_v", "rpc_servers", "check_files")
    ]
)
def info(
    model: Annotated[str | None, typer.Argument(help="A GGUF file, or 'embedded'.")] = None,
    *,
    show_devices: Annotated[
        bool,
        typer.Option(
            "--devices", help="Describe the devices instead, and whether compression runs there."
        ),
    ] = False,
    as_json: Json = False,
    opened: dict[str, Any],
) -> None:
    """Describe a model: shape, KV bytes a token, and whether its cache can be compressed; or this
    machine's devices.
    """
    rpc, check_files = opened.pop("rpc_servers"), opened.pop("check_files")
    if show_devices == (model is not None) or (rpc is not None and not show_devices):
        raise ValueError("info: expected either a model, or --devices with or without --rpc")
    if model is None:
        _show_devices(rpc, **opened, as_json=as_json)
        return
    path = embedded.MODEL if model == embedded.NAME else model
    found = model_info(path, **opened, check_files=check_files)
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
        (
            "KV cache",
            f"{found['kv_bytes_per_token']} bytes a token ({opened['type_k']}, {opened['type_v']})",
        ),
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
        (
            "compression",
            *("on the device" if device["on_device"] else "on the CPU" for device in found),
        ),
        ("", *(device["note"] for device in found)),
    )
    Console(highlight=False).print(side_by_side((device["name"] for device in found), rows))


@app.command(
    add_help_option=False,  # --help is the server's own
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
    },
)
def serve(context: typer.Context) -> None:
    """Serve a model over HTTP: lookm-server with these arguments; --embedded serves the shipped
    model.
    """
    raise typer.Exit(run_server(context.args))


app.command(name="plan")(plan_command)


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
