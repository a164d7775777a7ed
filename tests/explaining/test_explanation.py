"""What ``explain`` says against the session's stats, a context of its own, and LOOK-M in NumPy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_session import Session
from lookm_cpp import Llava, embedded
from lookm_cpp.embedded import DEMO, DemoPrompt, demo_prompts
from lookm_cpp.explaining import Explanation
from lookm_cpp.request import Request
from PIL import Image
from reference.lookm_numpy import cosine, evicted_cells, select
from reference.methods_numpy import Options

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

METHODS = ("text_prior_pivot_merge", "h2o", "snapkv", "streaming_llm", "roco", "pivot_merge")
MERGING = ("text_prior_pivot_merge", "pivot_merge")
N_IMAGE = 64
"""Cells of one image: 8 x 8 patches of 8 x 8 pixels."""


@pytest.fixture(scope="module")
def prompt() -> DemoPrompt:
    """Four images."""
    return next(one for one in demo_prompts() if len(one.images) == 4)


@pytest.fixture(scope="module")
def llm() -> Iterator[Llava]:
    with Llava.embedded() as opened:
        yield opened


@pytest.fixture(scope="module")
def found(llm: Llava, prompt: DemoPrompt) -> Explanation:
    return llm.explain(prompt.content, prompt.images, methods=METHODS, kv_ratio=0.3)


def test_answers_are_those_of_ask(llm: Llava, prompt: DemoPrompt, found: Explanation) -> None:
    assert found.answer == llm.ask(prompt.content, prompt.images)
    for one in found.methods:
        assert one.answer == llm.ask(prompt.content, prompt.images, method=one.method, kv_ratio=0.3)
        assert one.stats.kept_cells == llm.stats.kept_cells < one.stats.prompt_cells


def test_counts_are_those_of_the_stats(found: Explanation) -> None:
    stats = found.stats
    n = stats.prompt_cells
    assert (len(found.is_text), found.is_text.sum(), (found.piece >= 0).sum()) == (
        n,
        stats.text_cells,
        stats.image_cells,
    )
    assert [piece.n_cells for piece in found.pieces] == [N_IMAGE] * 4
    assert [piece.image for piece in found.pieces] == [0, 1, 2, 3]
    assert [one.method for one in found.methods] == list(METHODS)
    for one in found.methods:
        for layer in one.layers:
            n_head_kv = len(layer.score)
            assert layer.kept.shape == (n_head_kv, one.stats.kept_cells)
            assert layer.merged_into.shape == layer.score.shape == (n_head_kv, n)
            assert layer.times_kept().sum() == n_head_kv * one.stats.kept_cells
        assert one.times_kept().sum() == one.n_pairs * one.stats.kept_cells
        assert one.share_kept().mean() == pytest.approx(one.stats.kv_ratio)
        assert one.share_kept(0).mean() == pytest.approx(one.stats.kv_ratio)


def test_text_is_the_prompt(found: Explanation, prompt: DemoPrompt) -> None:
    text = b"".join(found.text).decode()
    for part in prompt.content.split("<image>"):
        assert part.strip() in text
    assert all(
        not token for token, piece in zip(found.text, found.piece, strict=True) if piece >= 0
    )


def test_places_are_rows_of_the_grid(found: Explanation) -> None:
    expected = [(i % 8, i // 8) for i in range(N_IMAGE)]
    for piece in found.pieces:
        assert (piece.nx, piece.ny, piece.area) == (8, 8, (0.0, 0.0, 1.0, 1.0))
        assert [
            tuple(place) for place in found.place[piece.first : piece.first + N_IMAGE]
        ] == expected
    grid = found.grid(2, np.arange(len(found.piece)))
    np.testing.assert_array_equal(grid.ravel(), found.pieces[2].first + np.arange(N_IMAGE))


@pytest.mark.parametrize("method", METHODS)
def test_merges_end_in_kept_cells_of_the_same_head(found: Explanation, method: str) -> None:
    one = next(one for one in found.methods if one.method == method)
    for layer in one.layers:
        for kept, into in zip(layer.kept, layer.merged_into, strict=True):
            evicted = np.setdiff1d(np.arange(len(into)), kept)
            assert (into[kept] == -1).all()
            if method in MERGING:
                assert np.isin(into[evicted], kept).all()
            else:
                assert (into == -1).all()
    pairs = one.merges()
    n_evicted = one.n_pairs * (one.stats.prompt_cells - one.stats.kept_cells)
    assert pairs[:, 2].sum() == (n_evicted if method in MERGING else 0)
    assert sum(one.merges(i)[:, 2].sum() for i in range(len(one.layers))) == pairs[:, 2].sum()
    if len(pairs):
        same = pairs[1:, 0] == pairs[:-1, 0]
        assert (np.diff(pairs[:, 0]) >= 0).all()
        assert (np.diff(pairs[:, 2])[same] <= 0).all()


def test_cells_are_those_of_a_context_of_its_own(
    llm: Llava, prompt: DemoPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Core and NumPy score, select and match again from K, on mtmd's own batches."""
    monkeypatch.setenv("LOOKM_JOIN", "off")
    found = llm.explain(prompt.content, prompt.images, methods=METHODS, kv_ratio=0.3, reuse=False)
    model = _oracle.Model.load(str(embedded.MODEL))
    text = b"".join(found.text).decode()  # with its control tokens; mtmd puts the first one itself
    for i, piece in reversed(list(enumerate(found.pieces))):
        at = len(b"".join(found.text[: piece.first]).decode())
        text = text[:at] + _oracle.marker + text[at:]
        assert found.piece[piece.first] == i
    begin = found.text[0].decode()
    pixels = [np.asarray(image) for image in found.images]
    own = _oracle.Prompt(model, str(embedded.MMPROJ), text.removeprefix(begin), pixels)
    assert own.n_tokens == found.stats.prompt_cells
    np.testing.assert_array_equal(own.is_text, found.is_text)
    for one in found.methods:
        if one.method not in MERGING:
            continue
        context = _oracle.Context(model, n_ctx=1024, n_ubatch=512)
        context.prefill_prompt(own)
        k = [context.rows(i, False) for i in range(context.n_layer)]
        options = Options(one.method, important_ratio=0.15, recent_ratio=0.15)
        for i, layer in enumerate(one.layers):
            score = context.scores(i)
            np.testing.assert_allclose(layer.score, score, rtol=1e-3, atol=1e-4)
            np.testing.assert_array_equal(layer.kept, select(layer.score, found.is_text, options))
            for head, (kept, into) in enumerate(zip(layer.kept, layer.merged_into, strict=True)):
                evicted = evicted_cells(kept, own.n_tokens)
                similar = cosine(k[i][head], evicted, kept)
                chosen = similar[np.arange(len(evicted)), np.searchsorted(kept, into[evicted])]
                np.testing.assert_allclose(
                    chosen, similar.max(axis=1), atol=2e-3
                )  # keys are f16 in both caches
        result = context.compress(method=one.method, important_ratio=0.15, recent_ratio=0.15)
        same = [
            np.mean(a == layer.kept) for a, layer in zip(result["kept"], one.layers, strict=True)
        ]
        assert np.mean(same) > 0.99, "but where rounding tips a tie"


def test_a_context_is_apart_from_text(llm: Llava) -> None:
    notes = "The code of Anna is 4821. " * 4
    found = llm.explain(
        "Image 1:<image> What is in image 1?", [DEMO / "pic08.png"], context=notes, methods=["h2o"]
    )
    evictable = ~found.is_text & (found.piece < 0)
    assert evictable.sum() == found.stats.context_cells
    assert (
        b"".join(t for t, e in zip(found.text, evictable, strict=True) if e).decode().strip()
        == notes.strip()
    )


def test_a_context_is_scored_as_text_though_it_is_evicted_like_an_image(llm: Llava) -> None:
    """``lookm_plus`` sums over 5 neighbours, or, in text, over 9 cells if that is larger."""
    found = llm.explain(
        "Image 1:<image> What is the code of Anna?",
        [DEMO / "pic08.png"],
        context="The code of Anna is 4821. " * 4,
        methods=["h2o", "lookm_plus"],
        scorer="window",
    )
    raw, trailing = found.methods
    n = found.stats.prompt_cells
    n_before = n - max(1, int(0.02 * n))
    question = n - 1 - int(np.flatnonzero(found.piece >= 0)[-1])
    n_before = min(n_before, n - question)
    assert found.stats.context_cells > 20
    for sums, scored in zip(raw.layers, trailing.layers, strict=True):
        for c in range(n_before):
            image = found.piece[c] >= 0
            near = sums.score[:, max(0, c - 2) : min(n_before, c + 3)].astype(np.float64)
            before = sums.score[:, max(0, c - 8) : c + 1].astype(np.float64)
            mean = near.sum(axis=1) / 5
            if not image:
                mean = np.maximum(mean, before.sum(axis=1) / 5)
            np.testing.assert_allclose(scored.score[:, c], mean, rtol=1e-5, atol=1e-7)


def test_a_cache_that_stays_whole_is_explained(llm: Llava) -> None:
    found = llm.explain(
        "What is this?", [DEMO / "pic08.png"], methods=["origin", "h2o"], kv_ratio=1.0
    )
    for one in found.methods:
        assert one.layers == ()
        assert one.stats.note
        assert (one.share_kept() == 1).all()
        assert len(one.merges()) == 0
    assert found.picture().width == 1600
    assert "keeps the full cache" in found.methods[0].stats.note


def test_a_prompt_without_images_is_explained(llm: Llava) -> None:
    found = llm.explain("Who is Anna?", context="Anna is a doctor. " * 5, methods=["h2o"])
    assert found.pieces == ()
    assert found.images == ()
    found.picture()
    found.html()


def test_the_ratio_is_a_fifth_unless_given(llm: Llava) -> None:
    question, images = "What is in image 1?", [DEMO / "pic08.png"]
    kept = llm.explain(question, images, methods=["h2o"]).methods[0].stats
    assert kept.kept_cells == 2 * int(0.1 * kept.prompt_cells)
    with Llava.embedded(kv_ratio=0.5) as half:
        kept = half.explain(question, images, methods=["h2o"]).methods[0].stats
        assert kept.kept_cells == 2 * int(0.25 * kept.prompt_cells)
        kept = half.explain(question, images, methods=["h2o"], kv_ratio=0.3).methods[0].stats
        assert kept.kept_cells == 2 * int(0.15 * kept.prompt_cells)


def test_wrong_methods_names_and_layers_are_refused(llm: Llava, tmp_path: Path) -> None:
    image = [DEMO / "pic08.png"]
    for methods in ([], ["h2o", "h2o"], "h2o"):
        with pytest.raises(ValueError, match="methods is"):
            llm.explain("What?", image, methods=methods)
    with pytest.raises(ValueError, match="method is 'h2o', expected methods"):
        llm.explain("What?", image, method="h2o")
    with pytest.raises(ValueError, match="no_such"):
        llm.explain("What?", image, methods=["no_such"])
    found = llm.explain("What?", image, methods=["h2o"])
    with pytest.raises(ValueError, match=r"expected a name that ends in \.html or \.png"):
        found.save(tmp_path / "report.pdf")
    with pytest.raises(ValueError, match="layer is 99, expected 0 to"):
        found.picture(layer=99)


def test_prompts_are_explained_only_when_asked_for() -> None:
    session = Session(str(embedded.MODEL), str(embedded.MMPROJ), n_threads=1)
    pixels = [np.asarray(Image.open(DEMO / "pic08.png").convert("RGB"))]
    prompt = f"{session.media_marker} What?"
    session.prefill(prompt, pixels, kv_ratio=0.3, method="h2o")
    assert session.explanation is None
    session.prefill(prompt, pixels, kv_ratio=0.3, method="h2o", explain=True)
    assert session.explanation is not None
    session.prefill(prompt, pixels, kv_ratio=0.3, method="h2o")
    assert session.explanation is None


def test_a_prompt_of_another_thread_is_not_explained(
    prompt: DemoPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes through the cap, unlike an explained one, and waits for the explained answer."""
    under_way, asked = threading.Event(), threading.Event()
    answers: list[str] = []
    with Llava.embedded(kv_cells=160) as llm:
        alone = llm.ask(prompt.content, prompt.images)
        assert llm.stats.squeezed_cells > 0
        begin = Request.begin

        def slow(self: Request, session: Any, *, explain: bool = False) -> Any:
            under_way.set()
            assert asked.wait(30)
            return begin(self, session, explain=explain)

        def ask() -> None:
            assert under_way.wait(30)
            monkeypatch.undo()
            asked.set()
            answers.append(llm.ask(prompt.content, prompt.images))

        monkeypatch.setattr(Request, "begin", slow)
        thread = threading.Thread(target=ask)
        thread.start()
        found = llm.explain(
            "Image 1:<image> What is in image 1?", prompt.images[:1], methods=["h2o"]
        )
        thread.join()
        assert answers == [alone]
        again = llm.explain(
            "Image 1:<image> What is in image 1?", prompt.images[:1], methods=["h2o"]
        )
        assert found.methods[0].answer == again.methods[0].answer
        for a, b in zip(found.methods[0].layers, again.methods[0].layers, strict=True):
            np.testing.assert_array_equal(a.kept, b.kept)


def test_a_picture_of_a_line(llm: Llava, tmp_path: Path) -> None:
    line = Image.new("RGB", (3000, 2), "red")
    found = llm.explain(
        "<image> <image> What is in image 1?", [line, line.rotate(90, expand=True)], methods=["h2o"]
    )
    found.save(tmp_path / "line.png")
    with Image.open(tmp_path / "line.png") as drawn:
        assert drawn.width > 500


def test_two_threads_explain_the_same_prompt_alike(prompt: DemoPrompt) -> None:
    """Each gets its own prompts' cells."""
    with Llava.embedded() as llm:
        found: list[Explanation] = []
        threads = [
            threading.Thread(
                target=lambda: found.append(
                    llm.explain(prompt.content, prompt.images, methods=["h2o"])
                )
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 2
        for a, b in zip(found[0].methods[0].layers, found[1].methods[0].layers, strict=True):
            np.testing.assert_array_equal(a.kept, b.kept)
