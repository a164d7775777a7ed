"""Whether files can be opened without an end to the process: llama.cpp ends it on many that are
damaged.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lookm_cpp import _core, embedded

CHECK_FILES = True
"""What holds unless ``check_files`` or ``--no-check-files`` is given."""


def check_model_files(model: Path, mmproj: Path | None) -> None:
    """Open files that were not seen before in a child process first.

    It loads them on the CPU, encodes one small picture, and reads a few cells and tokens. Files
    that passed are remembered in the user's cache folder (``$XDG_CACHE_HOME/lookm_cpp``) until they
    change.

    Raises:
        ValueError: A file cannot be used; the message names it, and what llama.cpp said.
        MemoryError: They do not fit into memory.
        RuntimeError: No child can be started.
    """
    if (model, mmproj) in ((embedded.MODEL, embedded.MMPROJ), (embedded.MODEL, None)):
        return
    if getattr(sys, "frozen", False) or not sys.executable:
        raise RuntimeError(
            f"model_path {str(model)!r} is opened in a child process first, but this program has no Python to start; "
            "check_files=False opens files that you trust without"
        )
    command = [sys.executable, str(Path(__file__).with_name("file_trial.py"))]
    _core.check_files(str(model), str(mmproj or ""), command)
