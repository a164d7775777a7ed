"""The interpreter ends while daemon threads are at work: quietly, with status 0, and soon."""

from __future__ import annotations

import time

import pytest

from threads.programs import output, run

CALLS = """
llm = Llava.embedded(n_threads=2, kv_ratio=0.5)
calls = {
    "ask": lambda: llm.ask(LONG.content, LONG.images),
    "chat": lambda: llm.chat().ask(LONG.content, LONG.images),
    "stream": lambda: list(llm.chat().stream("Hello", max_tokens=200)),
    "completion": lambda: list(
        llm.create_chat_completion(
            [{"role": "user", "content": "Hello"}], stream=True, max_tokens=200
        )
    ),
    "load": lambda: Llava.embedded(n_threads=2).close(),
    "plan": lambda: plan(embedded.MODEL, mmproj=embedded.MMPROJ, images=20),
    "progress": lambda: llm.ask(LONG.content, LONG.images, progress=lambda *_: time.sleep(0.001)),
    "explain": lambda: llm.explain(PROMPT.content, PROMPT.images),
}
call = calls[sys.argv[1]]
begun = threading.Event()

def forever():
    while True:
        begun.set()
        call()

threading.Thread(target=forever, daemon=True).start()
begun.wait()
time.sleep(float(sys.argv[2]))
"""
KINDS = ("ask", "chat", "stream", "completion", "load", "plan", "progress", "explain")


@pytest.mark.parametrize("seconds", ["0.01", "0.1", "0.3"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_thread_is_stopped(kind: str, seconds: str) -> None:
    assert output(CALLS, kind, seconds) == ""


def test_a_thread_that_will_not_end() -> None:
    """It is told so by SystemExit, catches it, and calls again."""
    stubborn = CALLS.replace(
        "        call()\n", "        try:\n            call()\n        except BaseException: pass\n"
    )
    assert stubborn != CALLS
    for kind in ("ask", "stream", "load"):
        assert output(stubborn, kind, "0.1") == ""


def test_what_is_called_at_exit_is_served() -> None:
    """This function runs after the daemon thread was stopped: atexit calls the last first."""
    program = """
import atexit

@atexit.register
def last():
    print(llm.ask(PROMPT.content, PROMPT.images) == PROMPT.answer)
    llm.close()
"""
    child = run(CALLS.replace("kv_ratio=0.5", "kv_ratio=1.0"), "ask", "0.1", before=program)
    assert (child.returncode, child.stdout, child.stderr) == (0, "True\n", "")


def test_a_callback_that_does_not_return_is_not_waited_for() -> None:
    program = """
begun = threading.Event()

def progress(*_):
    begun.set()
    time.sleep(1000)

llm = Llava.embedded(n_threads=2)
threading.Thread(target=lambda: llm.ask("Hello", progress=progress), daemon=True).start()
begun.wait()
"""
    begin = time.monotonic()
    assert output(program) == ""
    assert time.monotonic() - begin < 30
