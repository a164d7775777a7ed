"""The ways of holding a prompt that are compared: methods and controls at several budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Any

from lookm_cpp import _core
from lookm_cpp.cache_types import k_and_v, read_and_kept
from lookm_cpp.compression import METHOD, PAPER_METHOD, Compression

FULL = "full cache"
RANDOM = "random"
TEXT_ONLY = "text cells only"
EVICT = "evict"
"""The ``text_overflow`` of methods that are compared at equal bytes."""
BUDGETS = (0.5, 0.35, 0.2, 0.1, 0.05)
CACHES = ("f16", "q8_0", "q4_0", "f16:q4_0")
"""Types of K and V, ``K+V`` if they differ; ``READ:KEPT`` if prompts are read into one and kept in
another."""

# Bits per value, including scales, relative to f16.
_SHARE = {"f16": 1.0, "q8_0": 8.5 / 16, "q4_0": 4.5 / 16}
_CONTROLS = (RANDOM, "streaming_llm")
_COMBINED = ("text_prior_h2o", PAPER_METHOD, METHOD, RANDOM)


@dataclass(frozen=True)
class Arm:
    """One way of holding a prompt in memory.

    Attributes:
        name: The method, or the name of a control.
        cache: Type of the K and V cache, as in ``CACHES``.
        budget: Fraction of the full f16 cache's bytes that it may use; ``None`` without a limit.
        compression: How the prompt is compressed.
        keeps_all: In a conversation, all earlier turns stay aside, and each answer is compressed
            for its own question.
    """

    name: str
    cache: str
    budget: float | None
    compression: Compression
    keeps_all: bool = False

    @property
    def key(self) -> str:
        """Its name in records: ``h2o/f16/0.2``."""
        return f"{self.name}/{self.cache}/{'-' if self.budget is None else f'{self.budget:g}'}"


def known_methods() -> list[str]:
    """Every method that compresses, controls last."""
    names = [name for name in _core.methods() if name != "origin"]
    return [name for name in names if name not in _CONTROLS] + list(_CONTROLS)


def full_cache(cache: str = "f16") -> Arm:
    """The full cache, which only its type can make smaller."""
    return Arm(FULL, cache, None, Compression())


def _check_cache(cache: str) -> None:
    if not {*chain(*map(k_and_v, read_and_kept(cache)))} <= {*_SHARE}:
        raise ValueError(f"--caches has {cache!r}, expected some of {', '.join(CACHES)}")


def _quality_of(name: str) -> tuple[str, float]:
    """``NAME@QUALITY`` as both.

    >>> _quality_of("lookm_plus@0.95")
    ('lookm_plus', 0.95)
    """
    method, _, quality = name.partition("@")
    try:
        share = float(quality)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"--methods has {name!r}, expected NAME@QUALITY with a share in (0, 1]")
    return method, share


def make_arms(
    methods: Sequence[str],
    budgets: Sequence[float],
    caches: Sequence[str],
    given: Mapping[str, Any] | None = None,
) -> list[Arm]:
    """Every method and control at every budget, on f16 and on quantized caches of the same bytes.

    By default, all methods may evict text (``text_overflow="evict"``), so that they keep the same
    number of cells. The paper's best method then also runs with its own default, which keeps all
    text and exceeds small budgets.

    ``NAME@QUALITY`` among the methods chooses a ratio for each prompt instead: once, on f16.

    ``given``: fields of ``Compression`` for all methods except the controls.

    Raises:
        ValueError: A method, a budget or a cache type is unknown or out of range.
    """
    fields = {"text_overflow": EVICT, **(given or {})}

    def at(ratio: float, name: str) -> Compression:
        of_all = {"text_overflow": EVICT} if name in _CONTROLS else fields
        return Compression(ratio, name, **of_all)

    by_quality = {name: _quality_of(name) for name in methods if "@" in name}
    methods = [name for name in methods if name not in by_quality]
    for name in (*methods, *(method for method, _ in by_quality.values())):
        if name not in known_methods():
            raise ValueError(
                f"--methods has {name!r}, expected some of {', '.join(known_methods())}"
            )
    for budget in budgets:
        if not 0 < budget < 1:
            raise ValueError(f"--ratios has {budget:g}, expected fractions between 0 and 1")
    for cache in caches:
        _check_cache(cache)
    names = list(dict.fromkeys([*methods, *_CONTROLS]))
    arms = [full_cache(), Arm(TEXT_ONLY, "f16", None, _TEXT_ONLY)]
    arms += [
        Arm(name, "f16", None, Compression("auto", method, quality=quality, **fields))
        for name, (method, quality) in by_quality.items()
    ]
    for budget in budgets:
        arms += [Arm(name, "f16", budget, at(budget, name)) for name in names]
        if PAPER_METHOD in names and fields["text_overflow"] == EVICT:
            floor = Compression(budget, PAPER_METHOD, **{**fields, "text_overflow": None})
            arms.append(
                Arm(
                    f"{PAPER_METHOD}, text a floor",
                    "f16",
                    budget,
                    floor,
                )
            )
    for cache in caches:
        if cache == "f16":
            continue
        arms.append(full_cache(cache))
        for budget in budgets:
            ratio = budget / fmean(_SHARE[name] for name in k_and_v(read_and_kept(cache)[1]))
            arms += [
                Arm(name, cache, budget, at(ratio, name))
                for name in _COMBINED
                if name in names and ratio < 1
            ]
    return list({arm.key: arm for arm in arms}.values())  # without duplicates


def ratio_arms(
    methods: Sequence[str],
    ratios: Sequence[float],
    caches: Sequence[str],
    given: Mapping[str, Any] | None = None,
) -> list[Arm]:
    """Every method at every ``kv_ratio``, as in the paper.

    ``origin`` and ratio 1 are the full cache, which is included only once. ``given``: fields of
    ``Compression`` for all arms.

    Raises:
        ValueError: A method, a ratio or a cache type is unknown or out of range.
    """
    arms: dict[str, Arm] = {}
    for cache in caches:
        _check_cache(cache)
        for name in methods:
            if name not in _core.methods():
                raise ValueError(
                    f"--methods has {name!r}, expected some of {', '.join(_core.methods())}"
                )
            for ratio in ratios:
                if not 0 < ratio <= 1:
                    raise ValueError(f"--ratios has {ratio:g}, expected fractions in (0, 1]")
                full = name == "origin" or ratio == 1
                compression = Compression(ratio, name, **(given or {}))
                arm = full_cache(cache) if full else Arm(name, cache, ratio, compression)
                arms.setdefault(arm.key, arm)
    return list(arms.values())


# A tiny important fraction, no recent cells, and all text kept: exactly the cells of text.
_TEXT_ONLY = Compression(1.0, "text_prior_h2o", important_ratio=1e-9, recent_ratio=0.0)
