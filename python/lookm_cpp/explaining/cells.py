"""Counts of kept and merged cells, by method, layer and place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lookm_cpp.stats import Stats

if TYPE_CHECKING:
    from lookm_cpp import _core

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Piece:
    """A piece of an image that the encoder processes at once.

    Attributes:
        image: Number of the image, from 0.
        tile: Whether it is one of the tiles that a model cuts an image into, and not the whole.
        area: ``x0, y0, x1, y1`` of its grid, in units of the image's width and height. With
            padding, it reaches beyond 0 and 1. ``None`` if it is unknown.
        nx: Columns of its grid of cells; 0 if its cells have no place.
        ny: Rows of its grid.
        first: Its first cell.
        n_cells: Number of its cells that are read, including those without a place.
        pruned: Columns and rows of the cells that pruning left out.
    """

    image: int
    tile: bool
    area: tuple[float, float, float, float] | None
    nx: int
    ny: int
    first: int
    n_cells: int
    pruned: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LayerCells:
    """One layer of one compressed cache.

    Attributes:
        il: Number of the layer in the model.
        kept: ``[n_head_kv, n_keep]``: kept cells, ascending.
        merged_into: ``[n_head_kv, n_cells]``: for an evicted cell, the kept cell it was merged
            into; -1 for kept cells and for cells that were dropped.
        score: ``[n_head_kv, n_cells]``: the score by which the method ranked the cells.
    """

    il: int
    kept: Ints
    merged_into: Ints
    score: npt.NDArray[np.float32]

    def times_kept(self) -> Ints:
        """``[n_cells]``: number of KV heads that kept each cell."""
        return np.bincount(self.kept.ravel(), minlength=self.score.shape[1]).astype(np.int32)


@dataclass(frozen=True)
class MethodCells:
    """One method's cache and answer.

    ``layers`` is empty if nothing was compressed; then ``stats.note`` says why.
    """

    method: str
    answer: str
    stats: Stats
    layers: tuple[LayerCells, ...]

    @property
    def n_pairs(self) -> int:
        """Number of (layer, KV head) pairs that were compressed."""
        return sum(len(layer.kept) for layer in self.layers)

    def times_kept(self, layer: int | None = None) -> Ints:
        """``[n_cells]``: number of (layer, KV head) pairs that kept each cell.

        With ``layer``, only the heads of ``layers[layer]`` count. All numbers are 0 if nothing was
        compressed, because there are no pairs.
        """
        some = self.layers if layer is None else self.layers[layer : layer + 1]
        none = np.zeros(self.stats.prompt_cells, np.int32)
        return sum((one.times_kept() for one in some), none)

    def share_kept(self, layer: int | None = None) -> npt.NDArray[np.float64]:
        """``[n_cells]``: the same as a fraction of all pairs; 1 if nothing was compressed."""
        if not self.layers:
            return np.ones(self.stats.prompt_cells)
        n = self.n_pairs if layer is None else len(self.layers[layer].kept)
        return self.times_kept(layer) / n

    def merges(self, layer: int | None = None) -> Ints:
        """``[n, 3]``: evicted cell, kept cell it was merged into, number of pairs that did so.

        The rows of an evicted cell are sorted, the most frequent one first.
        """
        some = self.layers if layer is None else self.layers[layer : layer + 1]
        n_cells = self.stats.prompt_cells
        found = []
        for one in some:
            _, cell = np.nonzero(one.merged_into >= 0)
            found.append(cell * np.int64(n_cells) + one.merged_into[one.merged_into >= 0])
        both, times = np.unique(np.concatenate([np.empty(0, np.int64), *found]), return_counts=True)
        rows = np.stack([both // n_cells, both % n_cells, times], axis=1)
        return rows[np.lexsort((rows[:, 1], -rows[:, 2], rows[:, 0]))].astype(np.int32)


@dataclass(frozen=True)
class ExplainedPrompt:
    """The data of an ``Explanation``, which documents each field."""

    model: str
    question: str
    images: tuple[Image.Image, ...]
    answer: str
    stats: Stats
    is_text: npt.NDArray[np.bool_]
    piece: Ints
    place: Ints
    text: tuple[bytes, ...]
    pieces: tuple[Piece, ...]
    methods: tuple[MethodCells, ...]

    def grid(self, piece: int, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """``[ny, nx]``: the values ``[n_cells]`` of one piece, each at its place."""
        here = self.pieces[piece]
        out = np.full((here.ny, here.nx), np.nan)
        cells = np.flatnonzero((self.piece == piece) & (self.place[:, 0] >= 0))
        out[self.place[cells, 1], self.place[cells, 0]] = values[cells]
        return out


def pieces_of(found: _core.Explanation) -> tuple[Piece, ...]:
    """The session's pieces, with their cells."""
    pieces = []
    for i, piece in enumerate(found["pieces"]):
        cells = np.flatnonzero(found["piece"] == i)
        pieces.append(
            Piece(
                image=piece["image"],
                tile=piece["tile"],
                area=piece["area"],
                nx=piece["nx"],
                ny=piece["ny"],
                first=int(cells[0]),
                n_cells=len(cells),
                pruned=tuple(piece["pruned"]),
            )
        )
    return tuple(pieces)


def layers_of(found: _core.Explanation) -> tuple[LayerCells, ...]:
    """The session's layers."""
    return tuple(LayerCells(**layer) for layer in found["layers"])


def upright(images: Sequence[npt.NDArray[np.uint8]]) -> tuple[Image.Image, ...]:
    """RGB arrays as pictures."""
    return tuple(Image.fromarray(image) for image in images)
