"""Compares lookm-server with llama-server in what people do: ``make bench-server``.

An *album*: users who each ask several questions about eight pictures of their own. An *agent*: one
conversation that gets a screenshot each turn. A *document*: many questions about one long text.
Both servers have a KV cache of the same number of cells, and the same host memory for prompts that
are not in it. llama-server has as many slots as its cache holds prompts; compressed prompts leave
space for one slot a user. A round sends the same requests to one server and then to the other; the
next round has other pictures and the other order.

The result is ``benchmarks/server_users.json``, and a table of ``docs/server.md`` is made from it.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import httpx
import typer
from lookm_cpp import embedded
from lookm_cpp.bench.text_table import Table
from lookm_cpp.cli.bench_tables import rich_table
from rich.console import Console

from benchmarks.cost_report import replace_between
from benchmarks.server import PAGE, ROOT, new_results, origin, running_server

RAW = ROOT / "benchmarks" / "server_users.json"
BEGIN = "<!-- users: written by python -m benchmarks.server_users -->"
END = "<!-- end of users -->"

RATIO = 0.2
SERVERS = ("llama-server", f"ratio {RATIO:g}")
CACHE_RAM = 64  # MiB of host memory
N_PICTURES = 8
ALBUM = "album: 8 users, 6 questions each"
LIMIT = "album without its pictures"
NAMES = ("Anna", "Ivan", "Mara", "Otto", "Lena", "Paul", "Nora", "Emil")
Json = dict[str, Any]
Message = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """What some users do.

    Attributes:
        name: In the table.
        n_users: Users at a time.
        n_fit: Prompts that the cache holds at full length.
        cells: Cells of the cache.
        n_turns: Requests of a user, one after the other.
        n_answer: Tokens of an answer.
        turn: The messages of a user's request: of round, user, turn and the answers so far.
    """

    name: str
    n_users: int
    n_fit: int
    cells: int
    n_turns: int
    n_answer: int
    turn: Callable[[int, int, int, Sequence[str]], list[Message]]


def picture(number: int) -> Json:
    """A part of a message."""
    files = sorted(embedded.DEMO.glob("pic*.png"))
    data = base64.b64encode(files[number % len(files)].read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def text(words: str) -> Json:
    """A part of a message."""
    return {"type": "text", "text": words}


def album(round_: int, user: int, turn: int, _: Sequence[str]) -> list[Message]:
    """A new chat about the same eight pictures, in an order that no other user has."""
    order = random.Random(1000 * round_ + user).sample(range(N_PICTURES), N_PICTURES)
    parts = []
    for i, number in enumerate(order, start=1):
        parts += [text(f"{' ' if i > 1 else ''}Image {i}:"), picture(number)]
    return [{"role": "user", "content": [*parts, text(f" What is in image {turn + 1}?")]}]


def bare(_: int, __: int, turn: int, ___: Sequence[str]) -> list[Message]:
    """The album's question without its pictures."""
    return [{"role": "user", "content": f"What is in image {turn + 1}?"}]


def agent(round_: int, _: int, turn: int, answers: Sequence[str]) -> list[Message]:
    """A conversation that has got one more screenshot."""
    messages: list[Message] = []
    for i in range(turn + 1):
        shot = picture(3 * i + round_)
        question = text(f" What is in image {i + 1}?")
        messages.append({"role": "user", "content": [text(f"Image {i + 1}:"), shot, question]})
        messages += [{"role": "assistant", "content": answers[i]}] if i < turn else []
    return messages


def document(round_: int, _: int, turn: int, __: Sequence[str]) -> list[Message]:
    """A question about a text of about 1900 tokens."""
    codes = random.Random(round_)
    lines = [f"The code of {name} is {codes.randrange(1000, 10000)}." for name in NAMES * 24]
    question = f"What is the code of {NAMES[turn % len(NAMES)]}?"
    return [{"role": "user", "content": f"{' '.join(lines)} {question}"}]


def workloads(n_cells: int) -> list[Workload]:
    """Those of the table; ``n_cells`` is what a picture takes."""
    album_cells = 4 * (N_PICTURES * (n_cells + 8) + 64 + 128)
    return [
        Workload(ALBUM, 8, 4, album_cells, 6, 128, album),
        Workload(LIMIT, 8, 8, album_cells, 6, 128, bare),
        Workload("agent: 20 screenshots", 1, 1, 4096, 20, 32, agent),
        Workload("document: 50 questions", 1, 1, 4096, 50, 16, document),
    ]


def ask(client: httpx.Client, messages: list[Message], n_answer: int) -> tuple[str, Json]:
    """An answer, and its seconds to the first token and speed after it."""
    body = {
        "messages": messages,
        "temperature": 0,
        "max_tokens": n_answer,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    start = time.perf_counter()
    first, pieces, n_tokens = 0.0, [], 0
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            n_tokens = (chunk.get("usage") or {}).get("completion_tokens", n_tokens)
            if chunk["choices"] and (piece := chunk["choices"][0]["delta"].get("content")):
                first = first or time.perf_counter() - start
                pieces.append(piece)
    if n_tokens != n_answer:
        raise AssertionError(f"{n_tokens} tokens, expected {n_answer}")
    decode = (n_answer - 1) / (time.perf_counter() - start - first)
    return "".join(pieces), {"first_s": first, "decode": decode}


def work(client: httpx.Client, workload: Workload, round_: int) -> Json:
    """All users at the same time."""

    def user(number: int) -> list[Json]:
        answers: list[str] = []
        figures = []
        for turn in range(workload.n_turns):
            messages = workload.turn(round_, number, turn, answers)
            answer, timed = ask(client, messages, workload.n_answer)
            answers.append(answer)
            figures.append(timed)
        return figures

    start = time.perf_counter()
    with ThreadPoolExecutor(workload.n_users) as pool:
        users = list(pool.map(user, range(workload.n_users)))
    seconds = time.perf_counter() - start
    later = [timed for figures in users for timed in figures[1:]]
    return {
        "requests_per_minute": 60 * workload.n_users * workload.n_turns / seconds,
        "first_token_first_s": median(figures[0]["first_s"] for figures in users),
        "first_token_later_s": median(timed["first_s"] for timed in later),
        "decode_tokens_per_s": median(timed["decode"] for timed in later),
    }


@contextlib.contextmanager
def both(workload: Workload, model: Sequence[str], threads: int) -> Iterator[dict[str, Any]]:
    """Clients of the two servers."""
    with contextlib.ExitStack() as stack:
        clients = {}
        for server in SERVERS:
            ours = server != SERVERS[0]
            slots = workload.n_users if ours else workload.n_fit
            flags = ["-c", str(workload.cells), "-np", str(slots), "--kv-unified"]
            flags += ["--cache-ram", str(CACHE_RAM)]
            flags += ["--kv-ratio", str(RATIO)] if ours else []
            command = [*model, *flags, "-t", str(threads)]
            clients[server] = stack.enter_context(running_server(command, ours=ours))
        yield clients


def table(results: Json) -> Table:
    """Ratios to llama-server in the same round, and times."""
    columns = (
        "workload",
        "requests / minute",
        "range",
        "first token of the first request, ms",
        "of later ones, ms",
        "decode tokens/s",
    )
    made = Table("What people do, at equal KV bytes and equal host bytes", columns)
    for name, group in itertools.groupby(results["rounds"], key=lambda entry: entry["workload"]):
        rounds = list(group)
        ratios = [
            entry[SERVERS[1]]["requests_per_minute"] / entry[SERVERS[0]]["requests_per_minute"]
            for entry in rounds
        ]

        def pair(figure: str, factor: float, rounds: Sequence[Json] = rounds) -> str:
            found = (median(entry[server][figure] for entry in rounds) for server in SERVERS)
            return " / ".join(f"{factor * value:.0f}" for value in found)

        made.rows.append(
            [
                name,
                f"{median(ratios):.2f} x",
                f"{min(ratios):.2f} - {max(ratios):.2f}",
                pair("first_token_first_s", 1e3),
                pair("first_token_later_s", 1e3),
                pair("decode_tokens_per_s", 1),
            ]
        )
    made.note = (
        f"Requests per minute are ratios to the unmodified llama-server in the same round, "
        f"{results['rounds_each']} rounds. The other columns are medians, "
        f"llama-server / ratio {RATIO:g}. In the album, llama-server's cache holds 4 of the 8 "
        "users' prompts."
    )
    whole, bare_rate = (_rate(results, name, SERVERS[0]) for name in (ALBUM, LIMIT))
    if whole and bare_rate:
        made.note += (
            " With no picture to read and nothing in its cache, llama-server answers "
            f"{bare_rate / whole:.1f} times as many of the album's questions: the limit of "
            "what any cache can give here, where the clients run on the same two cores."
        )
    return made


def _rate(results: Json, workload: str, server: str) -> float:
    """Requests a minute, 0 if it was not measured."""
    rates = [
        entry[server]["requests_per_minute"]
        for entry in results["rounds"]
        if entry["workload"] == workload
    ]
    return float(median(rates)) if rates else 0.0


def markdown(results: Json) -> str:
    """The part of the page that is made from figures."""
    return f"{origin(results)}\n\n{table(results).markdown()}"


def main(
    report: Annotated[
        bool, typer.Option(help="Measure nothing; write the page again from server_users.json.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each workload.")] = 3,
    threads: Annotated[int, typer.Option(min=0, help="Of each server; 0: one a core.")] = 0,
    only: Annotated[str, typer.Option(help="Workloads whose name begins like this.")] = "",
    model: Annotated[Path | None, typer.Option(help="Another model.")] = None,
    mmproj: Annotated[Path | None, typer.Option(help="Its projector.")] = None,
    cells: Annotated[int, typer.Option(min=1, help="Cells that it makes of a picture.")] = 64,
    output: Annotated[
        Path, typer.Option(help="Where the raw figures go.", show_default="server_users.json")
    ] = RAW,
) -> None:
    """Compare lookm-server with llama-server in what people do."""
    console = Console(stderr=True)
    if not report:
        results = new_results(rounds, threads)
        files = ["-m", str(model), "--mmproj", str(mmproj)] if model else ["-m", "embedded"]
        for workload in workloads(cells):
            if not workload.name.startswith(only):
                continue
            with both(workload, files, results["threads"]) as clients:
                for number in range(rounds):
                    order = SERVERS[:: -1 if number % 2 else 1]
                    entry = {server: work(clients[server], workload, number) for server in order}
                    results["rounds"].append({"workload": workload.name, **entry})
                    console.print(f"{workload.name}, round {number + 1} of {rounds}")
        results["load_after"] = round(os.getloadavg()[0], 2)
        output.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(output.read_text())
    console.print(rich_table(table(results)))
    if output == RAW:
        replace_between(PAGE, BEGIN, END, markdown(results))


if __name__ == "__main__":
    typer.run(main)
