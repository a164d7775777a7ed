"""Runs a command line: errors, exit codes and closed streams."""

from __future__ import annotations

import io
import os
import sys
from typing import cast

import typer

from lookm_cpp.cli.app import app
from lookm_cpp.files import check_text

BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 1

# click's UsageError, or that of the copy which newer typers carry inside; typer exports only its
# subclass.
UsageError = cast("type[Exception]", typer.BadParameter.__base__)


def run(argv: list[str] | None) -> int:
    """Run a command line; bad input is one line on stderr and exit code 2.

    Args:
        argv: The arguments; those of the process if ``None``.
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
