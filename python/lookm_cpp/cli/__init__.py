"""The ``lookm`` command. Only this folder imports typer; nothing outside it imports from it."""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Run a command line; bad input is one line on stderr and exit code 2.

    Args:
        argv: The arguments (default: those of the process).
    """
    from lookm_cpp.cli.run import run  # noqa: PLC0415  # heavy

    return run(argv)
