"""What is wrong with a request is status 400 and says so; what would end the server, or come from a
foreign page, is
refused. All of it holds without compression, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.servers import Json, Server, running

CHAT = "/v1/chat/completions"
C = "/completion"
NO_STRING = "request body: a field's type must be string, but is number"
NO_PROMPT = (
    "prompt: it is not a string; expected one because the model has a projector "
    "(/completion also takes lists)"
)
HELLO = [{"role": "user", "content": "What is in image 1?"}]


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[Server]:
    """Flags of llama-server alone; no web page but its own may ask."""
    with running(folder, "-c", "512", "-np", "1", "--allow-origin", "self") as started:
        yield started
        assert started.complete(list(range(40, 60)))["tokens_predicted"] == 8


def refusal(server: Server, path: str, body: object, status: int = 400) -> str:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = server.http.post(path, content=raw)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert (error["code"], error["type"]) == (
        status,
        "invalid_request_error" if status == 400 else "permission_error",
    )
    message: str = error["message"]
    assert "json.exception" not in message
    return message


@pytest.mark.parametrize(
    "path",
    [CHAT, "/completion", "/v1/completions", "/v1/messages", "/tokenize", "/slots/0?action=save"],
)
@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b'{"a": 1,}', b"nul"])
def test_no_json(plain: Server, path: str, body: bytes) -> None:
    assert refusal(plain, path, body).startswith(
        "request body: it is not JSON: parse error at line 1, column "
    )


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/slots/0?action=save", {}, "request body: field 'filename' not found"),
        ("/slots/0?action=restore", {"filename": 5}, NO_STRING),
        ("/slots/0?action=save", [], "request body: it is, or holds, array; expected an object"),
        ("/completion", {}, "request body: field 'prompt' not found"),
        ("/v1/messages", {}, "'messages' is required"),
        ("/v1/messages/count_tokens", 3, "'messages' is required"),
        (
            "/detokenize",
            {"tokens": "x"},
            "request body: a field's type must be array, but is string",
        ),
        (
            "/tokenize",
            {"content": {}},
            "request body: a field's type must be string, but is object",
        ),
        (
            CHAT,
            {"messages": HELLO, "max_tokens": "x"},
            "Field 'max_tokens': type must be number, but is string",
        ),
        (CHAT, {"messages": HELLO, "reasoning_format": 5}, NO_STRING),
        ("/v1/completions", {"prompt": ["a", "b"]}, NO_PROMPT),
    ],
)
def test_wrong_fields(plain: Server, path: str, body: object, message: str) -> None:
    assert refusal(plain, path, body) == message


def test_wrong_fields_of_another_form(plain: Server) -> None:
    tools = refusal(plain, CHAT, {"messages": HELLO, "tools": 3})
    assert tools.startswith("Failed to parse tools: Expected 'tools'")
    token = refusal(plain, "/detokenize", {"tokens": [1_000_000]})
    assert token.startswith("request body: a number is out of range")


def _nested(n: int, key: str = "") -> Any:
    value: Any = {}
    for _ in range(n):
        value = {key: value} if key else [value]
    return value


def _raw(field: str, value: bytes) -> bytes:
    return b'{"prompt": "hi", "n_predict": 2, "%s": %s}' % (field.encode(), value)


def _schema(schema: object) -> Json:
    return {"prompt": "hi", "n_predict": 2, "json_schema": schema}


def _called(field: str) -> bytes:
    """A message whose tool call has arguments that are nested without end."""
    function = b'{"name": "a", "%s": "%s"}' % (field.encode(), BRACKETS)
    call = b'{"type": "function", "function": %s}' % function
    return b'{"messages": [{"role": "assistant", "tool_calls": [%s]}], "max_tokens": 1}' % call


FIELD = {"type": "string"}
LONG = "#" * 50_000
BRACKETS = b"[" * 100_000 + b"]" * 100_000
PARENTHESES = b'"root ::= %s"' % (b"(" * 30_000)
COMMENT = b'"root ::= ( # \\"\\n%s"' % (b"(" * 30_000)
RULES = b'"%s"' % (b"x ::= y " * 100_000)
TRIGGER = {"type": 99, "value": "x"}
CHAIN = {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(2_000)} | {"a2000": FIELD}
REFERENCES = {"$ref": "#/$defs/a0", "$defs": CHAIN}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (C, b'{"prompt": %s}' % BRACKETS, "request body: at byte 138 it is nested deeper"),
        (CHAT, b'{"messages": [], "tools": %s}' % BRACKETS, "it is nested deeper"),
        (CHAT, {"messages": HELLO, "tools": _nested(200)}, "it is nested deeper than 128"),
        (C, _schema(_nested(200, "items")), "it is nested deeper than 128"),
        (C, _raw("grammar", PARENTHESES), "grammar: at byte 137 it is nested deeper"),
        (C, _raw("gr\\u0061mmar", PARENTHESES), "grammar: at byte 137 it is nested deeper"),
        (C, _raw("grammar", COMMENT), "grammar: at byte 142 it is nested deeper"),
        (CHAT, _called("arguments"), "arguments: at byte 128 it is nested deeper"),
        (CHAT, _called("argum\\u0065nts"), "arguments: at byte 128 it is nested deeper"),
        (C, _raw("grammar", RULES), "grammar: it has 800000 bytes, expected at most 262144"),
        (C, _schema({"properties": {LONG: FIELD}}), "json_schema: a name has 50000 bytes"),
        (C, _schema({"$ref": LONG}), "json_schema: a name has 50000 bytes, expected at most 1024"),
        (C, _schema(REFERENCES), 'json_schema: it has more than 1000 "$ref"s'),
        (C, _schema({"enum": list(range(30_000))}), "json_schema: it has more than 20000 values"),
        (C, {"grammar_triggers": [TRIGGER]}, "grammar_triggers: a trigger's type is 99, expected"),
        (
            C,
            {"grammar_triggers": [TRIGGER | {"type": "0"}]},
            'a trigger\'s type is "0", expected 0 to 3',
        ),
    ],
    ids=range(16),
)
def test_what_would_end_the_process(plain: Server, path: str, body: object, message: str) -> None:
    assert message in refusal(plain, path, body)


def test_as_much_as_is_allowed(plain: Server) -> None:
    deep = {"messages": HELLO, "max_tokens": 2, "chat_template_kwargs": {"x": _nested(100)}}
    brackets = "Text holds no structure: " + "[" * 200
    assert plain.post(CHAT, **deep)["choices"]
    assert plain.post("/completion", prompt=brackets, n_predict=2)["tokens_predicted"]
    grammar = "root ::= " + "(" * 100 + '[((] | ")))((("' + ")" * 100
    assert plain.post("/completion", prompt="hi", grammar=grammar)["content"].strip("(") in (
        "",
        ")))",
    )
    assert json.loads(
        plain.post("/completion", prompt="hi", json_schema={"enum": [1, 2]})["content"]
    ) in (1, 2)


def test_no_grammars(folder: Path) -> None:
    with running(folder, "-c", "512", "-np", "1", "--no-request-grammar") as server:
        for field, value in {
            "grammar": 'root ::= "a"',
            "json_schema": {"type": "string"},
            "response_format": {"type": "json_object"},
            "tools": [{"type": "function", "function": {"name": "f"}}],
        }.items():
            body = {"messages": HELLO, "max_tokens": 2, field: value}
            assert (
                refusal(server, CHAT, body)
                == f"{field}: it is given, expected none (--no-request-grammar)"
            )
        nothing: Json = {
            "grammar": "",
            "json_schema": None,
            "response_format": {"type": "text"},
            "tools": [],
        }
        assert server.post(CHAT, messages=HELLO, max_tokens=2, **nothing)["choices"]


def asked_by(server: Server, method: str = "POST", path: str = CHAT, **headers: str) -> int:
    """Status of a request as a browser sends it for a page that asks no leave: of plain text."""
    body = {"content": json.dumps({"messages": HELLO, "max_tokens": 1})} if method == "POST" else {}
    sent = {"Content-Type": "text/plain", **headers}
    response = server.http.request(method, path, headers=sent, **body)  # type: ignore[arg-type]
    assert response.status_code == 200 or response.json()["error"]["type"] == "permission_error"
    return response.status_code


def test_foreign_pages(plain: Server) -> None:
    own = plain.url
    port = own.rpartition(":")[2]
    assert asked_by(plain) == asked_by(plain, Origin=own) == 200
    assert asked_by(plain, Host=f"localhost:{port}", Origin=f"http://LOCALHOST:{port}") == 200
    assert asked_by(plain, Host=f"app.localhost:{port}") == asked_by(plain, Host="[::1]") == 200
    for origin in (
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://localhost:" + port,
        own + "0",
    ):
        assert asked_by(plain, Origin=origin) == 403
        assert asked_by(plain, "GET", "/v1/models", Origin=origin) == 403
    # a name that resolves to this machine: to the browser the page is of the same origin
    for host in (f"evil.example:{port}", "1.2.3.4.example", "localhost.evil.example"):
        assert asked_by(plain, Host=host, Origin=f"http://{host}") == 403
        assert asked_by(plain, "GET", "/v1/models", Host=host) == 403


def test_pages_that_are_allowed(folder: Path) -> None:
    with running(
        folder,
        "-c",
        "512",
        "-np",
        "1",
        "--allow-origin",
        "https://chat.example.org,http://a.example:3000",
    ) as server:
        assert asked_by(server, Origin="https://chat.example.org") == 200
        assert asked_by(server, Origin="http://a.example:3000", Host="a.example:8080") == 200
        assert asked_by(server, Origin=server.url) == 200
        for origin in (
            "http://chat.example.org",
            "https://chat.example.org:8443",
            "http://a.example",
            "https://b.example",
        ):
            assert asked_by(server, Origin=origin) == 403
        answer = server.http.get("/v1/models", headers={"Origin": "http://a.example:3000"})
        assert answer.headers["Access-Control-Allow-Origin"] == "http://a.example:3000"


def test_any_page_is_served_unless_told_otherwise(server: Server) -> None:
    """As by llama-server: docs/security.md says what closes it."""
    assert asked_by(server, Origin="https://evil.example", Host="evil.example") == 200
