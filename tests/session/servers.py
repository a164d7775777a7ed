"""Servers of llama.cpp's RPC backend on this machine, made by the build under test."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest

SECONDS_TO_START = 30


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _listens(port: int) -> bool:
    """Without a connection, which would be the server's one client."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@contextmanager
def rpc_servers(n: int) -> Iterator[str]:
    """``n`` servers with one CPU thread each, as ``host:port,host:port``."""
    _oracle: Any = import_module("lookm_cpp._oracle")  # not in a wheel, whose tests need no server
    if not _oracle.rpc_server:
        pytest.skip("this build has no RPC")
    ports = [free_port() for _ in range(n)]
    command = [_oracle.rpc_server, "--host", "127.0.0.1", "--threads", "1", "--port"]
    children = [
        subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL) for port in ports
    ]
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not all(_listens(port) for port in ports):
            assert time.monotonic() < deadline
            assert all(child.poll() is None for child in children)
            time.sleep(0.05)
        yield ",".join(f"127.0.0.1:{port}" for port in ports)
    finally:
        for child in children:
            child.kill()
            child.wait()
