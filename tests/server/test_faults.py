"""What clients and machines do wrong: a clear error, a healthy server, and the other slots' answers
unchanged.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from lookm_cpp.embedded import DemoPrompt

from server.servers import Json, Server, content, launch, messages, running

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[Server]:
    """A server that wants a key."""
    flags = ("--kv-ratio", "0.2", "-c", "1024", "-np", "2", "--kv-unified", "--api-key", "secret")
    with running(folder, *flags) as server:
        server.http.headers["Authorization"] = "Bearer secret"
        yield server


@pytest.fixture
def steady(guarded: Server, short: list[DemoPrompt]) -> Iterator[Server]:
    """While the test does its worst, another client asks on, and gets what it got before."""
    expected = content(guarded.chat(short[0], max_tokens=16))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(guarded.chat, short[0], max_tokens=16)
        yield guarded
        assert content(other.result()) == expected
    assert guarded.http.get("/health").json() == {"status": "ok"}
    assert content(guarded.chat(short[0], max_tokens=16)) == expected


def _image(url: str) -> Json:
    return {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
        ]
    }


def _data(content_bytes: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content_bytes).decode()


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"\xff\xfe", b'{"messages": 3}', b'{"messages": [], "kv_ratio": {}}', b"[" * 10000],
)
def test_malformed_json(steady: Server, body: bytes) -> None:
    response = steady.http.post(CHAT, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    "url",
    [
        _data(b"not a picture"),
        _data(b"\x89PNG\r\n\x1a\n" + b"\0" * 64),
        _data(b""),
        "data:image/png;base64,%%%",
    ],
)
def test_images_that_are_not_images(steady: Server, url: str) -> None:
    response = steady.http.post(CHAT, json=_image(url))
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_ten_thousand_parts(steady: Server) -> None:
    parts = [{"type": "text", "text": "and "}] * 10_000
    response = steady.http.post(CHAT, json={"messages": [{"role": "user", "content": parts}]})
    assert response.status_code == 400
    assert "exceeds the available context size (1024 tokens)" in response.json()["error"]["message"]


def test_a_prompt_past_the_context(steady: Server, prompts: list[DemoPrompt]) -> None:
    longest = max(prompts, key=lambda prompt: len(prompt.images))
    response = steady.http.post(CHAT, json={"messages": messages(longest)})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "exceed_context_size_error"


def test_a_wrong_key(steady: Server, short: list[DemoPrompt]) -> None:
    for header in ({"Authorization": "Bearer guess"}, {"Authorization": ""}):
        response = steady.http.post(CHAT, json={"messages": messages(short[0])}, headers=header)
        assert response.status_code == 401
    assert steady.http.get("/health", headers={"Authorization": ""}).status_code == 200


def health(url: str) -> str:
    """What the server says on a new connection; it may wait for the next, as the pool takes a busy
    thread for idle.
    """
    try:
        return str(httpx.get(url + "/health", timeout=3).json()["status"])
    except httpx.ReadTimeout:
        return "late"


def test_clients_that_never_finish_their_request(steady: Server) -> None:
    port = int(steady.url.rpartition(":")[2])
    lines = (f"POST {CHAT} HTTP/1.1", "Host: x", "Authorization: Bearer secret")
    head = "\r\n".join((*lines, "Content-Length: 9999", "", "")).encode()
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    try:
        for connection in slow:
            connection.sendall(head)
        assert "ok" in [health(steady.url) for _ in range(3)]
    finally:
        for connection in slow:
            connection.close()


def test_a_full_disk(folder: Path, short: list[DemoPrompt]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    disk = folder / "full"
    disk.mkdir(exist_ok=True)
    (disk / "slot.bin.part").symlink_to("/dev/full")
    with running(
        folder, "--kv-ratio", "0.2", "-c", "1024", "-np", "1", "--slot-save-path", str(disk)
    ) as server:
        expected = content(server.chat(short[0], max_tokens=16))
        response = server.http.post("/slots/0?action=save", json={"filename": "slot.bin"})
        assert response.status_code == 500
        assert response.json()["error"]["message"] == "Unable to save slot"
        assert not list(disk.iterdir())
        assert content(server.chat(short[0], max_tokens=16)) == expected


def test_killed_and_restarted(folder: Path, short: list[DemoPrompt]) -> None:
    flags = (
        "--kv-ratio",
        "0.2",
        "-c",
        "1024",
        "-np",
        "1",
        "--slots",
        "--metrics",
        "--slot-save-path",
        str(folder),
    )
    first = launch(folder / "killed.log", *flags)
    reply = first.chat(short[0], max_tokens=16)
    turns = [
        *messages(short[0]),
        reply["choices"][0]["message"],
        {"role": "user", "content": "Are you sure?"},
    ]
    body = {"messages": turns, "temperature": 0, "max_tokens": 8}
    first.post("/slots/0?action=save", filename="killed.bin")
    expected = first.post(CHAT, **body)
    first.process.send_signal(signal.SIGKILL)
    first.stop()
    with running(folder, *flags) as second:
        second.post("/slots/0?action=restore", filename="killed.bin")
        again = second.post(CHAT, **body)
        assert content(again) == content(expected)
        assert (
            again["timings"]["cache_n"]
            == expected["timings"]["cache_n"]
            >= reply["timings"]["prompt_cells"]
        )
        assert again["timings"]["kept_cells"] == expected["timings"]["kept_cells"]
        whole = (folder / "killed.bin").read_bytes()
        for damaged in (
            whole[: len(whole) // 2],
            whole[:-1],
            whole + b"\0",
            whole[:20],
            whole[:8],
            b"",
        ):
            (folder / "damaged.bin").write_bytes(damaged)
            response = second.http.post("/slots/0?action=restore", json={"filename": "damaged.bin"})
            assert response.status_code == 400
            assert response.json()["error"]["message"].startswith("Unable to restore slot")
        assert content(second.chat(short[0], max_tokens=16)) == content(reply)


def test_a_busy_server_stops_when_told_to(folder: Path, prompts: list[DemoPrompt]) -> None:
    """It waited for clients that waited for it, or the thread that was signalled held the lock that
    it then wanted.
    """
    body = {
        "messages": messages(prompts[0]),
        "max_tokens": 3000,
        "ignore_eos": True,
        "stream": True,
    }
    for n in range(3):
        server = launch(
            folder / f"stops-{n}.log", "--kv-ratio", "0.3", "-np", "4", "--kv-unified", "-c", "4096"
        )

        def ask(server: Server = server) -> None:
            with contextlib.suppress(httpx.HTTPError):
                server.http.post(CHAT, json=body)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(ask)
            time.sleep(0.3 + 0.01 * n)
            server.process.terminate()
            try:
                assert server.process.wait(timeout=20) == 0
            finally:
                server.process.kill()
        server.http.close()
