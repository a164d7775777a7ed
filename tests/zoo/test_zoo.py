"""Every model of the zoo: images, prefill, compression and decoding compared with llama.cpp's code.

Three runs of a prompt are compared. ``Llava`` and ``Session`` are what users call. ``packed`` takes
the same steps with a bare context, so that its logits can be read. ``masked`` keeps the full cache,
which was filled by mtmd only, and attends to the kept cells only.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from core_session import Session
from lookm_cpp import Llava
from PIL import Image

from zoo.decoder_table import DECODERS
from zoo.decoders import FIRST_BYTE
from zoo.pairs import PAIRS, Files, Pair, write_pair

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
N_DECODE = 32
QUESTION = "A:<image> B:<image> Which?"
N_QUESTION = 1 + len("A:") + len(" B:") + len(" Which?")
"""Text tokens: begin of text, and one for each byte."""
RATIOS: Any = {"important_ratio": 0.2, "recent_ratio": 0.1}
ANSWER = [FIRST_BYTE + (37 * i + 5) % 256 for i in range(N_DECODE)]


class Case(NamedTuple):
    """A pair with its prompt."""

    pair: Pair
    files: Files
    images: list[Image.Image]
    model: Any
    prompt: Any

    def context(self, *, flash_attn: bool = True, n_ubatch: int = 512) -> Any:
        """A context with the options that ``Llava`` uses."""
        return _oracle.Context(self.model, n_ctx=1024, n_ubatch=n_ubatch, flash_attn=flash_attn)

    def llava(self, **options: Any) -> Llava:
        """The pair as users open it."""
        return Llava(self.files.model, mmproj=self.files.mmproj, n_threads=1, **options)


@pytest.fixture(scope="module", params=PAIRS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    pair = PAIRS[request.param]
    files = write_pair(request.param, tmp_path_factory.mktemp("zoo"))
    rng = np.random.default_rng(7)
    pixels = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in pair.images
    ]
    model = _oracle.Model.load(str(files.model))
    text = QUESTION.replace("<image>", _oracle.marker)
    prompt = _oracle.Prompt(model, str(files.mmproj), text, pixels)
    return Case(pair, files, [Image.fromarray(p) for p in pixels], model, prompt)


def nmse(a: Sequence[Array], b: Sequence[Array]) -> float:
    x, y = np.stack(a), np.stack(b)
    return float(np.sum((x - y) ** 2) / np.sum(y**2))


def decode(context: Any, tokens: list[int]) -> list[Floats]:
    return [context.decode(token) for token in tokens]


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    x = logits.astype(np.float64)
    return np.asarray(x - np.logaddexp.reduce(x))


def best_unused(context: Any, logits: Floats) -> list[int]:
    """Each time the most likely token that has not occurred yet, so that nothing is repeated."""
    tokens: list[int] = []
    while len(tokens) < N_DECODE:
        logits[tokens] = -np.inf
        tokens.append(int(np.argmax(logits)))
        logits = context.decode(tokens[-1])
    return tokens


def texts(tokens: list[int], pair: Pair) -> list[bytes]:
    """The text that a session returns for them."""
    vocabulary = (
        [bytes([byte]) for byte in range(256)]
        + [b" "]
        + [text.encode() for text in pair.special_tokens]
    )
    return [vocabulary[token - FIRST_BYTE] for token in tokens]


def test_cells_are_counted(case: Case) -> None:
    """Counts by hand, by mtmd and by the session are equal."""
    pieces = [n for tiles in case.pair.tiles for n in tiles]
    n_text = N_QUESTION + case.pair.n_marks
    assert case.prompt.n_image == pieces
    assert case.prompt.has_wider_embeddings == (
        "n_deepstack_layers" in DECODERS[case.pair.decoder].metadata
    )
    assert case.prompt.n_tokens == n_text + sum(pieces)
    n_pos = n_text + sum(case.pair.sides or pieces)
    assert case.prompt.n_pos == n_pos
    with case.llava() as llm:
        steps: list[tuple[str, int, int]] = []
        llm.ask(QUESTION, case.images, max_tokens=1, progress=lambda *step: steps.append(step))
        assert [step[1:] for step in steps if step[0] == "encode"] == [
            (i + 1, len(pieces)) for i in range(len(pieces))
        ]
        assert llm.stats.text_cells == n_text
        assert llm.stats.image_cells == sum(pieces)
        assert llm.stats.encode_images == len(case.images)


def test_the_encoder_reads_nothing_that_nobody_has_written(case: Case) -> None:
    """Such memory holds NaN here (mtmd_prompt.cpp); an unchanged pixtral.cpp would read some."""
    assert np.isfinite(case.context().prefill_prompt(case.prompt, scored=False)).all()


def test_a_context_before_the_marks(case: Case) -> None:
    """Its cells do not count as text, while the tokens around images and tiles do."""
    story = "He came. She saw. " * 4
    with case.llava(**RATIOS) as llm:
        llm.ask(QUESTION, case.images, context=story, max_tokens=1)
        stats = llm.stats
    n_context, n_image = len(story + "\n"), sum(case.prompt.n_image)
    assert (stats.context_cells, stats.image_cells) == (n_context, n_image)
    # llama.cpp puts one between the text parts of a message, if the template takes no parts
    n_break = 1
    assert stats.text_cells == N_QUESTION + n_break + case.pair.n_marks
    assert stats.kept_cells == int(0.2 * stats.prompt_cells) + int(0.1 * stats.prompt_cells)


def test_the_prompt_is_read_with_the_full_cache(case: Case) -> None:
    plain, tapped = case.context(), case.context()
    expected = plain.prefill_prompt(case.prompt, scored=False)
    np.testing.assert_array_equal(tapped.prefill_prompt(case.prompt), expected)
    with case.llava() as llm:
        full = llm.ask(QUESTION, case.images, max_tokens=1)
        assert llm.ask(QUESTION, case.images, max_tokens=1, kv_ratio=0.3) == full


def test_scores_are_all_the_attention_there_is(case: Case) -> None:
    """Each query of each layer gives 1 in total, with flash attention on and off."""
    on, off = case.context(), case.context(flash_attn=False)
    for context in (on, off):
        context.prefill_prompt(case.prompt)
    for i, n_readers in enumerate(case.pair.readers or (1,) * on.n_layer):
        a, b = on.scores(i), off.scores(i)
        np.testing.assert_allclose(a.sum(axis=1), n_readers * case.prompt.n_tokens, rtol=1e-5)
        # queries of later layers differ by flash attention's rounding in the layers before
        assert np.abs(a - b).sum() / b.sum() < 1e-2


@pytest.mark.parametrize("n_last", [5, 30])
def test_scores_of_the_last_queries_alone(case: Case, n_last: int) -> None:
    """In ubatches that contain none, some and all of those queries."""
    context = case.context(n_ubatch=case.pair.small_ubatch)
    context.prefill_prompt(case.prompt, first_query=case.prompt.n_tokens - n_last)
    for i, n_readers in enumerate(case.pair.readers or (1,) * context.n_layer):
        np.testing.assert_allclose(context.scores(i).sum(axis=1), n_readers * n_last, rtol=1e-5)


@pytest.mark.parametrize(
    ("flash_attn", "small_ubatch"), [(True, False), (False, False), (True, True)]
)
def test_eviction_equals_masked_attention(case: Case, flash_attn: bool, small_ubatch: bool) -> None:
    n_ubatch = case.pair.small_ubatch if small_ubatch else 512
    packed, masked = (
        case.context(flash_attn=flash_attn, n_ubatch=n_ubatch),
        case.context(flash_attn=False),
    )
    packed.prefill_prompt(case.prompt)
    result = packed.compress(method="text_prior_h2o", **RATIOS)
    n = case.prompt.n_tokens
    assert result["n_keep"] == int(0.2 * n) + int(0.1 * n)
    assert (result["n_text"], result["n_image"]) == (
        n - sum(case.prompt.n_image),
        sum(case.prompt.n_image),
    )
    assert packed.n_layer == (case.pair.n_layer or DECODERS[case.pair.decoder].n_layer)
    is_text = np.array(case.prompt.is_text)
    for kept in result["kept"]:
        assert all(set(np.flatnonzero(is_text)) <= set(row) for row in kept), "text stays"

    masked.prefill_prompt(case.prompt, scored=False)
    masked.mask(result["kept"], n)
    expected = decode(masked, ANSWER)
    # flash attention sums V in f16 where the oracle does not
    assert nmse(decode(packed, ANSWER), expected) < (1e-5 if flash_attn else 1e-6)
    unmasked = case.context(flash_attn=False)
    unmasked.prefill_prompt(case.prompt, scored=False)
    assert nmse(decode(unmasked, ANSWER), expected) > 1e-3, (
        "the mask must matter, or this test could not fail"
    )


def test_freed_cells_are_freed(case: Case) -> None:
    """Attention runs over blocks of 256 cells: up to two for a prompt, one after compression."""
    packed, full = case.context(flash_attn=False), case.context(flash_attn=False)
    packed.prefill_prompt(case.prompt)
    result = packed.compress(**RATIOS)
    assert packed.n_used == result["n_keep"] < case.prompt.n_tokens
    full.prefill_prompt(case.prompt, scored=False)
    assert full.n_used == case.prompt.n_tokens
    for context, n_cells in ((packed, result["n_keep"]), (full, case.prompt.n_tokens)):
        context.mask([], 0)  # only to learn how many cells attention runs over
        context.decode(ANSWER[0])
        assert context.last_n_kv == -(-(n_cells + 1) // 256) * 256
        assert context.n_used == n_cells + 1


@pytest.mark.parametrize("method", ["text_prior_h2o", "text_prior_pivot_merge"])
def test_the_session_decodes_what_the_packed_cache_says(case: Case, method: str) -> None:
    """The same tokens from the session as from mtmd's batches."""
    packed = case.context()
    logits = packed.prefill_prompt(case.prompt)
    result = packed.compress(method=method, **RATIOS)
    assert packed.pos_max == case.prompt.n_pos - 1, "the next token comes after the whole prompt"
    tokens = best_unused(packed, logits)
    assert packed.pos_max == case.prompt.n_pos - 1 + N_DECODE
    session = Session(str(case.files.model), str(case.files.mmproj), n_threads=1)
    text = QUESTION.replace("<image>", session.media_marker)
    pixels = [np.asarray(image) for image in case.images]
    session.prefill(text, pixels, kv_ratio=0.3, method=method, **RATIOS)
    stats = session.stats
    assert (stats["prompt_cells"], stats["kept_cells"]) == (case.prompt.n_tokens, result["n_keep"])
    assert stats["kv_bytes_used_after"] == packed.bytes_per_cell * result["n_keep"]
    assert stats["note"] == ""
    session.start(temperature=0.0, repeat_penalty=1e6)
    assert [session.next() for _ in tokens] == texts(tokens, case.pair)


def test_what_the_session_says_after_given_tokens(case: Case) -> None:
    """The packed cache's distributions; and then the answer, as if they had not been asked for.

    The session decodes the tokens together and the packed cache one by one, so sums are rounded
    otherwise.
    """
    packed = case.context()
    logits = packed.prefill_prompt(case.prompt)
    packed.compress(method="text_prior_h2o", **RATIOS)
    expected = decode(packed, ANSWER)
    answering = case.context()
    answering.prefill_prompt(case.prompt)
    answering.compress(method="text_prior_h2o", **RATIOS)
    tokens = best_unused(answering, logits)
    session = Session(str(case.files.model), str(case.files.mmproj), n_threads=1)
    text = QUESTION.replace("<image>", session.media_marker)
    pixels = [np.asarray(image) for image in case.images]
    session.prefill(
        text, pixels, kv_ratio=0.3, method="text_prior_h2o", n_answer=N_DECODE, **RATIOS
    )
    found = session.distributions(ANSWER)
    assert nmse(list(found), [log_softmax(row) for row in expected]) < 1e-5
    session.start(temperature=0.0, repeat_penalty=1e6)
    assert [session.next() for _ in tokens] == texts(tokens, case.pair)
