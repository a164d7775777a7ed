"""``make fuzz``: hostile inputs by seed, until the time or their number is up."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from fuzz.campaign import Budget, Counts, Fault, campaign, table
from fuzz.found import FOLDER, kept
from fuzz.targets import SHARES, TARGETS


class Keeper:
    """Says what went wrong, and keeps the first input that went wrong in a new way."""

    def __init__(self, folder: Path, keep: bool) -> None:
        self._folder = folder
        self._keep = keep
        self._seen: set[tuple[str, str, str]] = set()

    def __call__(self, fault: Fault) -> None:
        found = fault.outcome
        key = (fault.target.name, found.kind.value, found.where)
        if key in self._seen:
            return
        self._seen.add(key)
        where = f"{fault.target.name}, seed {fault.seed}, input {fault.number}"
        sys.stdout.write(f"{where}: {found.kind.value} {found.where}\n{found.detail[-1500:]}\n")
        if self._keep:
            path = kept(fault, self._folder)
            sys.stdout.write(f"kept as {path}\n" if path else "not kept: by itself it goes well\n")
        sys.stdout.flush()


def main(
    seconds: Annotated[
        float, typer.Option(help="Most time, the same for each class; 0 for no end.")
    ] = 0,
    inputs: Annotated[
        int, typer.Option(help="Most inputs of all classes together; 0 for no end.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="The same inputs for the same seed.")] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option("--class", help=f"One of: {', '.join(TARGETS)}; may be given again."),
    ] = None,
    first: Annotated[int, typer.Option(help="Number of the first input of each class.")] = 0,
    keep: Annotated[
        bool, typer.Option(help=f"Make what went wrong small and keep it in {FOLDER.name}/.")
    ] = True,
) -> None:
    """Try hostile inputs of each class, say what went wrong, and print what became of them."""
    if not (seconds or inputs):
        raise typer.BadParameter("neither is given, expected --seconds or --inputs")
    names = only or list(TARGETS)
    for name in names:
        if name not in TARGETS:
            raise typer.BadParameter(
                f"{name!r}, expected one of {', '.join(TARGETS)}", param_hint="--class"
            )
    shares = {target: share for target, share in SHARES.items() if target.name in names}
    whole = sum(shares.values())
    counts: list[Counts] = []
    keeper = Keeper(FOLDER, keep)
    for target, share in shares.items():
        n = round(inputs * share / whole) if inputs else sys.maxsize
        budget = Budget(n, seconds / len(shares) if seconds else float("inf"), first)
        with tempfile.TemporaryDirectory() as folder:
            counts.append(campaign(target, seed, budget, Path(folder), keeper))
        done = counts[-1]
        sys.stdout.write(
            f"{done.name}: {done.inputs} inputs in {done.seconds:.0f} s, "
            f"{len(done.faults)} went wrong\n"
        )
        sys.stdout.flush()
    sys.stdout.write(table(counts) + "\n")
    raise typer.Exit(1 if any(done.faults for done in counts) else 0)


if __name__ == "__main__":
    typer.run(main)
