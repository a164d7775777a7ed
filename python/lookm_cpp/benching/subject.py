"""What is measured: a model of random weights, the embedded one, or a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lookm_cpp import embedded
from lookm_cpp.benching.random_model import model_file
from lookm_cpp.benching.shapes import SHAPES
from lookm_cpp.benching.token_bytes import weight_bytes
from lookm_cpp.cache_types import read_and_kept
from lookm_cpp.file_check import CHECK_FILES
from lookm_cpp.info import devices, model_info


@dataclass(frozen=True)
class Subject:
    """A model and what is known of it before it runs; sizes are bytes.

    Attributes:
        name: As the user named it, or its file's name.
        title: What it is.
        model: The GGUF file.
        mmproj: Its projector, if it has one.
        n_layer: Layers.
        whole_layers: Layers of the model that it is a slice of.
        n_ctx: Most cells of prompt and answer.
        n_head: Query heads.
        size_bytes: Of the weights.
        token_weight_bytes: Weights that one token reads, where they are known.
        kv_bytes_per_cell: For each type of cache that the model can have.
        scored_flash_attn: For a cache type, what ``auto`` is to a scored prompt.
    """

    name: str
    title: str
    model: Path
    mmproj: Path | None
    n_layer: int
    whole_layers: int
    n_ctx: int
    n_head: int
    size_bytes: int
    token_weight_bytes: int | None
    kv_bytes_per_cell: dict[str, int]
    scored_flash_attn: dict[str, str]

    @property
    def is_embedded(self) -> bool:
        """Whether it is the model that ships with the package."""
        return self.model == embedded.MODEL

    @property
    def label(self) -> str:
        """The name, and how much of the model it is.

        A slice is never shown without.
        """
        return (
            self.name
            if self.n_layer == self.whole_layers
            else f"{self.name}, {self.n_layer} of {self.whole_layers} layers"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; files by their names alone."""
        files = {"model": self.model.name, "mmproj": self.mmproj.name if self.mmproj else None}
        return {**asdict(self), **files, "label": self.label}


def random_subject(
    name: str, n_layer: int, folder: Path, caches: Sequence[str], *, on_cpu: bool
) -> Subject:
    """A shape's layers, 0 for all, with random weights in a file in ``folder``."""
    shape = SHAPES[name].slice(n_layer or SHAPES[name].n_layer)
    flash = {cache: shape.flash_attn(read_and_kept(cache)[0]) for cache in caches} if on_cpu else {}
    title = f"random weights in the shape of {shape.like}: {shape.n_layer} of {shape.whole_layers} layers"
    model = model_file(folder, shape)
    return _describe(
        name,
        title,
        model,
        None,
        caches,
        whole_layers=shape.whole_layers,
        flash=flash,
        check_files=False,
    )


def embedded_subject(caches: Sequence[str]) -> Subject:
    """The model that ships with the package."""
    return _describe(embedded.NAME, "the embedded model", embedded.MODEL, embedded.MMPROJ, caches)


def own_subject(model: Path, mmproj: Path | None, caches: Sequence[str]) -> Subject:
    """A user's own files."""
    return _describe(model.stem, model.name, model, mmproj, caches)


def runs_on_cpu(n_gpu_layers: int) -> bool:
    """Whether no accelerator takes part."""
    return n_gpu_layers == 0 or all(device["type"] not in ("GPU", "IGPU") for device in devices())


def _describe(
    name: str,
    title: str,
    model: Path,
    mmproj: Path | None,
    caches: Sequence[str],
    *,
    whole_layers: int | None = None,
    flash: dict[str, str] | None = None,
    check_files: bool = CHECK_FILES,
) -> Subject:
    info = model_info(model, check_files=check_files)
    if not info["supported"]:
        raise ValueError(
            f"model {str(model)!r} cannot be compressed, expected one that can: {info['reason']}"
        )
    per_cell = {"f16": info["kv_bytes_per_token"]}
    for cache in caches:
        try:
            kept = read_and_kept(cache)[1]
            per_cell[cache] = model_info(model, type_k=kept, type_v=kept, check_files=False)[
                "kv_bytes_per_token"
            ]
        except (
            ValueError,
            RuntimeError,
        ):  # a type that its heads do not divide into; the case itself says why
            continue
    return Subject(
        name,
        title,
        model,
        mmproj,
        info["n_layer"],
        whole_layers or info["n_layer"],
        info["n_ctx_train"],
        info["n_head"],
        info["size_bytes"],
        weight_bytes(model),
        per_cell,
        flash or {},
    )
