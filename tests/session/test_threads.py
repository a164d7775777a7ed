"""Threads, dropped streams, callbacks and Ctrl-C."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from lookm_cpp import Llava
from lookm_cpp.chat import question_messages
from lookm_cpp.embedded import DemoPrompt

from session.interrupts import allow_ctrl_c


def _messages(prompt: DemoPrompt) -> list[dict[str, Any]]:
    return question_messages(prompt.content, prompt.images)


def test_a_second_thread_stays_responsive(llm: Llava, longest: DemoPrompt) -> None:
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.perf_counter()
    for _ in range(3):
        llm.ask(longest.content, longest.images, kv_ratio=0.2)
    elapsed = time.perf_counter() - begin
    done.set()
    thread.join()
    # A thread that holds the interpreter stops the ticks for a whole prefill, nearly all of the
    # time measured here; a busy machine makes single gaps.
    waited = sum(gap for gap in (b - a for a, b in pairwise(ticks)) if gap > 0.03)
    assert waited < 0.5 * elapsed


def test_threads_are_served_one_after_the_other(llm: Llava, prompts: list[DemoPrompt]) -> None:
    four = prompts[:4]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda prompt: llm.ask(prompt.content, prompt.images), four))
    assert answers == [prompt.answer for prompt in four]


def test_a_newer_prompt_ends_a_stream(llm: Llava, describe: DemoPrompt) -> None:
    old = llm.create_chat_completion(_messages(describe), stream=True)
    next(old)
    next(old)
    answer = llm.ask(describe.content, describe.images)
    with pytest.raises(RuntimeError, match="ended by a newer prompt"):
        next(old)
    assert llm.ask(describe.content, describe.images) == answer


def test_a_stream_may_be_dropped(llm: Llava, describe: DemoPrompt) -> None:
    answer = llm.ask(describe.content, describe.images)
    for n_chunks in (0, 1, 3):
        stream = llm.create_chat_completion(_messages(describe), stream=True)
        for _ in range(n_chunks):
            next(stream)
        del stream
        assert llm.ask(describe.content, describe.images) == answer


def test_a_stream_may_change_threads(llm: Llava, describe: DemoPrompt) -> None:
    answer = llm.ask(describe.content, describe.images)
    stream = llm.create_chat_completion(_messages(describe), temperature=0, stream=True)
    chunks = [next(stream), next(stream)]
    with ThreadPoolExecutor(1) as pool:
        chunks += pool.submit(list, stream).result()
    assert (
        "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks).strip()
        == answer
    )


def test_progress_may_raise(llm: Llava, describe: DemoPrompt) -> None:
    answer = llm.ask(describe.content, describe.images)
    for phase in ("encode", "prefill", "compress"):

        def stop(at: str, done: int, total: int, phase: str = phase) -> None:
            if at == phase:
                raise LookupError(phase)

        with pytest.raises(LookupError, match=phase):
            llm.ask(describe.content, describe.images, kv_ratio=0.2, progress=stop, reuse=False)
    assert llm.ask(describe.content, describe.images) == answer


def test_progress_may_not_come_back(llm: Llava, describe: DemoPrompt) -> None:
    for call in (lambda: llm.ask("Hello"), llm.close):

        def progress(phase: str, done: int, total: int, call: Any = call) -> None:
            call()

        with pytest.raises(RuntimeError, match="from its own progress callback"):
            llm.ask(describe.content, describe.images, progress=progress)


def test_close_waits_for_the_other_thread(describe: DemoPrompt) -> None:
    llm = Llava.embedded()
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            llm.ask, describe.content, describe.images, progress=lambda *_: begun.set()
        )
        begun.wait(10)
        llm.close()
        assert answer.result() == describe.answer


INTERRUPTED = """
import os, signal, threading, time
from lookm_cpp import Llava
from lookm_cpp.embedded import demo_prompts

prompt = next(p for p in demo_prompts() if len(p.images) == 16)
llm = Llava.embedded()
answer = llm.ask(prompt.content, prompt.images)
for delay in (0.02, 0.11, 0.23):
    sent = []
    def interrupt():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Timer(delay, interrupt).start()
    try:
        while True:
            llm.ask(prompt.content, prompt.images, kv_ratio=0.2)
    except KeyboardInterrupt:
        print(time.perf_counter() - sent[0])
assert llm.ask(prompt.content, prompt.images) == answer
"""


def test_ctrl_c_stops_at_once_and_leaves_the_model_usable() -> None:
    child = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=allow_ctrl_c,  # no thread of ours runs yet
    )
    assert child.returncode == 0, child.stderr
    delays = [float(line) for line in child.stdout.split()]
    assert len(delays) == 3
    # One step is a part of a prompt (512 cells) or a token: tens of milliseconds on a machine that
    # is not busy.
    assert max(delays) < 1.0


def test_coroutines_take_turns(llm: Llava, prompts: list[DemoPrompt]) -> None:
    """``asyncio.to_thread`` is all that an event loop needs; other coroutines run meanwhile."""
    wanted = [llm.ask(prompt.content, prompt.images) for prompt in prompts[:4]]
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.001)

    async def ask_all() -> list[str]:
        pulse = asyncio.create_task(beat())
        asked = (
            asyncio.to_thread(llm.ask, prompt.content, prompt.images, reuse=False)
            for prompt in prompts[:4]
        )
        found = await asyncio.gather(*asked)
        pulse.cancel()
        return [*found]

    assert asyncio.run(ask_all()) == wanted
    assert beats > 4
