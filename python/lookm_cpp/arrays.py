"""LOOK-M on NumPy arrays, one layer at a time, by the code that compresses real KV caches.

Arrays have heads first and cells second. Every call runs on the CPU and releases the GIL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lookm_cpp import _core
from lookm_cpp.compression import (
    IMPORTANT_RATIO,
    METHOD,
    PRUNER,
    QUALITY,
    RATIO_CEILING,
    RATIO_FLOOR,
    RECENT_RATIO,
    MethodOverrides,
)
from lookm_cpp.options import seed_of
from lookm_cpp.sizes import long_whole, number, whole
from lookm_cpp.words import flag

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["choose_ratio", "compress", "first_query", "prune", "scores", "select"]


class ArrayOptions(MethodOverrides, total=False):
    """Further fields of ``lookm_cpp.Compression``, and the seed of ``random``."""

    seed: int


def scores(
    q: npt.ArrayLike,
    k: npt.NDArray[Any],
    *,
    scale: float | None = None,
    n_past: int = 0,
    on_device: bool = False,
) -> npt.NDArray[np.float32]:
    """Attention that each cell receives: column sums of the causal softmax of ``scale * q @ k^T``.

    Args:
        q: Queries ``[n_head, n_tokens, head_dim]``, converted to f32.
        k: Keys ``[n_head_kv, n_kv, head_dim]``, f32 or f16. ``n_head`` is a multiple of
            ``n_head_kv``.
        scale: Factor before the softmax. Default: ``1 / sqrt(head_dim)``.
        n_past: Query ``i`` sees the cells ``0`` to ``n_past + i``.
        on_device: Use the graph that accelerators run instead of the CPU's own loop. The graph
            rounds ``q`` to f16 if ``k`` is f16.

    Returns:
        ``[n_head_kv, n_kv]`` f32, the mean over each group's query heads.

    Raises:
        ValueError: The shapes do not match, or a number is not finite.

    Two queries that attend evenly; the first sees one cell, the second both:

    >>> scores(np.zeros((1, 2, 4)), np.zeros((1, 2, 4), np.float32))
    array([[1.5, 0.5]], dtype=float32)
    """
    queries = np.ascontiguousarray(q, dtype=np.float32)
    factor = float(max(queries.shape[-1], 1)) ** -0.5 if scale is None else number("scale", scale)
    return _core.scores(
        _finite("q", queries),
        _finite("k", np.ascontiguousarray(k)),
        factor,
        long_whole("n_past", n_past),
        flag("on_device", on_device),
    )


def first_query(
    is_text: npt.ArrayLike,
    *,
    method: str = METHOD,
    important_ratio: float = IMPORTANT_RATIO,
    recent_ratio: float = RECENT_RATIO,
    **options: Unpack[ArrayOptions],
) -> int:
    """Index of the first query whose attention counts; 0 unless the scorer is ``window``.

    Args:
        is_text: ``[n_kv]``, true for text cells.
        method: As in ``select``.
        important_ratio: As in ``select``.
        recent_ratio: As in ``select``.
        **options: As in ``select``.

    Raises:
        ValueError: An argument is out of range.

    By default the window is the text after the last image; ``window`` sets its length:

    >>> is_text = [True, False, False, True, True, True, True, True, True, True]
    >>> first_query(is_text), first_query(is_text, window=2), first_query(is_text, method="h2o")
    (3, 8, 0)
    """
    return _core.first_query(
        np.ascontiguousarray(is_text, dtype=np.bool_),
        _how(method, important_ratio, recent_ratio, options),
    )


def select(
    scores: npt.ArrayLike,
    is_text: npt.ArrayLike,
    *,
    method: str = METHOD,
    important_ratio: float = IMPORTANT_RATIO,
    recent_ratio: float = RECENT_RATIO,
    squares: npt.ArrayLike | None = None,
    layer: int = 0,
    **options: Unpack[ArrayOptions],
) -> npt.NDArray[np.int32]:
    """Choose the cells to keep, for each KV head.

    Args:
        scores: ``[n_head_kv, n_kv]``, converted to f32: attention summed over the queries from
            ``first_query`` on. With the scorer ``none``, only the shape is used.
        is_text: ``[n_kv]``, true for text cells.
        method: A name from ``lookm_cpp.methods()``.
        important_ratio: ``floor(important_ratio * n_kv)`` cells are kept for their score.
        recent_ratio: The last ``floor(recent_ratio * n_kv)`` cells are always kept.
        squares: Sums of squared attention, in the shape of ``scores``; for ``roco``.
        layer: Number of the layer; ``random`` draws other cells in every layer.
        **options: ``text_overflow``, ``fidelity``, ``scorer``, ``window``, ``merge_keys``,
            ``merge_within_modality`` and ``visual_quota``, as for ``Llava``, and ``seed`` of the
            method ``random`` (default: 0).

    Returns:
        ``kept [n_head_kv, n_keep]`` i32, ascending in each row.

    Raises:
        ValueError: An argument is out of range, or the shapes do not match.

    All text is kept (cells 0, 3 and the recent 5), then the best image cell:

    >>> is_text = [True, False, False, True, False, True]
    >>> scores = [[1, 9, 8, 2, 7, 0]]
    >>> select(scores, is_text, method="text_prior_h2o", important_ratio=0.5, recent_ratio=0.17)
    array([[0, 1, 3, 5]], dtype=int32)
    """
    return _core.select(
        np.ascontiguousarray(scores, dtype=np.float32),
        np.ascontiguousarray(is_text, dtype=np.bool_),
        _how(method, important_ratio, recent_ratio, options),
        squares=_optional(squares),
        layer=whole("layer", layer),
    )


def choose_ratio(
    scores: npt.ArrayLike,
    is_text: npt.ArrayLike,
    *,
    method: str = METHOD,
    quality: float = QUALITY,
    ratio_floor: float = RATIO_FLOOR,
    ratio_ceiling: float = RATIO_CEILING,
    squares: npt.ArrayLike | None = None,
    **options: Unpack[ArrayOptions],
) -> tuple[float, float | None]:
    """Choose the ratio that ``kv_ratio="auto"`` would take, from the scores of all layers.

    Args:
        scores: ``[n_layer, n_head_kv, n_kv]``, converted to f32; each layer's as in ``select``.
        is_text: ``[n_kv]``, true for text cells.
        method: A name from ``lookm_cpp.methods()`` that uses scores.
        quality: Share of the scores that kept cells must hold, in (0, 1]: the mean over layers and
            KV heads.
        ratio_floor: Smallest ratio to take, in (0, 1].
        ratio_ceiling: Largest ratio to take, even if it holds less than ``quality``.
        squares: Sums of squared attention, in the shape of ``scores``; for ``roco``.
        **options: As in ``select``.

    Returns:
        ``(kv_ratio, attention_held)``: the ratio, and the share that it holds. The share is
        ``None`` if the scorer is ``window`` and the prompt ends with an image: there is no question
        yet, and the ratio is the ceiling.

    Raises:
        ValueError: An argument is out of range, or the shapes do not match.

    Cell 1 and the last cell hold 7 of 10, and a fifth of 10 cells is 2 cells:

    >>> scores = [[[0, 4, 1, 0, 0, 1, 0, 0, 1, 3]]]
    >>> choose_ratio(scores, [True] * 10, method="h2o", quality=0.7)
    (0.2, 0.7)
    """
    options_of_auto = {
        "kv_ratio": "auto",
        "quality": quality,
        "ratio_floor": ratio_floor,
        "ratio_ceiling": ratio_ceiling,
    }
    return _core.choose_ratio(
        np.ascontiguousarray(scores, dtype=np.float32),
        np.ascontiguousarray(is_text, dtype=np.bool_),
        _core.Compression(method=method, **options_of_auto, **_named(options)),
        squares=_optional(squares),
    )


def prune(
    cells: npt.ArrayLike,
    n_keep: int,
    *,
    pruner: str = PRUNER,
    place: npt.ArrayLike | None = None,
    question: npt.ArrayLike | None = None,
    seed: int = 0,
) -> npt.NDArray[np.int32]:
    """Choose the cells of an image that the language model reads.

    Args:
        cells: ``[n_cells, d]``, converted to f32: what the image encoder has made of them.
        n_keep: How many to choose, 1 to ``n_cells``.
        pruner: ``divprune``, ``cdpruner``, ``grid`` or ``random``.
        place: ``[n_cells, 2]``, column and row of each cell; -1 -1 for a mark between them, which
            is always chosen. Default: all in one row.
        question: ``[n_tokens, d]``, embeddings of the question's tokens, for ``cdpruner``. Without
            them, all cells are equally relevant.
        seed: Of ``random``.

    Returns:
        The chosen cells ``[n_keep]`` i32, ascending; more if there are more marks.

    Raises:
        ValueError: An argument is out of range, or the shapes do not match.

    Two cells are the same, so only one of them is chosen:

    >>> prune([[1, 0], [1, 0], [0, 1]], 2)
    array([0, 2], dtype=int32)
    """
    rows = _finite("cells", np.ascontiguousarray(cells, dtype=np.float32))
    n_cells, d = (*rows.shape, 0, 0)[:2]
    row = np.stack([np.arange(n_cells), np.zeros(n_cells)], axis=1) if place is None else place
    tokens = np.zeros((0, d)) if question is None else question
    return _core.prune(
        rows,
        whole("n_keep", n_keep),
        pruner,
        np.ascontiguousarray(row, dtype=np.int32),
        _finite("question", np.ascontiguousarray(tokens, dtype=np.float32)),
        seed_of(seed),
    )


def compress(
    k: npt.NDArray[Any],
    v: npt.NDArray[Any],
    scores: npt.ArrayLike,
    is_text: npt.ArrayLike,
    *,
    method: str = METHOD,
    important_ratio: float = IMPORTANT_RATIO,
    recent_ratio: float = RECENT_RATIO,
    squares: npt.ArrayLike | None = None,
    layer: int = 0,
    on_device: bool = False,
    **options: Unpack[ArrayOptions],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Select cells, and merge the evicted cells into them.

    Args:
        k: Keys ``[n_head_kv, n_kv, head_dim_k]``, f32 or f16.
        v: Values ``[n_head_kv, n_kv, head_dim_v]``, of the same type as ``k``.
        scores: As in ``select``.
        is_text: ``[n_kv]``, true for text cells.
        method: As in ``select``.
        important_ratio: As in ``select``.
        recent_ratio: As in ``select``.
        squares: As in ``select``.
        layer: As in ``select``.
        on_device: Merge with the graph that accelerators run instead of the CPU's own loop. The
            results agree up to rounding.
        **options: As in ``select``.

    Returns:
        ``(k, v, kept, merged_into)``: rows ``[n_head_kv, n_keep, head_dim]`` in the input's type,
        ``kept [n_head_kv, n_keep]`` ascending, and ``merged_into [n_head_kv, n_kv]``: for an
        evicted cell, the kept cell it was merged into; -1 for kept cells and for cells that were
        dropped.

    Raises:
        ValueError: An argument is out of range, or the shapes do not match.

    The image cells 1 and 2 are merged into cell 0, whose key is most similar to theirs:

    >>> k = np.array([[[1, 0], [2, 0], [3, 1], [0, 1]]], np.float32)
    >>> v = np.array([[[10], [20], [30], [99]]], np.float32)
    >>> new_k, new_v, kept, merged_into = compress(
    ...     k, v, np.ones((1, 4)), [True, False, False, True], method="text_prior_pivot_merge",
    ...     important_ratio=0.25, recent_ratio=0.25
    ... )
    >>> kept, merged_into
    (array([[0, 3]], dtype=int32), array([[-1,  0,  0, -1]], dtype=int32))
    >>> new_k.tolist(), new_v.tolist()
    ([[[1.5, 0.1666666...], [0.0, 1.0]]], [[[15.0], [99.0]]])
    """
    return _core.compress(
        np.ascontiguousarray(k),
        np.ascontiguousarray(v),
        np.ascontiguousarray(scores, dtype=np.float32),
        np.ascontiguousarray(is_text, dtype=np.bool_),
        _how(method, important_ratio, recent_ratio, options),
        squares=_optional(squares),
        layer=whole("layer", layer),
        on_device=flag("on_device", on_device),
    )


def _how(
    method: str, important_ratio: float, recent_ratio: float, options: ArrayOptions
) -> _core.Compression:
    """Options with fixed ratios, as the core takes them."""
    ratios = {"important_ratio": important_ratio, "recent_ratio": recent_ratio}
    return _core.Compression(method=method, **ratios, **_named(options))


def _named(options: ArrayOptions) -> dict[str, Any]:
    """The options as the core takes them.

    Raises:
        TypeError: There is no such option.
        ValueError: The seed has the wrong type.
    """
    named: dict[str, Any] = {**options}
    seed = seed_of(named.pop("seed", 0))
    for name in named:
        if name not in ArrayOptions.__annotations__:
            raise TypeError(f"{name} is not an option of a method on arrays")
    return {**named, "seed": seed}


def _optional(sums: npt.ArrayLike | None) -> npt.NDArray[np.float32] | None:
    return None if sums is None else np.ascontiguousarray(sums, dtype=np.float32)


def _finite(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Reject NaN and infinity, which a softmax would turn into plausible numbers."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} has NaN or infinity, expected finite numbers")
    return array
