"""Images that are read in part, in everything that reads images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lookm_cpp import Llava, plan
from lookm_cpp.embedded import MMPROJ, MODEL, DemoPrompt, demo_prompts
from lookm_cpp.options import LlavaOptions

HALF: Any = {"image_ratio": 0.5}
PRUNERS = ("divprune", "grid", "random")
N_CELLS = 64
"""Of each of the embedded model's images."""


@pytest.fixture(scope="module")
def prompt() -> DemoPrompt:
    return min(demo_prompts(), key=lambda one: len(one.images))


def head_of(prompt: DemoPrompt) -> tuple[str, str]:
    """The text up to the last image, and the question."""
    head, _, question = prompt.content.rpartition("<image>")
    return f"{head}<image>", question


def asked(llm: Llava, prompt: DemoPrompt, **options: Any) -> tuple[str, int, int, int]:
    answer = llm.ask(prompt.content, list(prompt.images), temperature=0, max_tokens=12, **options)
    stats = llm.stats
    return answer, stats.encoded_cells, stats.image_cells, stats.kept_cells


def test_cells_are_counted(prompt: DemoPrompt) -> None:
    n = len(prompt.images)
    with Llava.embedded(seed=0) as llm:
        for options, each in [
            ({}, 64),
            ({"image_ratio": 0.5}, 32),
            ({"image_ratio": 0.25}, 16),
            ({"image_ratio": 0.001}, 1),
            ({"image_cells": 20}, 20),
            ({"image_cells": 1000}, 64),
            ({"image_ratio": 0.5, "pruner": "none"}, 64),
            ({"image_ratio": 0.26, "pruner": "grid"}, 17),
        ]:
            _, encoded, read, _ = asked(llm, prompt, **options)  # type: ignore[arg-type]
            assert (encoded, read) == (64 * n, each * n), options
        text = llm.stats.text_cells
        asked(llm, prompt, **HALF, kv_ratio=0.2, reuse=False)
        stats = llm.stats
        assert stats.prompt_cells == text + 32 * n
        assert stats.kept_cells == pytest.approx(0.2 * stats.prompt_cells, abs=1)
        assert 0 < stats.prune_seconds < stats.prefill_seconds
        found = plan(MODEL, mmproj=MMPROJ, images=n, image_size=(64, 64), image_ratio=0.5)
        assert (found["cells_per_image"], found["encoded_cells_per_image"]) == (32, 64)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_what_comes_again(prompt: DemoPrompt, pruner: str, tmp_path: Path) -> None:
    """A prefix, a saved one, and a prompt that begins as an earlier one did: as asked alone."""
    options: Any = HALF | {"pruner": pruner, "kv_ratio": 0.3}
    head, question = head_of(prompt)
    with Llava.embedded(seed=0) as llm:
        alone = [
            llm.ask(
                f"{head}{text}",
                list(prompt.images),
                temperature=0,
                max_tokens=12,
                reuse=False,
                **options,
            )
            for text in (question, " Describe image 2.")
        ]
        kept = llm.stats.kept_cells
    with Llava.embedded(seed=0) as llm:
        prefix = llm.read(head, list(prompt.images), **options)
        for i in (0, 1, 0):
            text = (question, " Describe image 2.")[i]
            assert prefix.ask(text, temperature=0, max_tokens=12, **options) == alone[i]
            assert llm.stats.reused_cells > 0
        prefix.save(tmp_path / "read.lookm")
        # whole images do not go on from pruned ones, nor the other way round
        asked(llm, prompt)
        assert llm.stats.reused_cells < N_CELLS
        asked(llm, prompt, **options)
        assert llm.stats.reused_cells > 0
    with Llava.embedded(seed=0) as llm:
        again = llm.load_prefix(tmp_path / "read.lookm")
        answer = again.ask(" Describe image 2.", temperature=0, max_tokens=12, **options)
        assert answer == alone[1]
        assert llm.stats.kept_cells == kept
        assert llm.stats.reused_cells > 0


def test_the_question_chooses(prompt: DemoPrompt) -> None:
    """cdpruner reads other cells for another question, and none before there is a question."""
    head, question = head_of(prompt)
    options: Any = HALF | {"pruner": "cdpruner"}
    with Llava.embedded(seed=0) as llm:
        places = []
        for text in (question, " Is there a red shape in image 1?"):
            llm.ask(f"{head}{text}", list(prompt.images), max_tokens=1, **options)
            assert llm.stats.reused_cells < N_CELLS
            found = llm.explain(
                f"{head}{text}", list(prompt.images), methods=["h2o"], kv_ratio=0.5, **options
            )
            assert all(len(piece.pruned) == N_CELLS // 2 for piece in found.pieces)
            places.append([piece.pruned for piece in found.pieces])
        assert places[0] != places[1]
        with pytest.raises(ValueError, match='pruner: "cdpruner" chooses cells by the question'):
            llm.read(head, list(prompt.images), **options)
        text_only = llm.ask("Hello", temperature=0, max_tokens=2, **options)
        assert text_only == llm.ask("Hello", temperature=0, max_tokens=2)


def test_conversations(prompt: DemoPrompt, tmp_path: Path) -> None:
    """Turns bring pruned images; what is kept goes on from a file."""
    with Llava.embedded(seed=0) as llm:
        chat = llm.chat(kv_ratio=1.0, **HALF)
        first = chat.ask(prompt.content, list(prompt.images), temperature=0, max_tokens=12)
        assert chat.stats.image_cells == len(prompt.images) * 32
        chat.save(tmp_path / "chat.lookm")
        second = chat.ask("What is in image 1?", temperature=0, max_tokens=12)
    with Llava.embedded(seed=0) as llm:
        alone = llm.ask(prompt.content, list(prompt.images), temperature=0, max_tokens=12, **HALF)
        assert first == alone
        again = llm.load_state(tmp_path / "chat.lookm")
        assert again.ask("What is in image 1?", temperature=0, max_tokens=12) == second


def test_under_a_cap() -> None:
    """A prompt that is read through a cap: its cells are squeezed between the images."""
    long = max(demo_prompts(), key=lambda one: len(one.images))
    with Llava.embedded(seed=0, kv_cells=300) as llm:
        _, encoded, read, kept = asked(llm, long, **HALF)
        assert (encoded, read) == (64 * len(long.images), 32 * len(long.images))
        assert kept <= 300 < llm.stats.prompt_cells


def test_small_batches(prompt: DemoPrompt) -> None:
    """Positions do not depend on how an image is divided among batches."""
    answers = set()
    for n_batch in (512, 20, 7):
        with Llava.embedded(seed=0, n_batch=n_batch, n_ubatch=n_batch) as llm:
            answers.add(asked(llm, prompt, **HALF, kv_ratio=0.4))
    assert len(answers) == 1


@pytest.mark.parametrize("type_k", ["q8_0", "q4_0", "f32"])
def test_types_of_cache(prompt: DemoPrompt, type_k: str) -> None:
    with Llava.embedded(seed=0, type_k=type_k, type_v=type_k) as llm:
        answer = asked(llm, prompt, **HALF)
        assert answer[0] == prompt.answer
        report = llm.compare(
            prompt.content, list(prompt.images), kv_ratio=0.5, max_tokens=8, **HALF
        )
        assert report.fidelity is not None
        assert report.fidelity.top1_agreement > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_ratio": 0.0}, r"image_ratio: 0 is outside \(0, 1\]"),
        ({"image_ratio": 1.5}, r"image_ratio: 1.5 is outside"),
        ({"image_ratio": float("nan")}, r"image_ratio: nan"),
        ({"image_ratio": "half"}, r"image_ratio is 'half', expected"),
        ({"image_cells": 0}, r"image_cells: 0 is too small; expected 1 or more"),
        ({"image_cells": 1.5}, r"image_cells is 1.5, expected a whole number"),
        ({"image_cells": 9, "image_ratio": 0.5}, r"image_cells: 9 does not go with image_ratio"),
        ({"pruner": "best"}, r'pruner: "best" is unknown; expected one of none, divprune'),
    ],
)
def test_bad_options(prompt: DemoPrompt, options: Any, message: str) -> None:
    with Llava.embedded() as llm, pytest.raises(ValueError, match=message):
        asked(llm, prompt, **options)


def test_on_every_backend(backend: LlavaOptions, prompt: DemoPrompt) -> None:
    """Positions are replaced where the rows are rotated."""
    with Llava.embedded(seed=0) as llm:
        expected = asked(llm, prompt, **HALF, kv_ratio=0.4)
    with Llava.embedded(**backend) as llm:
        assert asked(llm, prompt, **HALF, kv_ratio=0.4) == expected


def test_a_call_replaces_the_objects(prompt: DemoPrompt) -> None:
    """image_ratio and image_cells belong together: one of a call replaces both of the object."""
    with Llava.embedded(seed=0, image_ratio=0.5) as llm:
        assert asked(llm, prompt)[2] == 32 * len(prompt.images)
        assert asked(llm, prompt, image_cells=8)[2] == 8 * len(prompt.images)
        assert asked(llm, prompt, image_ratio=1.0)[2] == 64 * len(prompt.images)
