"""Programs that end, fork or are pinned: each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

BEGIN = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 on: forking beside threads
from lookm_cpp import Llava, embedded, plan

PROMPT = min(embedded.demo_prompts(), key=lambda prompt: len(prompt.images))
LONG = max(embedded.demo_prompts(), key=lambda prompt: len(prompt.images))
"""


def run(program: str, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program that finds what ``BEGIN`` has, which may find something, too."""
    return subprocess.run(
        [sys.executable, "-c", before + BEGIN + program, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def output(program: str, *arguments: str) -> str:
    """What a program that must succeed, and say nothing to stderr, has printed."""
    child = run(program, *arguments)
    assert (child.returncode, child.stderr) == (0, "")
    return child.stdout
