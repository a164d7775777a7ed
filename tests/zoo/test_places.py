"""Which part of an image a cell shows: grids counted by hand, and tests with the encoder.

These change a small spot of a picture. The cell whose embedding changes most, among the cells of
the whole and among those of the tiles, must show that spot.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from core_session import Session
from lookm_cpp.explaining.cells import Piece, pieces_of

from zoo.pairs import PAIRS, Files, Size, write_pair

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

QWEN = ((10, 7), (5, 9))
GRIDS: dict[str, tuple[tuple[Size, ...], tuple[Size, ...]]] = {
    "llava-1.5": (((8, 8),), ((8, 8),)),
    "llava-1.6": (((4, 4),) * 5, ((4, 4),) * 3),
    "qwen2-vl": ((QWEN[0],), (QWEN[1],)),
    "qwen2.5-vl": ((QWEN[0],), (QWEN[1],)),
    "qwen3-vl": ((QWEN[0],), (QWEN[1],)),
    "qwen3.5": ((QWEN[0],), (QWEN[1],)),
    "glm-4v": ((QWEN[0],), (QWEN[1],)),
    "paddleocr-vl": ((QWEN[0],), (QWEN[1],)),
    "hunyuan-vl": ((QWEN[0],), (QWEN[1],)),
    "cogvlm": (((8, 8),), ((8, 8),)),
    "janus-pro": (((8, 8),), ((8, 8),)),
    "phi-4": (((12, 8),), ((7, 14),)),
    "lfm2-vl": (((12, 8),), ((7, 14),)),
    "gemma-3": (((8, 8),), ((8, 8),)),
    "gemma-4": (((12, 8),), ((7, 14),)),
    "gemma-4-e2b": (((12, 8),), ((7, 14),)),
    "llama-4": (((4, 4),) * 7, ((4, 4),) * 7),
    "internvl": (((4, 4),) * 5, ((4, 4),) * 3),
    "internvl-3.5": (((4, 4),) * 5, ((4, 4),) * 3),
    "smolvlm": (((4, 4),) * 5, ((4, 4),) * 3),
    "pixtral": (((12, 8),), ((7, 14),)),
    "mistral-small-3.1": (((6, 4),), ((4, 7),)),
    "mistral-small-3.2": (((6, 4),), ((4, 7),)),
    # queries, each of which sees a whole slice
    "minicpm-v-2.6": (((0, 0),) * 7, ((0, 0),) * 9),
    "mobilevlm": (((12, 12),), ((12, 12),)),
    "mobilevlm-v2": (((12, 12),), ((12, 12),)),
}
"""Columns and rows of each piece of the two images; ``pairs`` explains them."""
ONE_ON = {"llava-1.5", "llava-1.6"}
"""For these, llama.cpp drops CLIP's first patch and has the class token after the last patch."""
N_APART = {
    "llava-1.5": (1, 1),
    "llava-1.6": (5, 3),
    "hunyuan-vl": (2 + 7, 2 + 9),
    "cogvlm": (2, 2),
    "pixtral": (7, 13),
    "mistral-small-3.1": (3, 6),
    "mistral-small-3.2": (3, 6),
    "minicpm-v-2.6": (7 * 16, 9 * 16),
}
"""Number of cells of the two images that have no place."""
TILES = {
    "llava-1.6": ((2, 2), (1, 2)),
    "llama-4": ((3, 2), (2, 3)),
    "internvl": ((2, 2), (1, 2)),
    "internvl-3.5": ((2, 2), (1, 2)),
    "smolvlm": ((2, 2), (1, 2)),
    "minicpm-v-2.6": ((3, 2), (2, 4)),
}
"""Columns and rows of tiles."""
SPOTS = ((0.15, 0.2), (0.8, 0.35), (0.4, 0.85), (0.6, 0.55), (0.9, 0.9))
OTHER_SIZES = ((150, 50), (70, 90), (61, 47), (120, 110))
"""In pixels; resized, padded and tiled in other ways than the pair's images."""


class Places(NamedTuple):
    """The explanation of a session for its images."""

    pieces: tuple[Piece, ...]
    piece: npt.NDArray[np.int32]
    place: npt.NDArray[np.int32]

    def boxes(self, number: int) -> dict[int, tuple[float, float, float, float]]:
        """The area of the image that each cell of a piece shows, by the cell's index in it."""
        piece = self.pieces[number]
        assert piece.area is not None
        x0, y0, x1, y1 = piece.area
        if not piece.nx:
            return {0: piece.area}
        w, h = (x1 - x0) / piece.nx, (y1 - y0) / piece.ny
        places = self.place[piece.first : piece.first + piece.n_cells].tolist()
        return {
            i: (x0 + x * w, y0 + y * h, x0 + (x + 1) * w, y0 + (y + 1) * h)
            for i, (x, y) in enumerate(places)
            if x >= 0
        }


def explained(files: Files, pixels: list[Pixels]) -> Places:
    session = Session(str(files.model), str(files.mmproj), n_threads=1)
    text = " ".join(session.media_marker for _ in pixels) + " Which?"
    session.prefill(text, pixels, kv_ratio=1.0, method="origin", explain=True)
    found = session.explanation
    assert found is not None
    session.close()
    return Places(pieces_of(found), found["piece"], found["place"])


@pytest.fixture(scope="module", params=PAIRS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def files(name: str, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_pair(name, tmp_path_factory.mktemp("places"))


def _noise(size: Size) -> Pixels:
    return np.random.default_rng(7).integers(100, 156, (size[1], size[0], 3)).astype(np.uint8)


def test_grids_are_counted(name: str, files: Files) -> None:
    places = explained(files, [_noise(size) for size in PAIRS[name].images])
    for image in range(2):
        mine = [piece for piece in places.pieces if piece.image == image]
        assert [piece.n_cells for piece in mine] == list(PAIRS[name].tiles[image])
        assert [(piece.nx, piece.ny) for piece in mine] == list(GRIDS[name][image])
        columns, rows = TILES.get(name, ((0, 0), (0, 0)))[image]
        assert sum(piece.tile for piece in mine) == columns * rows
        cells = np.isin(
            places.piece, [i for i, piece in enumerate(places.pieces) if piece.image == image]
        )
        assert (places.place[cells] < 0).all(axis=1).sum() == N_APART.get(name, (0, 0))[image]
    for number, piece in enumerate(places.pieces):
        seen = places.place[(places.piece == number) & (places.place[:, 0] >= 0)]
        expected = [(x, y) for x in range(piece.nx) for y in range(piece.ny)]
        assert sorted(map(tuple, seen)) == expected[name in ONE_ON :], "each place once"


def test_tiles_cover_the_image_once(name: str, files: Files) -> None:
    for size in (*PAIRS[name].images, *OTHER_SIZES):
        pieces = explained(files, [_noise(size)]).pieces
        tiles = [piece.area for piece in pieces if piece.tile]
        assert [piece.tile for piece in pieces].count(False) == 1, "one whole"
        for x in np.linspace(0.01, 0.99, 7):
            for y in np.linspace(0.01, 0.99, 7):
                areas = [
                    area
                    for area in tiles
                    if area and area[0] <= x < area[2] and area[1] <= y < area[3]
                ]
                assert len(areas) == (1 if tiles else 0)


@pytest.mark.parametrize("other_sizes", [False, True])
def test_a_changed_spot_changes_the_cells_that_show_it(
    name: str, files: Files, other_sizes: bool
) -> None:
    model = _oracle.Model.load(str(files.model))
    # in cells: a spot may be across two cells, and convolutions see neighbouring cells
    slack = 1.0 if name.startswith("mobilevlm") else 0.5
    for size in OTHER_SIZES if other_sizes else PAIRS[name].images:
        base = _noise(size)
        places = explained(files, [base])
        changes = _changes(
            model, files, [base, *(_with_spot(base, x, y, places) for x, y in SPOTS)]
        )
        tiles = [i for i, piece in enumerate(places.pieces) if piece.tile]
        for numbers in ([i for i in range(len(changes)) if i not in tiles], tiles):
            for spot, (x, y) in enumerate(SPOTS if numbers else ()):
                best = max(numbers, key=lambda i: float(changes[i][spot].max()))
                boxes = places.boxes(best)
                here = boxes[int(np.argmax(changes[best][spot])) if places.pieces[best].nx else 0]
                w, h = slack * (here[2] - here[0]), slack * (here[3] - here[1])
                assert here[0] - w <= x <= here[2] + w, (size, best, here, x)
                assert here[1] - h <= y <= here[3] + h, (size, best, here, y)


def _changes(model: Any, files: Files, pixels: list[Pixels]) -> list[Floats]:
    """How far each cell moves from that of the first picture, ``[n_spots, n_cells]`` by piece.

    Divided by the cell's mean over the spots. Otherwise padding, which is the same in all pictures,
    would move most.
    """
    prompt = _oracle.Prompt(model, str(files.mmproj), _oracle.marker * len(pixels) + "?", pixels)
    found = [
        np.array(e).reshape(n, -1) for e, n in zip(prompt.embeddings, prompt.n_image, strict=True)
    ]
    n_pieces = len(found) // len(pixels)
    pieces = [np.stack(found[i::n_pieces]) for i in range(n_pieces)]
    moved = [np.linalg.norm(piece[1:] - piece[0], axis=2) for piece in pieces]
    least = 0.05 * max(float(m.mean()) for m in moved)
    return [m / (m.mean(axis=0) + least) for m in moved]


def _with_spot(pixels: Pixels, x: float, y: float, places: Places) -> Pixels:
    """The picture with a red spot around this point, as large as a cell of the finest grid."""
    height, width, _ = pixels.shape
    boxes = [box for i in range(len(places.pieces)) for box in places.boxes(i).values()]
    w = max(3, round(min(box[2] - box[0] for box in boxes) * width))
    h = max(3, round(min(box[3] - box[1] for box in boxes) * height))
    out: Pixels = pixels.copy()
    left, top = round(x * width - w / 2), round(y * height - h / 2)
    out[max(top, 0) : top + h, max(left, 0) : left + w] = np.where(np.arange(3) == 0, 255, 0)
    return out
