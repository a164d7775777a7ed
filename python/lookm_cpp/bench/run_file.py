"""The file with the raw figures of a run; it is written again after every case."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lookm_cpp.bench import machine
from lookm_cpp.bench.result_rows import Row, rows_of
from lookm_cpp.info import devices

FILE, PAGE = "bench.json", "bench.md"
FORMAT = 1


def new_folder(output: Path | None) -> Path:
    """Make the folder for a run's files; by default it is named after the time.

    Raises:
        ValueError: The folder holds a run already.
    """
    folder = output or Path(f"lookm-bench-{datetime.now():%Y%m%d-%H%M%S}")
    if (folder / FILE).exists():
        raise ValueError(
            f"--output {str(folder)!r} holds a run already, expected a folder without {FILE}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def new_run(command: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A run without figures yet."""
    return {
        "format": FORMAT,
        "command": command,
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "seconds": 0.0,
        "machine": machine.describe(),
        "devices": devices(),
        "versions": machine.versions(),
        "bandwidth": None,
        "settings": dict(settings),
        "models": [],
        "left_out": [],
        "cases": [],
        "second_questions": [],
        "fewer_cells": [],
    }


def as_json(run: Mapping[str, Any], rows: list[Row]) -> dict[str, Any]:
    """The raw figures, and the rows computed from them."""
    return {**run, "rows": [row.as_dict() for row in rows]}


def write(run: Mapping[str, Any], folder: Path) -> None:
    """Write the run into its file, so that an interrupted run keeps what it has measured."""
    unfinished = folder / f"{FILE}.part"
    unfinished.write_text(json.dumps(as_json(run, rows_of(run)), indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder / FILE)
