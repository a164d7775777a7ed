"""Dependencies point one way: bindings -> llama -> graph, core. Threads lie below ggml and are linked, not included."""

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
        file.relative_to(CPP).as_posix(): INCLUDE.findall(file.read_text(encoding="utf-8")) for file in sorted(files)
    }


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("lookm/threads", r"[a-z_]+|(linux|sys)/[a-z]+\.h|(pthread|sched|unistd)\.h|lookm/threads/.*"),
        ("lookm/core", r"[a-z_]+|lookm/core/.*"),
        ("lookm/graph", r"[a-z_]+|lookm/(core|graph)/.*|ggml(-[a-z]+)?\.h"),
        ("lookm/llama", r"(?!server)(sys/)?[a-z_.-]+|lookm/(core|graph|llama)/.*"),
    ],
)
def test_inner_layers_include_only_what_is_below(folder: str, allowed: str) -> None:
    sources = _sources(folder)
    assert sources
    wrong = {(file, name) for file, names in sources.items() for name in names if not re.fullmatch(allowed, name)}
    assert not wrong


def test_only_the_bindings_know_python() -> None:
    sources = _sources("lookm")
    assert not [
        file for file, names in sources.items() if any("pybind11" in name or "Python.h" in name for name in names)
    ]


def test_only_the_linker_knows_the_threads() -> None:
    users = [file for file, names in _sources(".").items() if any(name.startswith("lookm/threads") for name in names)]
    assert users == [file for file in users if file.startswith("lookm/threads/")]


def test_the_bindings_leave_python_one_way() -> None:
    """``without_gil`` and ``with_gil`` survive the end of the interpreter and a fork, pybind11's own do not."""
    users = {file.name for file in (CPP / "bindings").iterdir() if "gil_scoped_" in file.read_text(encoding="utf-8")}
    assert users == {"gil.h", "bind_exit.cpp"}


def test_only_one_file_includes_private_headers_of_llama_cpp() -> None:
    users = {file for file, names in _sources(".").items() if any(PRIVATE.match(name) for name in names)}
    assert users == {"lookm/llama/kv_cache.cpp"}
