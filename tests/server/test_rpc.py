"""A model spread over two machines: layers, caches, scoring and merging on two of llama.cpp's RPC
servers.
"""

from __future__ import annotations

from pathlib import Path

from lookm_cpp import Llava
from lookm_cpp.embedded import DemoPrompt
from session.servers import rpc_servers

from server.conftest import RATIO
from server.servers import content, running


def test_compression_runs_on_two_rpc_servers(folder: Path, short: list[DemoPrompt]) -> None:
    with rpc_servers(2) as addresses:
        with Llava.embedded(rpc_servers=addresses, n_threads=1) as llm:
            expected = [
                llm.ask(prompt.content, prompt.images, kv_ratio=RATIO).strip()
                for prompt in short[:3]
            ]
            n_kept = llm.stats.kept_cells
        flags = (
            "--rpc",
            addresses,
            "-ngl",
            "99",
            "--kv-ratio",
            str(RATIO),
            "-c",
            "2048",
            "-np",
            "2",
            "--kv-unified",
        )
        with running(folder, *flags, "-v") as server:
            answers = [server.chat(prompt) for prompt in short[:3]]
            assert [content(answer) for answer in answers] == expected
            assert (
                answers[-1]["timings"]["kept_cells"]
                == n_kept
                < answers[-1]["timings"]["prompt_cells"]
            )
            where = {
                line.partition(" KV buffer size")[0].split()[-1]
                for line in server.lines(" KV buffer size")
            }
            assert where == {f"RPC0[{address}]" for address in addresses.split(",")}
            compressed = server.lines(" compress:")
            assert len(compressed) == 3
            assert not [line for line in compressed if "merged on the CPU" in line]
