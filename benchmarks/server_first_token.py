"""Times the first token of questions about the same pictures.

``python -m benchmarks.server_first_token``: llama-server and lookm-server get the same requests in
turn: a question about eight pictures, one of other words, one that begins with the same words, and
that one again. Each round has the pictures in another order.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from lookm_cpp.bench.machine import CORES
from rich.console import Console

from benchmarks.server import running_server
from benchmarks.server_users import RATIO, SERVERS, album, ask, text

ASKED = {
    "the first question": "What is in image 1?",
    "another question": "Describe image 2.",
    "one that begins with the same words": "Describe image 3.",
    "the same prompt again": "Describe image 3.",
}


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 8,
    model: Annotated[Path | None, typer.Option(help="Another model.")] = None,
    mmproj: Annotated[Path | None, typer.Option(help="Its projector.")] = None,
    cells: Annotated[int, typer.Option(min=1, help="Cells of a slot.")] = 4096,
) -> None:
    """Print medians in milliseconds, and tokens a second after the first."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, CORES)  # as benchmarks.server does
    files = ["-m", str(model), "--mmproj", str(mmproj)] if model else ["-m", "embedded"]
    flags = [*files, "-c", str(2 * cells), "-np", "2", "--kv-unified", "-t", str(len(CORES))]
    found: dict[tuple[str, str], list[float]] = {}
    speed: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        clients = {
            server: stack.enter_context(running_server([*flags, *ratio], ours=server != SERVERS[0]))
            for server, ratio in zip(SERVERS, ([], ["--kv-ratio", str(RATIO)]), strict=True)
        }
        for number in range(rounds):
            for server in SERVERS[:: -1 if number % 2 else 1]:
                for what, question in ASKED.items():
                    messages = album(number, 0, 0, [])
                    messages[0]["content"][-1] = text(f" {question}")
                    _, timed = ask(clients[server], messages, 24)
                    found.setdefault((what, server), []).append(1e3 * timed["first_s"])
                    speed.setdefault(server, []).append(timed["decode"])
    for (what, server), times in found.items():
        Console().print(
            f"{what}, {server}: {median(times):.0f} ms ({min(times):.0f} to {max(times):.0f})"
        )
    for server, rates in speed.items():
        Console().print(f"decode, {server}: {median(rates):.1f} tokens/s")


if __name__ == "__main__":
    typer.run(main)
