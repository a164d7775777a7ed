"""The examples of README and quick start run.

Python blocks run in order in one namespace, ``lookm`` commands one by one. A block whose info
string has more than the language, as in ``bash norun``, does not run, unless it says ``run``.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lookm_cpp.embedded import DEMO

ROOT = Path(__file__).parents[2]
PAGES = pytest.mark.parametrize("page", ["README.md", "docs/quick_start.md"])
BLOCK = re.compile(r"^```(\w+)(?: run)?[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELLS = {"bash", "console", "sh", "shell"}


def _blocks(page: str, *languages: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [body for language, body in BLOCK.findall(text) if language in languages]


def _commands(page: str) -> list[str]:
    """Lines that begin with ``lookm``, a prompt before it aside, with their continuation lines."""
    lines = "\n".join(_blocks(page, *SHELLS)).replace("\\\n", "").splitlines()
    bare = [line.strip().removeprefix("$ ").strip() for line in lines]
    return [line for line in bare if line.startswith("lookm ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the demo's pictures, as the current one."""
    for picture in DEMO.glob("*.png"):
        shutil.copy(picture, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@PAGES
def test_every_python_snippet_runs(page: str, folder: Path) -> None:
    snippets = _blocks(page, "python")
    assert snippets
    namespace: dict[str, Any] = {"__name__": "readme"}
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), namespace)


@PAGES
def test_every_command_runs(page: str, folder: Path) -> None:
    commands = _commands(page)
    assert commands
    for command in commands:
        words = shlex.split(command, comments=True)
        child = subprocess.run(
            [sys.executable, "-m", "lookm_cpp", *words[1:]],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == 0, f"{command}\n{child.stderr}"
