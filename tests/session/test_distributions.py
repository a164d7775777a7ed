"""What a session says after given tokens: against a bare context, and against its own answers.

Other memories (M-RoPE, windows, hybrids) are in tests/zoo/test_zoo.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from core_session import Session
from lookm_cpp.embedded import MMPROJ, MODEL
from lookm_cpp.images import load_image

from session.tiny_models import write_llama

_oracle: Any = import_module("lookm_cpp._oracle")  # built for tests only, so it has no stub

PROMPT = "USER:Where_was_the_owl_in_the_morning,_and_where_is_it_now?_ASSISTANT:" * 4
"""Of ``write_llama``, a token is a byte; SentencePiece puts a space before the text."""
SPACE, BOS, FIRST_BYTE, N_VOCAB = "\u2581", 1, 3, 259
RATIOS: Any = {"important_ratio": 0.2, "recent_ratio": 0.1}
N_ANSWER = 48


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_llama(tmp_path_factory.mktemp("models") / "model.gguf", n_ctx=1024))


@pytest.fixture
def session(tiny: str) -> Iterator[Session]:
    opened = Session(tiny, "", n_threads=1)
    opened.prefill(PROMPT, [], n_answer=N_ANSWER)
    yield opened
    opened.close()


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    x = logits.astype(np.float64)
    return np.asarray(x - np.logaddexp.reduce(x))


def answer(session: Session, **sampling: Any) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Its tokens, and the distributions that all but the first were chosen from."""
    session.start(temperature=0.0, **sampling)
    tokens: list[int] = []
    rows = []
    while len(tokens) < N_ANSWER:
        ended = session.next() is None
        if tokens:
            rows.append(session.log_probs())
        if ended:
            break
        assert session.token is not None
        tokens.append(session.token)
    return tokens, np.array(rows)


@pytest.mark.parametrize("method", ["origin", "h2o", "pivot_merge"])
def test_they_are_those_of_a_bare_context(tiny: str, method: str) -> None:
    """NumPy's log-softmax of the logits that llama.cpp gives token by token.

    Decoded one by one they differ by the rounding of a float32. Together, flash attention adds up
    in another order, in f16.
    """
    how: Any = {} if method == "origin" else {"method": method, **RATIOS}
    context = _oracle.Context(_oracle.Model.load(tiny), n_ctx=1024, n_ubatch=512)
    context.prefill([BOS, *(FIRST_BYTE + byte for byte in (SPACE + PROMPT).encode())])
    if how:
        context.compress(**how)
    given = [(37 * i + 5) % N_VOCAB for i in range(N_ANSWER)]
    expected = np.stack([log_softmax(context.decode(token)) for token in given])
    session = Session(tiny, "", n_threads=1)
    session.prefill(PROMPT, [], n_answer=N_ANSWER, **how)
    found = session.distributions(given)
    assert found.dtype == np.float32
    assert found.shape == (N_ANSWER, N_VOCAB)
    np.testing.assert_allclose(found, expected, atol=1e-2)
    session.prefill(PROMPT, [], n_answer=N_ANSWER, **how)
    one_by_one = np.concatenate([session.distributions([token]) for token in given])
    np.testing.assert_allclose(one_by_one, expected, atol=2e-6)
    np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kept", ["f16", "q8_0"])
@pytest.mark.parametrize("ratio", [1.0, 0.35])
def test_they_lead_along_the_greedy_answer(ratio: float, kept: str) -> None:
    """One token at a time they are the answer's own, bit by bit; and the answer can still come.

    ``kept``: the type of the cells that are answered from.
    """
    session = Session(str(MODEL), str(MMPROJ), n_threads=1, kept_type_k=kept, kept_type_v=kept)
    images = [load_image(str(MODEL.parent / "demo" / f"pic0{i}.png"), "image") for i in (3, 8)]
    text = "USER: Image 1:{0} Image 2:{0} Describe all images. ASSISTANT:"
    how: Any = {"kv_ratio": ratio, "method": "h2o"}
    session.read(text.format(session.media_marker), images, n_answer=N_ANSWER, **how)
    session.trial(**how)
    tokens, rows = answer(session)
    assert len(set(tokens)) > 5, "the answer must say something"
    session.trial(**how)
    found = session.distributions(tokens)
    assert found.argmax(axis=1)[: len(tokens) - 1].tolist() == tokens[1:]
    again, same = answer(session)
    assert again == tokens
    np.testing.assert_array_equal(same, rows)
    session.trial(**how)
    one_by_one = np.concatenate([session.distributions([token]) for token in tokens])
    np.testing.assert_array_equal(one_by_one[: len(rows)], rows)


def test_more_tokens_than_the_context_has_cells_for(tiny: str) -> None:
    """It grows, as it does for an answer; a cap is not exceeded."""
    given = [(7 * i) % N_VOCAB for i in range(500)]
    small, large = (Session(tiny, "", n_threads=1, shrink=shrink) for shrink in (True, False))
    found = []
    for session in (small, large):
        session.prefill(PROMPT, [])
        found.append(session.distributions(given))
    np.testing.assert_allclose(found[0], found[1], atol=1e-2)
    capped = Session(tiny, "", n_threads=1, kv_cells=300)
    capped.prefill(PROMPT, [], n_answer=16)
    capped.distributions(given[:16])
    with pytest.raises(ValueError, match=r"tokens: 1 of them do not fit .* at most 0"):
        capped.distributions(given[:1])


def test_calls_continue_each_other(session: Session) -> None:
    """Of 40 tokens, 32 are decoded together."""
    given = [(7 * i) % N_VOCAB for i in range(40)]
    whole = session.distributions(given)
    session.prefill(PROMPT, [], n_answer=N_ANSWER)
    parts = np.concatenate([session.distributions(given[:11]), session.distributions(given[11:])])
    np.testing.assert_allclose(parts, whole, atol=1e-2)


def test_trials_and_follow_forget_them(session: Session) -> None:
    session.read(PROMPT, [], **RATIOS, method="h2o", n_answer=N_ANSWER)
    given = [5, 6, 7]
    found = []
    for _ in range(2):
        session.trial(**RATIOS, method="h2o")
        found.append(session.distributions(given))
    np.testing.assert_array_equal(found[0], found[1])
    session.follow(" Where?")
    after = session.distributions(given)
    session.follow(" Where?")
    np.testing.assert_array_equal(session.distributions(given), after)
    assert np.abs(after - found[0]).max() > 0.1
    with pytest.raises(ValueError, match="text: it is empty"):
        session.follow("")
    tokens, _ = answer(session)
    session.trial(**RATIOS, method="h2o")
    session.follow(" Where?")
    assert answer(session)[0] == tokens, "the tokens before the refused text are gone"


def test_what_is_refused(session: Session) -> None:
    """The prompt stays, and its answer can begin."""
    first = session.distributions([5])
    for token in (-1, N_VOCAB, 2**31 - 1):
        with pytest.raises(ValueError, match=f"tokens: {token} is none of the vocabulary's 259"):
            session.distributions([5, token])
    with pytest.raises(ValueError, match=r"tokens: 1024 of them do not fit .* at most 739"):
        session.distributions([5] * 1024)
    with pytest.raises(TypeError):
        session.distributions([2**31])
    session.prefill(PROMPT, [], n_answer=N_ANSWER)
    np.testing.assert_array_equal(session.distributions([5]), first)
    session.start(temperature=0.0)
    with pytest.raises(ValueError, match="log_probs: no token of an answer has been chosen"):
        session.log_probs()
    assert session.token is None
    session.next()
    assert session.token == session.log_probs().argmax(), "greedy"
    with pytest.raises(ValueError, match=r"distributions: .* its answer has begun"):
        session.distributions([5])


def test_nothing_read_is_refused(tiny: str) -> None:
    session = Session(tiny, "", n_threads=1)
    with pytest.raises(ValueError, match=r"distributions: no prompt has been processed"):
        session.distributions([5])
    with pytest.raises(ValueError, match=r"log_probs: no token of an answer has been chosen"):
        session.log_probs()
    assert session.token is None
    session.converse(PROMPT, [], n_answer=8)
    with pytest.raises(ValueError, match=r"distributions: .* in a conversation"):
        session.distributions([5])
    session.start(temperature=0.0)
    for _ in range(3):
        assert session.next() is not None
        assert session.token == session.log_probs().argmax(), "greedy"
