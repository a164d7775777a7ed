"""Checks that files can be opened: llama.cpp ends the process on many damaged ones."""

from __future__ import annotations

import sys
from pathlib import Path

from lookm_cpp import _core, embedded

CHECK_FILES = True
"""The default of ``check_files`` and of ``--check-files``."""


def check_model_files(model: Path, mmproj: Path | None) -> None:
    """Open files that were not seen before in a child process first.

    The child loads them on the CPU, encodes one small picture, and reads a few cells and tokens.
    Files that pass are remembered in the user's cache folder (``$XDG_CACHE_HOME/lookm_cpp``) until
    they change.

    Raises:
        ValueError: A file is unusable; the message names it and quotes llama.cpp.
        MemoryError: The files do not fit into memory.
        RuntimeError: The child process cannot be started.
    """
    if (model, mmproj) in ((embedded.MODEL, embedded.MMPROJ), (embedded.MODEL, None)):
        return
    if getattr(sys, "frozen", False) or not sys.executable:
        raise RuntimeError(
            f"model_path {str(model)!r} is to be opened in a child process first, but this program "
            "has no Python to start; check_files=False opens trusted files without a child process"
        )
    command = [sys.executable, str(Path(__file__).with_name("file_trial.py"))]
    _core.check_files(str(model), str(mmproj or ""), command)
