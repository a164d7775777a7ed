"""Caches on devices: RPC servers on this machine and, with ``--backend gpu``, accelerators.

``test_oracles.py`` and ``test_embedded.py`` run on every backend and check that rows, scores and
answers are right there. The tests here check that the cache really is there, what happens when a
device refuses, and addresses.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from lookm_cpp import Llava, devices
from lookm_cpp.cli import main
from lookm_cpp.embedded import DemoPrompt
from lookm_cpp.options import LlavaOptions
from reference import lookm_numpy as reference

from session.servers import free_port, rpc_servers
from session.test_oracles import IS_TEXT, PROMPT

_oracle: Any = import_module("lookm_cpp._oracle")
MERGING = {"ARGMAX"}
SUMMING = {"SUM_ROWS", "OUT_PROD"}


@pytest.fixture(scope="module")
def model(backend: LlavaOptions) -> Any:
    return _oracle.Model.random(**backend)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with rpc_servers(1) as address:
        yield address


def test_the_cache_lies_there(model: Any, request: pytest.FixtureRequest) -> None:
    where = _oracle.Context(model).devices
    name = request.node.callspec.params["backend"]
    if name == "cpu":
        assert where == ["CPU"] * 3
    elif name == "gpu":
        assert all(device != "CPU" and "RPC" not in device for device in where)
    else:
        assert all(device.startswith("RPC0[127.0.0.1:") for device in where)
        assert len(set(where)) == (2 if name == "rpc-2" else 1), "layers are split over the servers"


@pytest.mark.parametrize("flash_attn", [True, False])
def test_what_a_device_cannot_merge_is_merged_on_the_cpu(model: Any, flash_attn: bool) -> None:
    context = _oracle.Context(model, flash_attn=flash_attn)
    context.refuse(list(MERGING))
    context.prefill(PROMPT)
    before = [
        (context.rows(il, False), context.rows(il, True), context.scores(il)) for il in range(3)
    ]
    options = reference.Options(
        method="text_prior_pivot_merge", important_ratio=0.15, recent_ratio=0.1
    )
    result = context.compress(on_device=True, **options._asdict())
    assert result["n_staged"] == 3
    for il, (k, v, scores) in enumerate(before):
        expected_k, expected_v, kept, _ = reference.compress(k, v, scores, IS_TEXT, options)
        np.testing.assert_array_equal(result["kept"][il], kept)
        for values, expected in ((False, expected_k), (True, expected_v)):
            np.testing.assert_allclose(context.rows(il, values), expected, rtol=2**-10, atol=2**-9)

    willing = _oracle.Context(model, flash_attn=flash_attn)
    willing.prefill(PROMPT)
    assert willing.compress(on_device=True)["n_staged"] == 0


@pytest.mark.parametrize("flash_attn", [True, False])
def test_what_a_device_cannot_score_is_scored_on_the_cpu(model: Any, flash_attn: bool) -> None:
    willing, refusing = (_oracle.Context(model, flash_attn=flash_attn) for _ in range(2))
    refusing.refuse(list(SUMMING))
    for context in (willing, refusing):
        context.prefill(PROMPT)
    for layer in range(3):
        sums = refusing.scores(layer)
        np.testing.assert_allclose(sums.sum(axis=1), len(PROMPT), rtol=1e-5)
        # a device's product of f16 keys rounds q to f16, the CPU's own loop does not
        np.testing.assert_allclose(sums, willing.scores(layer), rtol=1e-3, atol=1e-3)


def test_every_op_of_the_graphs_can_be_refused() -> None:
    """Each op is either replaced, or an error names it before anything is computed."""
    ops: set[str] = set()

    def collect(_node: int, op: str, _types: list[str]) -> bool:
        ops.add(op)
        return op != "OUT_PROD"

    cache = {"type_k": "f16", "type_v": "f16", "head_dim": 64, "flash_attn": True}
    _oracle.probe(**cache, gate=collect)
    assert len(ops) > 15
    for op in sorted(ops - {"OUT_PROD"}):
        shown = "TANH" if op == "UNARY" else op
        with pytest.raises(RuntimeError, match=rf"does not support {shown}\("):
            _oracle.probe(
                **cache,
                gate=lambda _node, name, _types, refused=op: name not in {refused, "OUT_PROD"},
            )


# Addresses


def _bad(address: str, why: str) -> None:
    with pytest.raises(ValueError, match=rf'^rpc_servers: "[^"]*" {why}'):
        Llava.embedded(rpc_servers=address)


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "localhost:",
        ":50052",
        "localhost:0",
        "localhost:65536",
        "localhost:5x",
        "::1:50052",
        " :1",
    ],
)
def test_what_is_no_address(address: str) -> None:
    _bad(address, "is not an address; expected host:port,host:port")


def test_wrong_lists_of_addresses_are_refused() -> None:
    _bad(",", "is not an address")
    _bad("localhost:1,", "is not a list of addresses")
    _bad("localhost:1,localhost:1", "is named twice")
    _bad(
        ",".join(f"localhost:{port}" for port in range(1, 18)),
        "names 17 servers; expected at most 16",
    )


def test_a_server_that_is_not_there() -> None:
    _bad("no.such.host.invalid:50052", "has an unknown host: ")
    _bad(
        f"127.0.0.1:{free_port()}",
        "cannot be reached: Connection refused; expected a running ggml-rpc-server",
    )


def _answer_once(reply: bytes) -> str:
    """A listener that says this to whoever comes first."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_of_another_kind() -> None:
    _bad(
        _answer_once(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "does not answer as a ggml-rpc-server; expected one of",
    )
    _bad(
        _answer_once(struct.pack("<Q4B24x", 28, 6, 2, 0, 0)),
        r"speaks RPC protocol version 6\.2; expected 7\.0",
    )


def test_a_busy_server_is_refused(server: str) -> None:
    """It serves one client at a time, and would let the next one wait for ever."""
    with Llava.embedded(rpc_servers=server):
        child = subprocess.run(
            [sys.executable, "-m", "lookm_cpp", "info", "--devices", "--rpc", server],
            capture_output=True,
            text=True,
            check=False,
        )
    assert child.returncode == 2
    assert f'"{server}" does not answer as a ggml-rpc-server' in child.stderr
    assert child.stderr.count("\n") == 1


def test_one_server_under_two_names(server: str) -> None:
    _bad(
        f"{server},{server.replace('127.0.0.1', 'localhost')}",
        "does not answer as a ggml-rpc-server",
    )


def test_models_share_a_server_and_leave_it(server: str, describe: DemoPrompt) -> None:
    with Llava.embedded(rpc_servers=server, kv_ratio=0.2) as alone:
        expected = alone.ask(describe.content, describe.images)
    with Llava.embedded(rpc_servers=server, kv_ratio=0.2) as first:
        with Llava.embedded(rpc_servers=server, kv_ratio=0.2) as second:
            assert second.ask(describe.content, describe.images) == expected
        assert first.ask(describe.content, describe.images) == expected
    with Llava.embedded(rpc_servers=server, kv_ratio=0.2) as again:
        assert again.ask(describe.content, describe.images) == expected


def test_a_dead_server_is_noticed_by_the_next_model() -> None:
    with rpc_servers(1) as address:
        Llava.embedded(rpc_servers=address).close()
    _bad(address, "cannot be reached")


def test_tensor_split_takes_one_share_for_each_device(server: str, describe: DemoPrompt) -> None:
    with rpc_servers(1) as other:
        both = f"{server},{other}"
        for shares in ([1.0, 2.0], [0.0, 1.0], [1.0]):
            with Llava.embedded(rpc_servers=both, tensor_split=shares, kv_ratio=0.2) as llm:
                assert llm.ask(describe.content, describe.images, max_tokens=4)
        for bad in ([0.0, 0.0], [1.0, -1.0], [float("nan"), 1.0], [float("inf"), 1.0]):
            with pytest.raises(
                ValueError, match=r"^tensor_split: \[.*\], expected shares of 0 or more, not all 0"
            ):
                Llava.embedded(rpc_servers=both, tensor_split=bad)
        n = sum(device["type"] != "CPU" for device in devices(rpc_servers=both))
        with pytest.raises(
            ValueError, match=rf"^tensor_split: \[1.*\] for {n} devices, expected at most one share"
        ):
            Llava.embedded(rpc_servers=both, tensor_split=[1.0] * (n + 1))


# Devices


def test_devices_lists_the_cpu_and_each_rpc_server(server: str) -> None:
    cpu, *rest = devices(rpc_servers=server)
    assert (cpu["type"], cpu["on_device"]) == ("CPU", True)
    assert cpu["memory_total"] >= cpu["memory_free"] > 0
    remote = rest[0]
    assert (remote["type"], remote["description"], remote["on_device"]) == ("RPC", server, True)
    assert remote["note"] == "not checked, as RPC servers do not say what they support"
    with pytest.raises(ValueError, match=r'^type_k: "f17" is unknown; expected one of'):
        devices(type_k="f17")


def test_the_command_info_lists_devices(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            ["info", "--devices", "--rpc", server, "--json", "--type-k", "q8_0", "--type-v", "q8_0"]
        )
        == 0
    )
    found = json.loads(capfd.readouterr().out)
    assert found[1]["description"] == server
    assert main(["info", "--devices"]) == 0
    assert "on the device" in capfd.readouterr().out
    for bad in (["info"], ["info", "embedded", "--devices"], ["info", "embedded", "--rpc", server]):
        assert main(bad) == 2
        assert "expected either a model, or --devices" in capfd.readouterr().err


def test_ask_on_a_server(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    question = ["ask", "-m", "embedded", "What is this?", "--max-tokens", "3"]
    assert main([*question, "--rpc", server, "--tensor-split", "1"]) == 0
    assert main([*question, "--tensor-split", "1;2"]) == 2
    assert "--tensor-split is '1;2', expected numbers with commas" in capfd.readouterr().err
