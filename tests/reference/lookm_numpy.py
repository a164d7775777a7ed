"""LOOK-M in plain NumPy and float64, for one layer, written from the paper's equations.

Nothing here is fast. Each function is one step of the algorithm, and compress is all of them except
the first:

    scores -> budget -> rank -> select -> cosine -> targets -> merge

Names: ``h`` KV head, ``c`` kept cell, ``e`` evicted cell, ``x_c`` a row of K or V, ``n`` number of
cells of the prompt.

The paper is arXiv 2406.18139. Where it differs from its published code (upstream), ``fidelity``
says which of the two to follow; docs/methods.md numbers the differences and the code's bugs. Both
keep all text by default.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reference.methods_numpy import (
    METHODS,
    Bools,
    Budget,
    Merge,
    Method,
    Options,
    budget,
    first_query,
    method_of,
    window,
)

__all__ = [
    "METHODS",
    "Budget",
    "Compressed",
    "Merge",
    "Method",
    "Options",
    "budget",
    "compress",
    "cosine",
    "drawn",
    "evicted_cells",
    "first_query",
    "held",
    "merge",
    "method_of",
    "rank",
    "scores",
    "select",
    "targets",
    "window",
]

Floats = npt.NDArray[np.floating[Any]]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Compressed(NamedTuple):
    """The compressed cache of one layer.

    ``k`` and ``v`` are ``[n_head_kv, n_keep, head_dim]``, ``kept`` ``[n_head_kv, n_keep]``,
    ascending. ``merged_into`` ``[n_head_kv, n]`` is the kept cell that an evicted cell was merged
    into, and -1 for kept and dropped cells.
    """

    k: F64
    v: F64
    kept: Ints
    merged_into: Ints


def scores(q: Floats, k: Floats, scale: float, n_past: int = 0) -> F64:
    """Attention that each cell receives from the prompt's queries.

        A_h = softmax(scale * Q_h K_g(h)^T + causal)
        s_h[j] = sum_i A_h[i, j]
        s_g[j] = mean of s_h[j] over the heads h of group g

    ``q [n_head, n_tokens, head_dim]``, ``k [n_head_kv, n, head_dim]``; query i sees cells 0 ..
    n_past + i. Consecutive query heads form a group. Scores are not divided by the number of
    queries that can see a cell.
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


def drawn(seed: int, layer: int, head: int, cell: int) -> float:
    """A random number in [0, 1) for a cell.

    The upper 24 bits of splitmix64's finalizer, chained over the four arguments.
    """
    mask = 2**64 - 1
    x = 0
    for y in (seed, layer, head, cell):
        z = (x * 0x9E3779B97F4A7C15 + y + 1) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        x = z ^ (z >> 31)
    return (x >> 40) / 2.0**24


def rank(
    score: Floats, squares: Floats | None, is_text: Bools, options: Options, layer: int = 0
) -> tuple[F32, F32 | None]:
    """What cells are ranked by: a score and, for some methods, a lead, ``[n_head_kv, n]`` each.

    The cells with the largest leads come before all scores.

    RoCo (arXiv 2402.06262): with o_j = n - max(j, first query) queries that can see cell j,

        score_j = mean_j = 1/o_j sum_i A_ij
        lead_j = std_j = sqrt(1/o_j sum_i A_ij^2 - mean_j^2)

    Spread: the lead is the fractional part of g j + p (layer n_head_kv + h), with g the golden
    ratio minus one, and p = 1/r for the real root r of r^3 = r + 1.

    SnapKV averages scores over 5 neighbours among the cells before the recent window, with zeros
    around them. With ``n_trail``, the sum of text over itself and the ``n_trail`` cells before it
    counts if it is larger than the sum over the neighbours.
    """
    method = method_of(options)
    n_head_kv, n = score.shape
    out: F64 = score.astype(np.float64)
    lead = None
    if method is None:
        return out.astype(np.float32), None
    if method.by == "draw":
        out = np.array(
            [[drawn(options.seed, layer, h, c) for c in range(n)] for h in range(n_head_kv)]
        )
    elif method.scorer == "none":
        out = np.tile(np.arange(n, dtype=np.float64), (n_head_kv, 1))
    elif method.by == "mean":
        assert squares is not None
        observers = n - np.maximum(np.arange(n), first_query(is_text, options))
        out = score.astype(np.float64) / observers
        with np.errstate(invalid="ignore"):
            variance = squares.astype(np.float64) / observers - out * out
            lead = np.sqrt(np.where(variance < 0, 0, variance)).astype(np.float32)
    if method.spread > 0:
        golden = (5**0.5 - 1) / 2
        root = np.roots([1, 0, -1, -1])
        plastic = 1 / float(root[np.isreal(root)][0].real)
        shift = plastic * (layer * n_head_kv + np.arange(n_head_kv))
        lead = ((golden * np.arange(n)[None, :] + shift[:, None]) % 1.0).astype(np.float32)
    if method.n_pool > 1 and method.scorer != "none":
        inner = n - budget(is_text, options).n_recent
        half = method.n_pool // 2
        padded = np.zeros((n_head_kv, inner + 2 * half))
        padded[:, half : half + inner] = out[:, :inner]
        with np.errstate(invalid="ignore"):
            for c in range(inner):
                out[:, c] = padded[:, c : c + method.n_pool].sum(axis=1) / method.n_pool
                if method.n_trail and is_text[c]:
                    trail = score[:, max(0, c - method.n_trail) : c + 1].astype(np.float64)
                    trailing = trail.sum(axis=1) / method.n_pool
                    out[:, c] = np.where(trailing > out[:, c], trailing, out[:, c])
    return out.astype(np.float32), lead


def select(
    score: Floats, is_text: Bools, options: Options, squares: Floats | None = None, layer: int = 0
) -> Ints:
    """The kept cells, ``[n_head_kv, n_keep]``, ascending in each head.

    The recent window always stays. The other cells are put in an order, and the first
    ``n_important`` of them stay:

    1. the sinks
    2. the cells with the largest leads: for RoCo a tenth of the budget; for a spread a fraction of
       the image cells that the budget has space for, or all of those if the prompt ends with an
       image
    3. with the text prior, text
    4. the others

    Within each group the higher score comes first, then the earlier cell; NaN counts as minus
    infinity. With a visual quota, the first ``n_visual`` image cells move to the front. A shared
    budget decides for each head how many that are: in proportion to attention, see ``image_share``,
    as far as ``text_quota`` of the important cells is left for text. The first of those text cells
    come next.
    """
    n = len(is_text)
    n_important, n_recent, n_visual = budget(is_text, options)
    method = method_of(options)
    prior, n_sink = (method.prior, method.n_sink) if method else (False, 0)
    ranks, lead = rank(score, squares, is_text, options, layer)
    quota, text_quota = (method.visual_quota, method.text_quota) if method else (0.0, 0.0)
    shared = bool(method and method.shared)
    if shared and not is_text[-1]:
        prior = True

    def down(x: np.float32) -> float:
        return math.inf if np.isnan(x) else -float(x)

    kept = []
    for h in range(len(score)):
        cells = range(n - n_recent)
        first: set[int] = set()
        if shared:
            share = 0.5  # without scores, nothing is known
            if method and method.scorer != "none":
                share = image_share(score[h], is_text, n_recent)
            share = min(max(share, quota), max(quota, 1 - text_quota))
            n_visual = min(math.floor(share * n_important), int((~is_text[: n - n_recent]).sum()))
        if lead is not None and method is not None:
            may = [c for c in cells if not (method.spread and is_text[c])]
            n_first = min((n_important + n_recent) // 10, n_important)
            if method.spread:
                room = max(n_visual, n_important - int(is_text[cells].sum()) if prior else 0)
                n_first = math.floor((method.spread if is_text[-1] else 1) * min(room, len(may)))
            first = set(sorted(may, key=lambda c: (down(lead[h, c]), c))[:n_first])
        queue = sorted(
            cells,
            key=lambda c: (
                c >= n_sink,
                c not in first,
                prior and not is_text[c],
                down(ranks[h, c]),
                c,
            ),
        )
        visual = [c for c in queue if not is_text[c]][:n_visual]
        n_text = math.floor(text_quota * n_important) if shared else 0
        text = [c for c in queue if is_text[c]][: min(n_text, n_important - n_visual)]
        queue = visual + text + [c for c in queue if c not in visual and c not in text]
        kept.append(sorted(queue[:n_important]) + list(range(n - n_recent, n)))
    return np.array(kept, dtype=np.int64).reshape(len(score), n_important + n_recent)


def held(scores: Floats, is_text: Bools, options: Options, squares: Floats | None = None) -> float:
    """Share of the attention that goes to kept cells; scores of all layers ``[n_layer, n_head_kv,
    n]``.

    For each head it is the sum of the kept cells' scores, as they are before any averaging over
    neighbours, divided by the sum of all cells' scores: 1 if the latter is 0. The result is the
    mean over the heads of all layers.
    """
    shares = []
    for layer, of_heads in enumerate(scores.astype(np.float64)):
        kept = select(
            scores[layer], is_text, options, None if squares is None else squares[layer], layer
        )
        for score, cells in zip(of_heads, kept, strict=True):
            shares.append(score[cells].sum() / score.sum() if score.sum() != 0 else 1.0)
    return float(np.mean(shares))


def image_share(score: Floats, is_text: Bools, n_recent: int) -> float:
    """The part of a head's attention that image cells get, of all but the first cell.

        sum of s_j over images / sum of s_j over all,  0 < j < n - n_recent

    A half if there is none or it is not finite, and in a prompt that ends with an image.
    """
    inner = slice(1, len(is_text) - n_recent)
    with np.errstate(invalid="ignore"):
        total = score[inner].astype(np.float64).cumsum()[-1:].sum()
        image = np.where(is_text, 0.0, score)[inner].astype(np.float64).cumsum()[-1:].sum()
    return float(image / total) if 0 < total < math.inf and is_text[-1] else 0.5


def evicted_cells(kept: Ints, n: int) -> Ints:
    """The cells of one head that are not in ``kept``, ascending."""
    return np.setdiff1d(np.arange(n), kept)


def cosine(k: Floats, evicted: Ints, kept: Ints) -> F64:
    """Cosine similarity of one head's evicted and kept keys, ``[n_evicted, n_kept]``.

        sim[e, c] = k_e . k_c / (|k_e| |k_c|)

    All cosines of a zero row are 0.
    """
    rows = k.astype(np.float64)
    length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    sim: F64 = unit[evicted] @ unit[kept].T
    return sim


def targets(k: Floats, kept: Ints, is_text: Bools, options: Options) -> tuple[Ints, F64]:
    """The pivots of each head's evicted cells and their weights, ``[n_head_kv, n_evicted]`` each.

    A pivot is an index into ``kept``, or -1 if the cell is dropped. It is the kept cell with the
    highest cosine, at any distance, and with ``merge_within_modality`` of the same kind (-1 if
    there is none). Upstream then drops every index j of the evicted lists with

        mean over h of w[h, j]  <  mean over h and j of w[h, j]        (B8)

    and its average merge gives the remaining pivots to the first evicted cells instead of to their
    own (B3).
    """
    method = method_of(options)
    n_head_kv, n, _ = k.shape
    evicted = [evicted_cells(row, n) for row in kept]
    to = np.full((n_head_kv, len(evicted[0])), -1, dtype=np.int64)
    weight = np.zeros(to.shape)
    if method is None or method.merge == "none" or to.size == 0:
        return to, weight
    for h in range(n_head_kv):
        sim = cosine(k[h], evicted[h], kept[h])
        if options.merge_within_modality:
            sim = np.where(is_text[evicted[h]][:, None] == is_text[kept[h]][None, :], sim, -np.inf)
        found = sim.max(axis=1) > -np.inf
        to[h, found] = sim.argmax(axis=1)[found]
        weight[h, found] = sim.max(axis=1)[found]
    if method.filter == "all":
        return to, weight
    ranks = np.flatnonzero(weight.mean(axis=0) >= weight.mean())
    filtered = np.full_like(to, -1)
    filtered[:, np.arange(len(ranks)) if method.filter == "misaligned" else ranks] = to[:, ranks]
    return filtered, weight


def merge(x: Floats, evicted: Ints, kept: Ints, pivot: Ints, weight: F64, how: Merge) -> F64:
    """Rows of one head's kept cells after merging the evicted ones, ``[n_kept, head_dim]``.

        average    x_c <- mean of x_c and its x_e
        weighted   x_c <- mean of x_c and its w_e x_e
        pivot      x_c <- mean of x_c and its (x_e + x_c) / 2

    The mean is over 1 + n_c rows, where n_c is the number of evicted cells with the pivot c; a row
    with n_c = 0 does not change. ``pivot [n_evicted]`` are indices into ``kept``; -1 drops an
    evicted cell. K and V use the same pivots and weights.
    """
    rows = x.astype(np.float64)
    total = rows[kept]
    count = np.ones(len(kept))
    for e, p, w in zip(evicted, pivot, weight, strict=True):
        if p < 0 or how == "none":
            continue
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


def compress(
    k: Floats,
    v: Floats,
    score: Floats,
    is_text: Bools,
    options: Options,
    squares: Floats | None = None,
    layer: int = 0,
) -> Compressed:
    """One layer's cache after LOOK-M: select, match evicted keys to kept ones, merge K and V.

    ``k [n_head_kv, n, head_dim_k]``, ``v [n_head_kv, n, head_dim_v]``, ``score`` and ``squares
    [n_head_kv, n]``, ``is_text [n]``. Without ``merge_keys``, kept keys do not change.
    """
    n_head_kv, n, _ = k.shape
    kept = select(score, is_text, options, squares, layer)
    method = method_of(options)
    how: Merge = method.merge if method else "none"
    to, weight = targets(k, kept, is_text, options)
    merged_into = np.full((n_head_kv, n), -1, dtype=np.int64)
    k_out, v_out = [], []
    for h in range(n_head_kv):
        evicted = evicted_cells(kept[h], n)
        merged_into[h, evicted] = np.where(to[h] < 0, -1, kept[h][to[h]])
        k_out.append(
            merge(k[h], evicted, kept[h], to[h], weight[h], how if options.merge_keys else "none")
        )
        v_out.append(merge(v[h], evicted, kept[h], to[h], weight[h], how))
    return Compressed(np.stack(k_out), np.stack(v_out), kept, merged_into)
