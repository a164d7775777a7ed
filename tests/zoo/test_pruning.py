"""Images that are read in part, for every projector.

The oracle reads the same cells of the encoder's output with code of its own (mtmd_prompt.cpp), at
their own columns and rows with M-RoPE, and after one another without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_session import Session
from gguf import GGUFReader
from gguf.quants import dequantize
from lookm_cpp import arrays

from zoo.decoders import FIRST_BYTE
from zoo.test_zoo import QUESTION, Case, case, log_softmax, nmse

__all__ = ["case"]

ANSWER = [FIRST_BYTE + (37 * i + 5) % 256 for i in range(8)]
REFUSED = ("hunyuan-vl",)
"""Rows end with newlines at positions of their own."""


def opened(case: Case, **options: Any) -> Session:
    return Session(str(case.files.model), str(case.files.mmproj), n_threads=1, **options)


def text(session: Session) -> str:
    return QUESTION.replace("<image>", session.media_marker)


def places(case: Case, session: Session) -> list[np.ndarray]:
    """Of each piece's cells, with marks at -1; cells without a grid stand in a row."""
    session.prefill(text(session), [np.asarray(i) for i in case.images], explain=True)
    found = session.explanation
    assert found is not None
    out = []
    for i, piece in enumerate(found["pieces"]):
        place = found["place"][found["piece"] == i].copy()
        if piece["nx"] == 0:
            place = np.stack([np.arange(len(place)), np.zeros(len(place))], axis=1).astype(np.int32)
        out.append(place)
    return out


def token_embeddings(case: Case) -> np.ndarray:
    tensors = {tensor.name: tensor for tensor in GGUFReader(case.files.model).tensors}
    table = tensors["token_embd.weight"]
    return dequantize(table.data, table.tensor_type).astype(np.float32)


def n_read(case: Case, place: np.ndarray, ratio: float) -> int:
    """By hand: the share of the cells between the marks; with M-RoPE, a multiple of a side."""
    n_marks = int((place[:, 0] < 0).sum())
    n = len(place) - n_marks
    step = max(int(place[:, 0].max()), int(place[:, 1].max())) + 1 if case.pair.sides else 1
    return n_marks + max(step, step * int(np.floor(ratio * n / step + 0.5)))


@pytest.mark.parametrize(
    ("pruner", "ratio"), [("divprune", 0.5), ("cdpruner", 0.25), ("grid", 0.2)]
)
def test_only_some_cells_are_read(
    case: Case, request: pytest.FixtureRequest, pruner: str, ratio: float
) -> None:
    name = request.node.callspec.params["case"]
    session = opened(case)
    images = [np.asarray(i) for i in case.images]
    if name in REFUSED:
        with pytest.raises(ValueError, match="image_ratio: this model's images"):
            session.prefill(text(session), images, image_ratio=ratio)
        return
    place = places(case, session)
    d = len(case.prompt.embeddings[0]) // len(place[0])
    table = token_embeddings(case)
    n_embd = table.shape[1]
    question = table[case.prompt.tokens[-1]] if pruner == "cdpruner" else table[:0]
    cells = []
    for rows, here in zip(case.prompt.embeddings, place, strict=True):
        made = np.asarray(rows, np.float32).reshape(-1, d)[:, :n_embd]
        n = n_read(case, here, ratio)
        cells.append(arrays.prune(made, n, pruner=pruner, place=here, question=question).tolist())
    session.prefill(text(session), images, image_ratio=ratio, pruner=pruner, explain=True)
    stats = session.stats
    assert stats["image_cells"] == sum(map(len, cells))
    assert stats["encoded_cells"] == sum(case.prompt.n_image)
    found = session.explanation
    assert found is not None
    for i, (chosen, here) in enumerate(zip(cells, place, strict=True)):
        shown = found["place"][found["piece"] == i]
        if found["pieces"][i]["nx"] > 0:
            assert shown.tolist() == here[chosen].tolist()
            left = np.setdiff1d(np.arange(len(here)), chosen)
            assert found["pieces"][i]["pruned"] == [tuple(p) for p in here[left].tolist()]
    context = case.context()
    context.prefill_cells(case.prompt, cells)
    expected = [log_softmax(context.decode(token)) for token in ANSWER]
    assert nmse(list(session.distributions(ANSWER)), expected) < 1e-6


def test_batches_do_not_matter(case: Case, request: pytest.FixtureRequest) -> None:
    """Small batches, and compression on top."""
    if request.node.callspec.params["case"] in REFUSED:
        pytest.skip("refused")
    images = [np.asarray(i) for i in case.images]
    results = []
    for n_ubatch in (512, case.pair.small_ubatch):
        session = opened(case, n_ubatch=n_ubatch, n_batch=n_ubatch)
        session.prefill(text(session), images, image_ratio=0.5, kv_ratio=0.5)
        assert session.stats["kept_cells"] == pytest.approx(
            0.5 * session.stats["prompt_cells"], abs=2
        )
        results.append(session.distributions(ANSWER))
    assert nmse(list(results[1]), list(results[0])) < 1e-4
