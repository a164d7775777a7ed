"""Dependencies point one way, from LAYERS' end to its start.

Threads lie below ggml and are linked, not included.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CPP = Path(__file__).parents[2] / "cpp"
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
PRIVATE = re.compile(r"(.*/)?llama-(?!cpp\.h$)[a-z-]+\.h$")


def _sources(folder: str) -> dict[str, list[str]]:
    """The includes of every source file under a folder of ``cpp``."""
    files = [file for file in (CPP / folder).rglob("*") if file.suffix in {".h", ".cpp"}]
    return {
        file.relative_to(CPP).as_posix(): INCLUDE.findall(file.read_text(encoding="utf-8"))
        for file in sorted(files)
    }


LAYERS = ["core", "graph", "host", "cache", "model", "prompt", "session", "plan", "files"]
OUTSIDE = {
    "threads": r"[a-z_]+|(linux|sys)/[a-z]+\.h|(pthread|sched|unistd)\.h",
    "core": r"[a-z_]+",
    "graph": r"[a-z_]+|(ggml(-[a-z]+)*|quants|simd-mappings)\.h"
    r"|(cpuid|immintrin|sys/syscall|unistd)\.h",
}
LLAMA_CPP = r"(?!server)(sys/)?[a-z_.-]+"


@pytest.mark.parametrize("layer", ["threads", *LAYERS])
def test_a_layer_includes_only_itself_and_those_below(layer: str) -> None:
    below = LAYERS[: LAYERS.index(layer)] if layer in LAYERS else []
    allowed = f"{OUTSIDE.get(layer, LLAMA_CPP)}|lookm/({'|'.join([*below, layer])})/.*"
    sources = _sources(f"lookm/{layer}")
    assert sources
    wrong = {
        (file, name)
        for file, names in sources.items()
        for name in names
        if not re.fullmatch(allowed, name)
    }
    assert not wrong


def test_every_folder_is_a_layer() -> None:
    folders = {path.name for path in (CPP / "lookm").iterdir() if path.is_dir()}
    assert folders == {"threads", *LAYERS, "server"}


def test_only_the_bindings_know_python() -> None:
    sources = _sources("lookm")
    assert not [
        file
        for file, names in sources.items()
        if any("pybind11" in name or "Python.h" in name for name in names)
    ]


def test_only_the_linker_knows_the_threads() -> None:
    users = [
        file
        for file, names in _sources(".").items()
        if any(name.startswith("lookm/threads") for name in names)
    ]
    assert users == [file for file in users if file.startswith("lookm/threads/")]


def test_the_bindings_leave_python_one_way() -> None:
    """Only ``without_gil`` and ``with_gil`` survive a fork and the end of the interpreter."""
    users = {
        file.name
        for file in (CPP / "bindings").iterdir()
        if "gil_scoped_" in file.read_text(encoding="utf-8")
    }
    assert users == {"gil.h", "bind_exit.cpp"}


def test_two_files_include_private_headers_of_llama_cpp() -> None:
    sources = _sources(".")
    users = {file for file, names in sources.items() if any(PRIVATE.match(name) for name in names)}
    assert users == {"lookm/cache/private_caches.h", "lookm/model/token_embeddings.cpp"}
    inside = {file for file, names in sources.items() if "lookm/cache/private_caches.h" in names}
    kv_cache = ("kv_cache", "kv_cache_isolation", "kv_cache_memory", "private_caches")
    assert inside == {f"lookm/cache/{name}.cpp" for name in kv_cache}
