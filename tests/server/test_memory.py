"""What does not fit into memory is a line at the start, and no end by a signal."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.servers import (
    QUIET_ENVIRONMENT,
    SANITIZED,
    START_SECONDS,
    command,
    free_port,
    refused,
    running,
)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's"),
    pytest.mark.skipif(SANITIZED, reason="a sanitizer takes memory too"),
]

MIB = 1 << 20
HEAD = re.compile(
    r"lookm-server: --model: \".*\" with its projector (takes|needs) [^\n]* are left of "
)


def _limited(limit: int, flag: str, log: Path, *flags: str) -> tuple[int, str]:
    """Exit code and output, under ``ulimit -v`` or ``-d`` in MiB, of a server that is stopped as
    soon as it listens.
    """
    shell = ["sh", "-c", f'ulimit -c 0; ulimit {flag} {limit * 1024}; exec "$@"', "sh"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*shell, *command("--port", str(free_port()), *flags)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=QUIET_ENVIRONMENT,
        )
    deadline = time.monotonic() + START_SECONDS
    while (
        server.poll() is None
        and time.monotonic() < deadline
        and b"listening on " not in log.read_bytes()
    ):
        time.sleep(0.05)
    server.terminate()
    return server.wait(timeout=60), log.read_text(errors="replace")


@pytest.mark.parametrize("limit", [150, 300, 420, 500, 570, 620])
@pytest.mark.parametrize("flag", ["-v", "-d"])
def test_under_a_limit(limit: int, flag: str, tmp_path: Path) -> None:
    status, said = _limited(limit, flag, tmp_path / "log", "-c", "2048")
    assert status in (0, 2), said
    if status == 2:
        assert HEAD.match(said)
        assert said.count("\n") == 1
    else:
        assert limit > 300


def test_with_enough(tmp_path: Path) -> None:
    status, said = _limited(1000, "-v", tmp_path / "log", "-c", "2048")
    assert status == 0, said


def _wanted(*flags: str) -> int:
    """MiB that a server would take."""
    status, said = refused(*flags)
    assert status == 2
    assert HEAD.match(said)
    assert said.count("\n") == 1
    return int(said.partition(" takes ")[2].split()[0])


def test_a_large_context_is_refused_at_once() -> None:
    """A cell takes 3 KiB in f16 (6 layers, 128 channels of K and of V), 34 / 64 of it in q8_0, and
    1 KiB of masks.
    """
    start = time.monotonic()
    n = 2_000_000_000
    cells = n * 3 * 1024 / MIB
    usual = _wanted("-c", str(n))
    assert cells < usual < cells * 1.5
    fewer = _wanted(
        "-c", str(n), "--cache-type-k", "q8_0", "--cache-type-v", "q8_0", "--flash-attn", "on"
    )
    assert usual - fewer == pytest.approx(cells * (1 - 34 / 64), rel=0.01)
    assert _wanted("-c", str(n), "--parallel", "2", "--no-kv-unified") > cells
    assert time.monotonic() - start < 20


def test_a_cap_is_what_counts(folder: Path) -> None:
    """-c is then a number of tokens, not of cells."""
    with running(folder, "-c", "2000000000", "--kv-cells", "1024") as server:
        assert server.complete([1, 5, 6], n_predict=2)["tokens"]


def test_it_can_be_left_out(tmp_path: Path) -> None:
    status, said = _limited(460, "-v", tmp_path / "log", "-c", "2048", "--no-check-memory")
    assert status == 0 or not HEAD.search(said)


def test_the_log_is_the_servers_own_again(tmp_path: Path) -> None:
    """With --verbose llama.cpp's own lines are there, a cap or not."""
    for i, cap in enumerate(((), ("--kv-cells", "1024"))):
        _, said = _limited(4000, "-v", tmp_path / f"log{i}", "-c", "1024", "--verbose", *cap)
        assert "llama_context: n_ctx " in said
