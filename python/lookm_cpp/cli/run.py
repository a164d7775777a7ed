"""Runs a command: errors become one line and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import cast

import typer

from lookm_cpp.cli.app import app
from lookm_cpp.cli.exits import BAD_INPUT, NOT_WRITTEN, fail
from lookm_cpp.files import check_text

# click's UsageError, or that of the copy which newer typers carry inside; typer exports only its
# subclass.
UsageError = cast("type[Exception]", typer.BadParameter.__base__)

NAME = "lookm"
COMPLETION = "_LOOKM_COMPLETE"
"""The variable by which a shell asks for completions, as typer's scripts for shells set it."""


def run(arguments: Sequence[str]) -> int:
    """Run the command that these arguments name, and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        for argument in arguments:
            check_text(argument, "argument")
        code = _invoke(arguments)
        sys.stdout.flush()
    except UsageError as error:
        return fail(_told(cast("typer.BadParameter", error)), BAD_INPUT)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EBADF):  # nobody reads stdout, or it was closed
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return NOT_WRITTEN
        return fail(str(error), BAD_INPUT)
    except (ValueError, RuntimeError, MemoryError, ImportError) as error:
        return fail(str(error) or "out of memory", BAD_INPUT)
    return code


def _invoke(arguments: Sequence[str]) -> int:
    try:
        command = typer.main.get_command(app)
        if COMPLETION in os.environ:
            command(prog_name=NAME)  # answers the shell, and ends
        with command.make_context(NAME, list(arguments) or ["--help"]) as context:
            context.command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return 0


def _told(error: typer.BadParameter) -> str:
    # typers that check numbers by pydantic leave the value out
    found: list[dict[str, object]] = getattr(error.__cause__, "errors", list)()
    return error.format_message() + "".join(f", not {one['input']!r}" for one in found)
