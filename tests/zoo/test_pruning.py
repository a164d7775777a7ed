"""Images that are read in part, for every projector.

With M-RoPE, the oracle reads the same cells of the encoder's output with code of its own
(mtmd_prompt.cpp). Without, llama.cpp reads no positions with gaps; there the oracle reads all
cells, and no layer sees the others.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_session import Session
from gguf import GGUFReader
from gguf.quants import dequantize
from lookm_cpp import arrays

from zoo.decoder_table import DECODERS
from zoo.decoders import FIRST_BYTE, TEMPLATE, write_decoder
from zoo.pairs import REFUSED as REFUSED_PAIRS
from zoo.pairs import Files, write_pair
from zoo.test_zoo import QUESTION, Case, case, log_softmax, nmse

__all__ = ["case"]

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

ANSWER = [FIRST_BYTE + (37 * i + 5) % 256 for i in range(8)]
REFUSED = ("hunyuan-vl",)
"""Rows end with newlines at positions of their own."""


RECURRENT = ("lfm2-vl",)
"""Layers that no mask hides a cell from."""


WINDOW = "attention.sliding_window"


@pytest.fixture(scope="module")
def wide(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """With windows that an image fits into, as those of real models are.

    Masks of windows see the cells of one image closer together than they are.
    """
    decoder = DECODERS[case.pair.decoder]
    if WINDOW not in decoder.metadata:
        return case
    metadata = dict(decoder.metadata) | {WINDOW: 1024}
    path = write_decoder(
        tmp_path_factory.mktemp("wide") / "model.gguf",
        replace(decoder, metadata=metadata),
        list(case.pair.special_tokens),
        TEMPLATE,
    )
    model = _oracle.Model.load(str(path))
    text = QUESTION.replace("<image>", _oracle.marker)
    images = [np.asarray(image) for image in case.images]
    prompt = _oracle.Prompt(model, str(case.files.mmproj), text, images)
    return case._replace(files=Files(path, case.files.mmproj), model=model, prompt=prompt)


def seen(case: Case, cells: list[list[int]]) -> list[bool]:
    """For each token of the whole prompt, whether it is read."""
    is_text = np.asarray(case.prompt.is_text)
    out = is_text.copy()
    first = np.cumsum([0, *case.prompt.n_image])
    images = np.flatnonzero(~is_text)
    for start, chosen in zip(first, cells, strict=False):
        out[images[start + np.asarray(chosen)]] = True
    return [bool(x) for x in out]


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
    wide: Case, request: pytest.FixtureRequest, pruner: str, ratio: float
) -> None:
    case, name = wide, request.node.callspec.params["case"]
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
        if not case.pair.sides:
            here = here.copy()  # noqa: PLW2901
            here[-1] = -1  # llama.cpp goes on after it, so it is always read
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
    found_here = list(session.distributions(ANSWER))
    if case.pair.sides:
        context = case.context()
        context.prefill_cells(case.prompt, cells)
        expected = [log_softmax(context.decode(token)) for token in ANSWER]
        assert nmse(found_here, expected) < 1e-6
        return
    if name in RECURRENT:
        return
    context = case.context(flash_attn=False)
    context.see_only(seen(case, cells))
    context.prefill_prompt(case.prompt, scored=False)
    expected = [log_softmax(context.decode(token)) for token in ANSWER]
    assert nmse(found_here, expected) < 1e-5


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


def test_a_model_that_cannot_be_compressed(tmp_path: Path) -> None:
    """Latent attention: nothing is evicted from its cache, and half of each image is read."""
    files = write_pair("kimi-vl", tmp_path)
    session = Session(str(files.model), str(files.mmproj), n_threads=1)
    rng = np.random.default_rng(7)
    images = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for width, height in REFUSED_PAIRS["kimi-vl"].images
    ]
    session.prefill(text(session), images, image_ratio=0.5)
    n_encoded = [n for tiles in REFUSED_PAIRS["kimi-vl"].tiles for n in tiles]
    assert session.stats["encoded_cells"] == sum(n_encoded)
    assert session.stats["image_cells"] == sum(round(n / 2) for n in n_encoded)
    assert np.isfinite(session.distributions(ANSWER)).all()
