"""Measures what a cap costs in right answers, and whether it limits memory.

    python -m benchmarks.long_prompts accuracy  # the embedded model, about 5 minutes
    python -m benchmarks.long_prompts talks     # the same in conversations of six turns
    python -m benchmarks.long_prompts memory    # random weights in the 7B shape, about 5 minutes

Accuracy: the prompts are those of the demo and generated ones, with the demo's pictures in random
order and codes between them. Each is answered with the full cache, with a fraction of it kept by
one compression after the prompt, and under a cap of the same fraction while it is read. An answer
counts if every word is right.

Talks: each of the first four turns shows two to four pictures and asks about one of them. The last
two turns repeat the questions of the first and the third.

Memory: each run has a process of its own, whose peak (VmHWM) is reported. It is compared with what
llama.cpp itself needs for weights, compute buffers and a cache of the cap's size: the peak of a run
whose prompt just fits, uncompressed.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from lookm_cpp import Llava
from lookm_cpp.bench.random_model import model_file
from lookm_cpp.embedded import DEMO, demo_prompts
from lookm_cpp.options import LlavaOptions

from benchmarks.models import llava_shape

SHARES = (0.5, 0.25, 0.1)
SIZES = (4, 8, 12, 16)
GRIDS = {
    "pic01.png": ("an octopus", "a donut", "a penguin", "a bell"),
    "pic02.png": ("a pineapple", "a bell", "a grapes", "a watermelon"),
    "pic04.png": ("a penguin", "a key", "a panda", "a cactus"),
    "pic06.png": ("a dog", "a cat", "a sunflower", "a bicycle"),
    "pic07.png": ("a rose", "a grapes", "a ladybug", "a panda"),
    "pic10.png": ("an umbrella", "a bell", "an apple", "a dolphin"),
    "pic11.png": ("a lemon", "a fox", "a cheese", "a cactus"),
}
SINGLES = {"pic03.png": "an umbrella", "pic08.png": "an owl", "pic12.png": "a ladybug"}
CORNERS = ("top left", "top right", "bottom left", "bottom right")
NAMES = ("Anna", "Ben", "Carl", "Emma", "Gina", "Ivan")
BUILD = Path(__file__).parent.parent / "build" / "bench"

app = typer.Typer(add_completion=False)


class Prompt(NamedTuple):
    """A question about pictures."""

    content: str
    images: list[Path]
    answer: str


def generated(rng: random.Random) -> Prompt:
    """4 to 16 pictures, two codes between them, and a question that the model was trained on."""
    n = rng.choice(SIZES)
    names = [rng.choice([*GRIDS, *SINGLES]) for _ in range(n)]
    codes = {name: rng.randrange(1000, 10000) for name in rng.sample(NAMES, 2)}
    places = dict(zip(rng.sample(range(1, n), 2), codes, strict=True))
    parts = []
    for i in range(n):
        code = f"The code of {places[i]} is {codes[places[i]]}. " if i in places else ""
        parts.append(f"{code}Image {i + 1}:<image>")
    at = rng.randrange(n)
    if rng.random() < 0.3:
        who = rng.choice(list(codes))
        question, answer = f"What is the code of {who}?", f"The code of {who} is {codes[who]}."
    elif names[at] in SINGLES:
        question, answer = (
            f"What is in image {at + 1}?",
            f"Image {at + 1} shows {SINGLES[names[at]]}.",
        )
    else:
        corner = rng.randrange(4)
        question = f"What is at the {CORNERS[corner]} of image {at + 1}?"
        answer = f"The {CORNERS[corner]} of image {at + 1} shows {GRIDS[names[at]][corner]}."
    return Prompt(" ".join([*parts, question]), [DEMO / name for name in names], answer)


def right(prompt: Prompt, **options: float) -> tuple[bool, int, int]:
    """Whether the answer is right, cells of the prompt, and kept cells."""
    given: LlavaOptions = options  # type: ignore[assignment]
    with Llava.embedded(**given) as llm:
        answer = llm.ask(prompt.content, prompt.images, max_tokens=96)
        return answer == prompt.answer, llm.stats.prompt_cells, llm.stats.kept_cells


@app.command()
def accuracy(
    n_generated: Annotated[int, typer.Option(help="Prompts to generate.")] = 96, seed: int = 1
) -> None:
    """Count right answers, in a Markdown table."""
    rng = random.Random(seed)
    sets = {
        "demo": [Prompt(p.content, list(p.images), p.answer) for p in demo_prompts()],
        "generated": [generated(rng) for _ in range(n_generated)],
    }
    sys.stdout.write(
        "| prompts | full | " + " | ".join(f"{s:.0%} once | {s:.0%} cap" for s in SHARES) + " |\n"
    )
    sys.stdout.write("|---|" + "---|" * (1 + 2 * len(SHARES)) + "\n")
    for name, prompts in sets.items():
        counts = [0] * (1 + 2 * len(SHARES))
        for prompt in prompts:
            full, n_cells, _ = right(prompt)
            runs = [full]
            for share in SHARES:
                cap = int(share * n_cells)
                runs.append(right(prompt, kv_ratio=share)[0])
                capped, _, kept = right(prompt, kv_cells=cap)
                if kept > cap:
                    raise AssertionError(f"{kept} cells kept under a cap of {cap}")
                runs.append(capped)
            counts = [count + run for count, run in zip(counts, runs, strict=True)]
        row = " | ".join(f"{count} of {len(prompts)}" for count in counts)
        sys.stdout.write(f"| {name} | {row} |\n")
        sys.stdout.flush()


class Turn(NamedTuple):
    """A question, its pictures, the right answer."""

    content: str
    images: list[Path]
    answer: str


def talk(rng: random.Random) -> list[Turn]:
    """Six turns, the first four of them with images."""
    turns: list[Turn] = []
    again: list[Turn] = []
    n = 0
    for _ in range(4):
        names = [rng.choice([*GRIDS, *SINGLES]) for _ in range(rng.randrange(2, 5))]
        at = rng.randrange(len(names))
        number = n + at + 1
        if names[at] in SINGLES:
            question, answer = (
                f"What is in image {number}?",
                f"Image {number} shows {SINGLES[names[at]]}.",
            )
        else:
            corner = rng.randrange(4)
            question = f"What is at the {CORNERS[corner]} of image {number}?"
            answer = f"The {CORNERS[corner]} of image {number} shows {GRIDS[names[at]][corner]}."
        shown = " ".join(f"Image {n + i + 1}:<image>" for i in range(len(names)))
        turns.append(Turn(f"{shown} {question}", [DEMO / name for name in names], answer))
        again.append(Turn(question, [], answer))
        n += len(names)
    return [*turns, again[0], again[2]]


@app.command()
def talks(
    n_talks: Annotated[int, typer.Option(help="Conversations to generate.")] = 24, seed: int = 1
) -> None:
    """Count right answers to new and to repeated questions, in a Markdown table."""
    rng = random.Random(seed)
    generated_talks = [talk(rng) for _ in range(n_talks)]
    settings: dict[str, LlavaOptions] = {
        "full cache": {},
        "kv_ratio 0.5": {"kv_ratio": 0.5},
        "kv_ratio 0.25": {"kv_ratio": 0.25},
        "kv_cells 512": {"kv_cells": 512},
        "kv_cells 256": {"kv_cells": 256},
        "kv_cells 256, kv_ratio 0.25": {"kv_cells": 256, "kv_ratio": 0.25},
    }
    sys.stdout.write(
        "| budget | new questions | asked again | cells read | most kept |\n|---|---|---|---|---|\n"
    )
    for name, options in settings.items():
        new, again, n_cells, most = 0, 0, 0, 0
        with Llava.embedded(**options) as llm:
            for turns in generated_talks:
                chat = llm.chat()
                for i, turn in enumerate(turns):
                    is_right = chat.ask(turn.content, turn.images, max_tokens=32) == turn.answer
                    new += is_right and i < 4
                    again += is_right and i >= 4
                    most = max(most, chat.stats.kept_cells)
                n_cells += chat.stats.prompt_cells
        counts = f"{new} of {4 * n_talks} | {again} of {2 * n_talks}"
        sys.stdout.write(f"| {name} | {counts} | {n_cells // n_talks} | {most} |\n")
        sys.stdout.flush()


PEAK = """
import sys
from lookm_cpp import Llava
from lookm_cpp.bench.process_memory import status_bytes
model, n_cells, cap = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = {"kv_cells": cap, "n_ctx": n_cells + 512, "n_batch": 512}
with Llava(model, mmproj=False, chat_template="chatml", prefix_memory=0, **options) as llm:
    llm.ask("Why?", context="x" * (n_cells - 64), max_tokens=16)
    stats = llm.stats
cells = (stats.prompt_cells, stats.squeezed_cells, stats.kept_cells)
print(*cells, stats.kv_bytes_allocated_before, status_bytes("VmHWM"))
"""


@app.command()
def memory(
    layers: int = 4,
    cap: int = 1024,
    cells: Annotated[list[int] | None, typer.Option(help="Repeat.")] = None,
) -> None:
    """Peak memory for prompts of several lengths under one cap, in a Markdown table."""
    model = model_file(BUILD, llava_shape(layers))
    base = 0
    sys.stdout.write(
        "| prompt cells | squeezed | kept | KV allocated, MiB | peak, MiB | over the first |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for n_cells in (cap - 160, *(cells or (2 * cap, 4 * cap))):
        command = [sys.executable, "-c", PEAK, str(model), str(n_cells), str(cap)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        prompt, squeezed, kept, allocated, peak = (int(word) for word in printed.split())
        base = base or peak
        sizes = f"{allocated / 2**20:.0f} | {peak / 2**20:.0f} | {peak / base - 1:.1%}"
        sys.stdout.write(f"| {prompt} | {squeezed} | {kept} | {sizes} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    app()
