"""Exit codes of ``lookm``, and the line that says why."""

from __future__ import annotations

import sys

BAD_INPUT, NOT_WRITTEN, INTERRUPTED = 2, 1, 130


def fail(message: str, code: int) -> int:
    """Say on one line of stderr what is wrong, and return ``code``."""
    sys.stderr.write(f"lookm: {' '.join(message.split())}\n")
    return code
