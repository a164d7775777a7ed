"""lookm-server on a free loopback port, asked as any client would ask it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from lookm_cpp import embedded
from lookm_cpp.chat import PLACEHOLDER
from lookm_cpp.embedded import DemoPrompt
from lookm_cpp.serve import server_arguments, server_path

START_SECONDS = 60
ONE_REQUEST_EACH = httpx.Limits(max_keepalive_connections=0)
ANSWER_SECONDS = 250
QUIET_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith("LLAMA_ARG_")
}

Json = dict[str, Any]

_OPTIONS = {"ignore_eos": True, "max_tokens": 8, "logprobs": True, "top_logprobs": 5}


SANITIZED = "LOOKM_SERVER_BINARY" in os.environ
"""``make asan`` or ``make tsan``, whose own memory is not what tests of memory measure."""


class Server:
    """A running lookm-server.

    Attributes:
        url: Where it listens.
        http: A client of it.
        process: The server's process.
        log: Where its output goes.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.log = log
        self.url = f"http://127.0.0.1:{port}"
        # the server closes connections after a stream, and idle ones: to use one again is a race
        self.http = httpx.Client(base_url=self.url, timeout=ANSWER_SECONDS, limits=ONE_REQUEST_EACH)

    def post(self, path: str, **body: Any) -> Json:
        """The answer to a request that must succeed."""
        response = self.http.post(path, json=body)
        assert response.status_code == 200, response.text
        answer: Json = response.json()
        return answer

    def chat(self, prompt: DemoPrompt, **options: Any) -> Json:
        return self.post(
            "/v1/chat/completions", messages=messages(prompt), temperature=0, **options
        )

    def complete(self, tokens: list[int], **options: Any) -> Json:
        """A prompt of text tokens; eight tokens of answer, greedily."""
        greedy = {"n_predict": 8, "temperature": 0, "ignore_eos": True, "return_tokens": True}
        return self.post("/completion", prompt=tokens, **(greedy | options))

    def metrics(self) -> dict[str, float]:
        lines = self.http.get("/metrics").text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def erase_slots(self) -> None:
        for slot in self.http.get("/slots").json():
            self.post(f"/slots/{slot['id']}?action=erase")

    def uses_cells(self, n: int) -> bool:
        """Whether so many cells are in use; the gauge follows at the end of the server's round."""
        deadline = time.monotonic() + 10
        while self.metrics()["lookm:kv_cells_used"] != n and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.metrics()["lookm:kv_cells_used"] == n

    def lines(self, word: str) -> list[str]:
        """The log's lines that hold a word."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if word in line]

    def says(self, word: str) -> bool:
        """Whether the log has such a line; it is written by a thread of its own."""
        deadline = time.monotonic() + 10
        while not self.lines(word) and time.monotonic() < deadline:
            time.sleep(0.02)
        return bool(self.lines(word))

    def stop(self) -> int:
        self.http.close()
        self.process.terminate()
        return self.process.wait(timeout=60)


def asked(
    server: Server, prompt: DemoPrompt, question: str | None = None, **options: object
) -> Json:
    """The answer to a demo prompt, maybe with another question, with its probabilities."""
    if question is not None:
        head = prompt.content.rpartition("<image>")[0]
        prompt = replace(prompt, content=f"{head}<image> {question}")
    return server.chat(prompt, **(_OPTIONS | options))


def same(one: Json, other: Json) -> bool:
    """Whether two answers have the same probabilities, to the last bit, and the same cells."""
    cells = ("prompt_cells", "kept_cells", "attention_held")
    return one["choices"][0]["logprobs"] == other["choices"][0]["logprobs"] and all(
        one["timings"].get(name) == other["timings"].get(name) for name in cells
    )


def content(answer: Json) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text.strip()


def data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def messages(prompt: DemoPrompt) -> list[Json]:
    """A demo prompt as the OpenAI API has it, pictures as data URIs."""
    parts: list[Json] = []
    for i, text in enumerate(prompt.content.split(PLACEHOLDER)):
        if i > 0:
            parts.append(
                {"type": "image_url", "image_url": {"url": data_uri(prompt.images[i - 1])}}
            )
        if text:
            parts.append({"type": "text", "text": text})
    return [{"role": "user", "content": parts}]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(*flags: str) -> list[str]:
    """One thread: answers do not depend on it, and a busy machine is not made busier."""
    model = [] if "-m" in flags else ["--embedded"]
    binary = os.environ.get("LOOKM_SERVER_BINARY") or str(server_path())  # another build: make asan
    made = [binary, *server_arguments([*model, "-t", "1", *flags])]
    if Path(binary).name == "llama-server":
        made = [part for part in made if part != "--no-check-files"]  # not one of its flags
    return made


def drafts_by(model: str) -> tuple[str, ...]:
    """Flags of a draft model that makes four tokens, whatever their probability."""
    spec = ("--spec-type", "draft-simple", "--spec-draft-n-max", "4", "--spec-draft-p-min", "0")
    return ("-md", model, *spec)


def launch(log: Path, *flags: str) -> Server:
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command("--port", str(port), *flags),
            stdout=out,
            stderr=subprocess.STDOUT,
            env=QUIET_ENVIRONMENT,
        )
    server = Server(process, port, log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if server.http.get("/health").status_code == 200 and server.says(
                "listening on "
            ):  # stops on SIGTERM now
                return server
        if process.poll() is not None:
            break
        time.sleep(0.05)
    server.stop()
    raise RuntimeError(log.read_text(errors="replace")[-2000:])


@contextlib.contextmanager
def running(folder: Path, *flags: str) -> Iterator[Server]:
    """A server that must still be there at the end, and go when it is told to."""
    shown = ("--metrics", "--slots", "--slot-save-path", str(folder))
    server = launch(folder / f"server-{len(list(folder.iterdir()))}.log", *shown, *flags)
    try:
        yield server
        assert server.process.poll() is None, server.log.read_text(errors="replace")[-2000:]
    finally:
        status = server.stop()
    assert status == 0, server.log.read_text(errors="replace")[-2000:]


def refused(*flags: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and stderr of a server that does not start."""
    done = subprocess.run(
        command("--port", str(free_port()), *flags),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
        env=QUIET_ENVIRONMENT | (environment or {}),
    )
    return done.returncode, done.stderr


def as_json(text: str) -> Json:
    parsed: Json = json.loads(text)
    return parsed


__all__ = [
    "Json",
    "Server",
    "as_json",
    "content",
    "data_uri",
    "embedded",
    "messages",
    "refused",
    "running",
]
