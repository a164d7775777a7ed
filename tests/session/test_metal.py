"""ggml-metal takes every node of our device graphs, by its own word.

Nothing of Metal runs without a Mac, but the function behind its ``supports_op`` is plain C: it is
cut out of the pinned source, compiled, and asked about the real graphs.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from package.test_build import BUILD, _llama_cpp

_oracle: Any = import_module("lookm_cpp._oracle")

GATE = Path(__file__).parents[1] / "backends/metal_gate.cpp"
FUNCTIONS = ("static bool ggml_metal_supports_mul_mat_op", "bool ggml_metal_device_supports_op")

Gate = Callable[[int, str, list[str]], bool]
Asked = set[tuple[str, tuple[str, ...]]]

PLAIN = ["f32", "f16", "bf16"]
QUANTIZED = [
    "q8_0",
    "q4_0",
    "q4_1",
    "q5_0",
    "q5_1",
    "iq4_nl",
]  # in blocks of 32, which a head of 80 is not made of

CACHES = [
    (cache, cache, d)
    for cache in PLAIN + QUANTIZED
    for d in (64, 80, 96, 128, 256)
    if cache in PLAIN or d != 80
]
CACHES += [
    ("q8_0", "f16", 128),
    ("f16", "q8_0", 128),
    ("q8_0", "q4_0", 128),
    ("f32", "f16", 80),
    ("f16", "bf16", 64),
]


def _function(text: str, start: str) -> str:
    """From a line that begins with ``start`` to the next line that is a lone brace."""
    found = re.findall(rf"^{re.escape(start)}\(.*?^}}\n", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, (
        f"{start}: {len(found)} definitions in ggml-metal-device.m, expected one"
    )
    return str(found[0])


@pytest.fixture(scope="module")
def metal(tmp_path_factory: pytest.TempPathFactory) -> Any:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("metal")
    ggml = _llama_cpp() / "ggml"
    source = (ggml / "src/ggml-metal/ggml-metal-device.m").read_text(encoding="utf-8")
    (folder / "supports_op.inc").write_text(
        "\n".join(_function(source, start) for start in FUNCTIONS)
    )
    base = next(BUILD.rglob("libggml-base.a"))
    includes = [
        f"-I{path}" for path in (folder, ggml / "include", ggml / "src", ggml / "src/ggml-metal")
    ]
    files = [str(GATE), str(ggml / "src/ggml-metal/ggml-metal-common.cpp"), str(base)]
    # what the one function does not need, such as the calls into Metal, is left out
    only = ["-fvisibility=hidden", "-ffunction-sections", "-Wl,--gc-sections"]
    command = [
        compiler,
        "-std=c++17",
        "-shared",
        "-fPIC",
        "-fopenmp",
        "-w",
        *only,
        *includes,
        *files,
    ]
    command += ["-o", str(folder / "gate.so")]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    library = ctypes.CDLL(str(folder / "gate.so"))
    library.lookm_metal_supports.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    library.lookm_metal_supports.restype = ctypes.c_bool
    return library


def _probe(gate: Gate, type_k: str, type_v: str, head_dim: int, flash_attn: bool) -> Asked:
    """The nodes that the gate was asked about; ``RuntimeError`` if it refused one for good."""
    asked: Asked = set()

    def asking(node: int, op: str, types: list[str]) -> bool:
        asked.add((op, tuple(types)))
        return gate(node, op, types)

    _oracle.probe(
        type_k=type_k, type_v=type_v, head_dim=head_dim, flash_attn=flash_attn, gate=asking
    )
    return asked


@pytest.mark.parametrize(("type_k", "type_v", "head_dim"), CACHES)
def test_metal_takes_every_node(metal: Any, type_k: str, type_v: str, head_dim: int) -> None:
    """Each graph as one tile and as several, for all queries of a batch and for a single one."""
    has_bfloat = "bf16" in (type_k, type_v)  # M1, which lacks it, takes all the others
    for flash_attn in (True, False):
        if not flash_attn and type_v not in PLAIN:
            continue  # llama.cpp has no quantized V without flash attention
        asked = _probe(
            lambda node, *_: metal.lookm_metal_supports(node, has_bfloat),
            type_k,
            type_v,
            head_dim,
            flash_attn,
        )
        ops = {op for op, _ in asked}
        assert ops >= {
            "MUL_MAT",
            "ARGMAX",
            "GET_ROWS",
            "SET_ROWS",
            "L2_NORM",
            "SUM_ROWS",
            "FILL",
            "REPEAT",
            "DIV",
        }
        assert ("SOFT_MAX" in ops) == flash_attn
        for cache in (type_k, type_v):
            assert any(op == "GET_ROWS" and types[0] == cache for op, types in asked), (
                "the cache's own rows are read"
            )
            assert any(op == "SET_ROWS" and types[-1] == cache for op, types in asked), (
                "and written"
            )


def test_metal_says_no_to_some(metal: Any) -> None:
    """The gate is the real function of ggml's Metal backend.

    OUT_PROD is missing, but the graph has another form for it. A GPU without bfloat16 in hardware
    (M1) refuses caches of that type, which are then merged on the CPU.
    """
    answers: dict[str, set[bool]] = {}

    def gate(node: int, op: str, types: list[str]) -> bool:
        answer = bool(metal.lookm_metal_supports(node, True))
        answers.setdefault(op, set()).add(answer)
        return answer

    _probe(gate, "f16", "f16", 128, flash_attn=True)
    assert {op for op, said in answers.items() if False in said} == {"OUT_PROD"}

    with pytest.raises(RuntimeError, match=r"does not support \w+\(bf16"):
        _probe(
            lambda node, *_: metal.lookm_metal_supports(node, False),
            "bf16",
            "bf16",
            128,
            flash_attn=True,
        )
