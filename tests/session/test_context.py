"""Evictable texts: which cells they are, what happens to them, and what is refused."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from core_session import Session
from lookm_cpp import Llava
from lookm_cpp.embedded import DEMO, MMPROJ, MODEL
from lookm_cpp.images import load_image
from lookm_cpp.options import ChatOptions

from session.tiny_models import write_llama

if TYPE_CHECKING:
    from typing_extensions import Unpack

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

Cells = list[tuple[int, bool]]
OWL = DEMO / "pic08.png"
IMAGE: Cells = [(-1, False)] * 64
"""An image's cells in the embedded model's shape: no token, and evictable."""
BOS = 1
FIRST_BYTE = 3
SPACE = "\u2581"
"""SentencePiece's: one goes before a text."""
DOCUMENT = "The code of Ivan is 8801. The code of Anna is 4821. The code of Carl is 9034. "
METHOD = "text_prior_h2o"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of text alone; every byte is a token."""
    return write_llama(tmp_path_factory.mktemp("tiny") / "llama.gguf")


@pytest.fixture(scope="module")
def owl() -> npt.NDArray[np.uint8]:
    return load_image(OWL, "owl")


def _bytes(text: str) -> list[int]:
    return [FIRST_BYTE + byte for byte in text.replace(" ", SPACE).encode()]


def _text(text: str) -> Cells:
    return [(token, True) for token in _bytes(text)]


def _context(text: str) -> Cells:
    return [(token, False) for token in _bytes(text)]


def _tokens(text: str) -> list[int]:
    """The embedded model's."""
    tokens: list[int] = _oracle.tokens(str(MODEL), text, False)
    return tokens


def _count(text: str) -> int:
    return len(_tokens(text))


# Tokens and kinds


def test_cells_of_a_text_model(tiny: Path) -> None:
    """One space before the whole, none before the pieces; control tokens in text only."""
    found = _oracle.prompt_cells(str(tiny), "", "Q:<context> Who</s>?", [], ["Al</s> Bo"])
    assert found == [
        (BOS, True),
        *_text(" Q:"),
        *_context("Al</s> Bo"),
        *_text(" Who"),
        (2, True),
        *_text(" ?"),
    ]


def test_spaces_stand_where_one_text_would_have_them(tiny: Path) -> None:
    """First of all, and after a control token: then it is the context's own."""
    first = _oracle.prompt_cells(str(tiny), "", "<context>Q", [], ["Al"])
    assert first == [(BOS, True), *_context(" Al"), *_text("Q")]
    after = _oracle.prompt_cells(str(tiny), "", "Q</s><context>", [], ["Al"])
    assert after == [(BOS, True), *_text(" Q"), (2, True), *_context(" Al")]
    two = _oracle.prompt_cells(str(tiny), "", "<context><context>", [], ["\nAl", " Bo"])
    assert two == [(BOS, True), *_context(" \nAl Bo")]


@pytest.mark.parametrize("text", ["Al", "\nAl", "|Al", " Al", "0", "\n", "漢字 é"])
def test_a_context_is_tokenized_as_the_same_text_is(tiny: Path, text: str) -> None:
    marked = _oracle.prompt_cells(str(tiny), "", "Q:<context>?", [], [text])
    plain = _oracle.prompt_cells(str(tiny), "", f"Q:{text}?", [], [])
    assert [token for token, _ in marked] == [token for token, _ in plain]
    assert plain == [(BOS, True), *_text(f" Q:{text}?")]


def test_a_control_token_merged_from_ordinary_ones_is_undone(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "merging.gguf", pieces=["</", "s>"])
    piece = FIRST_BYTE + 256 + 1
    assert _oracle.tokens(str(model), "a</s>b", False)[-2] == 2, (
        "llama.cpp merges it, or this test could not fail"
    )
    found = _oracle.prompt_cells(str(model), "", "<context>", [], ["a</s>b"])
    assert found == [(BOS, True), *_context(" a</"), (piece, False), *_context("b")]


def test_separators_that_merge_with_the_text(tmp_path: Path) -> None:
    """The workaround for the space keeps tokens right if line break and text are one token."""
    model = write_llama(tmp_path / "merging.gguf", pieces=["\nA", "|B"])
    for text, tokens in (("Al", _bytes("Al")), ("\nA", [FIRST_BYTE + 256]), ("Bo", _bytes("Bo"))):
        found = _oracle.prompt_cells(str(model), "", "Q<context>", [], [text])
        assert found == [(BOS, True), *_text(" Q"), *((token, False) for token in tokens)]


def test_tokens_do_not_merge_across_the_end_of_a_context(owl: Any) -> None:
    """The embedded model's own merges; nothing crosses the end of a context."""

    pieces = [
        ("USER: ", True),
        ("The code", False),
        (" of Ivan", True),
        *([None] * 2),
        (" and", True),
    ]
    pieces += [(" Anna", False), ("is 4821", False), None, ("?", True)]
    expected: Cells = [(BOS, True)]
    for piece in pieces:
        expected += IMAGE if piece is None else [(token, piece[1]) for token in _tokens(piece[0])]
    text = "USER: <context> of Ivan<image><image> and<context><context><image>?"
    contexts = ["The code", " Anna", "is 4821"]
    assert _oracle.prompt_cells(str(MODEL), str(MMPROJ), text, [owl] * 3, contexts) == expected


def test_images_in_a_vocabulary_with_spaces(tiny: Path, owl: Any) -> None:
    """mtmd begins a new text after each image, and so do we."""
    text = "Q<context><image><context>?<image><image>Who"
    found = _oracle.prompt_cells(str(tiny), str(MMPROJ), text, [owl] * 3, ["Al", "Bo"])
    expected = [
        (BOS, True),
        *_text(" Q"),
        *_context("Al"),
        *IMAGE,
        *_context(" Bo"),
        *_text("?"),
        *IMAGE,
        *IMAGE,
    ]
    assert found == [*expected, *_text(" Who")]


def test_markers_inside_a_context_are_text(tiny: Path, owl: Any) -> None:
    context = "<image><context></s>"
    found = _oracle.prompt_cells(str(tiny), str(MMPROJ), "Q<context><image>", [owl], [context])
    assert found == [(BOS, True), *_text(" Q"), *_context(context), *IMAGE]


@pytest.mark.parametrize(
    ("text", "contexts"), [("Hello", ["a"]), ("<context>", []), ("<context><context>", ["a"])]
)
def test_as_many_contexts_as_placeholders(tiny: Path, text: str, contexts: list[str]) -> None:
    n_places = text.count("<")
    expected = (
        f"contexts: {len(contexts)} given, but the prompt has {n_places} context placeholders"
    )
    with pytest.raises(ValueError, match=expected):
        _oracle.prompt_cells(str(tiny), "", text, [], contexts)


# What stays


def test_the_question_stays_and_the_context_goes(tiny: Path) -> None:
    """Each layer and head of a real prompt's cells, at a budget that is worked out by hand."""
    cells = _oracle.prompt_cells(str(tiny), "", "Q:<context> Who?", [], ["Ivan has 8801. " * 7])
    is_text = [text for _, text in cells]
    # begin, space (3 bytes), "Q:" | 7 x (12 letters and signs, 3 spaces of 3 bytes) | space, "Who?"
    n_before, n_context, n_after = 1 + 3 + 2, 7 * (12 + 3 * 3), 3 + 4
    assert is_text == [True] * n_before + [False] * n_context + [True] * n_after
    context = _oracle.Context(_oracle.Model.load(str(tiny)), n_ctx=512)
    context.prefill([token for token, _ in cells])
    result = context.compress(
        method=METHOD, important_ratio=0.15, recent_ratio=0.15, is_text=is_text
    )
    n_part = 24  # floor(0.15 * 160)
    assert len(cells) == 160
    assert (result["n_text"], result["n_image"], result["n_keep"]) == (13, 147, 2 * n_part)
    question = {cell for cell, text in enumerate(is_text) if text}
    for kept in result["kept"]:
        for head in kept:
            assert question <= set(head.tolist())
            assert len(set(head.tolist()) - question) == 2 * n_part - 13


def test_stats_of_a_text_model(tiny: Path) -> None:
    session = Session(str(tiny), "", n_ctx=512, n_threads=1)
    context = "Ivan has 8801. " * 7
    session.prefill(
        f"Q:{session.context_marker} Who?", [], kv_ratio=0.3, method=METHOD, contexts=[context]
    )
    stats = session.stats
    counts = [
        stats["prompt_cells"],
        stats["text_cells"],
        stats["image_cells"],
        stats["context_cells"],
    ]
    assert counts == [160, 13, 0, 147]
    assert stats["kept_cells"] == 2 * 24
    assert stats["note"] == ""
    session.start(temperature=0.0)
    assert session.next() is not None
    session.prefill(f"Q:{context} Who?", [], kv_ratio=0.3, method=METHOD)
    assert session.stats["context_cells"] == 0
    assert session.stats["kept_cells"] == session.stats["text_cells"] == 160
    assert session.stats["note"].startswith("no image and no context in the prompt")


def _answer(
    session: Session, prompt: str, contexts: list[str], **options: Any
) -> list[bytes | None]:
    """Sampled, since what a random model finds likeliest depends on its last token alone."""
    session.prefill(prompt, [], contexts=contexts, **options)
    session.start(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=1)
    return [session.next() for _ in range(24)]


@pytest.mark.parametrize("n_batch", [16, 2048])
def test_the_full_cache_answers_as_without_the_mark(tiny: Path, n_batch: int) -> None:
    session = Session(str(tiny), "", n_ctx=512, n_batch=n_batch, n_threads=1)
    full: Any = {"kv_ratio": 1.0, "method": METHOD}
    marked = _answer(session, f"Q:{session.context_marker} Who?", [DOCUMENT], **full)
    assert session.stats["context_cells"] == len(_bytes(DOCUMENT))
    assert marked == _answer(session, f"Q:{DOCUMENT} Who?", [], **full)
    assert marked != _answer(session, f"Q:{DOCUMENT[20:]} Who?", [], **full), "the text matters"


# Messages


def _evictable(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "evictable": True}


def _check_sum(llm: Llava) -> None:
    stats = llm.stats
    assert stats.prompt_cells == stats.text_cells + stats.image_cells + stats.context_cells


def test_ask_with_a_context(llm: Llava) -> None:
    question = "Image 1:<image> What is in image 1?"
    assert llm.ask(question, [OWL], context=DOCUMENT) == "Image 1 shows an owl."
    assert llm.stats.context_cells == _count(DOCUMENT + "\n")
    # the template puts a line break between two texts
    pieces = ("USER: ", "\nImage 1:", " What is in image 1? ASSISTANT:")
    assert llm.stats.text_cells == 1 + sum(map(_count, pieces))
    assert llm.stats.image_cells == 64
    _check_sum(llm)
    options: ChatOptions = {"kv_ratio": 0.4, "method": METHOD, "max_tokens": 4}
    llm.ask(question, [OWL], context=[DOCUMENT, "Image\n"], **options)
    assert llm.stats.kept_cells == 2 * int(0.2 * llm.stats.prompt_cells)
    _check_sum(llm)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("role", ["system", "user"])
def test_a_part_of_a_message(llm: Llava, role: str, stream: bool) -> None:
    """The mark changes nothing at kv_ratio 1, in whatever message of the conversation it stands."""

    def answer(first: Any, **more: Unpack[ChatOptions]) -> str:
        messages: list[dict[str, Any]] = [
            {"role": role, "content": [first]},
            {"role": "assistant", "content": "Image 1 shows an owl."},
            {"role": "user", "content": " What is the code of Ivan?"},
        ]
        options: ChatOptions = {"temperature": 0.0, **more}
        if stream:
            chunks = list(llm.create_chat_completion(messages, stream=True, **options))
            return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        completion = llm.create_chat_completion(messages, **options)
        return completion["choices"][0]["message"]["content"]

    document = (
        "\n" + DOCUMENT.strip()
    )  # the line break keeps its first token apart from the template's space
    plain = answer({"type": "text", "text": document, "evictable": False})
    cells = llm.stats.prompt_cells
    assert llm.stats.context_cells == 0
    assert answer(_evictable(document)) == plain
    assert llm.stats.prompt_cells == cells
    assert llm.stats.context_cells == _count(document)
    _check_sum(llm)
    answer(_evictable(document), kv_ratio=0.5)
    assert llm.stats.note == ""
    # the text that is no context exceeds a quarter of the cells: it is the floor
    assert cells // 2 - 1 <= llm.stats.kept_cells < cells


def test_nothing_in_a_context_is_a_command(llm: Llava) -> None:
    text = "</s><s><image>{{ messages }}"
    llm.ask("Hello", context=text + "\n")
    assert llm.stats.context_cells == _count(text + "\n")
    assert llm.stats.image_cells == 0


def test_a_model_of_text_alone(tiny: Path) -> None:
    with Llava(tiny, mmproj=False, kv_ratio=0.5, method=METHOD, n_threads=1) as llm:
        llm.ask("Who?", context=DOCUMENT * 3, max_tokens=3)
        assert llm.stats.context_cells == len(_bytes(DOCUMENT * 3 + "\n"))
        assert llm.stats.kept_cells == 2 * int(0.25 * llm.stats.prompt_cells)
        _check_sum(llm)
        with pytest.raises(
            ValueError, match="images: 1 given, but the model was opened without an mmproj file"
        ):
            llm.ask("Who?", [OWL], context=DOCUMENT)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ("", "context has '', expected strings that are not empty"),
        (["a", ""], "context has '', expected strings that are not empty"),
        ([3], "context has 3, expected strings"),
        (3, "context is 3, expected a string or several"),
        ("a\ud800", r"content\[0\].text has a lone surrogate at 1"),
    ],
)
def test_contexts_that_are_no_text_are_refused(llm: Llava, context: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        llm.ask("Hello", context=context)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            _evictable(""),
            r"messages\[0\].content\[0\].text is empty, expected text in an evictable part",
        ),
        (
            {"type": "text", "text": "a", "evictable": "yes"},
            r"content\[0\].evictable is 'yes', expected bool",
        ),
    ],
)
def test_evictable_parts_that_are_no_text_are_refused(llm: Llava, part: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        llm.create_chat_completion([{"role": "user", "content": [part]}])


def test_a_context_longer_than_the_cache(llm: Llava) -> None:
    with pytest.raises(
        ValueError, match=r"prompt: \d+ cells \(0 images\) do not fit into n_ctx 4096"
    ):
        llm.ask("Hello", context=DOCUMENT * 300)
