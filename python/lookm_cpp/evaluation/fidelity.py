"""How close a compressed cache's predictions are to the full cache's, without right answers.

Both caches read the same tokens t_1 to t_n, the full cache's own answer. With p_i(x) and q_i(x) the
probabilities that the full and the compressed cache give to token x after t_1 to t_i:

    KL divergence    = 1/n * sum_i sum_x p_i(x) * (log p_i(x) - log q_i(x))    in nats
    top-1 agreement  = 1/n * #{i : argmax_x p_i(x) = argmax_x q_i(x)}

The distribution of t_1 itself does not count: the prompt's last token has always seen the full
cache, so it is the same for every compression.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
"""Log-probabilities in nats, ``[n, n_vocab]``: one row for each token that was read."""

MEASURED_TOKENS = 256
"""Longer answers count up to here: a row takes 4 bytes for each token of the vocabulary."""


@dataclass(frozen=True)
class Fidelity:
    """How close a compressed cache is to the full cache along one answer.

    Attributes:
        n_tokens: Number of distributions that were compared.
        kl_divergence: Mean KL divergence from the full to the compressed cache, in nats; 0 if the
            distributions are equal.
        top1_agreement: Fraction of the distributions with the same most likely token.
    """

    n_tokens: int
    kl_divergence: float
    top1_agreement: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def kl_divergences(full: Rows, compressed: Rows) -> npt.NDArray[np.float64]:
    """``sum_x p(x) * (log p(x) - log q(x))`` of each pair of rows, in nats, ``[n]``.

    A token with p(x) = 0 adds nothing. Rounded log-probabilities can make the sum of equal rows
    slightly negative, which is returned as 0.

    >>> p, q = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    >>> round(float(kl_divergences(p, q)[0]), 4)  # log(2) / 2 + log(2 / 3) / 2
    0.1438
    """
    return np.array([_divergence(p, q) for p, q in zip(full, compressed, strict=True)])


def _divergence(p: npt.NDArray[Any], q: npt.NDArray[Any]) -> float:
    p = p.astype(np.float64)
    possible = p > -np.inf
    return max(0.0, float(np.exp(p[possible]) @ (p[possible] - q[possible])))


def agreements(full: Rows, compressed: Rows) -> npt.NDArray[np.bool_]:
    """Whether the most likely token is the same in each pair of rows, ``[n]``.

    Of equally likely tokens, the first counts.
    """
    return np.asarray(full.argmax(axis=1) == compressed.argmax(axis=1))


def fidelity(pairs: Iterable[tuple[Rows, Rows]]) -> Fidelity | None:
    """The means over all rows of (full, compressed) pairs; ``None`` if there are no rows."""
    divergences: list[float] = []
    agreed: list[bool] = []
    for full, compressed in pairs:
        divergences += kl_divergences(full, compressed).tolist()
        agreed += agreements(full, compressed).tolist()
    if not divergences:
        return None
    return Fidelity(len(agreed), float(np.mean(divergences)), float(np.mean(agreed)))
