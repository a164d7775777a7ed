"""What one worker process measures: a model, a prompt length, cache types and ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

FULL_CACHE = "f16"
"""Everything is compared with the full cache of this type."""
SECOND_RATIO = 0.2
"""The ratio at which a second question is asked, and fewer cells are read."""
RIVALS = ("q8_0", "q4_0")
"""Cache types that are measured without compression as well."""


@dataclass(frozen=True)
class Case:
    """A cache type, and the fraction of its cells to keep."""

    cache: str
    kv_ratio: float


@dataclass(frozen=True)
class Workload:
    """Everything that a worker process needs to know; it is sent as JSON.

    Attributes:
        model: The GGUF file.
        mmproj: Its projector; with ``None`` the prompt is text that may be evicted.
        cells: Length of the prompt, in cells.
        cases: What to measure, in this order.
        answer_tokens: Tokens of the answer that is timed as a whole.
        n_blocks: Blocks of tokens that the contenders then decode in alternation.
        block_tokens: Tokens of a block.
        opened: How the model is opened, as keyword arguments of ``Llava``.
        compression: Fields of ``Compression``, without the ratio and those of pruning.
        pruning: Those of pruning; empty if all cells of images are read.
        image_size: ``(width, height)`` of the prompt's images.
    """

    model: str
    mmproj: str | None
    cells: int
    cases: tuple[Case, ...]
    answer_tokens: int
    n_blocks: int
    block_tokens: int
    opened: dict[str, Any]
    compression: dict[str, Any]
    image_size: tuple[int, int] = (1024, 768)
    pruning: dict[str, Any] = field(default_factory=dict)

    @property
    def prunes(self) -> bool:
        """Whether the prompt has images that are also read in part."""
        return bool(self.pruning) and self.mmproj is not None

    @property
    def decoded_tokens(self) -> int:
        """All tokens that are decoded after a prompt."""
        return self.answer_tokens + self.block_tokens * (self.n_blocks + 1)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Workload:
        """The reverse of ``as_dict``, after JSON."""
        cases = tuple(Case(**case) for case in given["cases"])
        return cls(**{**given, "cases": cases, "image_size": tuple(given["image_size"])})


def cases_of(caches: Sequence[str], ratios: Sequence[float]) -> tuple[Case, ...]:
    """Every ratio of every cache type, each case once.

    The full f16 cache comes first, the rivals' full caches come last.

    >>> [(case.cache, case.kv_ratio) for case in cases_of(["q8_0"], [0.2])]
    [('f16', 1.0), ('q8_0', 0.2), ('q8_0', 1.0), ('q4_0', 1.0)]
    """
    wanted = [Case(cache, ratio) for cache in caches for ratio in ratios]
    full = [Case(cache, 1.0) for cache in RIVALS]
    return tuple(dict.fromkeys([Case(FULL_CACHE, 1.0), *wanted, *full]))
