"""The ``lookm`` command. Only this folder imports typer and rich; nothing outside it uses it."""

from __future__ import annotations

from lookm_cpp.cli.start import main

__all__ = ["main"]
