"""``lookm eval``: its commands."""

from __future__ import annotations

import typer

from lookm_cpp.evaluation.milebench_command import milebench
from lookm_cpp.evaluation.passkey_command import passkey
from lookm_cpp.evaluation.tiny_command import tiny

app = typer.Typer(no_args_is_help=True, help="Ask many questions with full and with compressed caches.")
app.command()(tiny)
app.command()(milebench)
app.command()(passkey)
