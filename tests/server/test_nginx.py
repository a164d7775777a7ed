"""Several servers behind nginx, by the very configuration that docs/server.md shows."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt

from server.conftest import RATIO
from server.servers import Server, free_port, launch, messages

NGINX = shutil.which(
    "nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/bin"
)
DOCS = Path(__file__).parents[2] / "docs" / "server.md"

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx: apt-get install nginx-light")


def _documented(ports: dict[str, int]) -> str:
    """The page's nginx block, each documented port replaced by a free one."""
    found = re.search(r"```nginx\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    text = found[1]
    for shown, port in ports.items():
        assert shown in text
        text = re.sub(rf"\b{shown}\b", str(port), text)
    return text


@contextlib.contextmanager
def _nginx(folder: Path, http_block: str, url: str) -> Iterator[None]:
    """nginx in the foreground, with its files in a folder of ours."""
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""  # its workers write to the folder, too
    config = folder / "nginx.conf"
    config.write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log;"
        f"events {{}} http {{ access_log off; {paths}\n{http_block}\n}}\n",
        encoding="utf-8",
    )
    child = subprocess.Popen(
        [str(NGINX), "-p", str(folder), "-c", str(config)], stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and child.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            time.sleep(0.05)
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        yield
    finally:
        child.terminate()
        child.wait(timeout=30)
        if child.stderr:
            child.stderr.close()


def _stream(url: str, prompt: DemoPrompt, user: str) -> list[str]:
    """The pieces of one answer, as they came through."""
    body = {"messages": messages(prompt), "temperature": 0, "stream": True}
    pieces = []
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json=body, headers={"X-User": user}, timeout=250
    ) as reply:
        assert reply.status_code == 200
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                pieces += [
                    choice["delta"].get("content") or ""
                    for choice in json.loads(line[6:])["choices"]
                ]
    return pieces


def test_two_servers_behind_nginx(tmp_path: Path, llm: Llava, short: list[DemoPrompt]) -> None:
    expected = [llm.ask(prompt.content, prompt.images, kv_ratio=RATIO).strip() for prompt in short]
    # one slot each: answers that share batches round as those do, and near ties fall the other way
    # now and then
    flags = ("--kv-ratio", str(RATIO), "-c", "2048", "-np", "1", "--metrics")
    servers: list[Server] = []
    try:
        servers += [launch(tmp_path / f"server{i}.log", *flags) for i in range(2)]
        ports = [int(server.url.rpartition(":")[2]) for server in servers]
        front = free_port()
        url = f"http://127.0.0.1:{front}"
        block = _documented({"8080": front, "8081": ports[0], "8082": ports[1]})
        with _nginx(tmp_path, block, url):
            users = [f"user {i}" for i in range(8)]
            asked = [short[i % len(short)] for i in range(len(users))]
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(_stream, [url] * len(users), asked, users))
            assert ["".join(pieces).strip() for pieces in answers] == [
                expected[i % len(short)] for i in range(len(users))
            ]
            assert all(len(pieces) > 3 for pieces in answers)  # token by token, not in one piece
            counts = [server.metrics()["lookm:prompts_compressed_total"] for server in servers]
            assert sum(counts) == len(users)
            assert min(counts) > 0
            # a user's requests go to one server: the second turn finds the first one's cells there
            turns = [
                *messages(short[0]),
                {"role": "assistant", "content": expected[0]},
                {"role": "user", "content": "?"},
            ]
            with httpx.Client(base_url=url, timeout=250, headers={"X-User": "someone"}) as client:
                for said in (turns[:1], turns):
                    body = {"messages": said, "temperature": 0, "max_tokens": 32}
                    answer = client.post("/v1/chat/completions", json=body).json()
            assert answer["timings"]["cache_n"] > 0
            # one goes, the other one answers for it
            servers[0].process.kill()
            servers[0].process.wait()
            assert ["".join(_stream(url, short[0], user)).strip() for user in users[:4]] == [
                expected[0]
            ] * 4
    finally:
        for server in servers:
            server.stop()
