"""A damaged file is a line at the start, and no end by a signal."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lookm_cpp.embedded import MMPROJ, MODEL
from session.damaged import write_damaged

from server import servers
from server.servers import refused, running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setitem(servers.QUIET_ENVIRONMENT, "XDG_CACHE_HOME", str(folder))
    return folder


@pytest.mark.parametrize("name", ["image_size", "keys", "experts"])
def test_a_damaged_file_is_a_line(name: str, tmp_path: Path) -> None:
    model, mmproj = write_damaged(name, tmp_path)
    status, said = refused("-m", str(model), "--mmproj", str(mmproj))
    assert status == 2
    last = said.splitlines()[-1]
    assert last.startswith(
        "lookm-server: --model: " if name == "experts" else "lookm-server: --mmproj: "
    )
    assert "damaged.gguf" in last
    assert "cannot be used" in last


def test_a_good_one_is_tried_once(folder: Path, tmp_path: Path, cache: Path) -> None:
    model = shutil.copy(MODEL, tmp_path / "model.gguf")
    with running(folder, "-m", str(model), "--mmproj", str(MMPROJ), "-c", "512"):
        pass
    marks = list((cache / "lookm_cpp" / "checked").iterdir())
    assert len(marks) == 1
    with running(folder, "-m", str(model), "--mmproj", str(MMPROJ), "-c", "512"):
        pass
    assert list((cache / "lookm_cpp" / "checked").iterdir()) == marks


def test_without_the_check(folder: Path, tmp_path: Path, cache: Path) -> None:
    model = shutil.copy(MODEL, tmp_path / "model.gguf")
    with running(
        folder, "-m", str(model), "--mmproj", str(MMPROJ), "-c", "512", "--no-check-files"
    ):
        pass
    assert not cache.exists()
