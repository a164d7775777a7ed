"""Models of the Hugging Face Hub, in the cache that llama-server's ``-hf`` uses, too."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

from lookm_cpp.brief import brief
from lookm_cpp.optional import optional_package

QUANTS = ("Q4_K_M", "Q8_0")
"""Taken where none is asked for, the first of them that there is; else the first file."""
PROJECTORS = ("f16", "bf16", "q8_0", "f32")
"""Types of a projector, best first: f16 is as good as f32, and half as large."""

MOST_LISTED = 40
"""Names in an error message."""
TIMEOUT = 15
"""Seconds to wait for the hub's list of files."""

_REPO = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(:(?P<quant>[\w.-]+))?")
_QUANT = re.compile(r"[-._]((UD-)?I?Q\d\w*|BF16|F16|F32|MXFP4\w*)[-.]", re.IGNORECASE)
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class HubFiles(NamedTuple):
    """A model in the cache, and its projector; ``None`` if the repository has none."""

    model: Path
    projector: Path | None


@dataclass(frozen=True)
class HubModel:
    """A model's name on the hub.

    Attributes:
        repo: ``owner/repo``.
        quant: What its file is called by, such as ``Q4_K_M``; ``None`` for the usual one.
    """

    repo: str
    quant: str | None = None

    @classmethod
    def of(cls, name: str) -> HubModel:
        """Read ``owner/repo`` or ``owner/repo:quant``.

        Raises:
            ValueError: It is neither.

        >>> HubModel.of("ggml-org/SmolVLM-256M-Instruct-GGUF:Q8_0")
        HubModel(repo='ggml-org/SmolVLM-256M-Instruct-GGUF', quant='Q8_0')
        """
        found = _REPO.fullmatch(name) if isinstance(name, str) else None
        if not found:
            raise ValueError(f"repo_id is {brief(name)}, expected owner/repo or owner/repo:quant")
        return cls(found["repo"], found["quant"])

    def __str__(self) -> str:
        return f"{self.repo}:{self.quant}" if self.quant else self.repo


def fetch(
    name: str,
    filename: str | None = None,
    mmproj: str | Literal[False] | None = None,
    *,
    local_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> HubFiles:
    """The files of a model, which are downloaded if they are not in the cache.

    Args:
        name: ``owner/repo`` or ``owner/repo:quant``.
        filename: The model's file, maybe with ``*``. Default: by the quant.
        mmproj: The projector's file, maybe with ``*``; ``False`` for none. Default: the
            repository's, in f16 if it has that.
        local_dir: A folder to put the files into, in place of the cache.
        cache_dir: The cache. Default: the hub's, ``HF_HOME`` and ``HF_HUB_CACHE`` say where.

    Raises:
        ImportError: ``huggingface_hub`` is not installed.
        ValueError: The name or a file is not one of the hub's.
        ConnectionError: The hub cannot be reached, and the cache does not have the files.
    """
    model = HubModel.of(name)
    hub = _Hub(model, cache_dir)
    files = hub.files()
    chosen = model_file(files, model, filename)
    projector = projector_file(files, mmproj)
    paths = [hub.path(file, local_dir) for file in parts_of(chosen, files)]
    return HubFiles(paths[0], hub.path(projector, local_dir) if projector else None)


class CachedModel(NamedTuple):
    """A model in the cache.

    Attributes:
        repo: ``owner/repo``.
        path: The file, of a split model the first.
        size: Bytes, of a split model those of all parts.
        projectors: Names of the projectors beside it.
    """

    repo: str
    path: Path
    size: int
    projectors: tuple[str, ...]

    @property
    def name(self) -> str:
        """As ``-hf`` takes it."""
        quant = _QUANT.search(self.path.name)
        return str(HubModel(self.repo, quant and quant[1]))


def cached_models(cache_dir: str | os.PathLike[str] | None = None) -> list[CachedModel]:
    """The GGUF models in the cache, in the order of their names.

    Raises:
        ImportError: ``huggingface_hub`` is not installed.
    """
    hub = optional_package("huggingface_hub", "models of the hub", "constants", "errors")
    try:
        cache = hub.scan_cache_dir(cache_dir)
    except hub.errors.CacheNotFound:
        return []
    found = {}
    for repo in cache.repos:
        for revision in repo.revisions:
            there = {
                file.file_path.relative_to(revision.snapshot_path).as_posix(): file
                for file in revision.files
                if _is_gguf(file.file_name)
            }
            projectors = tuple(sorted(name for name in there if "mmproj" in name.lower()))
            for name, file in there.items():
                if _is_model(name):
                    size = sum(there[part].size_on_disk for part in _parts_there(name, there))
                    one = CachedModel(repo.repo_id, file.file_path, size, projectors)
                    found[repo.repo_id, name] = one
    return [found[key] for key in sorted(found)]


def model_file(files: Sequence[str], model: HubModel, filename: str | None = None) -> str:
    """The file of a repository that holds the model; of a split one the first.

    Raises:
        ValueError: There is none, or more than one for this ``filename``.

    >>> model_file(["a-Q8_0.gguf", "mmproj-a-f16.gguf", "a-Q4_K_M.gguf"], HubModel("x/a"))
    'a-Q4_K_M.gguf'
    """
    models = [file for file in files if _is_model(file)]
    if filename is not None:
        return _only(models, "filename", filename, f"{model.repo}'s GGUF files")
    if model.quant is not None:
        found = [file for file in models if _has_word(file, model.quant)]
        if not found:
            raise ValueError(
                f"{model.repo} has no {model.quant}, expected one of: {_listed(models)}"
            )
        return found[0]
    for quant in QUANTS:
        for file in models:
            if _has_word(file, quant):
                return file
    if not models:
        raise ValueError(f"{model.repo} has no GGUF file, expected a repository of some")
    return models[0]


def projector_file(files: Sequence[str], mmproj: str | Literal[False] | None = None) -> str | None:
    """The projector's file; ``None`` if there is none, or none is wanted.

    Raises:
        ValueError: There is none of the name ``mmproj``, or more than one.

    >>> projector_file(["mmproj-a-Q8_0.gguf", "mmproj-a-f16.gguf"])
    'mmproj-a-f16.gguf'
    """
    there = sorted(file for file in files if _is_gguf(file) and "mmproj" in file.lower())
    if mmproj is False:
        return None
    if mmproj is not None:
        return _only(there, "mmproj", mmproj, "the repository's projectors")
    for kind in PROJECTORS:
        for file in there:
            if _has_word(file, kind):
                return file
    return there[0] if there else None


def parts_of(file: str, files: Iterable[str]) -> list[str]:
    """All files of a split model, or the file alone.

    >>> parts_of("a-00001-of-00002.gguf", ["a-00002-of-00002.gguf", "a-00001-of-00002.gguf"])
    ['a-00001-of-00002.gguf', 'a-00002-of-00002.gguf']
    """
    part = _PART.search(file)
    if not part or not int(part[2]):
        return [file]
    ends = [f"{file[: part.start()]}-{i:05}-of-{part[2]}.gguf" for i in range(1, int(part[2]) + 1)]
    missing = [end for end in ends if end not in {*files}]
    if missing:
        raise ValueError(f"{file} is split, and {missing[0]} is not there")
    return ends


def _parts_there(file: str, files: Iterable[str]) -> list[str]:
    there = {*files}
    try:
        return parts_of(file, there)
    except ValueError:  # a download that was stopped
        return [file]


def _only(files: Sequence[str], argument: str, pattern: str, what: str) -> str:
    found = [file for file in files if fnmatch(file, pattern)]
    if len(found) != 1:
        raise ValueError(
            f"{argument} is {brief(pattern)}, expected one of {what}: {_listed(files)}"
        )
    return found[0]


def _listed(files: Sequence[str]) -> str:
    more = ["..."] if len(files) > MOST_LISTED else []
    return ", ".join([*files[:MOST_LISTED], *more]) or "none"


def _is_gguf(file: str) -> bool:
    return file.lower().endswith(".gguf")


def _is_model(file: str) -> bool:
    part = _PART.search(file)
    return _is_gguf(file) and "mmproj" not in file.lower() and (not part or int(part[1]) <= 1)


def _has_word(file: str, word: str) -> bool:
    """Whether a file's name has this word, between dots, dashes and folders."""
    return bool(re.search(rf"(^|[-./_]){re.escape(word)}([-./]|$)", file, re.IGNORECASE))


class _Hub:
    """A repository, and the cache."""

    def __init__(self, model: HubModel, cache_dir: str | os.PathLike[str] | None) -> None:
        self._hub = optional_package("huggingface_hub", "models of the hub", "constants", "errors")
        self._model = model
        self._cache = Path(cache_dir or self._hub.constants.HF_HUB_CACHE)
        # its HTTP client's errors are not OSErrors in every version
        self._unreachable = (OSError, getattr(self._hub.errors, "HTTPError", OSError))

    def files(self) -> list[str]:
        """The files that there are; where the hub cannot be reached, those in the cache."""
        errors = self._hub.errors
        try:
            found = self._hub.HfApi().model_info(self._model.repo, timeout=TIMEOUT)
            return sorted(file.rfilename for file in found.siblings or ())
        except errors.GatedRepoError as error:
            raise ValueError(
                f"{self._model.repo} is gated, expected a token that may read it (HF_TOKEN): "
                f"{_line(error)}"
            ) from None
        except errors.RepositoryNotFoundError:
            raise ValueError(
                f"there is no {self._model.repo} on {self._hub.constants.ENDPOINT}, or it needs a "
                "token (HF_TOKEN); expected a repository"
            ) from None
        except self._unreachable as error:
            there = self._cached()
            if not there:
                raise ConnectionError(
                    f"{self._hub.constants.ENDPOINT} cannot be reached ({_line(error)}), and the "
                    f"cache {self._cache} has no file of {self._model.repo}"
                ) from None
            return there

    def path(self, file: str, local_dir: str | os.PathLike[str] | None) -> Path:
        """The file on this machine, after a download if need be."""
        where = {"local_dir": local_dir} if local_dir else {"cache_dir": self._cache}
        try:
            return Path(self._hub.hf_hub_download(self._model.repo, file, **where))
        except self._unreachable as error:
            raise ConnectionError(
                f"{file} of {self._model.repo} cannot be downloaded ({_line(error)}), and the "
                f"cache {self._cache} does not have it"
            ) from None

    def _cached(self) -> list[str]:
        folder = self._cache / f"models--{self._model.repo.replace('/', '--')}" / "snapshots"
        return sorted(
            {
                path.relative_to(snapshot).as_posix()
                for snapshot in folder.glob("*")
                for path in snapshot.rglob("*.gguf")
                if path.is_file()
            }
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
