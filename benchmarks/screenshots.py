"""What it costs an agent to drop old screenshots from its conversation.

``python -m benchmarks.screenshots --model LLM.gguf --mmproj MMPROJ.gguf``: each turn brings one
picture and asks about the oldest one of those that are still shown. Three clients ask servers of
their own in turn: one drops the oldest picture each turn, one drops several at a time, and one
drops none.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from lookm_cpp.bench.machine import CORES
from lookm_cpp.evaluation.facts import FactsQuestion
from lookm_cpp.evaluation.pictures import ARCHIVE, Picture, load_pictures
from lookm_cpp.evaluation.statistics import mean_of
from rich.console import Console
from rich.progress import track

from benchmarks.server import running_server
from benchmarks.server_users import text

CLIENTS = {"one each turn": 1, "several at a time": 3, "none": 0}
"""How many turns it takes until a client drops pictures again; 0: it never does."""
Json = dict[str, Any]


def screenshot(picture: Picture) -> Json:
    """A part of a message."""
    file = io.BytesIO()
    picture.image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def question_about(rng: random.Random, number: int, shown: Sequence[Picture]) -> FactsQuestion:
    """What is in an image; of one with several things, which of four."""
    ask_for, own = "What is in image", sorted({n for n in shown[number].names if len(n) > 1})
    name, offered = rng.choice(own), ""
    if len(own) > 1:
        others = sorted({n for picture in shown for n in picture.names if len(n) > 1} - set(own))
        four = rng.sample([name, *rng.sample(others, 3)], 4)
        ask_for, offered = "Which of these is in image", f": {', '.join(four[:3])} or {four[3]}"
    words = f"{ask_for} {number + 1}{offered}? Answer with one word."
    return FactsQuestion("screenshot", words, name, begins='"', facts=((name,),), ends='"')


def ask(server: httpx.Client, messages: list[Json], begins: str) -> tuple[str, float]:
    """An answer, and the seconds until its first token."""
    body = {
        "messages": [*messages, {"role": "assistant", "content": begins}],
        "temperature": 0,
        "max_tokens": 6,
    }
    response = server.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    answer = response.json()
    text_of = answer["choices"][0]["message"]["content"].removeprefix(begins)
    return text_of, answer["timings"]["prompt_ms"] / 1000


def conversation(
    pool: Sequence[Picture], number: int, n_shown: int, n_turns: int, every: int
) -> list[tuple[list[Json], FactsQuestion]]:
    """The messages of each turn and its question. Earlier answers are the right ones.

    Every so many turns, the client drops the pictures that are not asked about any more.
    """
    rng = random.Random(f"screenshots {number}")
    pictures = rng.sample(list(pool), n_shown + n_turns)
    asked = [question_about(rng, turn, pictures) for turn in range(n_turns + 1)]
    turns = []
    for turn in range(n_turns + 1):
        n_gone = turn // every * every if every else 0
        messages: list[Json] = []
        for at in range(turn + 1):
            new = range(n_shown) if at == 0 else range(n_shown + at - 1, n_shown + at)
            parts = []
            for i in new:
                gone = text(f"Image {i + 1} is gone.\n")
                here = [text(f"\nImage {i + 1}:"), screenshot(pictures[i])]
                parts += here if i >= n_gone else [gone]
            messages.append({"role": "user", "content": [*parts, text("\n" + asked[at].text)]})
            messages += [{"role": "assistant", "content": asked[at].answer}] if at < turn else []
        turns.append((messages, asked[turn]))
    return turns


def main(
    model: Annotated[Path, typer.Option(help="The language model.")],
    mmproj: Annotated[Path, typer.Option(help="Its projector.")],
    pictures: Annotated[
        Path, typer.Option(help="The pictures: an archive of lookm eval.")
    ] = ARCHIVE,
    conversations: Annotated[int, typer.Option(min=1, help="Number of conversations.")] = 6,
    shown: Annotated[int, typer.Option(min=2, help="Pictures that a turn shows.")] = 6,
    turns: Annotated[int, typer.Option(min=1, help="Turns that drop a picture.")] = 6,
    ratio: Annotated[float, typer.Option(help="kv_ratio of all servers.")] = 0.5,
    cells: Annotated[int, typer.Option(min=1, help="Cells of the cache.")] = 4096,
) -> None:
    """Print each client's score, and the seconds to its first token."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, CORES)  # as benchmarks.server does
    loaded = load_pictures(pictures)
    pool = [picture for picture in loaded if picture.kind == "single"] or loaded
    files = ["-m", str(model), "--mmproj", str(mmproj)]
    flags = [*files, "-c", str(cells), "-np", "1", "-t", str(len(CORES)), "--kv-ratio", str(ratio)]
    seconds: dict[str, list[float]] = {name: [] for name in CLIENTS}
    scores = np.zeros((len(CLIENTS), conversations))
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running_server(flags, ours=True)) for _ in CLIENTS]
        for number in track(range(conversations), console=Console(stderr=True)):
            told = [conversation(pool, number, shown, turns, every) for every in CLIENTS.values()]
            for turn in range(turns + 1):
                for i, (name, server) in enumerate(zip(CLIENTS, servers, strict=True)):
                    messages, question = told[i][turn]
                    answer, took = ask(server, messages, question.begins)
                    if turn > 0:  # the first is the same for all
                        seconds[name].append(took)
                        scores[i, number] += 100 * question.score(answer) / turns
    for i, name in enumerate(CLIENTS):
        score, all_ = mean_of(scores[i]), seconds[name]
        change = mean_of(scores[i] - scores[0])
        Console().print(
            f"{name}: score {score.mean:.0f} ({change.low:+.0f} to {change.high:+.0f}), first "
            f"token {mean(all_):.2f} s ({min(all_):.2f} to {max(all_):.2f})"
        )


if __name__ == "__main__":
    typer.run(main)
