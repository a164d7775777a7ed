"""``--kv-ratio 1`` is llama-server, byte for byte: against the unmodified one of this build (``make
llama-server``).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lookm_cpp.embedded import DemoPrompt
from lookm_cpp.serve import server_path

from server import servers
from server.servers import Server, launch, messages

UPSTREAM = Path(
    os.environ.get(
        "LLAMA_SERVER_BINARY",
        Path(__file__).parents[2] / "build/dev/llama.cpp/tools/server/llama-server",
    )
)
FLAGS = ("-c", "2048", "-np", "2", "--metrics", "--slots", "--context-shift", "--cache-reuse", "16")
TURN = {"role": "user", "content": "What is in image 1?"}
MEASURED = rb'"(\w+_ms|\w+_per_second|created|created_at|completed_at|t_\w+)":[\d.eE+-]+'
# the last: the build
DRAWN = rb"(chatcmpl-|msg_|resp_|rs_|fc_|cmpl-)\w+|<__media_\w+__>|b\d+-[0-9a-f]{7,}"

pytestmark = pytest.mark.skipif(
    not UPSTREAM.exists(), reason="no unmodified llama-server: make llama-server"
)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("upstream")
    started = []
    try:
        for name, binary in (("ours", str(server_path())), ("theirs", str(UPSTREAM))):
            own = ("--kv-ratio", "1") if name == "ours" else ()
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LOOKM_SERVER_BINARY", binary)
                patch.setitem(servers.QUIET_ENVIRONMENT, "LLAMA_MEDIA_MARKER", "<__media__>")
                saves = folder / name
                saves.mkdir()
                started.append(
                    launch(folder / f"{name}.log", *FLAGS, "--slot-save-path", str(saves), *own)
                )
        yield started
    finally:
        statuses = [server.stop() for server in started]
    assert statuses == [0, 0]


def _bytes(server: Server, method: str, path: str, body: object) -> tuple[int, bytes]:
    """Status and body; times and random names are blanked, all else is compared."""
    response = server.http.request(method, path, json=body)
    port = server.url.rpartition(":")[2].encode()
    text = re.sub(DRAWN, b"#", re.sub(MEASURED, rb'"\1":0', response.content)).replace(
        port, b"PORT"
    )
    return response.status_code, re.sub(
        rb"(seconds|per_second|_ms)(\w*) [\d.e+-]+", rb"\1\2 0", text
    )


def _requests(short: list[DemoPrompt]) -> list[tuple[str, str, object]]:
    asked = messages(short[0])
    chat = {"messages": asked, "temperature": 0, "max_tokens": 24}
    tokens = list(range(40, 140))
    complete = {
        "prompt": tokens,
        "n_predict": 12,
        "temperature": 0,
        "ignore_eos": True,
        "id_slot": 0,
    }
    post, get = "POST", "GET"
    return [
        (get, "/health", None),
        (get, "/props", None),
        (get, "/v1/models", None),
        (post, "/v1/chat/completions", chat),
        (post, "/v1/chat/completions", chat | {"stream": True}),
        (post, "/v1/chat/completions", chat | {"n": 2, "logprobs": True, "top_logprobs": 2}),
        (post, "/v1/chat/completions", chat | {"messages": [*asked, TURN]}),
        (post, "/v1/chat/completions", chat | {"kv_ratio": 0.2}),  # an unknown field, as any other
        (post, "/v1/messages", {"messages": [TURN], "max_tokens": 8, "temperature": 0}),
        (
            post,
            "/v1/responses",
            {"input": "What is in image 1?", "max_output_tokens": 8, "temperature": 0},
        ),
        (post, "/completion", complete),
        (
            post,
            "/completion",
            complete | {"prompt": tokens + [7] * 20, "n_discard": 3, "cache_prompt": True},
        ),
        (post, "/completion", complete | {"prompt": tokens[20:], "n_cache_reuse": 8}),
        (post, "/slots/0?action=save", {"filename": "slot.bin"}),
        (post, "/slots/0?action=erase", None),
        (post, "/slots/0?action=restore", {"filename": "slot.bin"}),
        (post, "/slots/0?action=restore", {"filename": "none.bin"}),
        (get, "/slots", None),
        (get, "/metrics", None),
        (post, "/v1/embeddings", {"input": "text"}),
        (post, "/tokenize", {"content": "What is in image 1?"}),
        (post, "/v1/chat/completions", {"messages": 3}),
        (get, "/nowhere", None),
    ]


def test_every_answer_byte_for_byte(both: list[Server], short: list[DemoPrompt]) -> None:
    for method, path, body in _requests(short):
        ours, theirs = (_bytes(server, method, path, body) for server in both)
        assert ours == theirs, (method, path, body)


def test_saved_slots_are_the_same_files(both: list[Server]) -> None:
    ours, theirs = (
        server.log.parent / name / "slot.bin"
        for server, name in zip(both, ("ours", "theirs"), strict=True)
    )
    assert ours.read_bytes() == theirs.read_bytes()


def test_help_is_llama_servers_and_a_section_more() -> None:
    ours, theirs = (
        subprocess.run(
            [binary, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=servers.QUIET_ENVIRONMENT,
        )
        for binary in (server_path(), UPSTREAM)
    )
    assert (
        ours.stdout.partition("\n\n----- KV compression params (lookm) -----")[0].rstrip()
        == theirs.stdout.rstrip()
    )
