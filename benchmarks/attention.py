"""Times prompts and answers with our attention on the CPU and with ggml's.

``python -m benchmarks.attention MODEL.gguf``: for each type of the cache and each length, two
processes read the same texts in turn and answer. The model's context must be long enough.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from lookm_cpp import _core
from lookm_cpp.bench.machine import CORES
from lookm_cpp.compression import Compression
from lookm_cpp.opening import model_options
from rich.console import Console

from benchmarks.peers import QUESTION, document

SIDES = ("ggml", "lookm")
ANSWER = 24
"""Tokens of an answer that are timed."""


def _serve(pipe: Connection, side: str, model: Path, cache: str, n_ctx: int) -> None:
    os.environ["LOOKM_ATTENTION"] = side  # read at the first attention node
    how = Compression(kv_ratio=1.0)
    options = model_options(
        model,
        None,
        n_threads=len(CORES),
        n_ctx=n_ctx,
        prefix_memory=0,
        flash_attn=True,
        type_k=cache,
        type_v=cache,
    )
    session = _core.Session(options, how.core())
    pipe.send(None)
    while (text := pipe.recv()) is not None:
        content = f"{session.context_marker} {QUESTION}"
        prompt = session.apply_template(json.dumps([{"role": "user", "content": content}]))
        session.prefill(prompt, [], how.core(), contexts=[text], n_answer=ANSWER + 8)
        session.start(temperature=0.0, ignore_eos=True)
        session.next()
        start = time.perf_counter()
        for _ in range(ANSWER):
            session.next()
        token = (time.perf_counter() - start) / ANSWER
        stats = session.stats
        pipe.send((stats["prompt_cells"], stats["prefill_seconds"], token))


def main(
    model: Annotated[Path, typer.Argument(help="A GGUF language model.")],
    tokens: Annotated[list[int] | None, typer.Option(min=64, help="Of a prompt, about.")] = None,
    cache: Annotated[list[str] | None, typer.Option(help="Types of K and V.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 2,
) -> None:
    """Print medians of what a prompt and a token take, after a first round that does not count."""
    lengths = tokens or [1000, 2000, 4000]
    spawn = multiprocessing.get_context("spawn")
    for name in cache or ["f16", "q8_0", "q4_0"]:
        sides = {}
        for side in SIDES:
            ours, theirs = spawn.Pipe()
            arguments = (theirs, side, model, name, 2 * max(lengths))
            process = spawn.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            ours.recv()
            sides[side] = (ours, process)
        for length in lengths:
            prompt: dict[str, list[float]] = {side: [] for side in SIDES}
            token: dict[str, list[float]] = {side: [] for side in SIDES}
            for number in range(rounds + 1):
                for side in SIDES[:: -1 if number % 2 else 1]:
                    sides[side][0].send(document(length, number))
                    n_cells, of_prompt, of_token = sides[side][0].recv()
                    prompt[side] += [of_prompt] if number else []
                    token[side] += [of_token] if number else []
            read = [median(prompt[side]) for side in SIDES]
            each = [1000 * median(token[side]) for side in SIDES]
            Console().print(
                f"{name}, {n_cells} cells: {read[0]:.2f} s, {read[1]:.2f} s, "
                f"{read[0] / read[1]:.1f} times as fast; a token {each[0]:.0f} ms, "
                f"{each[1]:.0f} ms, {each[0] / each[1]:.1f} times as fast",
                soft_wrap=True,
            )
        for ours, process in sides.values():
            ours.send(None)
            process.join()


if __name__ == "__main__":
    typer.run(main)
