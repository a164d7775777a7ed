"""How a prompt's KV cache is compressed: the options, with one set of names and defaults for the whole package."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lookm_cpp import _core
from lookm_cpp.brief import brief
from lookm_cpp.files import check_text
from lookm_cpp.sizes import number, whole
from lookm_cpp.words import flag

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lookm_cpp.options import CompressionOverrides

METHOD = _core.default_method
PAPER_METHOD = "text_prior_pivot_merge"
"""LOOK-M's best, by its paper."""
IMPORTANT_RATIO = 0.1
RECENT_RATIO = 0.1
FIDELITY = "paper"

RATIOS = ("kv_ratio", "important_ratio", "recent_ratio")


@dataclass(frozen=True)
class Compression:
    """Options of one compression; ``docs/methods.md`` says more of each. What is no number or no string where one is
    expected raises ``ValueError``.

    Attributes:
        kv_ratio: Share of the prompt's cells to keep, in (0, 1]; 1 keeps all.
        method: A name of ``lookm_cpp.methods()``.
        important_ratio: Share kept for their score; 0.9 of ``kv_ratio`` unless given, half of it with all methods but
            ``lookm_plus``.
        recent_ratio: Share kept because they are the last; the rest of ``kv_ratio`` unless given.
        text_overflow: ``keep`` keeps every text cell even past the budget, ``evict`` holds the budget exactly; the
            method's own unless given: ``evict`` with ``lookm_plus``, else ``keep``.
        fidelity: ``paper`` or ``upstream``: whose meaning holds where LOOK-M's paper and its published code differ.
        scorer: ``cumulative``, ``window`` or ``none`` in place of the method's own.
        window: The last so many queries are the window scorer's; the method's own unless given: 64 with ``snapkv``,
            else the text after the last image.
        merge_keys: Merge K as V; ``False`` leaves kept keys as they are.
        merge_within_modality: Merge text into text and images into images only.
        visual_quota: Least share of the important cells that are image cells, in [0, 1]; the method's own unless given:
            0.5 with ``lookm_plus``, else 0.
    """

    kv_ratio: float = 1.0
    method: str = METHOD
    important_ratio: float | None = None
    recent_ratio: float | None = None
    text_overflow: str | None = None
    fidelity: str = FIDELITY
    scorer: str | None = None
    window: int | None = None
    merge_keys: bool = True
    merge_within_modality: bool = False
    visual_quota: float | None = None

    def __post_init__(self) -> None:
        for name in (*RATIOS, "visual_quota"):
            if name == "kv_ratio" or getattr(self, name) is not None:
                number(name, getattr(self, name))
        for name in ("method", "text_overflow", "fidelity", "scorer"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (value is None and name in ("text_overflow", "scorer")):
                raise ValueError(f"{name} is {brief(value)}, expected its name as a string")
            check_text(value or "", name)
        for name in ("merge_keys", "merge_within_modality"):
            flag(name, getattr(self, name))

    @property
    def has_ratio(self) -> bool:
        """Whether a share below 1 was asked for."""
        return self.kv_ratio < 1 or self.important_ratio is not None or self.recent_ratio is not None

    def check(self, session: _core.Session) -> None:
        """Raise ``ValueError`` for an option that is wrong, or where the session's model cannot be compressed."""
        session.check(
            kv_ratio=self.kv_ratio,
            method=self.method,
            important_ratio=self.important_ratio,
            recent_ratio=self.recent_ratio,
            options=self.method_options(0),
        )

    def scores_all_queries(self) -> bool:
        """Whether prompts are scored by all their queries; ``ValueError`` for an option that is wrong."""
        return _core.Session.scores_all_queries(
            kv_ratio=self.kv_ratio,
            method=self.method,
            important_ratio=self.important_ratio,
            recent_ratio=self.recent_ratio,
            options=self.method_options(0),
        )

    def method_options(self, seed: int) -> _core.MethodOptions:
        """What belongs to the method; ``seed`` of the method ``random``."""
        return _core.MethodOptions(
            fidelity=self.fidelity,
            scorer=self.scorer,
            window=None if self.window is None else whole("window", self.window),
            text_overflow=self.text_overflow,
            merge_keys=self.merge_keys,
            merge_within_modality=self.merge_within_modality,
            visual_quota=self.visual_quota,
            seed=seed,
        )

    def override(self, **given: Unpack[CompressionOverrides]) -> Compression:
        """These options with the given ones in their place; ``None`` gives nothing.

        The three ratios go together: when one is given, none of the old ones is left.
        """
        new = {name: value for name, value in given.items() if value is not None}
        if any(name in new for name in RATIOS):
            new = {"kv_ratio": 1.0, "important_ratio": None, "recent_ratio": None} | new
        return replace(self, **new)  # type: ignore[arg-type]
