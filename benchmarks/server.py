"""Compares lookm-server with llama-server in requests per minute and speed: ``make bench-server``.

Three servers have a cache of the same number of cells, and so of the same bytes: the unmodified
llama-server of this build, lookm-server at ratio 1, and lookm-server at ratio 0.2. The cache holds
``FIT`` whole conversations. So llama-server and ratio 1 have this many slots at most, however many
clients there are, while compressed prompts leave space for more. Each client sends one request
after the other, and nothing is reused. All three servers run, but only one works at a time: a round
sends the same requests to one after the other, the next round in another order. Each round gives
ratios, and their median counts, because a machine's speed drifts more between rounds than within
one.

The result is ``benchmarks/server.json``, and the tables of ``docs/server.md`` are made from it
(``--report`` does only that).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from lookm_cpp import embedded
from lookm_cpp.bench import machine
from lookm_cpp.bench.machine import CORES
from lookm_cpp.bench.random_model import model_file
from lookm_cpp.bench.text_table import Table
from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.cli.bench_tables import rich_table
from lookm_cpp.serve import server_arguments, server_path
from rich.console import Console

from benchmarks.commit import commit
from benchmarks.cost_report import replace_between
from benchmarks.models import N_VOCAB, llava_shape

ROOT = Path(__file__).parents[1]
RAW = ROOT / "benchmarks" / "server.json"
PAGE = ROOT / "docs" / "server.md"
BUILD = ROOT / "build" / "bench"
UPSTREAM = ROOT / "build" / "dev" / "llama.cpp" / "tools" / "server" / "llama-server"
BEGIN = "<!-- throughput: written by python -m benchmarks.server -->"
END = "<!-- end of throughput -->"

FIT = 4  # whole conversations that the cache holds
SLOTS = (1, 4, 8)
N_ANSWER = 48
N_PROMPT = 512  # of the random model; the embedded one's prompts have eight pictures
RATIO = 0.2
SERVERS = ("llama-server", "ratio 1", f"ratio {RATIO:g}")
FIRST_TOKEN = 300  # of the random vocabulary, past its control tokens and bytes
Json = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """A model, and the requests that it gets."""

    name: str
    model: tuple[str, ...]
    compress: tuple[str, ...]
    path: str
    cells: int  # of the cache

    def body(self, number: int) -> Json:
        """Request ``number``."""
        options = {
            "temperature": 0,
            "cache_prompt": False,
            "ignore_eos": True,
            "n_predict": N_ANSWER,
        }
        if self.path == "/completion":
            tokens = np.random.default_rng(number).integers(FIRST_TOKEN, N_VOCAB, N_PROMPT)
            return options | {"prompt": [int(token) for token in tokens]}
        prompts = [prompt for prompt in embedded.demo_prompts() if len(prompt.images) == 8]
        prompt = prompts[number % len(prompts)]
        parts: list[Json] = []
        for i, text in enumerate(prompt.content.split(PLACEHOLDER)):
            if i > 0:
                image = base64.b64encode(prompt.images[(i - 1 + number) % 8].read_bytes()).decode()
                parts.append(
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
                )
            parts.append({"type": "text", "text": text})
        return options | {"messages": [{"role": "user", "content": parts}]}


def workloads(layers: int) -> list[Workload]:
    """The embedded model with pictures, and a random model of LLaVA-1.5-7B's shape with text."""
    model = model_file(BUILD, llava_shape(layers))
    by_text = ("--kv-method", "pivot_merge")  # a text prior leaves prompts without images alone
    return [
        Workload(
            "embedded model, 8 pictures", ("--embedded",), (), "/v1/chat/completions", FIT * 640
        ),
        Workload(
            f"7B shape, {layers} layers, {N_PROMPT} tokens",
            ("-m", str(model), "--chat-template", "chatml"),
            by_text,
            "/completion",
            FIT * (N_PROMPT + 2 * N_ANSWER),
        ),
    ]


@contextlib.contextmanager
def running(
    server: str, workload: Workload, slots: int, threads: int, *, equal_slots: bool
) -> Iterator[httpx.Client]:
    """Start one of the three servers and wait until it is ready."""
    ratio = () if server == SERVERS[0] else ("--kv-ratio", server.split()[1], *workload.compress)
    whole = server != SERVERS[2]  # all cells of a prompt stay
    n_slots = min(slots, FIT) if whole and not equal_slots else slots
    cells = workload.cells * (-(-n_slots // FIT) if whole else 1)
    flags = ("-c", str(cells), "-np", str(n_slots), "--kv-unified", "--cache-ram", "0")
    arguments = [*workload.model, *flags, *ratio, "-t", str(threads)]
    with running_server(arguments, ours=server != SERVERS[0]) as client:
        yield client


@contextlib.contextmanager
def running_server(arguments: Sequence[str], *, ours: bool) -> Iterator[httpx.Client]:
    """Start lookm-server, or the unmodified llama-server, and wait until it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(server_path() if ours else UPSTREAM)]
    command += server_arguments([*arguments, "--port", str(port)])
    if not ours:
        command = [part for part in command if part != "--no-check-files"]  # not one of its flags
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LLAMA_ARG_", "OMP_"))
    }
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    # the server closes connections that rest, maybe just as a request is sent on one
    limits = httpx.Limits(max_keepalive_connections=0)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=3600, limits=limits)
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/health").status_code == 200:
                    break
            if child.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
            time.sleep(0.1)
        yield client
    finally:
        client.close()
        child.terminate()
        child.wait()


def ask(client: httpx.Client, workload: Workload, body: Json) -> Json:
    """The timings of one answer, which must have the requested length."""
    response = client.post(workload.path, json=body)
    response.raise_for_status()
    timings: Json = response.json()["timings"]
    if timings["predicted_n"] != N_ANSWER:
        raise AssertionError(f"{timings['predicted_n']} tokens, expected {N_ANSWER}")
    return timings


def work(client: httpx.Client, workload: Workload, n_clients: int, bodies: Sequence[Json]) -> Json:
    """Send all requests, ``n_clients`` at a time."""
    start = time.perf_counter()
    with ThreadPoolExecutor(n_clients) as pool:
        timings = list(pool.map(lambda body: ask(client, workload, body), bodies))
    seconds = time.perf_counter() - start
    return {
        "requests_per_minute": 60 * len(bodies) / seconds,
        "decode_tokens_per_s": median(t["predicted_per_second"] for t in timings),
        "kept_cells": median(
            float(t["kept_cells"] if "kept_cells" in t else t["prompt_n"]) for t in timings
        ),
    }


def measure(
    workload: Workload,
    slots: int,
    rounds: int,
    per_client: int,
    threads: int,
    say: Any,
    *,
    equal_slots: bool = False,
) -> list[Json]:
    """The figures of every server in every round."""
    done = []
    with contextlib.ExitStack() as stack:
        clients = {
            server: stack.enter_context(
                running(server, workload, slots, threads, equal_slots=equal_slots)
            )
            for server in SERVERS
        }
        for client in clients.values():
            ask(client, workload, workload.body(0))  # pages the weights in
        for number in range(rounds):
            first = 1 + number * slots * per_client
            bodies = [workload.body(first + i) for i in range(slots * per_client)]
            order = SERVERS[number % 3 :] + SERVERS[: number % 3]
            entry = {server: work(clients[server], workload, slots, bodies) for server in order}
            done.append(
                {"workload": workload.name, "slots": slots, "cells": workload.cells, **entry}
            )
            say(f"{workload.name}, {slots} slots, round {number + 1} of {rounds}")
    return done


def tables(results: Json) -> list[Table]:
    """Ratios to llama-server in the same round: median, lowest and highest of the rounds."""
    columns = (
        "model",
        "slots",
        "cells",
        "server",
        "requests / minute",
        "range",
        "decode tokens/s",
        "range",
    )
    equal = "slots" if results.get("equal_slots") else "KV bytes"
    table = Table(f"Compared with llama-server, at equal {equal}", columns)
    keys = dict.fromkeys((entry["workload"], entry["slots"]) for entry in results["rounds"])
    for name, slots in keys:
        rounds = [
            entry
            for entry in results["rounds"]
            if (entry["workload"], entry["slots"]) == (name, slots)
        ]
        for server in SERVERS[1:]:
            cells = []
            for figure in ("requests_per_minute", "decode_tokens_per_s"):
                ratios = [entry[server][figure] / entry[SERVERS[0]][figure] for entry in rounds]
                cells += [f"{median(ratios):.2f} x", f"{min(ratios):.2f} - {max(ratios):.2f}"]
            table.rows.append([name, str(slots), str(rounds[0]["cells"]), server, *cells])
    table.note = (
        "Ratios to the unmodified llama-server in the same round, "
        f"{results['rounds_each']} rounds. {_room(results)} Decode is that of one answer while "
        f"the others' prompts and answers are in progress. Answers have {N_ANSWER} tokens. "
        "Ratio 1 runs llama-server's own code, so its rows show the noise."
    )
    return [table]


def _room(results: Json) -> str:
    if results.get("equal_slots"):
        return "Each server has a slot for each client, and llama-server the cells that it takes."
    return (
        f"The cache holds only {FIT} full prompts, so llama-server and ratio 1 run with at most "
        f"{FIT} slots; in the rows for 8 slots, 8 clients share those {FIT}."
    )


def markdown(results: Json) -> str:
    """The part of the page that is made from figures."""
    return "\n\n".join([origin(results), *(table.markdown() for table in tables(results))])


def new_results(rounds: int, threads: int) -> Json:
    """A run of servers without figures yet."""
    if not UPSTREAM.exists():
        raise typer.BadParameter(f"{UPSTREAM} is missing: make llama-server")
    if hasattr(os, "sched_setaffinity"):
        # OpenMP has bound this thread to one core, and the servers would inherit that
        os.sched_setaffinity(0, CORES)
    return {
        "machine": machine.describe(),
        "versions": machine.versions(),
        "commit": commit(ROOT),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds_each": rounds,
        "threads": threads or len(CORES),
        "rounds": [],
    }


def origin(results: Json) -> str:
    """The line of the page that says where the figures come from."""
    where = results["machine"]
    return (
        f"{where['cpu']}, {where['cores']} cores, {results['threads']} threads a server; "
        f"load {where['load']} before, {results['load_after']} after; "
        f"{results['date']}, commit {results['commit']}."
    )


def main(
    report: Annotated[
        bool, typer.Option(help="Measure nothing; write the page again from server.json.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each case.")] = 5,
    per_client: Annotated[int, typer.Option(min=1, help="Requests of a client in a round.")] = 2,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the random model.")] = 2,
    slots: Annotated[list[int] | None, typer.Option(min=1, help="Slots; repeat.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Of each server; 0: one a core.")] = 0,
    equal_slots: Annotated[
        bool,
        typer.Option(
            "--equal-slots",
            help="Give every server a slot for each client, and as many cells as that takes. "
            "Use another --output.",
        ),
    ] = False,
    output: Annotated[
        Path, typer.Option(help="Where the raw figures go.", show_default="server.json")
    ] = RAW,
) -> None:
    """Compare lookm-server with llama-server; write server.json and tables in docs/server.md."""
    console = Console(stderr=True)
    if equal_slots and output == RAW:
        raise typer.BadParameter("--equal-slots needs an --output of its own")
    if not report:
        results = new_results(rounds, threads) | {"equal_slots": equal_slots}
        for workload in workloads(layers):
            for n in slots or SLOTS:
                results["rounds"] += measure(
                    workload,
                    n,
                    rounds,
                    per_client,
                    results["threads"],
                    console.print,
                    equal_slots=equal_slots,
                )
        results["load_after"] = round(os.getloadavg()[0], 2)
        output.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(output.read_text())
    for table in tables(results):
        console.print(rich_table(table))
    if output == RAW:
        replace_between(PAGE, BEGIN, END, markdown(results))


if __name__ == "__main__":
    typer.run(main)
