"""Which files a model is made of."""

from __future__ import annotations

import os
from pathlib import Path

MMPROJ_PATTERN = "mmproj*.gguf"


def existing_file(path: str | os.PathLike[str], argument: str) -> Path:
    """``path`` as a ``Path``; ``argument`` is the name that an error gives it.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: A directory is there.
    """
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"{argument} {str(file)!r} is a directory, expected a GGUF file")
    if not file.exists():
        raise FileNotFoundError(f"{argument} {str(file)!r} does not exist, expected a GGUF file")
    return file


def find_mmproj(model: Path) -> Path:
    """The one multimodal projector that lies beside a model.

    Raises:
        ValueError: There is none, or more than one.
    """
    found = sorted(model.parent.glob(MMPROJ_PATTERN))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(
            f"mmproj was not given and beside {str(model)!r} lie {len(found)} files {MMPROJ_PATTERN} ({names}), "
            "expected exactly one: name the projector that belongs to the model"
        )
    return found[0]
