"""LOOK-M in plain NumPy and float64, for one layer, written from the paper's equations.

Nothing here is fast. Each function is one step of the algorithm:

    scores -> budget -> select -> cosine -> merge,      and compress = all but the first

Names: ``h`` KV head, ``c`` kept cell, ``e`` evicted cell, ``x_c`` a row of K or V, ``n`` cells of the prompt.
The paper is arXiv 2406.18139; "spec 1.4" is a section of the project's design note lookm_spec.md. Where the paper and
its published code differ on merging, the paper is followed: every evicted row is merged, none is dropped for a low
similarity (spec D3). Where they differ on size, the code is: text is a floor, not capped (spec D2).
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Merge = Literal["none", "average", "weighted", "pivot"]


class Method(NamedTuple):
    """One row of the method table.

    ``prior``: text cells rank above image cells. ``n_sink``: this many first cells are chosen before any other.
    """

    prior: bool
    n_sink: int
    merge: Merge


METHODS: dict[str, Method | None] = {
    "origin": None,
    "h2o": Method(prior=False, n_sink=0, merge="none"),
    "avg_merge": Method(prior=False, n_sink=4, merge="average"),
    "weighted_merge": Method(prior=False, n_sink=4, merge="weighted"),
    "pivot_merge": Method(prior=False, n_sink=4, merge="pivot"),
    "text_prior_h2o": Method(prior=True, n_sink=0, merge="none"),
    "text_prior_avg_merge": Method(prior=True, n_sink=0, merge="average"),
    "text_prior_weighted_merge": Method(prior=True, n_sink=0, merge="weighted"),
    "text_prior_pivot_merge": Method(prior=True, n_sink=0, merge="pivot"),
}


class Options(NamedTuple):
    """What a user chooses; defaults are the paper's."""

    method: str = "text_prior_pivot_merge"
    important_ratio: float = 0.1
    recent_ratio: float = 0.1
    text_overflow: str = "keep"


class Budget(NamedTuple):
    """Cells that stay: ``n_important`` of the first ``n - n_recent``, and all of the last ``n_recent``."""

    n_important: int
    n_recent: int


class Compressed(NamedTuple):
    """``k``, ``v`` ``[n_head_kv, n_keep, head_dim]``; ``kept`` ``[n_head_kv, n_keep]`` ascending.

    ``merged_into`` ``[n_head_kv, n]``: the kept cell that an evicted cell went into, -1 for every other cell.
    """

    k: F64
    v: F64
    kept: Ints
    merged_into: Ints


def scores(q: Floats, k: Floats, scale: float, n_past: int = 0) -> F64:
    """Attention that each cell receives from the prompt's queries (spec 1.2; groups 4).

        A_h = softmax(scale * Q_h K_g(h)^T + causal),    s_h[j] = sum_i A_h[i, j],    s_g[j] = mean of s_h over group g

    ``q [n_head, n_tokens, head_dim]``, ``k [n_head_kv, n, head_dim]``; query i sees cells 0 .. n_past + i. Consecutive
    query heads form a group. Nothing is divided by the number of queries that can see a cell.
    """
    n_head, n_tokens, _ = q.shape
    n_head_kv, n, _ = k.shape
    n_group = n_head // n_head_kv
    visible = np.arange(n)[None, :] <= n_past + np.arange(n_tokens)[:, None]
    out = np.zeros((n_head_kv, n))
    for h in range(n_head):
        logits = scale * q[h].astype(np.float64) @ k[h // n_group].astype(np.float64).T
        logits = np.where(visible, logits, -np.inf)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        out[h // n_group] += (weights / weights.sum(axis=1, keepdims=True)).sum(axis=0) / n_group
    return out


def budget(is_text: Bools, options: Options) -> Budget:
    """How many cells stay, the same for all heads (spec 1.3, 1.4; ``evict`` 4).

        N = floor(important_ratio n),   M = floor(recent_ratio n),   T' = text cells among the first n - M

    Without text prior N and M stay as they are. With it and ``keep`` no text is ever evicted: max(N, |T'|) and M; with
    ``evict`` the budget is exact again. ``n <= N + M`` keeps everything. A prompt so short that nothing would stay
    keeps its last cell, of which the spec says nothing.
    """
    n = len(is_text)
    method = METHODS[options.method]
    n_important = math.floor(options.important_ratio * n)
    n_recent = math.floor(options.recent_ratio * n)
    if method is None or n <= n_important + n_recent:
        return Budget(n - n_recent, n_recent)
    if method.prior and options.text_overflow == "keep":
        n_important = max(n_important, int(is_text[: n - n_recent].sum()))
    return Budget(n_important, n_recent) if n_important + n_recent > 0 else Budget(0, 1)


def select(score: Floats, is_text: Bools, options: Options) -> Ints:
    """Cells that stay, ``[n_head_kv, n_keep]``, ascending in each head (spec 1.4, 1.5, 1.9).

    The recent window always stays. The other cells stand in a queue and the first ``n_important`` of it stay: sinks
    first; then, with the prior, text before image; then the higher score; then the lower cell. A score that is NaN
    counts as minus infinity.
    """
    n = len(is_text)
    n_important, n_recent = budget(is_text, options)
    method = METHODS[options.method]
    prior, n_sink = (method.prior, method.n_sink) if method else (False, 0)

    def place_in_queue(h: int, c: int) -> tuple[bool, bool, float, int]:
        s = -np.inf if np.isnan(score[h, c]) else float(score[h, c])
        return (c >= n_sink, prior and not is_text[c], -s, c)

    kept = []
    for h in range(len(score)):
        queue = sorted(range(n - n_recent), key=lambda c: place_in_queue(h, c))
        kept.append(sorted(queue[:n_important]) + list(range(n - n_recent, n)))
    return np.array(kept, dtype=np.int64).reshape(len(score), n_important + n_recent)


def evicted_cells(kept: Ints, n: int) -> Ints:
    """The cells of one head that are not in ``kept``, ascending."""
    return np.setdiff1d(np.arange(n), kept)


def cosine(k: Floats, evicted: Ints, kept: Ints) -> F64:
    """Similarity of one head's evicted and kept keys as they lie in the cache, ``[n_evicted, n_kept]`` (spec 1.6).

        sim[e, c] = k_e . k_c / (|k_e| |k_c|)

    A row without length is similar to none: its cosines are 0.
    """
    rows = k.astype(np.float64)
    length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    sim: F64 = unit[evicted] @ unit[kept].T
    return sim


def merge(x: Floats, evicted: Ints, kept: Ints, pivot: Ints, weight: F64, how: Merge) -> F64:
    """Rows of one head's kept cells after taking in the evicted ones, ``[n_kept, head_dim]`` (spec 1.7).

        average    x_c <- mean of x_c and its x_e
        weighted   x_c <- mean of x_c and its w_e x_e
        pivot      x_c <- mean of x_c and its (x_e + x_c) / 2

    The mean is over 1 + n_c rows, where n_c evicted cells have c as their pivot; n_c = 0 leaves the row alone.
    ``pivot [n_evicted]`` counts in ``kept``. The same pivots and weights serve K and V. ``none`` drops evicted cells.
    """
    rows = x.astype(np.float64)
    total = rows[kept]
    if how == "none":
        return total
    count = np.ones(len(kept))
    for e, p, w in zip(evicted, pivot, weight, strict=True):
        x_e, x_c = rows[e], rows[kept[p]]
        if how == "average":
            total[p] += x_e
        elif how == "weighted":
            total[p] += w * x_e
        elif how == "pivot":
            total[p] += (x_e + x_c) / 2
        count[p] += 1
    mean: F64 = total / count[:, None]
    return mean


def compress(k: Floats, v: Floats, score: Floats, is_text: Bools, options: Options) -> Compressed:
    """One layer's cache after LOOK-M: select, match evicted keys to kept ones, merge K and V (spec 1.9).

    ``k [n_head_kv, n, head_dim_k]``, ``v [n_head_kv, n, head_dim_v]``, ``score [n_head_kv, n]``, ``is_text [n]``. The
    pivot of an evicted cell is the kept cell of highest cosine, of any kind and at any distance.
    """
    n_head_kv, n, _ = k.shape
    kept = select(score, is_text, options)
    method = METHODS[options.method]
    how: Merge = method.merge if method else "none"
    merged_into = np.full((n_head_kv, n), -1, dtype=np.int64)
    k_out, v_out = [], []
    for h in range(n_head_kv):
        evicted = evicted_cells(kept[h], n)
        pivot, weight = np.zeros(len(evicted), dtype=np.int64), np.zeros(len(evicted))
        if how != "none" and len(evicted) > 0:
            sim = cosine(k[h], evicted, kept[h])
            pivot, weight = sim.argmax(axis=1), sim.max(axis=1)
            merged_into[h, evicted] = kept[h][pivot]
        k_out.append(merge(k[h], evicted, kept[h], pivot, weight, how))
        v_out.append(merge(v[h], evicted, kept[h], pivot, weight, how))
    return Compressed(np.stack(k_out), np.stack(v_out), kept, merged_into)
