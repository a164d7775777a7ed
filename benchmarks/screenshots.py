"""What it costs and saves to keep the cells of images after one that a client has dropped.

``python -m benchmarks.screenshots --model LLM.gguf --mmproj MMPROJ.gguf``: conversations of an agent
that shows its last pictures only. Each turn brings one, drops the oldest, and asks about the one
that is now the oldest, whose cells were moved most often. Two servers get the same requests in
turn, one of them with ``--kv-keep-after-gap``; the other reads anew what follows the gap.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import median
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

SERVERS = {"read anew": (), "kept": ("--kv-keep-after-gap",)}
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


def ask(client: httpx.Client, messages: list[Json], begins: str) -> tuple[str, Json, float]:
    """An answer, the probabilities of its first token, and the seconds until that came."""
    response = client.post(
        "/v1/chat/completions",
        json={
            "messages": [*messages, {"role": "assistant", "content": begins}],
            "temperature": 0,
            "max_tokens": 6,
            "logprobs": True,
            "top_logprobs": 20,
        },
    )
    response.raise_for_status()
    body = response.json()
    choice = body["choices"][0]
    first = {t["id"]: t["logprob"] for t in choice["logprobs"]["content"][0]["top_logprobs"]}
    answer = choice["message"]["content"].removeprefix(begins)
    return answer, first, body["timings"]["prompt_ms"] / 1000


def divergence(one: Json, other: Json) -> float:
    """KL of the tokens that one of the two names among its likeliest; the rest is one more."""
    missing = min(other.values())
    p, q = (np.exp([d.get(token, missing) for token in one]) for d in (one, other))
    p, q = (np.append(x, max(1 - x.sum(), 1e-6)) for x in (p, q))
    return float((p * np.log(p / q)).sum())


def conversation(
    pool: Sequence[Picture], number: int, n_shown: int, n_turns: int
) -> list[tuple[list[Json], FactsQuestion]]:
    """The messages of each turn and its question. Earlier answers are the right ones."""
    rng = random.Random(f"screenshots {number}")
    pictures = rng.sample(list(pool), n_shown + n_turns)
    asked = [question_about(rng, turn, pictures) for turn in range(n_turns + 1)]
    turns = []
    for turn in range(n_turns + 1):
        messages: list[Json] = []
        for at in range(turn + 1):
            new = range(n_shown) if at == 0 else range(n_shown + at - 1, n_shown + at)
            parts = []
            for i in new:
                gone = text(f"Image {i + 1} is gone.\n")
                here = [text(f"\nImage {i + 1}:"), screenshot(pictures[i])]
                parts += here if i >= turn else [gone]
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
    ratio: Annotated[float, typer.Option(help="kv_ratio of both servers.")] = 0.5,
    cells: Annotated[int, typer.Option(min=1, help="Cells of the cache.")] = 4096,
) -> None:
    """Print the score, the share of equal answers, and the first token."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, CORES)  # as benchmarks.server does
    loaded = load_pictures(pictures)
    singles = [picture for picture in loaded if picture.kind == "single"]
    pool = singles or loaded
    files = ["-m", str(model), "--mmproj", str(mmproj)]
    flags = [*files, "-c", str(cells), "-np", "1", "-t", str(len(CORES)), "--kv-ratio", str(ratio)]
    seconds: dict[str, list[float]] = {name: [] for name in SERVERS}
    scores = np.zeros((len(SERVERS), conversations))
    same, apart = np.zeros(conversations), np.zeros(conversations)
    with contextlib.ExitStack() as stack:
        clients = {
            name: stack.enter_context(running_server([*flags, *more], ours=True))
            for name, more in SERVERS.items()
        }
        for number in track(range(conversations), console=Console(stderr=True)):
            for turn, (messages, question) in enumerate(conversation(pool, number, shown, turns)):
                first = []
                for i, (name, client) in enumerate(clients.items()):
                    answer, probabilities, took = ask(client, messages, question.begins)
                    first.append(probabilities)
                    if turn > 0:  # nothing is dropped before
                        seconds[name].append(took)
                        scores[i, number] += question.score(answer) / turns
                if turn > 0:
                    one, other = (max(f, key=f.__getitem__) for f in first)
                    same[number] += (one == other) / turns
                    apart[number] += divergence(*first) / turns
    for i, name in enumerate(SERVERS):
        score, took_all = mean_of(100 * scores[i]), seconds[name]
        Console().print(
            f"{name}: score {score.mean:.0f} ({score.low:.0f} to {score.high:.0f}), first token "
            f"{median(took_all):.2f} s ({min(took_all):.2f} to {max(took_all):.2f})"
        )
    lost, agree, kl = mean_of(100 * (scores[1] - scores[0])), mean_of(100 * same), mean_of(apart)
    Console().print(
        f"kept - read anew: {lost.mean:+.0f} ({lost.low:+.0f} to {lost.high:+.0f}); first tokens "
        f"the same: {agree.mean:.0f} % ({agree.low:.0f} to {agree.high:.0f}); KL {kl.mean:.3f} "
        f"({kl.low:.3f} to {kl.high:.3f})"
    )


if __name__ == "__main__":
    typer.run(main)
