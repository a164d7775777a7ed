"""Random layers for Hypothesis, and a check of errors by the words they must contain.

Hypothesis draws shapes, ratios and a seed, and NumPy's generator makes the arrays from that seed.
So a failing example is short but complete: ``Layer(...)`` as printed reproduces it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st
from reference import lookm_numpy as ref

Floats = npt.NDArray[Any]
Kinds = Literal["mixed", "all text", "all image", "text first", "text last"]
Draw = Literal["continuous", "ties", "special"]


class Keywords(TypedDict, total=False):
    """``ref.Options`` as keyword arguments."""

    method: str
    important_ratio: float
    recent_ratio: float
    text_overflow: str | None
    fidelity: str
    scorer: str | None
    window: int | None
    merge: str | None
    merge_keys: bool
    merge_within_modality: bool
    visual_quota: float | None
    seed: int


class Prompt(NamedTuple):
    """A prompt of ``n`` cells, with its scores and kinds in one layer."""

    n: int
    n_head_kv: int
    kinds: Kinds
    draw: Draw
    options: ref.Options
    seed: int

    def by(self, method: str) -> Prompt:
        """This prompt for another method; with its default scorer if it allows no other."""
        row = ref.METHODS[method]
        own = row is not None and (
            row.by in ("draw", "recent") or (row.by == "mean" and self.options.scorer == "none")
        )
        scorer = None if own else self.options.scorer
        return self._replace(options=self.options._replace(method=method, scorer=scorer))

    def keywords(self) -> Keywords:
        keywords: Keywords = self.options._asdict()  # type: ignore[assignment]
        return keywords

    def is_text(self) -> npt.NDArray[np.bool_]:
        c = np.arange(self.n)
        rng = np.random.default_rng(self.seed)
        return {
            "mixed": rng.random(self.n) < rng.random(),
            "all text": c >= 0,
            "all image": c < 0,
            "text first": c < self.n // 3,
            "text last": c >= self.n // 3,
        }[self.kinds]

    def scores(self) -> npt.NDArray[np.float32]:
        """Log-normal, as attention sums are. ``ties``: three values. ``special``: with NaN, inf."""
        rng = np.random.default_rng(self.seed + 1)
        shape = (self.n_head_kv, self.n)
        if self.draw == "ties":
            return rng.integers(0, 3, shape).astype(np.float32)
        scores = rng.lognormal(size=shape).astype(np.float32)
        if self.draw == "special":
            rare = rng.random(shape) < 0.3
            scores[rare] = rng.choice([np.nan, np.inf, -np.inf, -1.0, 0.0], size=int(rare.sum()))
        return scores

    def squares(self) -> npt.NDArray[np.float32]:
        """Sums of squares for these scores, some too small, as rounding may make them."""
        rng = np.random.default_rng(self.seed + 4)
        scores = self.scores()
        with np.errstate(invalid="ignore"):
            return np.asarray(
                scores * scores * rng.choice([0.001, 0.01, 0.1], scores.shape), dtype=np.float32
            )


class Layer(NamedTuple):
    """A prompt with its rows of K and V."""

    prompt: Prompt
    head_dim_k: int
    head_dim_v: int
    dtype: Literal["float16", "float32"]
    n_zero: int
    magnitude: float

    def by(self, method: str) -> Layer:
        return self._replace(prompt=self.prompt.by(method))

    def k(self) -> Floats:
        """Keys with a common part, as in real models (cosines of 0 to 0.9); ``n_zero`` are zero."""
        p = self.prompt
        rng = np.random.default_rng(p.seed + 2)
        shape = (p.n_head_kv, p.n, self.head_dim_k)
        common = rng.standard_normal((p.n_head_kv, 1, self.head_dim_k))
        k = self.magnitude * (rng.standard_normal(shape) + rng.random((1, p.n, 1)) * 3 * common)
        k[:, rng.permutation(p.n)[: self.n_zero]] = 0
        return k.astype(self.dtype)

    def v(self) -> Floats:
        p = self.prompt
        rng = np.random.default_rng(p.seed + 3)
        return rng.standard_normal((p.n_head_kv, p.n, self.head_dim_v)).astype(self.dtype)


@st.composite
def options(draw: st.DrawFn) -> ref.Options:
    """Any ratios with a sum of at most 1 and any other options; the method is left to the tests."""
    recent = draw(st.one_of(st.just(0.0), st.floats(0, 0.5)))
    fidelity: Literal["paper", "upstream"] = draw(st.sampled_from(["paper", "upstream"]))
    return ref.Options(
        "origin",
        important_ratio=draw(st.floats(0.05, 1 - recent)),
        recent_ratio=recent,
        text_overflow="keep"
        if fidelity == "upstream"
        else draw(st.sampled_from([None, "keep", "evict"])),
        fidelity=fidelity,
        scorer=draw(st.sampled_from([None, None, "cumulative", "window", "none"])),
        window=draw(st.sampled_from([None, None, 1, 16, 1000])),
        merge=draw(st.sampled_from([None, None, "none", "average", "pivot", "weighted"])),
        merge_keys=draw(st.booleans()),
        merge_within_modality=draw(st.booleans()),
        visual_quota=draw(st.sampled_from([None, 0.0, 0.3, 0.6, 1.0])),
        seed=draw(st.sampled_from([0, 1, 2**32 - 2])),
    )


def prompts(max_n: int = 300) -> st.SearchStrategy[Prompt]:
    return st.builds(
        Prompt,
        n=st.one_of(st.integers(1, 24), st.integers(50, max_n)),
        n_head_kv=st.integers(1, 5),
        kinds=st.sampled_from(["mixed", "all text", "all image", "text first", "text last"]),
        draw=st.sampled_from(["continuous", "ties", "special"]),
        options=options(),
        seed=st.integers(0, 2**16),
    )


def layers(max_n: int = 300) -> st.SearchStrategy[Layer]:
    head_dim = st.sampled_from([8, 16, 64, 80, 96, 128])
    return st.builds(
        Layer,
        prompt=prompts(max_n),
        head_dim_k=head_dim,
        head_dim_v=head_dim,
        dtype=st.sampled_from(["float16", "float32"]),
        n_zero=st.sampled_from([0, 0, 1, 7]),
        magnitude=st.sampled_from([2.0**-10, 1.0, 2.0**6]),
    )


@contextmanager
def raises_about(*named: str) -> Iterator[None]:
    """Expects a ``ValueError`` that contains all of ``named``: the argument and its value."""
    in_any_order = "".join(f"(?=.*{re.escape(name)})" for name in named)
    with pytest.raises(ValueError, match=f"(?is)^{in_any_order}"):
        yield
