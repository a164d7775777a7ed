"""Conversations with sliding windows, whose layers hold other cells than the other layers."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gguf
import numpy as np
import pytest
from core_session import Session

from zoo.pairs import write_pair

TEXT = "A long text. " * 30
Options = dict[str, Any]


def _open(folder: Path, n_swa: int, **options: Any) -> Session:
    model, mmproj = write_pair("gemma-3", Path(mkdtemp(dir=folder)))
    reader = gguf.GGUFReader(model, "r+")
    window = reader.get_field("gemma3.attention.sliding_window")
    assert window is not None
    window.parts[-1][0] = n_swa
    del reader, window
    return Session(str(model), str(mmproj), n_threads=1, **options)


def _converse(session: Session, **options: Any) -> None:
    image = np.random.default_rng(3).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    session.converse(f"A{session.media_marker}{TEXT}", [image], method="h2o", n_answer=8, **options)


def _answer(session: Session, n: int = 8) -> list[bytes]:
    session.start(temperature=1.0, seed=3, ignore_eos=True)
    return list(islice(iter(session.next, None), n))


@pytest.mark.parametrize(("n_swa", "kv_ratio"), [(32, 0.03), (32, 0.3), (300, 0.3)])
def test_a_conversation_with_windows_can_be_restored(
    tmp_path: Path, n_swa: int, kv_ratio: float
) -> None:
    """Windows hold more or fewer cells than are kept, or more than the smallest cache has."""
    session = _open(tmp_path, n_swa)
    _converse(session, kv_ratio=kv_ratio)
    n_kept = session.stats["kept_cells"]
    assert n_kept == pytest.approx(kv_ratio * session.stats["prompt_cells"], abs=5)
    _answer(session)
    taken_up = _open(tmp_path, n_swa)
    taken_up.restore(session.state(), kv_ratio=kv_ratio, method="h2o")
    assert taken_up.stats["kept_cells"] == n_kept + 7
    answers = []
    for one in (session, taken_up):
        one.converse(" And now?", [], kv_ratio=kv_ratio, method="h2o", n_answer=8)
        answers.append(_answer(one))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("method", ["lookm_plus", "h2o"])
def test_a_ratio_is_chosen_from_the_layers_without_windows(tmp_path: Path, method: str) -> None:
    """For a prompt with an image and a context, and for a turn after it."""
    session = _open(tmp_path, 32)
    image = np.random.default_rng(3).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    prompt = f"A{session.media_marker}{session.context_marker} What is it?"
    how: Options = {"method": method, "contexts": [TEXT], "n_answer": 8}
    auto: Options = {"kv_ratio": "auto", "quality": 0.6, "ratio_ceiling": 0.95}
    for read in (session.prefill, session.converse_anew):
        read(prompt, [image], **how, **auto)
        chosen = session.stats
        answer = _answer(session)
        assert chosen["chosen_ratio"] is not None
        assert chosen["attention_held"] is not None
        assert 0.6 <= chosen["attention_held"] < 1
        assert chosen["kept_cells"] < chosen["prompt_cells"]
        read(prompt, [image], kv_ratio=chosen["chosen_ratio"], **how)
        for name in ("kept_cells", "kept_image_cells", "kept_context_cells", "attention_held"):
            assert session.stats[name] == chosen[name], name
        assert _answer(session) == answer


def test_the_least_cap_forgets_nothing_that_fits(tmp_path: Path) -> None:
    """Cells that have left the window stay until they are overwritten: a window is never full."""
    options: Options = {"n_batch": 64, "n_ubatch": 64}
    with pytest.raises(
        ValueError,
        match="kv_cells: 255, expected 256 or more, as many as this model's windows need",
    ):
        _open(tmp_path, 32, kv_cells=255, **options)
    session = _open(tmp_path, 32, kv_cells=256, **options)
    _converse(session, kv_ratio=1.0)
    n_squeezed = session.stats["squeezed_cells"]
    assert n_squeezed > 200
    assert len(_answer(session, 9)) == 9
    taken_up = _open(tmp_path, 32, kv_cells=256, **options)
    taken_up.restore(session.state(), kv_ratio=1.0, method="h2o")
    assert taken_up.stats["squeezed_cells"] == n_squeezed
    assert len(list(islice(iter(session.next, None), 300))) == 300
