"""Results as JSON lines, so that a run that was stopped can continue."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

Record = dict[str, Any]


class Records:
    """A file of records, after a first line that identifies their run.

    Without a path, the records are kept only in memory.

    Args:
        path: The file; created if it does not exist.
        run: What must be equal for a run to continue with the records of the file.

    Raises:
        ValueError: The file belongs to another run, or is not a file of records.
    """

    def __init__(self, path: Path | None, run: Mapping[str, Any]) -> None:
        self.all: list[Record] = []
        self._file = None
        if path is None:
            return
        if path.is_dir():
            raise ValueError(
                f"--output {str(path)!r} is a directory, expected a file of records or none"
            )
        head = {"run": dict(run)}
        if path.exists() and path.stat().st_size > 0:
            self.all = _read(path, head)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self._write([head])

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file:
            self._file.close()

    def add(self, records: Iterable[Record]) -> None:
        """Add records that belong together."""
        new = list(records)
        self.all += new
        self._write(new)

    def _write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        if self._file:
            self._file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            self._file.flush()


def _read(path: Path, head: Record) -> list[Record]:
    """The records of a file. If a crash truncated its last line, that line is removed."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    try:
        first, *lines = [json.loads(line) for line in whole.split(b"\n")[:-1]]
    except ValueError:
        raise ValueError(
            f"--output {str(path)!r} is not a file of records, expected one or none"
        ) from None
    if first != json.loads(json.dumps(head)):
        theirs, ours = (json.dumps(line)[:300] for line in (first, head))
        raise ValueError(
            f"--output {str(path)!r} belongs to another run, {theirs}, expected {ours}"
        )
    if len(whole) < len(data):
        path.write_bytes(whole)
    return lines
