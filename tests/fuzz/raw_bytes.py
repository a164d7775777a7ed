"""Bytes that are sent to a server in place of a request."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

from server.servers import Server

from fuzz.bytes_changed import changed
from fuzz.live import CLOSED, LiveTarget, exchange, of_status
from fuzz.outcomes import Kind, Outcome
from fuzz.things import Plain

CHAT = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}).encode()
STREAM = json.dumps({"prompt": "Hi", "n_predict": 2, "stream": True}).encode()
LINES = (
    "POST /v1/chat/completions HTTP/1.1",
    "POST /completion HTTP/1.1",
    "GET /v1/models HTTP/1.0",
)
HEADERS = (
    "Host: x", "Connection: close", "Connection: keep-alive", "Content-Type: application/json",
    "Content-Type: text/plain; charset=utf-16", "Content-Type: multipart/form-data; boundary=b",
    "Content-Type: multipart/form-data", "Content-Type: application/x-www-form-urlencoded",
    "Content-Length: 5", "Content-Length: -1", "Content-Length: 99999999999999999999",
    "Content-Length: x", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip",
    "Content-Encoding: gzip", "Expect: 100-continue", "Accept-Encoding: gzip", "Accept: */*",
    "Range: bytes=0-5", "Range: bytes=5-1,-", "Authorization: Bearer x",
    "Authorization: Basic " + base64.b64encode(b"a:b").decode(), "Origin: null",
    "Origin: http://evil.example", "X-Forwarded-For: 1.1.1.1", "Upgrade: websocket",
    "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13", "X: " + "a" * 9000, "\u00ff: \u00fe",
    ": x", "no colon", " folded", "If-None-Match: *", "Cookie: a=b",
)  # fmt: skip
TARGETS = (
    "/", "*", "", "//", "/%", "/%zz", "/%00", "/../../etc/passwd", "/slots/0?action=save",
    "/v1/models?a=b&c", "http://x/health", "/" + "a" * 9000, "/health?" + "a=1&" * 2000, "/\u00e9",
    "/health#x", "/slots/%30?action=erase",
)  # fmt: skip
METHODS = (
    "GET",
    "POST",
    "HEAD",
    "OPTIONS",
    "PUT",
    "PATCH",
    "DELETE",
    "CONNECT",
    "TRACE",
    "PRI",
    "get",
    "",
    "\0",
)


class RawBytes(LiveTarget):
    name = "raw bytes"

    def make(self, rng: random.Random) -> Plain:
        return {"server": rng.randrange(2), "raw": _request(rng)}

    def send(self, server: Server, folder: Path, given: Any) -> Outcome:
        answer = exchange(server, given["raw"])
        line = answer.split(b"\r\n", 1)[0].split(b" ")
        if len(line) < 2 or not line[1].isdigit():
            return Outcome(Kind.REFUSED, CLOSED)
        return of_status(int(line[1]), answer[-500:].decode(errors="replace"), "raw bytes")


def _request(rng: random.Random) -> bytes:
    line = rng.choice(LINES)
    if rng.random() < 0.25:
        method, target = rng.choice(METHODS), rng.choice(TARGETS)
        line = f"{method} {target} HTTP/{rng.choice(('1.1', '1.0', '2.0', '9', ''))}"
    body = rng.choice(
        (CHAT, STREAM, b"", b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\ny\r\n--b--\r\n")
    )
    headers = rng.sample(HEADERS, rng.choice((0, 0, 0, 1, 1, 2, 3)))
    if rng.random() < 0.6:
        headers.append(f"Content-Length: {len(body)}")
    elif rng.random() < 0.5:
        headers.append("Transfer-Encoding: chunked")
        size = rng.choice(
            (f"{len(body):x}", "0", "fffffffffffffffff", "-1", "x", f"{len(body):x};a=b")
        )
        body = (
            size.encode()
            + b"\r\n"
            + body
            + rng.choice((b"\r\n0\r\n\r\n", b"\r\n", b"", b"\r\n0\r\nA: b\r\n\r\n"))
        )
    end = rng.choice(("\r\n",) * 20 + ("\n", "\r", "\0"))
    head = end.join((line, *headers, "", "")).encode("latin-1")
    raw = head + body
    if rng.random() < 0.4:
        raw = changed(raw, rng, rng.choice((1, 1, 2, 5)))
    if rng.random() < 0.05:
        raw *= 3
    return rng.randbytes(rng.randrange(400)) if rng.random() < 0.03 else raw
