"""One version, and an import without side effects."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import lookm_cpp
from lookm_cpp import _core

ROOT = Path(__file__).parents[2]


def test_python_and_cpp_report_the_same_version() -> None:
    written = re.search(
        r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert written is not None
    assert lookm_cpp.__version__ == _core.__version__ == version("lookm_cpp") == written[1]


def test_public_names_exist() -> None:
    assert sorted(lookm_cpp.__all__) == lookm_cpp.__all__
    for name in lookm_cpp.__all__:
        assert hasattr(lookm_cpp, name)


def test_import_is_quiet_and_leaves_the_command_line_alone() -> None:
    program = "import lookm_cpp, sys\nassert not {'typer', 'rich'} & set(sys.modules)"
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")
