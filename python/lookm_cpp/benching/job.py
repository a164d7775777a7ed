"""What one process is asked to measure: a model, a length of the prompt, and the caches and shares
to try.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

FULL_CACHE = "f16"
"""What everything is compared to: the full cache of this type."""
RIVALS = ("q8_0", "q4_0")
"""Types of cache that are measured full, beside compression."""


@dataclass(frozen=True)
class Case:
    """A type of cache, and the share of its cells to keep."""

    cache: str
    kv_ratio: float


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to know; written as JSON.

    Attributes:
        model: The GGUF file.
        mmproj: Its projector, or ``None``: then the prompt is text that may be evicted.
        cells: Cells of the prompt.
        cases: What to measure, in this order.
        method: A name of ``lookm_cpp.methods()``.
        answer_tokens: Tokens of the answer that is timed as a whole.
        n_blocks: Blocks of tokens that the sides then decode by turns.
        block_tokens: Tokens of a block.
        n_threads: CPU threads; 0 lets the core choose.
        n_gpu_layers: Layers on the accelerator; -1 for all.
        flash_attn: ``auto``, ``on`` or ``off``.
        scored_flash_attn: For a cache type, what ``auto`` is to a prompt whose attention is scored.
        image_size: ``(width, height)`` of the prompt's images.
    """

    model: str
    mmproj: str | None
    cells: int
    cases: tuple[Case, ...]
    method: str
    answer_tokens: int
    n_blocks: int
    block_tokens: int
    n_threads: int
    n_gpu_layers: int
    flash_attn: str
    scored_flash_attn: dict[str, str] = field(default_factory=dict)
    image_size: tuple[int, int] = (1024, 768)

    @property
    def decoded_tokens(self) -> int:
        """Tokens that come after a prompt in all."""
        return self.answer_tokens + self.block_tokens * (self.n_blocks + 1)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Job:
        """From what ``as_dict`` gave, through JSON."""
        cases = tuple(Case(**case) for case in given["cases"])
        return cls(**{**given, "cases": cases, "image_size": tuple(given["image_size"])})


def cases_of(caches: Sequence[str], ratios: Sequence[float]) -> tuple[Case, ...]:
    """Every share of every cache, the full f16 cache first and the rivals' full caches last,
    nothing twice.

    >>> [(case.cache, case.kv_ratio) for case in cases_of(["q8_0"], [0.2])]
    [('f16', 1.0), ('q8_0', 0.2), ('q8_0', 1.0), ('q4_0', 1.0)]
    """
    wanted = [Case(cache, ratio) for cache in caches for ratio in ratios]
    full = [Case(cache, 1.0) for cache in RIVALS]
    return tuple(dict.fromkeys([Case(FULL_CACHE, 1.0), *wanted, *full]))
