"""Prints ``docs/cli.md`` from the commands themselves: ``python docs/cli.py > docs/cli.md``."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import typer
from lookm_cpp.cli.app import app
from lookm_cpp.cli.flags import ANSWER, COMPRESSION, OPENING, SEED, Flag

SHARED = {"Compression": COMPRESSION, "Answer": (*ANSWER, SEED), "Model and memory": OPENING}

HEAD = """# Command line

`lookm COMMAND -h` describes a command. This page has the same texts; `docs/cli.py` makes it from
the commands. If a flag has several names, they mean the same; for the names that `lookm serve` and
Python use, see [Coming from other tools](coming_from.md#llama-server).

Exit codes: 2 for an error, which is one line on stderr; 1 if stdout is closed or nobody reads its
pipe; 130 after Ctrl-C. `lookm --install-completion` sets up completion for your shell.
"""


def main() -> None:
    """Print the page."""
    sys.stdout.write(HEAD)
    root: Any = typer.main.get_command(app)
    for name, command in _commands("lookm", root):
        sys.stdout.write(f"\n## {name}\n\n{''.join(_command(name, command))}")
    sys.stdout.write("\n## Shared flags\n")
    for section, flags in SHARED.items():
        sys.stdout.write(f"\n### {section}\n\n")
        for flag in flags:
            sys.stdout.write(_bullet(_names(flag), _text(flag.help, _default(flag))))


def _commands(name: str, group: Any) -> Iterator[tuple[str, Any]]:
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(f"{name} {word}", command)
        else:
            yield f"{name} {word}", command


def _command(name: str, command: Any) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", (command.help or "").strip()):
        yield _wrapped(" ".join(paragraph.split())) + "\n"
    if name == "lookm serve":
        yield "Its flags are those of lookm-server: [Server](server.md).\n"
        return
    own = [param for param in command.params if getattr(param, "rich_help_panel", None) is None]
    for param in own:
        if param.name != "help":
            yield _bullet(_param_names(param), _text(param.help, _param_default(param)))
    shared = [line for title in SHARED for line in _taken(title, command.params)]
    if shared:
        yield "\n" + _wrapped(f"It also takes these shared flags: {'; '.join(shared)}.")


def _taken(title: str, params: list[Any]) -> Iterator[str]:
    """A section, and what a command has not of it; or its few flags."""
    link = f"[{title}](#{title.lower().replace(' ', '-')})"
    names = {param.name for param in params if getattr(param, "rich_help_panel", None) == title}
    all_flags = SHARED[title]
    missing = [flag for flag in all_flags if flag.option not in names]
    if len(missing) > len(names) > 0:
        taken = [flag for flag in all_flags if flag.option in names]
        yield f"of {link} only {', '.join(f'`{_first(flag)}`' for flag in taken)}"
    elif names:
        rest = ", ".join(f"`{_first(flag)}`" for flag in missing)
        yield f"{link} without {rest}" if rest else link


def _first(flag: Flag) -> str:
    return flag.names[0].split("/")[0]


def _names(flag: Flag) -> str:
    names = [name for one in flag.names for name in one.split("/")]
    return f"`{', '.join(names)}{flag.value_name()}`"


def _param_names(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{param.metavar or param.name.upper()}`"
    value = "" if param.is_flag else f" {param.metavar}"
    return f"`{', '.join([*param.opts, *param.secondary_opts])}{value}`"


def _default(flag: Flag) -> str:
    if flag.otherwise or flag.default is None or flag.default is False:
        return flag.otherwise
    return f"`{_first(flag)}`" if flag.default is True else f"`{flag.default}`"


def _param_default(param: Any) -> str:
    if param.required:
        return "required"
    return "" if param.default is None or param.default is False else f"`{param.default}`"


def _text(text: str, default: str) -> str:
    """The help, and the default as a sentence; some helps say it themselves."""
    text, _, said = text.partition("  [default: ")
    default = said.rstrip("]") or default
    if default == "required":
        return f"{text} Required."
    return f"{text} Default: {default}." if default else text


def _bullet(names: str, text: str) -> str:
    return _wrapped(f"- {names}: {text}", "  ")


def _wrapped(text: str, indent: str = "") -> str:
    escaped = re.sub(r"<image>", "`<image>`", text)
    return (
        textwrap.fill(
            escaped, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
