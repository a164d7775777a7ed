"""A live lookm-server that takes requests one after the other."""

from __future__ import annotations

import signal
import socket
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import httpx
from lookm_cpp.embedded import demo_prompts
from server.servers import Server, content, launch

from fuzz.outcomes import Kind, Outcome
from fuzz.target import Place, Target
from fuzz.things import Plain

FLAG_SETS = (
    (
        "-np",
        "2",
        "-c",
        "2048",
        "--kv-ratio",
        "0.3",
        "--kv-unified",
        "--metrics",
        "--slots",
        "--props",
    ),
    ("-np", "1", "-c", "512", "--allow-origin", "self", "-b", "64", "-ub", "64"),
)
SECONDS = 60.0
CLOSED = "closed"
"""What a server did that answered nothing."""
NOT_BUILT_IN = 501
"""How llama-server refuses what it was not started for."""


class Live(Place):
    """A server that is started again after each death."""

    def __init__(self, target: LiveTarget, folder: Path, flags: tuple[str, ...]) -> None:
        self._target = target
        self._flags = ("--slot-save-path", str(folder), *flags)
        self._folder = folder
        self._n_started = 0
        self._prompt = min(demo_prompts(), key=lambda prompt: len(prompt.images))
        self._start()

    def take(self, given: Plain) -> Outcome:
        try:
            outcome = self._target.send(self.server, self._folder, given)
        except (httpx.TimeoutException, TimeoutError):
            self._restart()
            return Outcome(Kind.HANG, "", f"no answer for {SECONDS:g} seconds")
        except (httpx.HTTPError, OSError, UnicodeError, httpx.InvalidURL) as error:
            outcome = Outcome(Kind.REFUSED, CLOSED, f"{type(error).__name__}: {error}")
        return (outcome.where == CLOSED and self._death()) or outcome

    def question(self) -> Outcome:
        try:
            self._target.settle(self.server)
            answer = self._ask()
        except (httpx.HTTPError, AssertionError, KeyError) as error:
            found = self._death() or Outcome(Kind.WRONG_ANSWER, type(error).__name__, str(error))
            self._restart()
            return found
        if answer != self._expected:
            self._restart()
            return Outcome(Kind.WRONG_ANSWER, "answer", f"{answer!r}, expected {self._expected!r}")
        return Outcome(Kind.TAKEN)

    def close(self) -> None:
        self.server.process.kill()
        self.server.stop()

    def _ask(self) -> str:
        return content(self.server.chat(self._prompt, max_tokens=12))

    def _start(self) -> None:
        self._n_started += 1
        log = self._folder / f"server-{id(self)}-{self._n_started}.log"
        self.server = launch(log, *self._flags)
        self.server.http.timeout = httpx.Timeout(SECONDS)
        self._expected = self._ask()

    def _restart(self) -> None:
        self.close()
        self._start()

    def _death(self) -> Outcome | None:
        """Of the server, if it is dead: it takes a moment to become so."""
        process = self.server.process
        if process.poll() is None:
            try:
                httpx.get(self.server.url + "/health", timeout=SECONDS)
            except httpx.ConnectError:
                process.wait(timeout=SECONDS)
            except httpx.HTTPError:
                pass
        code = process.poll()
        if code is None:
            return None
        lines = self.server.log.read_text(errors="replace").splitlines()[-30:]
        self._restart()
        name = signal.Signals(-code).name if code < 0 else f"exit {code}"
        why = [line for line in lines if "GGML_ASSERT" in line or "what()" in line]
        return Outcome(Kind.DEATH, f"{name} {' '.join(why)[:200]}".strip(), "\n".join(lines))


class TwoServers(Place):
    """One of each set of flags; an input's ``server`` says which takes it."""

    def __init__(self, target: LiveTarget, folder: Path) -> None:
        self._places = [Live(target, folder, flags) for flags in target.flag_sets]

    def take(self, given: Plain) -> Outcome:
        which = given.get("server", 0) if isinstance(given, dict) else 0
        return self._places[which % len(self._places) if isinstance(which, int) else 0].take(given)

    def question(self) -> Outcome:
        answers = [place.question() for place in self._places]
        return next((answer for answer in answers if not answer.right), answers[0])

    def close(self) -> None:
        for place in self._places:
            place.close()


class LiveTarget(Target):
    """A class whose inputs are taken by servers."""

    flag_sets: ClassVar[tuple[tuple[str, ...], ...]] = FLAG_SETS

    @abstractmethod
    def send(self, server: Server, folder: Path, given: Any) -> Outcome:
        """One request."""

    def settle(self, server: Server) -> None:
        """Remove what the inputs were allowed to leave, before the question is asked."""

    def place(self, folder: Path) -> Place:
        return TwoServers(self, folder)


def of_status(status: int, text: str, path: str) -> Outcome:
    """What a response says."""
    if status < 400:
        return Outcome(Kind.TAKEN)
    if status < 500 or status == NOT_BUILT_IN:
        return Outcome(Kind.REFUSED, str(status), text)
    return Outcome(Kind.WRONG_ERROR, f"{status} {path.partition('?')[0]:.60}", text)


def exchange(server: Server, raw: bytes) -> bytes:
    """What comes back for bytes, until the server closes or is silent."""
    port = int(server.url.rpartition(":")[2])
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                answer += piece
        except ConnectionError:
            pass
    return answer
