"""A server on a loopback port that speaks the endpoints of the Hugging Face Hub which we need."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"


class _Handler(http.server.BaseHTTPRequestHandler):
    """``/api/models/REPO`` lists files, ``/REPO/resolve/main/FILE`` has them, also in parts."""

    repos: Mapping[str, Mapping[str, Path]]
    private: frozenset[str]
    seen: list[str]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.seen.append(f"{self.command} {path}")
        for repo, files in self.repos.items():
            if repo in self.private and self.headers["Authorization"] != f"Bearer {TOKEN}":
                continue
            if path in (f"/api/models/{repo}", f"/api/models/{repo}/revision/main"):
                listed = [{"rfilename": name} for name in files]
                found = {"id": repo, "sha": COMMIT, "siblings": listed}
                return self._send(json.dumps(found).encode(), with_body, "application/json")
            for name, file in files.items():
                if path in (f"/{repo}/resolve/{at}/{name}" for at in ("main", COMMIT)):
                    return self._send_file(file.read_bytes(), with_body)
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _send_file(self, data: bytes, with_body: bool) -> None:
        first = 0
        if asked := self.headers["Range"]:
            first = int(asked.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self._body(data[first:], with_body)

    def _send(self, data: bytes, with_body: bool, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self._body(data, with_body)

    def _body(self, data: bytes, with_body: bool) -> None:
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)


@contextmanager
def hub(
    repos: Mapping[str, Mapping[str, Path]], private: frozenset[str] = frozenset()
) -> Iterator[tuple[str, list[str]]]:
    """A hub of these repositories, by the files' names; its address, and what it was asked.

    Private repositories need ``TOKEN``.
    """
    seen: list[str] = []
    made = type("Handler", (_Handler,), {"repos": repos, "private": private, "seen": seen})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), made)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
