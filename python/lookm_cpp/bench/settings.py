"""The settings of a run, made from the options of ``lookm bench`` and checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookm_cpp import _core, embedded
from lookm_cpp.bench.model_shapes import SHAPES
from lookm_cpp.bench.models import (
    BenchModel,
    embedded_bench_model,
    own_bench_model,
    random_bench_model,
)
from lookm_cpp.bench.random_model import gguf_package
from lookm_cpp.bench.workload import Workload, cases_of
from lookm_cpp.cache_types import read_and_kept
from lookm_cpp.compression import PARTS_READ, PRUNING, Compression
from lookm_cpp.files import existing_file, find_mmproj
from lookm_cpp.info import model_info
from lookm_cpp.opening import model_options
from lookm_cpp.parsing import image_pixels, numbers, words
from lookm_cpp.words import flash_attention

NAMES = (*SHAPES, embedded.NAME)
CELLS = "1k,2k,4k,8k,16k"
RATIOS = "1,0.5,0.35,0.2,0.05"
CACHES = "f16,q8_0"
LAYERS, BLOCKS = 4, 16
QUICK_CELLS, QUICK_RATIOS, QUICK_LAYERS, QUICK_BLOCKS = "1k", "1,0.2", 1, 6
LEAST_CELLS = 128


@dataclass(frozen=True)
class Settings:
    """What a run measures.

    Attributes:
        names: Names of shapes, and ``embedded``; empty if the user gives a model.
        model: The user's model file, or ``None``.
        mmproj: Its projector, or ``None``.
        layers: Layers of each shape; 0: all.
        cells: Lengths of the prompt, in cells.
        caches: Cache types to measure.
        pattern: A workload without its model and its length.
        check_files: Whether the user's files are opened in a child process first.
        bandwidth: Memory bandwidth in bytes per second, if the user knows it.
        most_seconds: Maximum duration of the run, if it is limited.
        record: All of the above as it is written into the run's file.
    """

    names: tuple[str, ...]
    model: Path | None
    mmproj: Path | None
    layers: int
    cells: tuple[int, ...]
    caches: tuple[str, ...]
    pattern: Workload
    check_files: bool
    bandwidth: float | None
    most_seconds: float | None
    record: dict[str, Any]

    def bench_models(self, folder: Path) -> list[BenchModel]:
        """The models to measure; those with random weights are written to ``folder``."""
        if self.model is not None:
            checks = self.check_files
            return [own_bench_model(self.model, self.mmproj, self.caches, check_files=checks)]
        return [
            embedded_bench_model(self.caches)
            if name == embedded.NAME
            else random_bench_model(name, self.layers, folder, self.caches)
            for name in self.names
        ]


def settings_of(
    *,
    model: str | None,
    mmproj: str | None,
    text_only: bool,
    shapes: str | None,
    layers: int | None,
    cells: str | None,
    ratios: str | None,
    caches: str | None,
    answer: int,
    blocks: int | None,
    block_tokens: int,
    image_size: str,
    bandwidth: float | None,
    minutes: float | None,
    quick: bool,
    opened: dict[str, Any],
    how: dict[str, Any],
) -> Settings:
    """Check the options and fill in what was not given; ``quick`` has defaults of its own.

    ``opened`` are keyword arguments of ``Llava``, ``how`` are fields of ``Compression``.

    Raises:
        ValueError: An option is outside its range, or two exclude each other.
        FileNotFoundError: A file does not exist.
        RuntimeError: Random weights are requested and the package ``gguf`` is not installed.
    """
    layers = (QUICK_LAYERS if quick else LAYERS) if layers is None else layers
    blocks = (QUICK_BLOCKS if quick else BLOCKS) if blocks is None else blocks
    at_least = (("--layers", layers, 0), ("--answer", answer, 2), ("--blocks", blocks, 1))
    for option, value, least in (
        *at_least,
        ("--block-tokens", block_tokens, 1),
        ("--threads", opened["n_threads"] or 0, 0),
    ):
        if value < least:
            raise ValueError(f"{option} is {value}, expected at least {least}")
    if bandwidth is not None and not 0 < bandwidth < 1e6:
        raise ValueError(f"--bandwidth is {bandwidth:g}, expected GB/s above 0")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"--minutes is {minutes:g}, expected more than 0")
    names, own, projector = _models(model, mmproj, shapes, text_only=text_only)
    shares = _ratios((QUICK_RATIOS if quick else RATIOS) if ratios is None else ratios)
    lengths = _cells((QUICK_CELLS if quick else CELLS) if cells is None else cells)
    types = _caches(CACHES if caches is None else caches)
    cases = cases_of(types, shares)
    opened = dict(opened)
    check_files = opened.pop("check_files")
    _check(opened, [Compression(kv_ratio=share, **how) for share in shares])
    given, how = how, {name: how[name] for name in how if name not in PRUNING}
    pruning = _pruning(given)
    if pruning and text_only:
        raise ValueError("--image-ratio or --image-cells is given, expected none with --text-only")
    pattern = Workload(
        model="",
        mmproj=None,
        cells=0,
        cases=cases,
        answer_tokens=answer,
        n_blocks=blocks,
        block_tokens=block_tokens,
        opened=opened,
        compression=how,
        image_size=image_pixels(image_size),
        pruning=pruning,
    )
    record = {
        "models": list(names) if own is None else [own.name],
        "layers": layers,
        "cells": list(lengths),
        "ratios": shares,
        "caches": types,
        **how,
        **pruning,
        "answer_tokens": answer,
        "blocks": blocks,
        "block_tokens": block_tokens,
        "image_size": list(pattern.image_size),
        **{name: opened[name] for name in opened if name not in ("n_threads", "n_gpu_layers")},
        "threads": opened["n_threads"] or 0,
        "gpu_layers": opened["n_gpu_layers"],
        "flash_attn": flash_attention(opened["flash_attn"]),
        "minutes": minutes,
        "quick": quick,
    }
    measured = tuple(dict.fromkeys(case.cache for case in cases))
    speed = None if bandwidth is None else 1e9 * bandwidth
    most_seconds = None if minutes is None else 60 * minutes
    return Settings(
        names,
        own,
        projector,
        layers,
        lengths,
        measured,
        pattern,
        check_files,
        speed,
        most_seconds,
        record,
    )


def _check(opened: dict[str, Any], compressions: Sequence[Compression]) -> None:
    """Refuse wrong options before anything runs, with the embedded model."""
    options = model_options(embedded.MODEL, embedded.MMPROJ, **opened)
    _core.Planner(options)
    for compression in compressions:
        _core.check_compression(compression.core())


def _pruning(how: dict[str, Any]) -> dict[str, Any]:
    """The fields of pruning if they leave out any cell of an image, otherwise none."""
    given = {name: how[name] for name in PRUNING if name in how}
    usual = Compression()
    changed = any(given[name] != getattr(usual, name) for name in PARTS_READ if name in given)
    return given if changed else {}


def _models(
    model: str | None, mmproj: str | None, shapes: str | None, *, text_only: bool
) -> tuple[tuple[str, ...], Path | None, Path | None]:
    """Names of shapes, or the files of the user's model."""
    own = model not in (None, embedded.NAME)
    if not own and mmproj is not None:
        raise ValueError(f"--mmproj is {mmproj!r}, expected none without a model of your own by -m")
    if text_only and (not own or mmproj is not None):
        raise ValueError(
            "--text-only is given without a model of your own or with a projector, "
            "expected -m alone"
        )
    if model is not None and shapes is not None:
        raise ValueError(f"--shapes is {shapes!r}, expected none beside a model by -m")
    if model is not None and own:
        file = existing_file(model, "--model")
        projector = (
            None
            if text_only
            else existing_file(mmproj, "--mmproj")
            if mmproj
            else find_mmproj(file)
        )
        return (), file, projector
    names = (
        tuple(dict.fromkeys(words(",".join(NAMES) if shapes is None else shapes)))
        if model is None
        else (model,)
    )
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise ValueError(
            f"--shapes has {', '.join(unknown) or 'nothing'!r}, expected some of {', '.join(NAMES)}"
        )
    if any(name in SHAPES for name in names):
        gguf_package()
    return names, None, None


def _ratios(text: str) -> list[float]:
    shares = list(dict.fromkeys(numbers(text, "--ratios")))
    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong or not shares:
        raise ValueError(
            f"--ratios has {wrong[0] if wrong else 'nothing'}, expected shares above 0, 1 at most"
        )
    return shares


def _cells(text: str) -> tuple[int, ...]:
    """Lengths such as ``1k`` and ``3000``, in ascending order."""
    lengths = []
    for word in words(text):
        found = re.fullmatch(r"(\d{1,7})(k?)", word, re.ASCII | re.IGNORECASE)
        n = int(found[1]) * (1024 if found[2] else 1) if found else 0
        if not LEAST_CELLS <= n <= 1 << 20:
            raise ValueError(
                f"--cells has {word!r}, expected lengths of {LEAST_CELLS} to 1024k "
                "such as 3000 or 4k"
            )
        lengths.append(n)
    if not lengths:
        raise ValueError(f"--cells is {text!r}, expected lengths such as 3000 or 4k")
    return tuple(sorted(set(lengths)))


def _caches(text: str) -> list[str]:
    names = list(dict.fromkeys(words(text)))
    for name in names:
        try:
            for one in read_and_kept(name):
                model_info(embedded.MODEL, type_k=one, type_v=one)
        except ValueError as error:
            expected = str(error).rpartition("expected ")[2]
            raise ValueError(f"--caches has {name!r}, expected {expected}") from None
    if not names:
        raise ValueError(f"--caches is {text!r}, expected types with commas between them")
    return names
