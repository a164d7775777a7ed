"""Images that are prepared one by one give what mtmd makes of all of them together."""

from __future__ import annotations

import weakref
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from core_session import Session

from zoo.pairs import PAIRS, REFUSED, write_pair

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

Pixels = npt.NDArray[np.uint8]
TEXTS = ("A:<image> B:<image> C:<image> D:<image> Which?", "<image><image> and <image>\n<image>?")


def _noise(name: str) -> list[Pixels]:
    """Noise in both sizes of the pair's images, twice."""
    rng = np.random.default_rng(5)
    sizes = (PAIRS | REFUSED)[name].images * 2
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", PAIRS | REFUSED)
def test_chunks_are_mtmds(name: str, text: str, tmp_path: Path) -> None:
    """Tokens, sizes, positions and embeddings equal those of one call for all images."""
    files, images = write_pair(name, tmp_path), _noise(name)
    model = _oracle.Model.load(str(files.model))
    expected = _oracle.Prompt(
        model, str(files.mmproj), text.replace("<image>", _oracle.marker), images
    )
    tokens, saved, embeddings = _oracle.prompt_chunks(
        str(files.model), str(files.mmproj), text, images
    )
    assert tokens == expected.tokens
    assert saved == expected.saved_images
    assert len(saved) >= 4
    for ours, theirs in zip(embeddings, expected.embeddings, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["llava-1.5", "hunyuan-vl"])
def test_one_image_at_a_time(name: str, tmp_path: Path) -> None:
    """Except HunyuanVL, which numbers its images: each is prepared again in its place."""
    files, images = write_pair(name, tmp_path), _noise(name)
    session = Session(str(files.model), str(files.mmproj), n_threads=1)
    alive: list[weakref.ref[Pixels]] = []
    asked: list[int] = []

    def load(i: int) -> Pixels:
        assert [one() for one in alive] == [None] * len(alive), "another one is still there"
        pixels: Pixels = images[i].copy()
        alive.append(weakref.ref(pixels))
        asked.append(i)
        return pixels

    def prefill(given: list[Any]) -> int:
        prompt = TEXTS[0].replace("<image>", session.media_marker)
        session.prefill(prompt, given, kv_ratio=1.0, method="origin")
        session.start(temperature=0.0)
        return hash(tuple(session.next() for _ in range(5)))

    lazily = prefill([lambda i=i: load(i) for i in range(4)])
    assert asked == ([0, 1, 2, 3] if name == "llava-1.5" else [0, 1, 2, 3, 1, 2, 3])
    assert lazily == prefill(list(images))


def test_an_image_that_cannot_be_decoded_ends_nothing(tmp_path: Path) -> None:
    files = write_pair("llava-1.5", tmp_path)
    session = Session(str(files.model), str(files.mmproj), n_threads=1)
    image = _noise("llava-1.5")[0]
    session.converse_anew(f"{session.media_marker} What?", [image], kv_ratio=0.5, method="h2o")
    epoch = session.epoch

    def broken() -> Pixels:
        raise KeyError("broken")

    for wrong, error in (
        (broken, KeyError),
        (lambda: 5, ValueError),
        (lambda: image[0], ValueError),
        (3, ValueError),
    ):
        with pytest.raises(
            error, match=r"broken|expected RGB arrays of shape \[height, width, 3\]"
        ):
            session.converse(f"{session.media_marker} And?", [wrong], kv_ratio=0.5, method="h2o")
    assert session.talking
    assert session.epoch == epoch
