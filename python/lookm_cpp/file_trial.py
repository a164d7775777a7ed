"""The child process that opens files first: ``file_check`` starts this file as a program.

As a program, so that neither the folder one is in nor this one is looked through for modules.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Try a model, a projector or ``""``, and say on a pipe how it goes."""
    model, mmproj, pipe = sys.argv[1:]
    sys.path[:1] = []
    sys.path.append(
        str(Path(__file__).parents[1])
    )  # for those who found the package without installing it
    from lookm_cpp import _core  # noqa: PLC0415

    _core.try_files(model, mmproj, int(pipe))


if __name__ == "__main__":
    main()
