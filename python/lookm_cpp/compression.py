"""How a prompt's KV cache is compressed: the options, with one set of names and defaults for the whole package."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lookm_cpp import _core

METHOD = "text_prior_pivot_merge"
IMPORTANT_RATIO = 0.1
RECENT_RATIO = 0.1
TEXT_OVERFLOW = "keep"


@dataclass(frozen=True)
class Compression:
    """Options of one compression.

    Attributes:
        kv_ratio: Share of the prompt's cells to keep, in (0, 1]; 1 keeps all.
        method: A name of ``lookm_cpp.methods()``.
        important_ratio: Share kept for their score; half of ``kv_ratio`` unless given.
        recent_ratio: Share kept because they are the last; half of ``kv_ratio`` unless given.
        text_overflow: ``keep`` keeps every text cell even past the budget, ``evict`` holds the budget exactly.
    """

    kv_ratio: float = 1.0
    method: str = METHOD
    important_ratio: float | None = None
    recent_ratio: float | None = None
    text_overflow: str = TEXT_OVERFLOW

    def check(self, session: _core.Session) -> None:
        """Raise ``ValueError`` for an option that is wrong, or where the session's model cannot be compressed."""
        session.check(**asdict(self))

    def override(
        self,
        *,
        kv_ratio: float | None = None,
        method: str | None = None,
        important_ratio: float | None = None,
        recent_ratio: float | None = None,
        text_overflow: str | None = None,
    ) -> Compression:
        """These options with the given ones in their place.

        The three ratios go together: when one is given, none of the old ones is left.
        """
        new_ratios = (kv_ratio, important_ratio, recent_ratio) != (None, None, None)
        return Compression(
            kv_ratio=(1.0 if kv_ratio is None else kv_ratio) if new_ratios else self.kv_ratio,
            method=self.method if method is None else method,
            important_ratio=important_ratio if new_ratios else self.important_ratio,
            recent_ratio=recent_ratio if new_ratios else self.recent_ratio,
            text_overflow=self.text_overflow if text_overflow is None else text_overflow,
        )
