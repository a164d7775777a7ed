"""GGUF files of models and projectors with one thing wrong."""

from __future__ import annotations

import atexit
import functools
import os
import random
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from lookm_cpp import Llava
from PIL import Image
from zoo.pairs import Files, write_pair

from fuzz.gguf_mutations import GgufFile, mutations
from fuzz.target import Library, LibraryTarget
from fuzz.things import Plain

PAIRS = ("llava-1.5", "qwen2-vl", "gemma-3", "smolvlm", "llava-1.6", "internvl")
PICTURE = Image.new("RGB", (96, 64), (200, 30, 30))


@functools.cache
def pair(name: str) -> Files:
    """A pair of the zoo, written once a process."""
    return write_pair(name, _folder())


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-gguf-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _file(name: str, part: str) -> Path:
    files = pair(name)
    return files.model if part == "model" else files.mmproj


@functools.cache
def _data(name: str, part: str) -> bytes:
    return GgufFile.read(_file(name, part)).data


class _GgufFiles(Library):
    documented = (RuntimeError,)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, given: Any) -> None:
        """``head`` is the file's header, compressed; by default the good file's data follows."""
        name, part = given["pair"], given["part"]
        data = given.get("data")
        path = self._folder / f"{part}-mutated.gguf"
        head = zlib.decompress(given["head"])
        tail = b"" if given.get("cut") else zlib.decompress(data) if data else _data(name, part)
        path.write_bytes(head + tail)
        files = pair(name)
        model, mmproj = (path, files.mmproj) if part == "model" else (files.model, path)
        self._ask(model, mmproj)

    def question(self) -> str:
        files = pair(PAIRS[0])
        return self._ask(files.model, files.mmproj)

    def _ask(self, model: Path, mmproj: Path) -> str:
        with Llava(
            model, mmproj=mmproj, n_ctx=1024, n_threads=1, n_gpu_layers=0, kv_ratio=0.5
        ) as llm:
            return llm.ask("What is <image>?", PICTURE, max_tokens=2)


class _GgufTarget(LibraryTarget):
    part: ClassVar[str]
    batch = 20

    def make(self, rng: random.Random) -> Plain:
        name = rng.choice(PAIRS)
        source = _file(name, self.part)
        _, changed = next(mutations(source, rng.randrange(1 << 32)))
        data = _data(name, self.part)
        given: dict[str, Plain] = {"pair": name, "part": self.part}
        if changed.endswith(data):
            return {**given, "head": zlib.compress(changed[: -len(data)])}
        whole = GgufFile.read(source).pack()
        n_head = len(whole) - len(data)
        if len(changed) <= n_head:
            return {**given, "head": zlib.compress(changed), "cut": True}
        return {
            **given,
            "head": zlib.compress(changed[:n_head]),
            "data": zlib.compress(changed[n_head:]),
        }

    @contextmanager
    def library(self, folder: Path) -> Iterator[Library]:
        os.environ["LOOKM_CHECK_SECONDS"] = str(
            self.seconds / 2
        )  # a file that keeps its check busy is refused
        yield _GgufFiles(folder)


class Models(_GgufTarget):
    name = "GGUF models"
    part = "model"


class Projectors(_GgufTarget):
    name = "GGUF projectors"
    part = "mmproj"
