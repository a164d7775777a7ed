"""The child process that opens files first; ``file_check`` runs this file as a program.

It runs as a program so that neither the current folder nor this one is searched for modules.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Try a model and a projector (or ``""``), and report on a pipe how it goes."""
    model, mmproj, pipe = sys.argv[1:]
    sys.path[:1] = []
    # The package may be used without being installed.
    sys.path.append(str(Path(__file__).parents[1]))
    from lookm_cpp import _core  # noqa: PLC0415

    _core.try_files(model, mmproj, int(pipe))


if __name__ == "__main__":
    main()
