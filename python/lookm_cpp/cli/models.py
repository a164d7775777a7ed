"""``lookm models``: what the cache of the hub holds."""

from __future__ import annotations

import sys

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from lookm_cpp.cli.console import print_json
from lookm_cpp.cli.flags import Json
from lookm_cpp.hub import CachedModel, cached_models
from lookm_cpp.info import model_info
from lookm_cpp.sizes import format_bytes


def models(*, as_json: Json = False) -> None:
    """List the models of the Hugging Face Hub that are on this machine.

    Says how large they are, and whether their cache can be compressed. -hf takes their names, and
    downloads others.
    """
    found = [(one, _compression(one)) for one in cached_models()]
    if as_json:
        print_json(
            [
                {
                    "model": one.name,
                    "file": str(one.path),
                    "size_bytes": one.size,
                    "projectors": [*one.projectors],
                    "compression": compression,
                }
                for one, compression in found
            ]
        )
        return
    if not found:
        sys.stdout.write("No models of the hub are on this machine; -hf downloads one.\n")
        return
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("images")
    table.add_column("compression", overflow="fold")
    for one, compression in found:
        images = "yes" if one.projectors else "no projector"
        table.add_row(one.name, format_bytes(one.size), images, compression)
    Console(highlight=False).print(table)


def _compression(one: CachedModel) -> str:
    try:
        found = model_info(one.path)
    except (ValueError, RuntimeError, OSError) as error:
        return f"not readable: {error}"
    return "supported" if found["supported"] else f"not supported: {found['reason']}"
