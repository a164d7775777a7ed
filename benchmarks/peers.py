"""Reads and answers beside OpenVINO GenAI and kvpress, from the same file, with the same threads.

``pip install openvino-genai kvpress gguf``, then ``python -m benchmarks.peers MODEL.gguf``; a peer
that is not installed is left out. OpenVINO cannot read tensors of Q5_0, which small models in
Q4_K_M have: ``--recode`` writes a copy that holds them in Q8_0, for all. ``--widen`` writes a copy
of a Qwen2 with layers of a 7B model, whose answers are noise. kvpress runs on PyTorch, which
computes in bf16. Each side is a process of its own. They take turns, and each round has another
text.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from lookm_cpp import _core
from lookm_cpp.bench.machine import CORES
from lookm_cpp.bench.process_memory import MIB, status_bytes
from lookm_cpp.compression import Compression
from lookm_cpp.opening import model_options
from rich.console import Console

from benchmarks.peer_models import recode, widen
from benchmarks.server_users import NAMES

RATIO = 0.2
QUESTION = "What is the code of Anna?"
TOKENS_PER_LINE = 10
WIDE_LAYERS = 2

Answer = Callable[[str, int], dict[str, Any]]


def document(n_tokens: int, seed: int) -> str:
    """About so many tokens."""
    lines = max(1, n_tokens // TOKENS_PER_LINE)
    return " ".join(
        f"The code of {NAMES[i % len(NAMES)]} is {1000 + (37 * i + 101 * seed) % 9000}."
        for i in range(lines)
    )


def _lookm(model: Path, n_ctx: int, ratio: float) -> Answer:
    options = model_options(model, None, n_threads=len(CORES), n_ctx=n_ctx, prefix_memory=0)
    how = Compression(kv_ratio=ratio)
    session = _core.Session(options, how.core())

    def answer(text: str, n_answer: int) -> dict[str, Any]:
        content = f"{session.context_marker} {QUESTION}"
        prompt = session.apply_template(json.dumps([{"role": "user", "content": content}]))
        start = time.perf_counter()
        session.prefill(prompt, [], how.core(), contexts=[text], n_answer=n_answer)
        session.start(temperature=0.0, ignore_eos=True)
        session.next()
        first = time.perf_counter() - start
        for _ in range(n_answer - 1):
            session.next()
        each = (time.perf_counter() - start - first) / (n_answer - 1)
        return {"tokens": session.stats["prompt_cells"], "first_s": first, "token_s": each}

    return answer


def _openvino(model: Path) -> Answer:
    genai: Any = importlib.import_module("openvino_genai")  # not one of our dependencies
    pipe = genai.LLMPipeline(str(model), "CPU", INFERENCE_NUM_THREADS=len(CORES))

    def answer(text: str, n_answer: int) -> dict[str, Any]:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = n_answer, False, True
        found = pipe.generate([f"{text} {QUESTION}"], config).perf_metrics
        return {
            "tokens": found.get_num_input_tokens(),
            "first_s": found.get_ttft().mean / 1e3,
            "token_s": found.get_tpot().mean / 1e3,
        }

    return answer


def _kvpress(model: Path, ratio: float) -> Answer:
    """SnapKV, as kvpress has it; without compression at ratio 1."""
    kvpress: Any = importlib.import_module("kvpress")
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    torch.set_num_threads(len(CORES))
    file = {"pretrained_model_name_or_path": str(model.parent), "gguf_file": model.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**file)
    llm = transformers.AutoModelForCausalLM.from_pretrained(**file, dtype=torch.bfloat16)
    press = kvpress.SnapKVPress(compression_ratio=1 - ratio)

    def answer(text: str, n_answer: int) -> dict[str, Any]:
        messages = [{"role": "user", "content": f"{text} {QUESTION}"}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        cache, n = transformers.DynamicCache(), ids.shape[1]
        start = time.perf_counter()
        with torch.inference_mode():
            with press(llm):
                token = llm(ids, past_key_values=cache, logits_to_keep=1).logits.argmax(-1)
            first = time.perf_counter() - start
            for i in range(n_answer - 1):
                position = torch.tensor([[n + i]])
                token = llm(token, past_key_values=cache, position_ids=position).logits.argmax(-1)
        each = (time.perf_counter() - start - first) / (n_answer - 1)
        return {"tokens": n, "first_s": first, "token_s": each}

    return answer


def _serve(pipe: Connection, name: str, model: Path, n_ctx: int) -> None:
    """A side: answers texts until the connection ends."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, CORES)
    ratio = RATIO if name.endswith("%") else 1.0
    if name == "openvino":
        answer = _openvino(model)
    elif name.startswith("kvpress"):
        answer = _kvpress(model, ratio)
    else:
        answer = _lookm(model, n_ctx, ratio)
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        pipe.send({**answer(*asked), "peak_mib": status_bytes("VmHWM") // MIB})


SIDES = {
    "lookm, full cache": "lookm_cpp",
    f"lookm, {100 * RATIO:g} %": "lookm_cpp",
    "openvino": "openvino_genai",
    "kvpress, full cache": "kvpress",
    f"kvpress, {100 * RATIO:g} %": "kvpress",
}
"""The packages that they are of."""


def main(
    model: Annotated[Path, typer.Argument(help="A GGUF language model.")],
    tokens: Annotated[int, typer.Option(min=64, help="Of the prompt, about.")] = 2000,
    answer: Annotated[int, typer.Option(min=2, help="Tokens.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
    recoded: Annotated[
        Path | None, typer.Option("--recode", metavar="FILE", help="Write and use a copy.")
    ] = None,
    widened: Annotated[
        Path | None,
        typer.Option("--widen", metavar="FILE", help="Write and use two layers of a 7B model."),
    ] = None,
) -> None:
    """Print medians, after a first round that does not count."""
    if recoded is not None:
        recode(model, recoded)
        model = recoded
    if widened is not None:
        widen(model, widened, WIDE_LAYERS)
        model = widened
    spawn = multiprocessing.get_context("spawn")
    sides = {}
    for name in [name for name, package in SIDES.items() if importlib.util.find_spec(package)]:
        ours, theirs = spawn.Pipe()
        args = (theirs, name, model, 2 * tokens + answer)
        process = spawn.Process(target=_serve, args=args, daemon=True)
        process.start()
        ours.recv()
        sides[name] = (ours, process)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            sides[name][0].send((document(tokens, number), answer))
            found[name].append(sides[name][0].recv())
    for name, (ours, process) in sides.items():
        ours.send(None)
        process.join()
        counted = {key: median(one[key] for one in found[name][1:]) for key in found[name][0]}
        Console().print(
            f"{name}: {counted['tokens']:.0f} tokens, first after {counted['first_s']:.2f} s, "
            f"{1e3 * counted['token_s']:.1f} ms a token, peak {counted['peak_mib']:.0f} MiB",
            soft_wrap=True,
        )


if __name__ == "__main__":
    typer.run(main)
