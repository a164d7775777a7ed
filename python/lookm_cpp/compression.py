"""How a prompt is compressed: one set of options and defaults for the whole package."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from lookm_cpp import _core
from lookm_cpp.brief import brief

if TYPE_CHECKING:
    from typing_extensions import Unpack

PAPER_METHOD = "text_prior_pivot_merge"
"""LOOK-M's best method, according to its paper."""
IMPORTANT_RATIO = 0.1
RECENT_RATIO = 0.1

RATIOS = ("kv_ratio", "important_ratio", "recent_ratio")
PARTS_READ = ("image_ratio", "image_cells")
PRUNING = (*PARTS_READ, "pruner")

_CORE = _core.Compression()
METHOD = _CORE.method
QUALITY = _CORE.quality
RATIO_FLOOR = _CORE.ratio_floor
RATIO_CEILING = _CORE.ratio_ceiling
FIDELITY = _CORE.fidelity
PRUNER = _CORE.pruner


class MethodOverrides(TypedDict, total=False):
    """Fields of a ``Compression`` that change a method; ``None`` leaves a field as it is."""

    text_overflow: str | None
    fidelity: str | None
    scorer: str | None
    window: int | None
    merge: str | None
    merge_keys: bool | None
    merge_within_modality: bool | None
    visual_quota: float | None


class CompressionOverrides(MethodOverrides, total=False):
    """Fields that replace those of another ``Compression``; ``None`` leaves a field as it is."""

    kv_ratio: float | Literal["auto"] | None
    method: str | None
    important_ratio: float | None
    recent_ratio: float | None
    ratio_floor: float | None
    ratio_ceiling: float | None
    quality: float | None
    image_ratio: float | None
    image_cells: int | None
    pruner: str | None


@dataclass(frozen=True)
class Compression:
    """Options for compressing a prompt.

    ``docs/methods.md`` explains each of them. For an option whose default is ``None``, the method
    decides.

    Attributes:
        kv_ratio: Fraction of the prompt's cells to keep, in (0, 1]; 1 keeps all. ``"auto"`` finds
            the smallest one that holds ``quality``, anew for each prompt.
        method: A name from ``lookm_cpp.methods()``.
        important_ratio: Fraction of the cells kept for their score. If unset: 0.9 of ``kv_ratio``
            with ``lookm_plus``, half of it with the other methods.
        recent_ratio: Fraction of the cells kept because they are the last. If unset: what
            ``important_ratio`` leaves of ``kv_ratio``.
        text_overflow: ``"keep"`` keeps every text cell, even beyond the budget; ``"evict"`` holds
            the budget exactly. If unset: ``"evict"`` with ``lookm_plus``, otherwise
            ``"keep"``.
        fidelity: Where LOOK-M's paper and its published code differ, follow the ``"paper"`` or the
            code (``"upstream"``).
        scorer: Whose attention is added up: all queries (``"cumulative"``), the last ones
            (``"window"``) or none (``"none"``). If unset: the method's.
        window: Number of last queries that the scorer ``"window"`` uses. If unset: 64 with
            ``snapkv``, otherwise the text after the last image.
        merge: How evicted cells are merged into kept ones: ``"none"``, ``"average"``,
            ``"pivot"`` or ``"weighted"``. If unset: as the method says.
        merge_keys: Merge keys in the same way as values; ``False`` leaves kept keys unchanged.
        merge_within_modality: Merge text only into text, and images only into images.
        visual_quota: Minimum fraction of the important cells reserved for images, in [0, 1]. If
            unset: 0.25 with ``lookm_plus``, otherwise 0.
        ratio_floor: Smallest ratio that ``kv_ratio="auto"`` takes, in (0, 1].
        ratio_ceiling: Largest ratio that it takes, in (0, 1], even if that holds less than
            ``quality``. Memory is planned with it.
        quality: Share of the attention to the prompt that the kept cells must hold, in (0, 1].
        image_ratio: Share of each image's cells that the language model reads, in (0, 1]. The
            others are never read (``docs/reading.md``).
        image_cells: Number of cells of each image that it reads, instead of a share.
        pruner: Which of them: ``"divprune"``, ``"cdpruner"``, ``"grid"``, ``"random"``, or
            ``"none"``, which reads all.

    Raises:
        ValueError: A field has the wrong type. Its value is checked when it is used.

    >>> Compression(kv_ratio=0.2, method="h2o")
    Compression(kv_ratio=0.2, method='h2o')
    """

    kv_ratio: float | Literal["auto"] = cast("float", _CORE.kv_ratio)
    method: str = _CORE.method
    important_ratio: float | None = _CORE.important_ratio
    recent_ratio: float | None = _CORE.recent_ratio
    text_overflow: str | None = _CORE.text_overflow
    fidelity: str = _CORE.fidelity
    scorer: str | None = _CORE.scorer
    window: int | None = _CORE.window
    merge: str | None = _CORE.merge
    merge_keys: bool = _CORE.merge_keys
    merge_within_modality: bool = _CORE.merge_within_modality
    visual_quota: float | None = _CORE.visual_quota
    ratio_floor: float = _CORE.ratio_floor
    ratio_ceiling: float = _CORE.ratio_ceiling
    quality: float = _CORE.quality
    image_ratio: float = _CORE.image_ratio
    image_cells: int | None = _CORE.image_cells
    pruner: str = _CORE.pruner

    def __post_init__(self) -> None:
        self.core()

    def __repr__(self) -> str:
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name in ("kv_ratio", "method") or getattr(self, field.name) != field.default
        ]
        return f"Compression({', '.join(shown)})"

    def core(self, seed: int = 0) -> _core.Compression:
        """The same options for the core; ``seed`` is that of the method ``random``."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return _core.Compression(**given, seed=seed)

    @property
    def has_ratio(self) -> bool:
        """Whether this asks for fewer cells than there are."""
        return (
            self.kv_ratio == "auto"
            or self.kv_ratio < 1
            or self.important_ratio is not None
            or self.recent_ratio is not None
        )

    def override(self, **given: Unpack[CompressionOverrides]) -> Compression:
        """A copy with some fields replaced; ``None`` replaces nothing.

        The three ratios belong together: if one is given, it replaces all three. So do
        ``image_ratio`` and ``image_cells``.
        """
        new = {name: value for name, value in given.items() if value is not None}
        if any(name in new for name in PARTS_READ):
            new = {"image_ratio": 1.0, "image_cells": None} | new
        if any(name in new for name in RATIOS):
            new = {"kv_ratio": 1.0, "important_ratio": None, "recent_ratio": None} | new
        return replace(self, **new)  # type: ignore[arg-type]


def compression_of(before: Compression, options: dict[str, Any]) -> Compression:
    """Take ``compression`` and the fields of one out of keyword arguments.

    The result is ``compression``, or else ``before``, with these fields replaced.

    Raises:
        ValueError: ``compression`` is not a ``Compression``, or a field has the wrong type.

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
