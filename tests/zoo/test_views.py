"""The drawing over images that a model tiles, pads or reads with row breaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lookm_cpp import Llava
from lookm_cpp.explaining.views import piece_names, views_of
from PIL import Image

from zoo.pairs import PAIRS, write_pair

VIEWS: dict[str, list[tuple[str, int, int, tuple[float, float, float, float]]]] = {
    # a square with the image in its middle
    "llava-1.5": [("", 63, 1, (0, -0.25, 1, 1.25)), ("", 63, 1, (-0.5, 0, 1.5, 1))],
    "internvl": [
        ("the whole", 16, 0, (0, 0, 1, 1)),
        ("4 tiles", 64, 0, (0, -0.238, 1, 1.25)),
        ("the whole", 16, 0, (0, 0, 1, 1)),
        ("2 tiles", 32, 0, (0, 0, 1, 1)),
    ],
    "pixtral": [("", 96, 7, (0, 0, 1, 1)), ("", 98, 13, (0, 0, 1, 1))],
    # one box for each slice, as queries have no place
    "minicpm-v-2.6": [
        ("the whole", 1, 16, (0, 0, 1, 1)),
        ("6 tiles", 6, 96, (0, 0, 1, 1)),
        ("the whole", 1, 16, (0, 0, 1, 1)),
        ("8 tiles", 8, 128, (0, 0, 1, 1)),
    ],
}
"""Of the two images in turn: title, boxes, cells apart, and the frame around image and padding."""


@pytest.mark.parametrize("name", VIEWS)
def test_views_show_each_image_with_its_pieces(name: str, tmp_path: Path) -> None:
    files = write_pair(name, tmp_path)
    images = [Image.new("RGB", size, "green") for size in PAIRS[name].images]
    with Llava(files.model, mmproj=files.mmproj, n_threads=1) as llm:
        found = llm.explain(
            "A:<image> B:<image> Which?", images, methods=["h2o", "pivot_merge"], max_tokens=2
        )
    views = views_of(found)
    for view, (title, n_boxes, n_apart, frame) in zip(views, VIEWS[name], strict=True):
        assert (view.title, len(view.boxes), len(view.apart), view.has_picture) == (
            title,
            n_boxes,
            n_apart,
            True,
        )
        np.testing.assert_allclose(view.frame, frame, atol=0.02)  # padding is whole pixels
        assert view.aspect == images[view.image].width / images[view.image].height
    names = piece_names(found)
    assert len(names) == len(found.pieces)
    assert names.count("the whole") == sum(title == "the whole" for title, *_ in VIEWS[name])
    assert [f"tile {i + 1}" for i in range(8)][
        : sum(piece.tile and piece.image == 1 for piece in found.pieces)
    ] == [
        one
        for one, piece in zip(names, found.pieces, strict=True)
        if piece.tile and piece.image == 1
    ]
    drawn = {
        cell
        for view in views
        for cell in (*view.apart, *(c for box in view.boxes for c in box.cells))
    }
    assert drawn == set(np.flatnonzero(found.piece >= 0).tolist()), (
        "every cell of an image, and no other"
    )
    assert found.picture().width == 1600
    assert found.html().count("<script") == 2
