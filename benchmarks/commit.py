"""Finds the commit that figures were measured at."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit(folder: Path) -> str:
    """The commit that is checked out, with a mark if tracked files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "--no-optional-locks", *words],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        # a run itself writes these
        ours = [f":(exclude){name}" for name in ("README.md", "results.json")]
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", *ours)
        return head + (" with local changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
