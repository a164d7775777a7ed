"""An RPC server that fails after its greeting ends the process in time (docs/backends.md)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from session.servers import rpc_servers

GREETING = 36
"""Bytes of a server's first answer."""
OPEN = """
import resource, sys
from lookm_cpp import Llava
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with Llava.embedded(rpc_servers=sys.argv[1]) as llm:
    print(llm.ask("Hello", max_tokens=3) is not None)
"""


class Proxy:
    """Forward what client and server say, and fail after some bytes.

    The server's part of the second and later connections, which are ggml's own, becomes ``silent``,
    ``closed`` or ``garbage``.
    """

    def __init__(self, address: str, fault: str, n_bytes: int) -> None:
        host, port = address.split(":")
        self._server = (host, int(port))
        self._fault, self._n_bytes = fault, n_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._serve)

    def close(self) -> None:
        self._closed.set()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        for i in range(100):
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._sockets += [client, server]
            self._start(self._copy, client, server, None)
            self._start(self._copy, server, client, None if i == 0 else self._n_bytes)

    def _copy(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        n = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if limit is not None and n + len(data) > limit:
                    target.sendall(data[: limit - n])
                    self._go_wrong(target)
                    return
                target.sendall(data)
                n += len(data)
            target.shutdown(socket.SHUT_WR)

    def _go_wrong(self, target: socket.socket) -> None:
        if self._fault == "garbage":
            target.sendall(b"\xff" * 4096)
        if self._fault == "silent":
            self._closed.wait()
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def _proxy(fault: str, n_bytes: int) -> Iterator[str]:
    with rpc_servers(1) as address:
        proxy = Proxy(address, fault, n_bytes)
        try:
            yield proxy.address
        finally:
            proxy.close()


def _open(address: str, seconds: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LOOKM_RPC_SECONDS": seconds, "GGML_NO_BACKTRACE": "1"}
    return subprocess.run(
        [sys.executable, "-c", OPEN, address],
        capture_output=True,
        text=True,
        env=environment,
        timeout=40,
        check=False,
    )


@pytest.mark.parametrize("n_bytes", [GREETING, GREETING + 200, GREETING + 5000])
def test_a_server_that_falls_silent(n_bytes: int) -> None:
    with _proxy("silent", n_bytes) as address:
        start = time.monotonic()
        done = _open(address, "1")
        assert time.monotonic() - start < 30
    assert done.returncode == -signal.SIGABRT
    assert (
        "lookm: an RPC server has said nothing for 1 seconds (LOOKM_RPC_SECONDS)\n" in done.stderr
    )
    assert "Remote RPC server crashed or returned malformed response" in done.stderr


@pytest.mark.parametrize("fault", ["closed", "garbage"])
def test_a_server_that_dies_or_babbles(fault: str) -> None:
    with _proxy(fault, GREETING) as address:
        done = _open(address, "10")
    assert done.returncode < 0 or done.returncode == 1


def test_a_server_that_answers_in_time() -> None:
    with _proxy("silent", 1 << 40) as address:
        done = _open(address, "20")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
