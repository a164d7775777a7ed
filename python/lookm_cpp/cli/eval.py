"""``lookm eval``: its commands."""

from __future__ import annotations

import typer

from lookm_cpp.cli.command import Command
from lookm_cpp.cli.eval_milebench import milebench
from lookm_cpp.cli.eval_own import own
from lookm_cpp.cli.eval_passkey import passkey
from lookm_cpp.cli.eval_suites import TEXT_SUITES, conversations, pictures, text_command
from lookm_cpp.cli.eval_tiny import tiny

app = typer.Typer(invoke_without_command=True)


@app.callback()
def evaluate(context: typer.Context) -> None:
    """Measure how good answers from compressed caches are."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command(cls=Command)(tiny)
app.command(cls=Command)(milebench)
app.command(cls=Command)(passkey)
app.command(cls=Command)(own)
for suite in TEXT_SUITES:
    app.command(name=suite.name, cls=Command)(text_command(suite))
app.command(cls=Command)(pictures)
app.command(cls=Command)(conversations)
