"""The attention that every cell receives in an attention node, in plain NumPy and float64.

Covers everything that a node may have: masks, softcap and sinks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
F64 = npt.NDArray[np.float64]


class Sums(NamedTuple):
    """Sums over queries of p and of p^2, averaged over the query heads of each group.

    Both ``[n_head_kv, n_kv]``.
    """

    sum: F64
    squares: F64


def probabilities(
    q: Floats,
    k: Floats,
    mask: Floats,
    scale: float,
    softcap: float = 0.0,
    sinks: Floats | None = None,
) -> F64:
    """Attention probabilities ``p [n_head, n_tokens, n_kv]``.

        x = scale q k^T
        x <- softcap tanh(x / softcap)
        p = exp(x + mask) / (sum exp(x + mask) + exp(sink))

    ``mask [n_tokens, n_kv]`` is added to the logits. A hidden cell (mask -inf) has p = 0, even if
    its key is NaN. A query that sees no cell has p = 0 everywhere.
    """
    n_group = len(q) // len(k)
    out = np.zeros((len(q), *mask.shape))
    seen = mask > -np.inf
    for h in range(len(q)):
        with np.errstate(invalid="ignore"):  # hidden cells may hold NaN
            x = scale * q[h].astype(np.float64) @ k[h // n_group].astype(np.float64).T
        if softcap:
            x = softcap * np.tanh(x / softcap)
        x = np.where(seen, x + np.where(seen, mask, 0), -np.inf)
        sink = -np.inf if sinks is None else float(sinks[h])
        most = np.maximum(x.max(axis=1, keepdims=True), sink)
        most = np.where(most == -np.inf, 0.0, most)
        e = np.exp(x - most)
        total = e.sum(axis=1, keepdims=True) + np.exp(sink - most)
        out[h] = np.divide(e, total, out=np.zeros_like(e), where=total > 0)
    return out


def sums(p: Floats, n_head_kv: int) -> Sums:
    """The sums of probabilities ``[n_head, n_tokens, n_kv]``; consecutive heads form a group."""
    groups = p.astype(np.float64).reshape(n_head_kv, -1, *p.shape[1:])
    return Sums(groups.sum(axis=2).mean(axis=1), (groups**2).sum(axis=2).mean(axis=1))
