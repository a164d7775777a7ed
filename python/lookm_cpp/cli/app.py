"""The commands of ``lookm``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lookm_cpp import __version__, llama_cpp_version
from lookm_cpp.cli.ask import ask
from lookm_cpp.cli.bench import bench
from lookm_cpp.cli.chat import chat
from lookm_cpp.cli.command import Command
from lookm_cpp.cli.demo import demo
from lookm_cpp.cli.eval import app as evaluation
from lookm_cpp.cli.explain import explain
from lookm_cpp.cli.image_words import ImageCommand
from lookm_cpp.cli.info import info
from lookm_cpp.cli.models import models
from lookm_cpp.cli.plan import plan
from lookm_cpp.cli.serve import OWN_ARGUMENTS, serve

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=SETTINGS)


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
    """Long prompts with many images on ordinary machines: KV-cache compression for llama.cpp.

    lookm COMMAND -h describes a command.
    """


app.command(cls=ImageCommand)(ask)
app.command(cls=Command)(chat)
app.command(cls=Command)(demo)
app.command(cls=Command)(info)
app.command(cls=Command)(models)
app.command(cls=Command)(plan)
app.command(cls=ImageCommand)(explain)
app.command(add_help_option=False, context_settings=OWN_ARGUMENTS)(serve)  # --help is the server's
app.command(cls=Command)(bench)
app.add_typer(evaluation, name="eval")
