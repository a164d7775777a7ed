"""The picture pools: fetched, rendered once, kept under the run's folder."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from . import easyvqa
from .config import Config, DataSize, ModelSize
from .render import BACKGROUND, Renderer, Split, shape_patches
from .words import EMOJI, emoji_short_name

EMOJI_PACKAGE = "emoji-datasource-google@16.0.0"
# Patch class of an easy-VQA shape, which is no emoji.
SHAPE = -2

Kind = Literal["grid", "single", "shape"]


@dataclass(frozen=True)
class Picture:
    """What is known about one picture."""

    kind: Kind
    names: tuple[str, ...]
    """Four emoji by corner, one emoji, or colour and shape."""
    questions: tuple[tuple[str, str], ...] = ()
    """easy-VQA's questions and answers."""


@dataclass(frozen=True)
class Pool:
    """All pictures of a split: uint8 [N, size, size, 3], classes int8 [N, patches], texts."""

    pixels: np.ndarray
    labels: np.ndarray
    pictures: list[Picture]

    def of_kind(self, kind: Kind) -> list[int]:
        """Numbers of the pictures of a kind."""
        return [number for number, picture in enumerate(self.pictures) if picture.kind == kind]


def prepare(config: Config, log: Callable[[str], None]) -> dict[Split, Pool]:
    """Both pools, from the run's folder if they are there in the size asked for."""
    folder = config.out / "data"

    def render(split: Split) -> Pool:
        return render_pool(split, load_sprites(folder), config.data, config.model)

    wanted = {"data": asdict(config.data), "image": config.model.image, "patch": config.model.patch}
    return kept_pools(folder, wanted, render, log)


def kept_pools(
    folder: Path,
    wanted: dict[str, Any],
    render: Callable[[Split], Pool],
    log: Callable[[str], None],
) -> dict[Split, Pool]:
    """Both pools as they are kept in `folder`; rendered if they are not there as `wanted` says."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / "pools.json"
    if not marker.exists() or json.loads(marker.read_text()) != wanted:
        for split in ("train", "test"):
            log(f"rendering the {split} pictures")
            _save(folder / split, render(split))
        marker.write_text(json.dumps(wanted))
    return {split: _load(folder / split) for split in ("train", "test")}


def load_sprites(folder: Path) -> list[Image.Image]:
    """The emoji as 64-pixel RGBA pictures in the order of `words.EMOJI`.

    They come from the npm package, which is fetched if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{EMOJI_PACKAGE.replace('@', '-')}.tgz"
    if not archive.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(
                f"npm is needed to fetch {EMOJI_PACKAGE}; or put its archive at {archive}"
            )
        subprocess.run(
            [npm, "pack", "--silent", EMOJI_PACKAGE],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    with tarfile.open(archive) as package:
        entries = json.loads(_member(package, "package/emoji.json"))
        files = {entry["short_name"]: entry["image"] for entry in entries}
        paths = [f"package/img/google/64/{files[emoji_short_name(name)]}" for name in EMOJI]
        return [Image.open(io.BytesIO(_member(package, path))).convert("RGBA") for path in paths]


def render_pool(
    split: Split, sprites: list[Image.Image], sizes: DataSize, model: ModelSize
) -> Pool:
    """Draws grids and single emoji (each from its own seed) and adds easy-VQA's pictures."""
    train = split == "train"
    grids = sizes.train_grids if train else sizes.test_grids
    variants = sizes.train_singles if train else sizes.test_singles
    renderer = Renderer(sprites, model)
    singles = [(label, number) for label in range(len(EMOJI)) for number in range(variants)]
    # Threads of the libraries loaded so far do not survive a fork.
    with get_context("spawn").Pool() as workers:
        drawn_grids = workers.map(partial(_draw_grid, renderer, split), range(grids), chunksize=100)
        drawn_singles = workers.map(partial(_draw_single, renderer, split), singles, chunksize=100)
    shapes, entries = easyvqa.load(split, model.image)
    on_shape = shape_patches(shapes, model)

    pixels = [picture for picture, _, _ in drawn_grids] + [picture for picture, _ in drawn_singles]
    labels = [label for _, label, _ in drawn_grids] + [label for _, label in drawn_singles]
    pictures = [
        Picture("grid", tuple(EMOJI[label] for label in classes)) for _, _, classes in drawn_grids
    ]
    pictures += [Picture("single", (EMOJI[label],)) for label, _ in singles]
    pictures += [
        Picture("shape", (entry.colour, entry.shape), tuple(entry.questions)) for entry in entries
    ]
    shape_labels = np.where(on_shape, SHAPE, BACKGROUND).astype(np.int8)
    return Pool(
        np.concatenate([np.stack(pixels), shapes]),
        np.concatenate([np.stack(labels), shape_labels]),
        pictures,
    )


def _draw_grid(
    renderer: Renderer, split: Split, number: int
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    return renderer.grid(split, f"{split}g{number}")


def _draw_single(
    renderer: Renderer, split: Split, which: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    label, number = which
    return renderer.single(split, label, f"{split}s{label}_{number}")


def _member(package: tarfile.TarFile, path: str) -> bytes:
    file = package.extractfile(path)
    if file is None:
        raise FileNotFoundError(path)
    return file.read()


def _save(stem: Path, pool: Pool) -> None:
    np.save(stem.with_suffix(".pixels.npy"), pool.pixels)
    np.save(stem.with_suffix(".labels.npy"), pool.labels)
    stem.with_suffix(".json").write_text(json.dumps([asdict(picture) for picture in pool.pictures]))


def _load(stem: Path) -> Pool:

    def picture(entry: dict) -> Picture:
        questions = tuple((question, answer) for question, answer in entry["questions"])
        return Picture(entry["kind"], tuple(entry["names"]), questions)

    entries = json.loads(stem.with_suffix(".json").read_text())
    pixels, labels = (np.load(stem.with_suffix(f".{part}.npy")) for part in ("pixels", "labels"))
    return Pool(pixels, labels, [picture(entry) for entry in entries])
