"""``lookm eval``: its commands."""

from __future__ import annotations

import typer

from lookm_cpp.evaluation.milebench_command import milebench
from lookm_cpp.evaluation.passkey_command import passkey
from lookm_cpp.evaluation.tiny_command import tiny

app = typer.Typer(invoke_without_command=True)


@app.callback()
def evaluate(context: typer.Context) -> None:
    """Ask many questions with full and with compressed caches."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command()(tiny)
app.command()(milebench)
app.command()(passkey)
