"""Forked children: they answer as their parent does, or say at once why they cannot."""

from __future__ import annotations

import os
import textwrap

import pytest
from session.servers import rpc_servers

from threads.programs import output

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

IN_CHILD = """
import sys

# a child would write what waits in the buffer once more
sys.stdout.reconfigure(line_buffering=True)

def in_child(function):
    \"\"\"What function does in a forked child: its result, or the type and text of its error.\"\"\"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = str(function())
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        sys.exit(0)  # the interpreter's usual end, which frees what the parent had
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return text

def ask(llm):
    return llm.ask(PROMPT.content, PROMPT.images)
"""
SPAWN = """; expected multiprocessing's start method "spawn\""""
OTHER_THREAD = "RuntimeError: this process was forked while another thread was working in lookm_cpp"


def test_children_of_a_pool() -> None:
    """With the parent's model and with one of their own, on two threads, as in the parent."""
    program = """
        import multiprocessing
        llm = Llava.embedded(n_threads=2, kv_ratio=0.5)
        answer = ask(llm)

        def with_parents(_):
            return ask(llm)

        def with_own(_):
            with Llava.embedded(n_threads=2, kv_ratio=0.5) as own:
                return ask(own)

        with multiprocessing.get_context("fork").Pool(2) as pool:
            for function in (with_parents, with_own):
                assert pool.map_async(function, range(4)).get(60) == [answer] * 4
        assert ask(llm) == answer
    """
    assert output(IN_CHILD + textwrap.dedent(program)) == ""


def test_a_stream_and_a_conversation_go_on_in_both() -> None:
    program = """
        llm = Llava.embedded(n_threads=2)
        whole = "".join(llm.chat().stream(PROMPT.content, PROMPT.images))
        chat = llm.chat()
        stream = chat.stream(PROMPT.content, PROMPT.images)
        begun = next(stream)
        rest = lambda: begun + "".join(stream)
        assert in_child(rest) == whole
        assert rest() == whole
        again = lambda: chat.ask("And what is in image 2?")
        assert in_child(again) == again()
        assert in_child(lambda: in_child(lambda: ask(llm))) == ask(llm)  # of a child of a child
    """
    assert output(IN_CHILD + textwrap.dedent(program)) == ""


def test_forked_within_another_threads_work() -> None:
    program = """
        from lookm_cpp import devices
        llm, idle = Llava.embedded(n_threads=2), Llava.embedded(n_threads=2)
        answer = ask(idle)
        begun, go_on = threading.Event(), threading.Event()

        def progress(*_):
            begun.set()
            go_on.wait()

        thread = threading.Thread(target=lambda: llm.ask("Hello", progress=progress))
        thread.start()
        begun.wait()
        for call in (
            lambda: ask(llm), lambda: ask(idle), lambda: idle.chat().ask("Hello"),
            lambda: idle.n_ctx,
            Llava.embedded, devices, lambda: plan(embedded.MODEL, mmproj=embedded.MMPROJ, images=1),
        ):
            print(in_child(call))
        assert in_child(lambda: (llm.close(), idle.close())) == "(None, None)"
        go_on.set()
        thread.join()
        assert in_child(lambda: ask(llm)) == ask(llm) == answer
    """
    lines = output(IN_CHILD + textwrap.dedent(program)).splitlines()
    assert len(lines) == 7
    assert all(said.startswith(OTHER_THREAD) and said.endswith(SPAWN) for said in lines)


def test_forked_at_any_moment_of_another_threads_work() -> None:
    """The child speaks at once, whichever locks that thread holds; the parent notices nothing."""
    program = """
        llm, idle = Llava.embedded(n_threads=2), Llava.embedded(n_threads=2)
        answer = ask(idle)
        stop = threading.Event()

        def work():
            while not stop.is_set():
                assert ask(llm) == answer
                Llava.embedded().close()

        thread = threading.Thread(target=work)
        thread.start()
        for i in range(12):
            time.sleep(0.017 * i)
            print(in_child(lambda: ask(idle) == answer))
        stop.set()
        thread.join()
    """
    lines = output(IN_CHILD + textwrap.dedent(program)).splitlines()
    refused = [said for said in lines if said.startswith(OTHER_THREAD)]
    # it is not at work between its calls, while it opens its images, say
    assert len(lines) == 12
    assert len(refused) + lines.count("True") == 12
    assert refused


def test_forked_while_another_thread_has_its_turn() -> None:
    """It does no work between two tokens. It is gone in the child, which must not wait for it."""
    program = """
        llm = Llava.embedded(n_threads=2)
        answer = ask(llm)
        held, done = threading.Event(), threading.Event()

        def hold():
            with llm._turns.hold():
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        assert in_child(lambda: ask(llm)) == answer
        done.set()
        thread.join()
        assert ask(llm) == answer
    """
    assert output(IN_CHILD + textwrap.dedent(program)) == ""


@pytest.mark.parametrize("seconds", ["0", "0.11"])
def test_forked_by_its_own_progress_callback(seconds: str) -> None:
    """Slow reports come from within a graph, whose other threads are not in the child."""
    program = """
        llm = Llava.embedded(n_threads=2)
        answer, parent = ask(llm), os.getpid()
        children = []

        def progress(phase, done, total):
            if os.getpid() == parent and len(children) < 6:
                children.append(os.fork())
                if children[-1] == 0:
                    return
                time.sleep(float(sys.argv[1]))

        try:
            again = llm.ask(PROMPT.content, PROMPT.images, progress=progress, reuse=False)
        except RuntimeError as error:
            assert os.getpid() != parent
            assert str(error).startswith("this process was forked by a callback"), error
            assert ask(llm) == answer
            os._exit(0)
        assert os.getpid() == parent
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
        assert again == answer
    """
    assert (
        output(
            textwrap.dedent(program.replace("ask(llm)", "llm.ask(PROMPT.content, PROMPT.images)")),
            seconds,
        )
        == ""
    )


def test_devices_are_for_spawned_processes() -> None:
    """A server's connection is the parent's: the child's words would be taken for the parent's."""
    program = """
        llm = Llava.embedded(rpc_servers=sys.argv[1])
        answer = ask(llm)
        for call in (lambda: ask(llm), lambda: Llava.embedded(rpc_servers=sys.argv[1])):
            print(in_child(call))
        assert in_child(lambda: ask(Llava.embedded())) == answer, "on the CPU"
        assert in_child(llm.close) == "None"
        assert ask(llm) == answer
    """
    with rpc_servers(1) as server:
        parents, own = output(IN_CHILD + textwrap.dedent(program), server).splitlines()
    assert parents.startswith(
        "RuntimeError: this process was forked, and the model of its parent lies on a device"
    )
    assert own.startswith(
        f'RuntimeError: rpc_servers: "{server}" in a process that was forked after'
    )
    assert all(said.endswith(SPAWN) for said in (parents, own))
