"""Every model of the zoo: a prompt that goes on from a kept prefix, against the same one alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from core_session import Session

from zoo.decoders import FIRST_BYTE
from zoo.pairs import PAIRS, Files, write_pair

ANSWER = [FIRST_BYTE + (37 * i + 5) % 256 for i in range(8)]
CONTEXT = "The code of Ivan is 8801. " * 3


def pair_with_images(name: str, folder: Path) -> tuple[Files, list[npt.NDArray[np.uint8]]]:
    """The pair's files, and images of noise in the sizes that it is tried with."""
    rng = np.random.default_rng(7)
    images = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for width, height in PAIRS[name].images
    ]
    return write_pair(name, folder), images


@pytest.mark.parametrize("name", PAIRS)
def test_going_on_from_a_kept_prefix(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bit for bit, by methods that observe the question, all queries, and their squares.

    A window that reaches into the images goes on from a part of them, whose batches are others.
    """
    files, images = pair_with_images(name, tmp_path_factory.mktemp("zoo"))
    session = Session(str(files.model), str(files.mmproj), n_threads=1)
    image, context = session.media_marker, session.context_marker

    def distributions(question: str, **how: Any) -> npt.NDArray[np.float32]:
        prompt = f"A:{image} B:{context}{image} {question}"
        session.prefill(prompt, images, contexts=[CONTEXT], n_answer=len(ANSWER), **how)
        return session.distributions(ANSWER)

    for method in ("lookm_plus", "h2o", "roco", "snapkv"):
        how: Any = {"method": method, "kv_ratio": 0.3}
        alone = distributions("Which?", **how)
        assert session.stats["reused_cells"] == 0
        distributions("And which one is larger?", reuse=True, **how)
        again = distributions("Which?", reuse=True, **how)
        stats = session.stats
        if method == "snapkv" and PAIRS[name].n_layer is not None:
            assert stats["reused_cells"] in (0, stats["prompt_cells"] - len(" Which?"))
        elif method == "snapkv":
            assert stats["reused_cells"] <= stats["prompt_cells"] - 64
        else:
            assert stats["reused_cells"] >= stats["prompt_cells"] - len(" Which?") - 5
        if method == "snapkv":
            np.testing.assert_allclose(alone, again, rtol=1e-4)
        else:
            np.testing.assert_array_equal(alone, again, method)


@pytest.mark.parametrize("name", PAIRS)
def test_a_saved_prefix(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bit for bit in another session, kept as it is and as f32, which holds every f16."""
    files, images = pair_with_images(name, tmp_path_factory.mktemp("zoo"))
    how: Any = {"method": "h2o", "kv_ratio": 0.3, "contexts": [CONTEXT]}

    def prompt(session: Session) -> str:
        image, context = session.media_marker, session.context_marker
        return f"A:{image} B:{context}{image} Which?"

    for kept in ("", "f32"):
        sessions = [
            Session(str(files.model), str(files.mmproj), n_threads=1, prefix_type=kept)
            for _ in range(2)
        ]
        state = sessions[0].prefix_state(prompt(sessions[0]), images, **how)
        sessions[0].prefill(prompt(sessions[0]), images, n_answer=len(ANSWER), **how)
        n_cells = sessions[1].restore_prefix(state)
        sessions[1].prefill(prompt(sessions[1]), images, n_answer=len(ANSWER), reuse=True, **how)
        assert sessions[1].stats["reused_cells"] == n_cells
        read, restored = (one.distributions(ANSWER) for one in sessions)
        np.testing.assert_array_equal(read, restored)
