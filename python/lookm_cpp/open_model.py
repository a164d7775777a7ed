"""A model that is open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lookm_cpp import _core, embedded
from lookm_cpp.completer import Completer
from lookm_cpp.compression import Compression, compression_of
from lookm_cpp.file_check import CHECK_FILES, check_model_files
from lookm_cpp.files import existing_file, find_mmproj
from lookm_cpp.hub import fetch
from lookm_cpp.images import MAX_PIXELS, pixel_limit
from lookm_cpp.opening import changes_of_weights, model_options
from lookm_cpp.options import RANDOM_SEED, seed_of
from lookm_cpp.place import Place
from lookm_cpp.stats import Stats
from lookm_cpp.turns import Turns
from lookm_cpp.words import flag

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from lookm_cpp.options import LlavaOptions


class OpenModel:
    """What a ``Llava`` is made of, how it is closed, and what it tells about itself."""

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        mmproj: str | os.PathLike[str] | Literal[False] | None = None,
        **options: Unpack[LlavaOptions],
    ) -> None:
        given: dict[str, Any] = {**options}
        self._max_pixels = pixel_limit("max_pixels", given.pop("max_pixels", MAX_PIXELS))
        self._compression = compression_of(Compression(), given)
        seed = seed_of(given.pop("seed", RANDOM_SEED))
        checks = flag("check_files", given.pop("check_files", CHECK_FILES))
        model = existing_file(model_path, "model_path")
        projector: Path | None = None
        if mmproj is not False:
            projector = find_mmproj(model) if mmproj is None else existing_file(mmproj, "mmproj")
        opened = model_options(model, projector, **given)
        if checks:
            check_model_files(model, projector)
        self._session = _core.Session(opened, self._compression.core())
        self._session.check_template()
        self._seed = seed
        self._model = model
        self._projector = projector
        self._template = opened.chat_template
        self._cache = {
            "type_k": opened.type_k,
            "type_v": opened.type_v,
            "flash_attn": self._session.flash_attn,
        } | changes_of_weights(opened)
        self._name = self._session.model_name or model.stem
        self._turns = Turns(self._session)
        self._completer = Completer(self._session, self._turns, self._check_open)
        self._closed = False

    @classmethod
    def embedded(cls, **options: Unpack[LlavaOptions]) -> Self:
        """Open the small model that ships with the package.

        It takes every option of ``Llava`` except the files. The default of ``n_threads`` is 1,
        because the model is too small to gain from more.
        """
        if options.get("n_threads") is None:
            options["n_threads"] = 1
        return cls(embedded.MODEL, mmproj=embedded.MMPROJ, **options)

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        filename: str | None = None,
        *,
        mmproj: str | Literal[False] | None = None,
        local_dir: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        **options: Unpack[LlavaOptions],
    ) -> Self:
        """Open a model of the Hugging Face Hub, downloaded where it is not in the cache yet.

        Needs ``huggingface_hub``, whose cache and variables (``HF_HOME``, ``HF_TOKEN``,
        ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``) hold. llama-server's ``-hf`` uses the same cache.

        Args:
            repo_id: ``"owner/repo"``, or ``"owner/repo:quant"`` as llama.cpp's ``-hf`` has it.
            filename: The model's file; it may have ``*``. Default: by the quant, else the one of
                Q4_K_M, of Q8_0, or the first.
            mmproj: The projector's file in the repository; it may have ``*``. ``False`` for text
                only. Default: the repository's, in f16 if there are several; ``False`` if it has
                none.
            local_dir: A folder to put the files into, in place of the cache.
            cache_dir: Where the cache is. Default: as ``huggingface_hub`` has it.
            **options: Those of the constructor.

        Raises:
            ImportError: ``huggingface_hub`` is not installed.
            ConnectionError: The hub cannot be reached, and the cache does not have the files.
            ValueError: There is no such repository or file, or as in the constructor.
        """
        files = fetch(repo_id, filename, mmproj, local_dir=local_dir, cache_dir=cache_dir)
        return cls(files.model, mmproj=files.projector or False, **options)

    def __repr__(self) -> str:
        name = f"{type(self).__name__}({self._model.name!r}"
        if self._closed:
            return f"<closed {name})>"
        cap = f", kv_cells={self._session.kv_cells}" if self._session.kv_cells else ""
        return f"{name}, n_ctx={self._session.n_ctx}{cap}, compression={self._compression})"

    @property
    def n_ctx(self) -> int:
        """Maximum number of cells for a prompt and its answer."""
        self._check_open()
        return self._session.n_ctx

    @property
    def kv_cells(self) -> int | None:
        """Maximum number of cells in use at any time, set by ``kv_cells`` or ``kv_memory``.

        ``None`` if there is no cap.
        """
        self._check_open()
        return self._session.kv_cells or None

    @property
    def max_pixels(self) -> int:
        """Maximum number of pixels of an image."""
        return self._max_pixels

    @property
    def model_name(self) -> str:
        """The name that the model's file states, or else the file's name."""
        return self._name

    @property
    def stats(self) -> Stats:
        """Cells, bytes and times of the last prompt; all zero before the first.

        A conversation has statistics of its own (``Chat.stats``).
        """
        self._check_open()
        return self._completer.stats

    def close(self) -> None:
        """Free the model and its caches.

        Later calls of ``close`` do nothing; all others raise ``ValueError``.
        """
        with self._turns.hold():
            if not self._closed:
                self._closed = True
                self._session.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this Llava is closed, expected an open one")

    def check(self, compression: Compression) -> None:
        """Check that a compression can be used with this model.

        Raises:
            ValueError: An option is out of range, or the model's cache cannot be compressed so.
        """
        self._check_open()
        self._session.check(compression.core())

    def _place(self) -> Place:
        return Place(
            self._session,
            self._turns,
            self._model,
            self._projector,
            self._cache,
            self._template,
            self._seed,
            self._max_pixels,
        )
