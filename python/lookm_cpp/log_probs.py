"""Log-probabilities of the tokens of an answer, in OpenAI's form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lookm_cpp.chat_types import TokenLogProb, TopLogProb

if TYPE_CHECKING:
    from lookm_cpp import _core


def last_token(session: _core.Session, n_top: int) -> TokenLogProb:
    """Of the token that the session has chosen last, and of the ``n_top`` most likely ones.

    They are in nats, and those of the model: without temperature, penalties, biases and grammars.
    """
    found = session.log_probs()
    token = session.token
    assert token is not None, "an answer is under way"
    top = np.argpartition(-found, min(n_top, len(found) - 1))[:n_top]
    likely = [_one(session, int(i), float(found[i])) for i in top[np.argsort(-found[top])]]
    return {**_one(session, token, float(found[token])), "top_logprobs": likely}


def _one(session: _core.Session, token: int, log_prob: float) -> TopLogProb:
    piece = session.piece_of(token)
    return {
        "token": piece.decode(errors="replace"),
        # a number that JSON can hold
        "logprob": max(log_prob, -9999.0),
        "bytes": [*piece],
    }
