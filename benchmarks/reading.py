"""What it costs to read fewer cells of each image: ``python -m benchmarks.reading``.

The questions of ``lookm eval tiny``, or with ``--model`` of ``lookm eval pictures``, with all cells
of the images, with some of them by each pruner, with as many cells kept by ``lookm_plus`` after all
were read, and with both; with ``--caches``, in quantized caches as well. Compressed after the
question (``docs/reading.md``).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from lookm_cpp import embedded
from lookm_cpp.compression import METHOD, Compression
from lookm_cpp.evaluation import large_prompts, picture_prompts, tiny_prompts
from lookm_cpp.evaluation.lab import Ask, Lab, Setup
from lookm_cpp.evaluation.pictures import ARCHIVE, load_pictures
from lookm_cpp.evaluation.statistics import scores_of
from lookm_cpp.evaluation.suite import Context, Question
from rich.console import Console
from rich.table import Table

PRUNERS = ("divprune", "cdpruner", "grid", "random")
IMAGE_RATIOS = (0.5, 0.25, 0.125)
BUDGETS = (0.2, 0.1)
"""Kept cells, as a share of all cells, where both are used."""
F16 = "f16"
LONG = 32
"""Tokens of an answer."""


@dataclass(frozen=True)
class Arm:
    """``kept``: cells that ``lookm_plus`` leaves, as a share of the whole prompt's."""

    pruner: str = "none"
    image_ratio: float = 1.0
    kept: float | None = None
    cache: str = F16

    @property
    def name(self) -> str:
        """What the table calls it."""
        read = "all" if self.pruner == "none" else f"{self.pruner} {self.image_ratio:g}"
        kept = "" if self.kept is None else f", {METHOD} {self.kept:g}"
        return read + kept + ("" if self.cache == F16 else f", {self.cache}")

    def compression(self, share_read: float) -> Compression:
        """``share_read``: cells of the prompt as it is read, divided by those of the whole."""
        ratio = 1.0 if self.kept is None else min(1.0, self.kept / share_read)
        return Compression(ratio, image_ratio=self.image_ratio, pruner=self.pruner)


def quantized(cache: str) -> Iterator[Arm]:
    """The rows of another cache type than f16."""
    for pruner, image_ratio in (("none", 1.0), *((PRUNERS[0], ratio) for ratio in IMAGE_RATIOS)):
        for kept in (None, BUDGETS[0]):
            yield Arm(pruner, image_ratio, kept, cache)


def arms(cache: str, *, quick: bool) -> Iterator[Arm]:
    """All rows of the table, so that those that read the same cells follow one another."""
    if cache != F16:
        yield from quantized(cache)
        return
    yield Arm()
    if quick:
        yield Arm(kept=BUDGETS[0])
        for image_ratio in IMAGE_RATIOS:
            for pruner in PRUNERS[:3]:
                yield Arm(pruner, image_ratio)
                if pruner == PRUNERS[0] and image_ratio > IMAGE_RATIOS[-1]:
                    yield Arm(pruner, image_ratio, BUDGETS[0])
        return
    for kept in BUDGETS:
        yield Arm(kept=kept)
    for image_ratio in IMAGE_RATIOS:
        for pruner in PRUNERS:
            yield Arm(pruner, image_ratio)
            if image_ratio > IMAGE_RATIOS[-1]:
                for kept in BUDGETS:
                    yield Arm(pruner, image_ratio, kept)


@dataclass
class Tally:
    """Sums over the questions of one arm."""

    scores: list[tuple[int, str, float]]
    read: list[float]
    kept: list[float]
    kv_bytes: list[float]
    seconds: list[float]


def ask(
    labs: Mapping[str, Lab],
    context: Context,
    question: Question,
    tallies: dict[str, Tally],
    *,
    quick: bool,
) -> None:
    """Ask one question of every arm; times are of the first arm that reads what it reads."""
    asks = [Ask("", question.begins, question.max_tokens)]
    whole, whole_bytes, encode = 0, 0, 0.0
    for cache, lab in labs.items():
        lab.prompt(context.text, context.images, question=question.text)
        seconds, share = 0.0, 1.0
        read_as: tuple[str, float] | None = None
        for arm in arms(cache, quick=quick):
            if (arm.pruner, arm.image_ratio) != read_as:
                read_as = (arm.pruner, arm.image_ratio)
                read = Compression(image_ratio=arm.image_ratio, pruner=arm.pruner)
                found = lab.trial(read, asks)[0]
                stats = lab.session.stats
                cells = stats["prompt_cells"]
                whole = whole or cells
                encode = encode or stats["encode_seconds"]
                share = cells / whole
                seconds = encode + stats["prune_seconds"] + stats["prefill_seconds"]
            if arm.kept is not None:
                found = lab.trial(arm.compression(share), asks)[0]
            whole_bytes = whole_bytes or found.kv_bytes
            tally = tallies[arm.name]
            tally.scores.append((context.number, question.task, question.score(found.answer)))
            tally.read.append(share)
            tally.kept.append(found.kept_cells / whole)
            tally.kv_bytes.append(found.kv_bytes / whole_bytes)
            tally.seconds.append(seconds)


def main(
    model: Annotated[Path | None, typer.Option(help="A chat model, or one like ours.")] = None,
    mmproj: Annotated[Path | None, typer.Option(help="Its projector.")] = None,
    pictures: Annotated[Path, typer.Option(help="An archive of pictures.")] = ARCHIVE,
    tiny: Annotated[bool, typer.Option(help="The model was trained like ours.")] = False,
    contexts: Annotated[int, typer.Option(min=1, help="Number of contexts.")] = 12,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    caches: Annotated[str, typer.Option(help="Types of the cache; the first is f16.")] = F16,
    quick: Annotated[bool, typer.Option(help="Fewer rows, and no long answers.")] = False,
    output: Annotated[Path | None, typer.Option("-o", help="A JSON file.")] = None,
) -> None:
    """Print score, share of cells read and kept, and seconds of reading, for each arm."""
    pool = load_pictures(pictures)
    make = tiny_prompts.make_context
    if model and pictures != ARCHIVE:
        make = large_prompts.make_context  # type: ignore[assignment]
    elif model and not tiny:
        make = picture_prompts.make_context  # type: ignore[assignment]
    asked: list[Context] = [make(pool, number, seed) for number in range(contexts)]
    files = (model, mmproj) if model else (embedded.MODEL, embedded.MMPROJ)
    types = caches.split(",")
    if types[0] != F16:
        raise typer.BadParameter(f"{caches!r}; the first must be {F16}", param_hint="--caches")
    tallies: dict[str, Tally] = defaultdict(lambda: Tally([], [], [], [], []))
    with ExitStack() as opened:
        labs = {
            cache: opened.enter_context(
                Lab(Setup(files[0], files[1], cache, {"n_threads": threads}), 96)
            )
            for cache in types
        }
        for i, context in enumerate(asked):
            for question in context.questions:
                if not quick or (question.max_tokens or 0) < LONG:
                    ask(labs, context, question, tallies, quick=quick)
            Console(stderr=True).print(f"contexts: {i + 1} of {contexts}")
            report(tallies, asked[: i + 1], output)
    report(tallies, asked, output, show=True)


def report(
    tallies: dict[str, Tally],
    asked: list[Context],
    output: Path | None,
    *,
    show: bool = False,
) -> None:
    """Write the JSON file, and print the table."""
    numbers = [context.number for context in asked]
    tasks = list(dict.fromkeys(task for _, task, _ in tallies[Arm().name].scores))
    columns = ("read %", "kept %", "bytes %", "seconds")
    table = Table("cells of images read", "score", *columns, *tasks)
    rows = []
    full = scores_of(tallies[Arm().name].scores, numbers, tasks)
    for name, tally in tallies.items():
        scores = scores_of(tally.scores, numbers, tasks)
        by_task = scores.by_task()
        difference = scores.minus(full)
        row = {
            "name": name,
            "score": scores.mean(),
            "read": fmean(tally.read),
            "kept": fmean(tally.kept),
            "bytes": fmean(tally.kv_bytes),
            "seconds": fmean(tally.seconds),
            "tasks": dict(zip(tasks, by_task, strict=True)),
            "difference": [difference.low, difference.high],
            "questions": len(tally.scores),
        }
        rows.append(row)
        table.add_row(
            name,
            f"{row['score']:.0f} ({difference.low:+.0f} to {difference.high:+.0f})",
            *(f"{100 * row[key]:.0f}" for key in ("read", "kept", "bytes")),  # type: ignore[operator]
            f"{row['seconds']:.2f}",
            *(f"{x:.0f}" for x in by_task),
        )
    if output:
        output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if show:
        Console(width=180).print(table)


if __name__ == "__main__":
    typer.run(main)
