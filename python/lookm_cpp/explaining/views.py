"""What is drawn over an image: grids of cells, and cells that have no place in it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from lookm_cpp.explaining.cells import ExplainedPrompt, Piece

Box = tuple[float, float, float, float]
"""``x0, y0, x1, y1``, in units of an image's width and height."""

UNIT: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class CellBox:
    """Cells at one place: one cell of a grid, or all cells of a piece without a grid."""

    cells: tuple[int, ...]
    box: Box


@dataclass(frozen=True)
class View:
    """One drawing: an image with boxes over it.

    Without a picture, the boxes are on an empty canvas, because llama.cpp does not tell which part
    of the image they are.

    Attributes:
        image: Number of the image, from 0.
        title: ``""`` if it is the only view of its image.
        has_picture: Whether the boxes are parts of the image.
        aspect: Width divided by height, of the image or of the grid on an empty canvas.
        frame: The area drawn: the image and boxes that reach beyond it.
        boxes: Cells and their places.
        pruned: Places of cells that the language model did not read.
        apart: Cells without a place: row breaks, newlines, begin and end of an image.
    """

    image: int
    title: str
    has_picture: bool
    aspect: float
    frame: Box
    boxes: tuple[CellBox, ...]
    pruned: tuple[Box, ...]
    apart: tuple[int, ...]


def views_of(explanation: ExplainedPrompt) -> list[View]:
    """For each image in order, the whole image and then its tiles."""
    names = piece_names(explanation)
    views = []
    for image in range(len(explanation.images)):
        pieces = [i for i, piece in enumerate(explanation.pieces) if piece.image == image]
        tiles = [
            i
            for i in pieces
            if explanation.pieces[i].tile and explanation.pieces[i].area is not None
        ]
        others = [i for i in pieces if i not in tiles]
        for i in others:
            views.append(_view(explanation, image, names[i], [i]))
        if tiles:
            views.append(_view(explanation, image, f"{len(tiles)} tiles", tiles))
    return views


def piece_names(explanation: ExplainedPrompt) -> list[str]:
    """A name for each piece: ``the whole`` or ``tile N``, or ``""`` if its image is one piece."""
    names: list[str] = []
    for image in range(len(explanation.images)):
        pieces = [piece for piece in explanation.pieces if piece.image == image]
        numbers = itertools.count(1)
        found = [f"tile {next(numbers)}" if piece.tile else "the whole" for piece in pieces]
        names += found if len(found) > 1 else [""]
    return names


def _view(explanation: ExplainedPrompt, image: int, title: str, pieces: list[int]) -> View:
    boxes: list[CellBox] = []
    pruned: list[Box] = []
    apart: list[int] = []
    for i in pieces:
        piece = explanation.pieces[i]
        cells = range(piece.first, piece.first + piece.n_cells)
        area = piece.area or UNIT
        if piece.nx:
            boxes += [
                CellBox((c,), _grid_box(area, piece, explanation.place[c]))
                for c in cells
                if explanation.place[c][0] >= 0
            ]
            pruned += [_grid_box(area, piece, place) for place in piece.pruned if place[0] >= 0]
        elif piece.area is not None:
            boxes.append(CellBox(tuple(cells), area))
        apart += [c for c in cells if explanation.place[c][0] < 0]
    has_picture = all(explanation.pieces[i].area is not None for i in pieces)
    corners = np.array([UNIT, *(box.box for box in boxes), *pruned])
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    frame = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    picture, first = explanation.images[image], explanation.pieces[pieces[0]]
    aspect = picture.width / picture.height if has_picture else first.nx / max(first.ny, 1) or 1.0
    return View(image, title, has_picture, aspect, frame, tuple(boxes), tuple(pruned), tuple(apart))


def _grid_box(area: Box, piece: Piece, place: tuple[int, int]) -> Box:
    x0, y0, x1, y1 = area
    w, h = (x1 - x0) / piece.nx, (y1 - y0) / piece.ny
    x, y = int(place[0]), int(place[1])
    return (x0 + x * w, y0 + y * h, x0 + (x + 1) * w, y0 + (y + 1) * h)
