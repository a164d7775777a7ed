"""``_core.pyi`` says what the extension module holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_stubs_match_the_extension_module(tmp_path: Path) -> None:
    # The classes themselves, not their members: pybind11's metaclass has no name that a stub could
    # write.
    allowed = tmp_path / "allowed.txt"
    allowed.write_text(
        "".join(
            f"lookm_cpp._core.{name}\n"
            for name in (
                "Session",
                r"ChatPrompt(\.__init__)?",
                "Compression",
                r"ModelOptions(\..*)?",
                r"Sampling(\..*)?",
                "Planner",
            )
        )
    )
    options = ["--mypy-config-file", "pyproject.toml", "--allowlist", str(allowed)]
    command = [sys.executable, "-m", "mypy.stubtest", "lookm_cpp._core", *options]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout + child.stderr
