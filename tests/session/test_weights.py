"""Sessions that share the weights of one file; one that has loaded them itself is the oracle."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from core_session import Session

from session.tiny_models import write_llama

PROMPT = "A long text. " * 40


def _answer(session: Session) -> list[bytes | None]:
    session.start(temperature=1.0, seed=7)
    return list(islice(iter(session.next, None), 16))


def test_by_turns_and_after_the_first_is_closed(tmp_path: Path) -> None:
    """The file is gone when the second session opens, and the first one when it answers."""
    path = write_llama(tmp_path / "model.gguf", n_ctx=2048)
    alone = Session(str(path), "", n_threads=1)
    answers = []
    for ratio in (1.0, 0.3):
        alone.prefill(PROMPT, [], kv_ratio=ratio, method="h2o", n_answer=16)
        answers.append(_answer(alone))
    assert answers[0] != answers[1]

    first = Session(str(path), "", n_threads=1)
    path.unlink()
    second = Session(str(path), "", n_threads=1, type_k="f32", weights_of=first)
    second.close()
    second = Session(str(path), "", n_threads=1, weights_of=first)
    first.prefill(PROMPT, [], kv_ratio=1.0, method="h2o", n_answer=16)
    second.prefill(PROMPT, [], kv_ratio=0.3, method="h2o", n_answer=16)
    assert _answer(first) == answers[0]
    first.close()
    assert _answer(second) == answers[1]


def test_weights_are_shared_only_by_open_sessions_of_the_same_file(tmp_path: Path) -> None:
    path, other = (str(write_llama(tmp_path / name)) for name in ("model.gguf", "other.gguf"))
    first = Session(path, "", n_threads=1)
    with pytest.raises(ValueError, match=r"model_path: .*other\.gguf.* expected the same file"):
        Session(other, "", n_threads=1, weights_of=first)
    with pytest.raises(ValueError, match="compute_bytes: 1, expected"):
        Session(path, "", n_threads=1, compute_bytes=1, weights_of=first)
    first.close()
    with pytest.raises(ValueError, match="session: it is closed"):
        Session(path, "", n_threads=1, weights_of=first)
