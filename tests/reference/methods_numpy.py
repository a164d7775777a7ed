"""The methods, the user's options, and what follows from them without scores: budget and window.

Part of ``lookm_numpy``, which explains ``fidelity``.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Merge = Literal["none", "average", "weighted", "pivot"]
Scorer = Literal["none", "cumulative", "window"]
Filter = Literal["all", "similar", "misaligned"]


class Method(NamedTuple):
    """One row of the method table.

    ``prior``: text cells rank above image cells. ``shared``: instead, images get at least their
        share of the attention and text at least ``text_quota``, and text comes first only in a
        prompt that ends with an image.
    ``n_sink``: this many first cells are chosen before any other.
    ``n_pool``: scores are averaged over this many neighbours. ``n_trail``: text has
        the sum over the cell and this many before it if that is larger than the neighbours'.
    ``by``: what a cell is ranked by. ``sum``: the attention that it receives; ``mean``: the mean of
        that, after the cells with the largest deviation; ``draw``: at random; ``recent``: its
        position; ``window``: the attention of the query window, which is also the recent window.
    ``spread``: fraction of the images' part of the budget that is spaced evenly over them; all of
        it in a prompt that ends with an image.
    ``keeps_question``: the text after the last image is recent, up to half the budget.
    ``text_overflow``, ``visual_quota``, ``window``: defaults of the user's options.
    """

    scorer: Scorer
    prior: bool
    merge: Merge
    n_sink: int = 0
    n_pool: int = 1
    by: Literal["sum", "mean", "draw", "recent", "window"] = "sum"
    filter: Filter = "all"
    spread: float = 0.0
    keeps_question: bool = False
    text_overflow: str = "keep"
    visual_quota: float = 0.0
    window: int | None = None
    n_trail: int = 0
    shared: bool = False
    text_quota: float = 0.0


METHODS: dict[str, Method | None] = {
    "origin": None,
    "h2o": Method("cumulative", prior=False, merge="none"),
    "snapkv": Method("window", prior=False, merge="none", n_pool=5, window=64, by="window"),
    "snapkv_question": Method("window", prior=False, merge="none", n_pool=5, by="window"),
    "roco": Method("cumulative", prior=False, merge="none", by="mean"),
    "avg_merge": Method("cumulative", prior=False, merge="average"),
    "weighted_merge": Method("cumulative", prior=False, merge="weighted"),
    "pivot_merge": Method("cumulative", prior=False, merge="pivot"),
    "text_prior_h2o": Method("cumulative", prior=True, merge="none"),
    "text_prior_avg_merge": Method("cumulative", prior=True, merge="average"),
    "text_prior_weighted_merge": Method("cumulative", prior=True, merge="weighted"),
    "text_prior_pivot_merge": Method("cumulative", prior=True, merge="pivot"),
    "streaming_llm": Method("none", prior=False, merge="none", n_sink=4, by="recent"),
    "random": Method("none", prior=False, merge="none", by="draw"),
    "lookm_plus": Method(
        "window",
        prior=False,
        merge="none",
        n_pool=5,
        n_trail=8,
        shared=True,
        text_quota=0.4,
        spread=0.5,
        keeps_question=True,
        text_overflow="evict",
        visual_quota=0.25,
    ),
}


class Options(NamedTuple):
    """The user's options, by default those of the paper."""

    method: str = "text_prior_pivot_merge"
    important_ratio: float = 0.1
    recent_ratio: float = 0.1
    text_overflow: str | None = None
    fidelity: Literal["paper", "upstream"] = "paper"
    scorer: Scorer | None = None
    window: int | None = None
    merge: Merge | None = None
    merge_keys: bool = True
    merge_within_modality: bool = False
    visual_quota: float | None = None
    seed: int = 0


def method_of(options: Options) -> Method | None:
    """The row of the table with the user's options and, if asked for, upstream's differences."""
    method = METHODS[options.method]
    if method is None:
        return None
    method = method._replace(merge=options.merge or method.merge)
    if options.fidelity == "upstream":
        filters: dict[Merge, Filter] = {"average": "misaligned", "weighted": "similar"}
        method = method._replace(filter=filters.get(method.merge, "all"))
        if method.merge != "none" and not (method.prior or method.shared):
            method = method._replace(n_sink=4)
        if method.by == "mean":
            method = method._replace(by="sum")
    quota, overflow = options.visual_quota, options.text_overflow
    if method.shared and overflow == "keep":  # all text stays, whatever attention it gets
        method = method._replace(shared=False, prior=True)
    return method._replace(
        scorer=options.scorer or method.scorer,
        text_overflow=method.text_overflow if overflow is None else overflow,
        visual_quota=method.visual_quota if quota is None else quota,
        window=method.window if options.window is None else options.window,
    )


class Budget(NamedTuple):
    """How many cells stay.

    ``n_important`` of the first ``n - n_recent`` cells, at least ``n_visual`` of which are image
    cells, and all of the last ``n_recent`` cells.
    """

    n_important: int
    n_recent: int
    n_visual: int = 0


def budget(is_text: Bools, options: Options) -> Budget:
    """How many cells stay, the same for all heads.

        N = floor(important_ratio n)
        M = floor(recent_ratio n)
        Q = min(floor(visual_quota N), image cells among the first n - M)

    Everything stays if n <= N + M. Otherwise, in this order:

    - ranked by ``recent``: N, M = N + M - 1, 1
    - ranked by ``window``: M is the length of the window, at most N + M, and N the rest of N + M
    - ``keeps_question``: M is at least the length of the question, up to half of N + M, and N the
      rest
    - text prior with text_overflow ``keep``: N is at least T + Q, where T is the number of text
      cells among the first n - M, so that no text is evicted
    - at least the last cell stays
    """
    n = len(is_text)
    method = method_of(options)
    n_important = math.floor(options.important_ratio * n)
    n_recent = math.floor(options.recent_ratio * n)
    if method is None or n <= n_important + n_recent:
        return Budget(n - n_recent, n_recent)
    if method.by == "recent" and n_important + n_recent > 0:
        n_important, n_recent = n_important + n_recent - 1, 1
    if method.by == "window" and n_important + n_recent > 0:
        both = n_important + n_recent
        n_recent = min(window(is_text, method), both)
        n_important = both - n_recent
    if method.keeps_question:
        n_question = n - 1 - max((c for c in range(n) if not is_text[c]), default=-1)
        both = n_important + n_recent
        n_recent = max(n_recent, min(both // 2, n_question))
        n_important = both - n_recent
    n_text = int(is_text[: n - n_recent].sum())
    n_visual = min(math.floor(method.visual_quota * n_important), n - n_recent - n_text)
    if method.prior and method.text_overflow == "keep":
        n_important = max(n_important, n_text + n_visual)
    return Budget(n_important, n_recent, n_visual) if n_important + n_recent > 0 else Budget(0, 1)


def window(is_text: Bools, method: Method) -> int:
    """Length of the query window.

    As the user or the method says; otherwise the text after the last image; without that, 32.
    """
    images = np.flatnonzero(~is_text)
    if method.window is not None:
        return method.window
    if len(images) > 0 and images[-1] < len(is_text) - 1:
        return len(is_text) - 1 - int(images[-1])
    return 32


def first_query(is_text: Bools, options: Options) -> int:
    """Index of the first query that counts: the beginning of the query window, or 0."""
    method = method_of(options)
    if method is None or method.scorer != "window":
        return 0
    return max(0, len(is_text) - window(is_text, method))
