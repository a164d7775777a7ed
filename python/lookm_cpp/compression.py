"""How a prompt's KV cache is compressed: the options, with one set of names and defaults for the
whole package.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from lookm_cpp import _core
from lookm_cpp.brief import brief

if TYPE_CHECKING:
    from typing_extensions import Unpack

PAPER_METHOD = "text_prior_pivot_merge"
"""LOOK-M's best, by its paper."""
IMPORTANT_RATIO = 0.1
RECENT_RATIO = 0.1

RATIOS = ("kv_ratio", "important_ratio", "recent_ratio")

_CORE = _core.Compression()
METHOD = _CORE.method
FIDELITY = _CORE.fidelity


class MethodOverrides(TypedDict, total=False):
    """Fields of a ``Compression`` that change a method; ``None`` for no difference."""

    text_overflow: str | None
    fidelity: str | None
    scorer: str | None
    window: int | None
    merge_keys: bool | None
    merge_within_modality: bool | None
    visual_quota: float | None


class CompressionOverrides(MethodOverrides, total=False):
    """Fields of a ``Compression`` in place of what was said before; ``None`` for no difference."""

    kv_ratio: float | None
    method: str | None
    important_ratio: float | None
    recent_ratio: float | None


@dataclass(frozen=True)
class Compression:
    """Options of one compression; ``docs/methods.md`` says more of each.

    Raises:
        ValueError: A field has a value of another type. Whether it makes sense is checked where it
            is used.

    Attributes:
        kv_ratio: Share of the prompt's cells to keep, in (0, 1]; 1 keeps all.
        method: A name of ``lookm_cpp.methods()``.
        important_ratio: Share kept for their score; 0.9 of ``kv_ratio`` unless given, half of it
            with all methods but ``lookm_plus``.
        recent_ratio: Share kept because they are the last; the rest of ``kv_ratio`` unless given.
        text_overflow: ``keep`` keeps every text cell even past the budget, ``evict`` holds the
            budget exactly; the method's own unless given: ``evict`` with ``lookm_plus``, else
            ``keep``.
        fidelity: ``paper`` or ``upstream``: whose meaning holds where LOOK-M's paper and its
            published code differ.
        scorer: ``cumulative``, ``window`` or ``none`` in place of the method's own.
        window: The last so many queries are the window scorer's; the method's own unless given: 64
            with ``snapkv``, else the text after the last image.
        merge_keys: Merge K as V; ``False`` leaves kept keys as they are.
        merge_within_modality: Merge text into text and images into images only.
        visual_quota: Least share of the important cells that are image cells, in [0, 1]; the
            method's own unless given: 0.5 with ``lookm_plus``, else 0.
    """

    kv_ratio: float = _CORE.kv_ratio
    method: str = _CORE.method
    important_ratio: float | None = _CORE.important_ratio
    recent_ratio: float | None = _CORE.recent_ratio
    text_overflow: str | None = _CORE.text_overflow
    fidelity: str = _CORE.fidelity
    scorer: str | None = _CORE.scorer
    window: int | None = _CORE.window
    merge_keys: bool = _CORE.merge_keys
    merge_within_modality: bool = _CORE.merge_within_modality
    visual_quota: float | None = _CORE.visual_quota

    def __post_init__(self) -> None:
        self.core()

    def core(self, seed: int = 0) -> _core.Compression:
        """As the core takes it; ``seed`` of the method ``random``."""
        return _core.Compression(**asdict(self), seed=seed)

    @property
    def has_ratio(self) -> bool:
        """Whether a share below 1 was asked for."""
        return (
            self.kv_ratio < 1 or self.important_ratio is not None or self.recent_ratio is not None
        )

    def override(self, **given: Unpack[CompressionOverrides]) -> Compression:
        """These options with the given ones in their place; ``None`` gives nothing.

        The three ratios go together: when one is given, none of the old ones is left.
        """
        new = {name: value for name, value in given.items() if value is not None}
        if any(name in new for name in RATIOS):
            new = {"kv_ratio": 1.0, "important_ratio": None, "recent_ratio": None} | new
        return replace(self, **new)  # type: ignore[arg-type]


def compression_of(before: Compression, options: dict[str, Any]) -> Compression:
    """Take ``compression`` and the fields of one out of keyword arguments: how they differ from
    ``before``.

    Raises:
        ValueError: ``compression`` is none, or a field is of the wrong type.

    >>> given = {"kv_ratio": 0.2, "n_ctx": 512}
    >>> compression_of(Compression(method="h2o"), given).kv_ratio, given
    (0.2, {'n_ctx': 512})
    """
    whole = options.pop("compression", None)
    if not isinstance(whole, Compression | None):
        raise ValueError(f"compression is {brief(whole)}, expected a lookm_cpp.Compression")
    names = [name for name in CompressionOverrides.__annotations__ if name in options]
    overrides = {name: options.pop(name) for name in names}
    return (whole or before).override(**overrides)
