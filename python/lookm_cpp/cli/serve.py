"""``lookm serve``: all arguments are those of lookm-server."""

from __future__ import annotations

import typer

from lookm_cpp.serve import serve as run_server

OWN_ARGUMENTS = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
}


def serve(context: typer.Context) -> None:
    """Serve a model over HTTP.

    Runs lookm-server with these arguments; -m embedded serves the shipped model.
    """
    raise typer.Exit(run_server(context.args))
