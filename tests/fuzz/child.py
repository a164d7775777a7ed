"""Child processes that take one input after the other; the last one sent caused a death."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import tempfile
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz.outcomes import Kind, Outcome, of_error
from fuzz.target import Library, LibraryTarget, Place
from fuzz.things import Plain, real

START_SECONDS = 120.0
MOST_BYTES = 6 << 30
"""Address space of a child."""
QUESTION = "question"

_processes = multiprocessing.get_context("spawn")


class Child(Place):
    """A process that is started again after each death."""

    def __init__(self, target: LibraryTarget, folder: Path) -> None:
        self._target = target
        self._folder = folder
        self._first_answer: str | None = None
        self._log = Path(tempfile.mkstemp(suffix=".log", dir=folder)[1])
        self._start()

    def take(self, given: Plain) -> Outcome:
        return self._send(("input", given))

    def question(self) -> Outcome:
        outcome = self._send((QUESTION, None))
        if outcome.kind is not Kind.TAKEN:
            return Outcome(Kind.WRONG_ANSWER, outcome.where, outcome.detail)
        if self._first_answer is None:
            self._first_answer = outcome.detail
        if outcome.detail != self._first_answer:
            self._stop()
            self._start()
            detail = f"{outcome.detail!r}, expected {self._first_answer!r}"
            return Outcome(Kind.WRONG_ANSWER, "answer", detail)
        return outcome

    def close(self) -> None:
        self._stop()

    def _start(self) -> None:
        self._pipe, theirs = _processes.Pipe()
        self._process = _processes.Process(
            target=serve, args=(theirs, self._target, self._folder, self._log), daemon=True
        )
        self._process.start()
        theirs.close()
        if not self._pipe.poll(START_SECONDS):
            raise RuntimeError("the child does not start")
        hello = self._pipe.recv()
        if not isinstance(hello, Outcome) or hello.kind is not Kind.TAKEN:
            raise RuntimeError(f"the child does not start: {hello}")
        if self._first_answer is None:
            self._first_answer = hello.detail

    def _stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _send(self, job: tuple[str, Plain]) -> Outcome:
        try:
            self._pipe.send(job)
            if not self._pipe.poll(self._target.seconds):
                outcome = Outcome(Kind.HANG, "", f"no answer for {self._target.seconds:g} seconds")
                self._stop()
                self._start()
                return outcome
            outcome = self._pipe.recv()
            assert isinstance(outcome, Outcome)
            return outcome
        except (EOFError, ConnectionError):
            outcome = self._death()
            self._stop()
            self._start()
            return outcome

    def _death(self) -> Outcome:
        self._process.join(10)
        code = self._process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit {code}"
        lines = self._log.read_text(errors="replace").splitlines()[-30:]
        why = [
            line
            for line in lines
            if "GGML_ASSERT" in line or "terminate called" in line or "what()" in line
        ]
        return Outcome(Kind.DEATH, f"{name} {' '.join(why)[:200]}".strip(), "\n".join(lines))


def serve(pipe: Connection, target: LibraryTarget, folder: Path, log: Path) -> None:
    """The child's whole life."""
    os.environ["GGML_NO_BACKTRACE"] = "1"
    os.environ["XDG_CACHE_HOME"] = str(folder)  # where files that passed their check are remembered
    tempfile.tempdir = str(folder)  # a child is killed, and the folder outlives it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    handle = os.open(log, os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    try:
        with target.library(folder) as library:
            pipe.send(Outcome(Kind.TAKEN, "", library.question()))
            while True:
                kind, given = pipe.recv()
                pipe.send(_answer(library, kind, given))
    except EOFError:  # nobody is there any more
        return
    except Exception:
        pipe.send(Outcome(Kind.WRONG_ERROR, "", traceback.format_exc()))


def _answer(library: Library, kind: str, given: Plain) -> Outcome:
    try:
        if kind == QUESTION:
            return Outcome(Kind.TAKEN, "", library.question())
        try:
            value = real(given)
        except Exception as error:  # no such object: nothing was tried
            return Outcome(Kind.REFUSED, "no input", str(error))
        library.take(value)
    except Exception as error:
        return of_error(error, library.documented)
    return Outcome(Kind.TAKEN)
