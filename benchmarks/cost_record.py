"""The raw figures of a run as they stand in ``results.json``; times in seconds, sizes in bytes."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Prefill:
    """One prompt, read into an empty cache."""

    layers: int
    flash_attn: bool
    n_cells: int
    scored: bool
    seconds: float  # wall time, scoring included
    score_seconds: float  # measured by score_tap itself; 0 for a plain prompt
    # peak of the process's resident memory, with compression if the prompt was scored
    process_peak: int | None


@dataclass
class Compression:
    """One compression, directly after a scored prefill."""

    layers: int
    flash_attn: bool
    n_cells: int
    n_text: int
    kv_ratio: float
    n_keep: int
    seconds: float
    kv_bytes: int  # K and V of the whole prompt
    peak_bytes: int  # allocated by scoring and compression, by their own count
    # peak of the process minus its peak in the plain prefill of the same context before
    process_growth: int | None = None


@dataclass
class Decode:
    """Two contexts with the same number of cells that decode blocks in alternation."""

    layers: int
    n_cells: int
    kv_ratio: float
    n_keep: int
    bytes_per_token: int  # weights and KV that one token reads, at the depth halfway through
    ours: list[float] = field(default_factory=list)  # seconds per token, one entry per block
    native: list[float] = field(default_factory=list)  # entry i was measured next to ours[i]


@dataclass
class Results:
    """A run: where and how it was measured, and the figures."""

    machine: dict[str, Any]
    versions: dict[str, str]
    command: str
    commit: str
    date: str
    settings: dict[str, Any]
    read_bandwidth: float = 0.0  # bytes per second, NumPy's best with the same threads
    seconds: float = 0.0  # the whole run
    prefills: list[Prefill] = field(default_factory=list)
    compressions: list[Compression] = field(default_factory=list)
    decodes: list[Decode] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Save as JSON, times to the microsecond, a list of numbers on one line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(rounded(asdict(self)), indent=1)
        text = re.sub(
            r"\[\s+([\d.,\s]+?)\s+\]",
            lambda numbers: "[" + " ".join(numbers[1].split()) + "]",
            text,
        )
        path.write_text(text + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Load what ``write`` saved."""
        raw = json.loads(path.read_text())
        raw["prefills"] = [Prefill(**entry) for entry in raw["prefills"]]
        raw["compressions"] = [Compression(**entry) for entry in raw["compressions"]]
        raw["decodes"] = [Decode(**entry) for entry in raw["decodes"]]
        return cls(**raw)


def rounded(value: Any) -> Any:
    """The same tree with floats to six decimals."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return round(value, 6) if isinstance(value, float) else value
