"""The models to measure: one with random weights, the embedded one, or the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lookm_cpp import embedded
from lookm_cpp.bench.bytes_per_token import weight_bytes
from lookm_cpp.bench.model_shapes import SHAPES
from lookm_cpp.bench.random_model import model_file
from lookm_cpp.cache_types import read_and_kept
from lookm_cpp.file_check import check_model_files
from lookm_cpp.info import devices, model_info


@dataclass(frozen=True)
class BenchModel:
    """A model, and what is known about it before it runs. Sizes are in bytes.

    Attributes:
        name: As the user named it, or the name of its file.
        title: A description.
        model: The GGUF file.
        mmproj: Its projector, or ``None``.
        n_layer: Layers.
        whole_layers: Layers of the model of which it is a slice.
        n_ctx: Maximum cells of prompt and answer.
        n_head: Query heads.
        size_bytes: Size of the weights.
        token_weight_bytes: Weights that one token reads, or ``None`` if that is unknown.
        kv_bytes_per_cell: For each cache type that the model can have.
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

    @property
    def is_embedded(self) -> bool:
        """Whether it is the model that ships with the package."""
        return self.model == embedded.MODEL

    @property
    def label(self) -> str:
        """The name, and for a slice its number of layers."""
        return (
            self.name
            if self.n_layer == self.whole_layers
            else f"{self.name}, {self.n_layer} of {self.whole_layers} layers"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the names of files but not their folders."""
        files = {"model": self.model.name, "mmproj": self.mmproj.name if self.mmproj else None}
        return {**asdict(self), **files, "label": self.label}


def random_bench_model(name: str, n_layer: int, folder: Path, caches: Sequence[str]) -> BenchModel:
    """``n_layer`` layers of a shape (0: all), with random weights in a file in ``folder``."""
    shape = SHAPES[name].slice(n_layer or SHAPES[name].n_layer)
    layers = f"{shape.n_layer} of {shape.whole_layers} layers"
    title = f"random weights in the shape of {shape.like}: {layers}"
    model = model_file(folder, shape)
    return _describe(
        name,
        title,
        model,
        None,
        caches,
        whole_layers=shape.whole_layers,
    )


def embedded_bench_model(caches: Sequence[str]) -> BenchModel:
    """The model that ships with the package."""
    return _describe(embedded.NAME, "the embedded model", embedded.MODEL, embedded.MMPROJ, caches)


def own_bench_model(
    model: Path, mmproj: Path | None, caches: Sequence[str], *, check_files: bool
) -> BenchModel:
    """The user's own files."""
    if check_files:
        check_model_files(model, mmproj)
    return _describe(model.stem, model.name, model, mmproj, caches)


def runs_on_cpu(opened: Mapping[str, Any]) -> bool:
    """Whether no layer runs on an accelerator or on an RPC server."""
    if opened["n_gpu_layers"] == 0:
        return True
    found = devices(rpc_servers=opened.get("rpc_servers"))
    return all(device["type"] not in ("GPU", "IGPU", "RPC") for device in found)


def _describe(
    name: str,
    title: str,
    model: Path,
    mmproj: Path | None,
    caches: Sequence[str],
    *,
    whole_layers: int | None = None,
) -> BenchModel:
    info = model_info(model, check_files=False)
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
    return BenchModel(
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
    )
